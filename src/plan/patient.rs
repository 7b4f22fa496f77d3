//! A pipe to another process that is given up when nothing moves through it for as long as the user has patience.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

/// As much as a pipe takes whole once it has room at all (POSIX, PIPE_BUF on Linux).
const PIPE_BUF_BYTES: usize = 4096;

/// One end of a pipe.
#[derive(Debug)]
pub(crate) struct Patient<T> {
    pipe: T,
    /// `None` is for ever.
    patience: Option<Duration>,
}

impl<T: AsFd> Patient<T> {
    /// With so much patience for each read and write.
    pub(super) fn new(pipe: T, patience: Option<Duration>) -> Patient<T> {
        Patient { pipe, patience }
    }

    /// Waits for ever from now on: somebody else looks at the time.
    pub(crate) fn wait_for_ever(&mut self) {
        self.patience = None;
    }

    fn wait_for(&self, what: PollFlags) -> io::Result<()> {
        let Some(patience) = self.patience else { return Ok(()) };
        // What is too long to be said is for ever.
        let time = Timespec::try_from(patience).ok();
        let mut pipe = [PollFd::new(&self.pipe, what)];
        match retry_on_intr(|| poll(&mut pipe, time.as_ref()))? {
            0 => Err(Errno::TIMEDOUT.into()),
            _ => Ok(()),
        }
    }
}

impl<T: AsFd + Read> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for(PollFlags::IN)?;
        self.pipe.read(buffer)
    }
}

impl<T: AsFd + Write> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_for(PollFlags::OUT)?;
        let bytes = if self.patience.is_some() { &bytes[..bytes.len().min(PIPE_BUF_BYTES)] } else { bytes };
        self.pipe.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_pipe_through_which_nothing_moves_is_given_up_and_any_other_is_not() {
        let (reader, writer) = io::pipe().unwrap();
        let short = Some(Duration::from_millis(20));
        let (mut reads, mut writes) = (Patient::new(reader, short), Patient::new(writer, short));
        assert_eq!(reads.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // More than a pipe holds: some of it goes, and then nothing moves.
        let much = vec![7; 4 << 20];
        assert_eq!(writes.write_all(&much).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let mut some = [0; 2 * PIPE_BUF_BYTES];
        reads.read_exact(&mut some).unwrap();
        assert!(some.iter().all(|byte| *byte == 7));
        writes.write_all(&some[..5000]).unwrap();
        drop(writes);
        let mut rest = vec![];
        reads.read_to_end(&mut rest).unwrap();
        assert!(rest.len() > some.len());
    }
}
