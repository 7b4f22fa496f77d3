//! Lines that a child says before it is ready. It may be another machine's, and whatever stands between here and there may say
//! some too.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::limits::READY_LINE_BYTES_MAX;

/// Reads lines of a bounded length.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    /// What there is of the next one.
    line: Vec<u8>,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R) -> Lines<R> {
        Lines { input, line: vec![] }
    }

    /// The next line without its end, `None` at the end of the input. A longer one than any that is meant is an error. May be
    /// cancelled.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            let bytes = self.input.fill_buf().await?;
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let text = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + text.len() > READY_LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.line.extend_from_slice(text);
            let (used, is_last) = (text.len() + usize::from(end.is_some()), bytes.is_empty());
            self.input.consume(used);
            if end.is_some() || is_last {
                let line = std::mem::take(&mut self.line);
                let is_over = is_last && line.is_empty();
                return Ok((!is_over).then(|| String::from_utf8_lossy(&line).into_owned()));
            }
        }
    }

    /// What follows the lines.
    pub(super) fn into_inner(self) -> R {
        self.input
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::BufReader;

    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_what_follows_them_is_kept() {
        let mut lines = Lines::new(BufReader::with_capacity(4, &b"good morning\n\n\xff\nrest"[..]));
        for expected in ["good morning", "", "\u{fffd}"] {
            assert_eq!(lines.next().await.unwrap().as_deref(), Some(expected));
        }
        let mut rest = lines.into_inner();
        assert_eq!(rest.fill_buf().await.unwrap(), b"rest");
        let longest = vec![b'x'; READY_LINE_BYTES_MAX];
        let mut lines = Lines::new(&longest[..]);
        assert_eq!(lines.next().await.unwrap().unwrap().len(), READY_LINE_BYTES_MAX);
        assert_eq!(lines.next().await.unwrap(), None);
        let longer = [&longest[..], b"x\n"].concat();
        assert_eq!(Lines::new(&longer[..]).next().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
