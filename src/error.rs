//! What ends a run, and the one table from error to exit code and hint.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::identity::{Role, TransferId};
use crate::wire::StopReason;

/// Exit codes. If several apply: 1, 4, 3, 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is verified, durable and under its name; the receipt is held.
    Done,
    /// Failed for a reason that running again will not cure.
    Failed,
    /// A bad command line.
    Usage,
    /// Not finished, or not known to be finished: run the same command again.
    Again,
    /// Refused by the other side.
    Refused,
    /// Finished, but some entries were left out.
    LeftOut,
    /// Stopped by a signal with this number; as `Again`.
    Signal(u8),
}

impl Exit {
    /// The number for the shell.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Again => 3,
            Exit::Refused => 4,
            Exit::LeftOut => 5,
            Exit::Signal(number) => 128 + number,
        }
    }
}

/// Why a run ended without a receipt. Every variant names the object and keeps the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something on this machine that a rerun does not cure by itself.
    #[error("{what} `{object}` {problem}", object = object.display())]
    Local {
        /// What kind of object.
        what: &'static str,
        /// Which.
        object: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// The system's word.
        #[source]
        source: Option<io::Error>,
    },
    /// State could not be read or written.
    #[error("the state in `{}` could not be used", path.display())]
    State {
        /// Where.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The command line is wrong in a way that only the program can see.
    #[error("{0}")]
    Usage(String),
    /// Another process works on the same thing.
    #[error("another landfall (process {holder}) is at work on {what}")]
    Locked {
        /// On what.
        what: String,
        /// Process id of the holder, or a question mark.
        holder: String,
    },
    /// The port is taken by somebody else.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The code of this listener cannot be announced.
    #[error("this machine cannot announce on its networks that it waits")]
    Unannounced {
        /// The system's word.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No peer came, or none could be reached, until patience ended.
    #[error("no link to the {}{}: {cause}", peer.word(), for_so_long(*seconds))]
    NoLink {
        /// Who was waited for.
        peer: Role,
        /// How long; 0 if there was one a moment ago.
        seconds: u64,
        /// The last cause.
        cause: String,
    },
    /// This process is the other side of one that is gone.
    #[error("the process that started this one is gone")]
    ParentGone,
    /// The other side refused us.
    #[error("the {} refused: {why}", peer.word())]
    RefusedByPeer {
        /// Who.
        peer: Role,
        /// Why, in our own words.
        why: String,
        /// Whether the ticket was taken by somebody else (a hint follows).
        hint: Option<&'static str>,
    },
    /// The key at the address is not the ticket's.
    #[error("the machine at {address} does not hold the key that the ticket names")]
    WrongKey {
        /// Where.
        address: SocketAddr,
    },
    /// The other side stopped.
    #[error("the {} stopped: {}", peer.word(), stop_text(*reason))]
    StoppedByPeer {
        /// Who.
        peer: Role,
        /// Why.
        reason: StopReason,
        /// Exit that follows.
        exit: Exit,
    },
    /// The other side broke the protocol.
    #[error("the {} broke the protocol: {what}", peer.word())]
    Misbehaved {
        /// Who.
        peer: Role,
        /// How.
        what: String,
    },
    /// The other side, which this process started, ended for a reason that starting it again will not cure.
    #[error("the {} that was started {place} ended with exit code {}; its own words stand above", peer.word(), exit.code())]
    ChildFailed {
        /// Who.
        peer: Role,
        /// Where, as a sentence says it.
        place: String,
        /// How.
        exit: Exit,
    },
    /// The program that reaches another machine did not.
    #[error("`{host}` could not be reached with `{program}`; its own words stand above")]
    HostNotReached {
        /// Which machine.
        host: String,
        /// With what.
        program: String,
    },
    /// The other machine has no landfall that is found there.
    #[error("there is no landfall on `{host}`, or none that can be run")]
    NotInstalled {
        /// Which machine.
        host: String,
    },
    /// The user declined at the prompt.
    #[error("declined")]
    Declined,
    /// The ticket has expired and was never taken.
    #[error("the ticket expired before anybody took it")]
    Expired,
    /// The disk is full and patience ended.
    #[error("the disk of `{}` is full: {missing_bytes} more bytes are needed", dir.display())]
    DiskFull {
        /// Target directory.
        dir: PathBuf,
        /// Missing bytes.
        missing_bytes: u64,
    },
    /// Data could not be made durable, twice.
    #[error("`{}` could not be made durable: the device reported an error twice", path.display())]
    SyncFailed {
        /// Which file.
        path: PathBuf,
    },
    /// The other side is of a version that does not know what an option of this one leads to.
    #[error("the {}'s landfall is too old for `{option}`", peer.word())]
    TooOld {
        /// Who.
        peer: Role,
        /// Which.
        option: &'static str,
    },
    /// The file system does not reach the level that is asked for.
    #[error("`{}` can be read back only at level `{found}`, which does not prove that the device holds the data", dir.display())]
    LevelTooLow {
        /// Target directory.
        dir: PathBuf,
        /// Level found.
        found: &'static str,
    },
    /// The transfer is larger than allowed.
    #[error("the transfer is larger than --max-size")]
    TooLarge,
    /// The digests of the outcome differ.
    #[error("the receiver's receipt does not agree with what this side sent")]
    OutcomeDiffers,
    /// The ticket's transfer is finished and the source has changed since.
    #[error("this ticket is finished: transfer {id} ended on {date}, and the source has changed since")]
    Finished {
        /// Which.
        id: TransferId,
        /// When.
        date: String,
    },
    /// A signal.
    #[error("stopped by {name}; what is done is kept")]
    Interrupted {
        /// Its name.
        name: &'static str,
        /// Its number.
        number: u8,
    },
}

/// Whether an error means that space, inodes or quota have run out.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn for_so_long(seconds: u64) -> String {
    match seconds {
        0 => " any more".to_owned(),
        1 => " for 1 second".to_owned(),
        _ => format!(" for {seconds} seconds"),
    }
}

impl Error {
    /// Exit code that follows.
    pub fn exit(&self) -> Exit {
        match self {
            // A full disk is emptied some day.
            Error::State { source, .. } if is_full(source) => Exit::Again,
            Error::Local { .. } | Error::State { .. } | Error::LevelTooLow { .. } | Error::TooLarge => Exit::Failed,
            Error::OutcomeDiffers | Error::Finished { .. } | Error::Misbehaved { .. } => Exit::Failed,
            Error::NotInstalled { .. } | Error::TooOld { .. } | Error::Unannounced { .. } => Exit::Failed,
            Error::HostNotReached { .. } => Exit::Again,
            Error::Usage(_) => Exit::Usage,
            Error::Locked { .. } | Error::Bind { .. } | Error::NoLink { .. } | Error::ParentGone => Exit::Again,
            Error::DiskFull { .. } | Error::SyncFailed { .. } => Exit::Again,
            Error::RefusedByPeer { .. } | Error::WrongKey { .. } | Error::Declined | Error::Expired => Exit::Refused,
            Error::StoppedByPeer { exit, .. } | Error::ChildFailed { exit, .. } => *exit,
            Error::Interrupted { number, .. } => Exit::Signal(*number),
        }
    }

    /// Whether it says only that there will be no link: nobody came, or somebody else, or one that refuses. Who holds the
    /// receipt needs none.
    pub fn is_about_the_peer(&self) -> bool {
        matches!(self, Error::NoLink { .. } | Error::ParentGone | Error::WrongKey { .. } | Error::RefusedByPeer { .. })
    }

    /// One thing that can be typed or done.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Error::NoLink { .. } | Error::Interrupted { .. } => {
                "run the same command again, or `landfall resume`, to continue"
            }
            Error::StoppedByPeer { exit: Exit::Again, .. } | Error::SyncFailed { .. } => {
                "run the same command again, or `landfall resume`, to continue"
            }
            Error::DiskFull { .. } => "free space, then run the same command again; nothing that is done is lost",
            Error::Locked { .. } => "wait for it, or stop it; then run the same command again",
            Error::Bind { .. } => "free that port, or choose another with `--listen ADDR:PORT`",
            Error::LevelTooLow { .. } => "accept this with `--accept-level LEVEL`, or choose another directory",
            Error::TooOld { .. } => "install this version there too, or choose another `--existing`",
            Error::TooLarge => "allow it with a larger `--max-size` at the receiver",
            Error::Unannounced { .. } => "leave out `--lan` for a ticket, which goes any other way",
            Error::Expired => "start the listening side again for a new ticket",
            Error::WrongKey { .. } => "ask for a new ticket: the address belongs to another machine now",
            Error::HostNotReached { .. } => {
                "see that `ssh HOST true` works; other options go into `--ssh \"ssh -p 2222\"`"
            }
            Error::NotInstalled { .. } => "install it there, or say where it is with `--remote-landfall PATH`",
            Error::Finished { .. } => "start both sides again for a new ticket",
            Error::RefusedByPeer { hint, .. } => return *hint,
            _ => return None,
        })
    }
}

/// What a peer's reason to stop means, in our own words.
pub fn stop_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Interrupted => "it was interrupted",
        StopReason::Declined => "its user declined",
        StopReason::Closed => "its user closed this transfer and started a new one",
        StopReason::DiskFull => "its disk is full",
        StopReason::SyncFailed => "its device could not make the data durable",
        StopReason::StateFailed => "it could not write its own state",
        StopReason::TooLarge => "the transfer is larger than its --max-size",
        StopReason::LevelTooLow => "its file system cannot be read back at the accepted level",
        StopReason::OutcomeDiffers => "its own digest of the outcome differs",
        StopReason::Finished => "this ticket is finished and the source has changed since",
        StopReason::Misbehaved => "it could not make sense of what this side sent",
        StopReason::RootGone => "its directory is gone",
    }
}
