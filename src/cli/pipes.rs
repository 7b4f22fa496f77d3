//! This process's own streams: standard input, read until it ends or a signal comes, and standard output, written by a
//! thread that may stay behind when whoever reads it does not. What the bytes are is not known here.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::signals::{Shutdown, Signal};

/// Between two looks for a signal while nothing comes, or nothing can be written.
const WAIT_MS: i64 = 100;
/// The same where a thread is waited for.
const THREAD_WAIT: Duration = Duration::from_millis(100);

/// What standard input had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// Its end.
    End,
}

/// Waits a moment for standard input and takes what is there.
pub(super) fn read(buffer: &mut [u8]) -> io::Result<Input> {
    if !is_ready(&io::stdin(), PollFlags::IN)? {
        return Ok(Input::Nothing);
    }
    match rustix::io::read(io::stdin(), buffer) {
        Ok(0) => Ok(Input::End),
        Ok(count) => Ok(Input::Bytes(count)),
        // Somebody else has taken it, from a pipe that is shared.
        Err(Errno::INTR | Errno::AGAIN) => Ok(Input::Nothing),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes all of it to standard output, however that was opened, and counts what has gone out.
fn write(mut bytes: &[u8], written_bytes: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(io::stdout(), bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                written_bytes.fetch_add(count as u64, Ordering::Relaxed);
                bytes = &bytes[count..];
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                is_ready(&io::stdout(), PollFlags::OUT)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn is_ready(stream: &impl rustix::fd::AsFd, events: PollFlags) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: WAIT_MS * 1_000_000 };
    match poll(&mut [PollFd::new(stream, events)], Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// What became of work that writes to standard output.
pub(super) enum Written<T> {
    /// It came to its end.
    Ended(T),
    /// A signal came first; it may still be stuck in a write, and ends with the process.
    Stopped(Signal),
}

/// Runs work that may be stuck for ever in a write. It is given what counts the bytes that have gone out.
pub(super) fn aside<T: Send + 'static>(
    shutdown: &Shutdown,
    written_bytes: &Arc<AtomicU64>,
    work: impl FnOnce(&dyn Fn(&[u8]) -> io::Result<()>) -> T + Send + 'static,
) -> io::Result<Written<T>> {
    let (ended, end) = sync_channel(1);
    let counter = Arc::clone(written_bytes);
    let run = move || {
        let result = work(&|bytes| write(bytes, &counter));
        // Whoever was told of a signal does not wait any more.
        let _ = ended.try_send(result);
    };
    thread::Builder::new().name("output".into()).spawn(run)?;
    loop {
        match end.recv_timeout(THREAD_WAIT) {
            Ok(result) => return Ok(Written::Ended(result)),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(signal) = shutdown.now() {
                    return Ok(Written::Stopped(signal));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the thread that writes has ended")),
        }
    }
}
