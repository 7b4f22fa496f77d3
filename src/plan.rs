//! A dry run: what would be sent, is there already, would be replaced, kept or left out, without a byte written on either
//! side. The side of the sources walks as a sender does, and asks the side of the target, which only looks; one of the two
//! is a child process of the other. It owns what is asked and how an answer is judged, and promises nothing: what it says is
//! true of the moment at which it looked, through the page cache, and whatever only writing shows it does not know.
//!
//! [`send`] and [`receive`] are for the side with the command line, [`walk`] and [`answer`] for the child of each.

mod line;
mod link;
mod other;
mod patient;
mod planner;
mod survey;
#[cfg(test)]
mod tests;

use std::io::{BufReader, Read, Write};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::attributes::FileKind;
use crate::disk::Rooted;
use crate::error::Error;
use crate::event::Notice;
use crate::identity::Role;
use crate::options::{ChildCommand, Existing, Selection};
use crate::outcome::Reason;
use crate::path::RelPath;

pub(crate) use line::{READY, Raw, encode, read_line};
pub(crate) use link::Broken;
pub(crate) use other::{FromOther, Other, ToOther};
pub(crate) use survey::open_root;

use line::Said;
use link::Link;
use planner::Planner;
use survey::{Surveyor, attend};

/// What is walked, and what happens where the target has something else.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Sources, as typed.
    pub paths: Vec<PathBuf>,
    /// What of them goes.
    pub selection: Selection,
    /// What happens where the target has something else under a name.
    pub existing: Existing,
}

/// What would become of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its path below the target.
    pub path: RelPath,
    /// What it is at the source.
    pub kind: FileKind,
    /// Bytes of a regular file that goes, else 0.
    pub bytes: u64,
    /// Bytes of it in chunks that the target does not have at their places.
    pub moved_bytes: u64,
    /// What would be done.
    pub action: Action,
}

/// What would be done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The target has nothing under its name: it is sent, or made.
    Send,
    /// The target has the same.
    Present,
    /// It takes the place of something else.
    Replace,
    /// Something else has its name and stays: it gets its name with this number in it.
    Rename {
        /// See [`RelPath::numbered`].
        number: NonZeroU16,
    },
    /// It does not arrive.
    LeaveOut {
        /// Why.
        reason: Reason,
        /// On which side.
        side: Role,
    },
}

/// What a plan tells while it is made.
#[derive(Clone, Debug)]
pub enum Told {
    /// Of an entry, in the order of the walk.
    Found(Finding),
    /// Of something that is no entry.
    Notice(Notice),
}

/// Plans a sending of this side's sources into the directory of a child, which is started here. Everything is told before
/// it returns. A child that says nothing for as long as there is `patience` ends it.
pub fn send<D: Rooted>(
    disk: &D,
    sources: &Sources,
    child: &ChildCommand,
    patience: Option<Duration>,
    mut tell: impl FnMut(Told),
) -> Result<(), Error> {
    // What is wrong with a source is said before anybody is started.
    let planner = Planner::open(disk, sources, &mut tell)?;
    let (mut other, mut input, mut output) = Other::start(child, Role::Receiver, patience)?;
    // It has to answer only while there is a question, of which the link knows.
    input.get_mut().wait_for_ever();
    output.wait_for_ever();
    let mut link = Link::new(input, output, patience)?;
    match planner.run(&mut link, &mut tell) {
        Ok(()) => {
            link.close();
            other.finish();
            Ok(())
        }
        Err(Halted::Failed(error)) => Err(error),
        Err(Halted::Broken(broken)) => Err(other.failed(broken)),
    }
}

/// Plans a receiving into a directory of this side, from a child with the sources, which is started here. A child that says
/// nothing for as long as there is `patience` ends it.
pub fn receive<D: Rooted>(
    disk: &D,
    dir: &Path,
    child: &ChildCommand,
    patience: Option<Duration>,
    mut tell: impl FnMut(Told),
) -> Result<(), Error> {
    let mut surveyor = Surveyor::open(disk, dir)?;
    let (mut other, mut input, output) = Other::start(child, Role::Sender, patience)?;
    match attend(&mut surveyor, &mut input, output, patience, &mut tell) {
        Ok(End::Done) => {
            other.finish();
            Ok(())
        }
        Ok(End::Closed) => Err(other.failed(Broken::Gone)),
        Err(broken) => Err(other.failed(broken)),
    }
}

/// As the child of [`receive`]: walks, asks through `output`, and says there what was found.
pub fn walk<D: Rooted>(
    disk: &D,
    sources: &Sources,
    input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
) -> Result<(), Error> {
    let mut excluded = 0;
    let planner = Planner::open(disk, sources, &mut |_| {})?;
    output.write_all(READY).and_then(|()| output.flush()).map_err(pipe)?;
    let mut link = Link::new(BufReader::new(input), output, None)?;
    let says = link.says();
    let planned = planner.run(&mut link, &mut |told| match told {
        // Whoever is gone is noticed at the next answer.
        Told::Found(finding) => drop(says.say(&Said::Found(finding))),
        Told::Notice(Notice::Excluded { objects }) => excluded = objects,
        Told::Notice(_) => {}
    });
    match planned.and_then(|()| Ok(says.say(&Said::Done { excluded })?)) {
        Ok(()) => {
            drop(says);
            link.close();
            Ok(())
        }
        Err(Halted::Failed(error)) => Err(error),
        // Its parent has ended, and nobody is left to be told.
        Err(Halted::Broken(Broken::Gone | Broken::Silent(_))) => Ok(()),
        Err(Halted::Broken(broken)) => Err(broken.error(Role::Receiver)),
    }
}

/// As the child of [`send`]: says what is in a directory, for as long as it is asked.
pub fn answer<D: Rooted>(disk: &D, dir: &Path, input: impl Read, mut output: impl Write) -> Result<(), Error> {
    let mut surveyor = Surveyor::open(disk, dir)?;
    output.write_all(READY).and_then(|()| output.flush()).map_err(pipe)?;
    let mut nobody = |_| {};
    let ended = attend(&mut surveyor, &mut BufReader::new(input), output, None, &mut nobody);
    match ended {
        // Its parent has ended, and nobody is left to be told.
        Ok(_) | Err(Broken::Gone | Broken::Silent(_)) => Ok(()),
        Err(broken) => Err(broken.error(Role::Sender)),
    }
}

/// How whoever is asked comes to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything was said.
    Done,
    /// The pipe was closed.
    Closed,
}

/// Why a plan is not whole.
#[derive(Debug)]
enum Halted {
    /// Something on this side.
    Failed(Error),
    /// The other side.
    Broken(Broken),
}

impl From<Error> for Halted {
    fn from(error: Error) -> Halted {
        Halted::Failed(error)
    }
}

impl From<Broken> for Halted {
    fn from(broken: Broken) -> Halted {
        Halted::Broken(broken)
    }
}

fn pipe(source: std::io::Error) -> Error {
    Error::Local { what: "pipe", object: PathBuf::from("stdout"), problem: "is closed", source: Some(source) }
}
