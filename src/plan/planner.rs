//! The asking side of a plan: walks the sources as a sender does, asks what the target has, reads and hashes what may be
//! equal to something there, and says of each entry, in the order of the walk, what would become of it. It holds a window of
//! entries and never the tree. What it does not do: read a file of whose name the target has nothing.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU16;

use super::line::{Answer, Compare, Look, Said};
use super::link::{Broken, Link};
use super::{Action, Finding, Halted, Sources, Told};
use crate::attributes::FileKind;
use crate::digest::{ChunkDigest, PathHash, chunk_digest, path_hash, zero_digest};
use crate::disk::{Access, Disk, DiskFile, Rooted};
use crate::error::Error;
use crate::event::Notice;
use crate::geometry::{ChunkRun, Geometry};
use crate::identity::Role;
use crate::limits::{CHUNK_BYTES, PLAN_CHUNKS_MAX, PLAN_QUESTIONS_MAX, PLAN_RUNS_AHEAD_MAX};
use crate::options::Existing;
use crate::outcome::Reason;
use crate::path::RelPath;
use crate::source::ahead::Content;
use crate::source::roots::{Roots, canonical, open_roots, refuse_all_but_a_directory, refuse_nothing};
use crate::source::selection::Selector;
use crate::source::walk::{Exclusions, Found, Parent, Walk, Walked};
use crate::source::{read_chunk, reason_of};

/// An entry whose finding is not told yet.
struct Open<D: Disk> {
    path: RelPath,
    kind: FileKind,
    bytes: u64,
    /// The number in the name that is asked for.
    number: Option<NonZeroU16>,
    /// Bytes that what has its own name does not have, where that stays.
    moved_bytes: u64,
    /// Text of a symbolic link.
    target: Vec<u8>,
    state: State<D>,
}

enum State<D: Disk> {
    /// The target was asked what it has.
    Asked,
    /// It has something that may be equal.
    Comparing(Comparison<D>),
    /// Something else has the name, and all but so many bytes of the entry. It gets the next one.
    Taken(u64),
    /// What would be done, and how many bytes it moves.
    Known(Action, u64),
}

/// A file that is compared with what has its name.
struct Comparison<D: Disk> {
    geometry: Geometry,
    file: Option<D::File>,
    /// The chunk that is asked for next; `None` when all were.
    next: Option<u32>,
    open_runs: usize,
    equal_bytes: u64,
    is_same_size: bool,
    is_elsewhere: bool,
}

/// A question that is open.
struct Question {
    /// Number of its entry.
    entry: u64,
    /// Of which of its names.
    number: Option<NonZeroU16>,
    /// Bytes that it compares.
    bytes: u64,
}

/// See the module.
pub(super) struct Planner<D: Disk> {
    roots: Roots<D>,
    walk: Walk<D>,
    existing: Existing,
    open: VecDeque<Open<D>>,
    /// Number of the first of them.
    first: u64,
    questions: VecDeque<Question>,
    /// Entries that are compared, by number.
    comparing: VecDeque<u64>,
    /// Entries that are to be asked for under their next name, by number.
    taken: VecDeque<u64>,
    /// Names that entries would get and others might: those with a number in them.
    given: HashSet<PathHash>,
    is_walked: bool,
    excluded: u64,
}

impl<D: Rooted> Planner<D> {
    /// Over the sources that the user named, with what he should hear of them.
    pub(super) fn open(disk: &D, sources: &Sources, tell: &mut impl FnMut(Told)) -> Result<Planner<D>, Error> {
        let (roots, notices) = open_roots(disk, &canonical(&sources.paths)?)?;
        let selector = Selector::new(&sources.selection).map_err(|bad| Error::Usage(bad.to_string()))?;
        refuse_nothing(&roots, &selector)?;
        if sources.selection.listed.is_some() {
            refuse_all_but_a_directory(&roots)?;
        }
        notices.into_iter().for_each(|notice| tell(Told::Notice(notice)));
        let listed = sources.selection.listed.as_ref().and_then(|given| given.list.clone());
        let exclusions = Exclusions { selector, listed, transfer: None, held: vec![] };
        Ok(Planner {
            walk: Walk::new(roots.clone(), exclusions),
            roots,
            existing: sources.existing,
            open: VecDeque::new(),
            first: 0,
            questions: VecDeque::new(),
            comparing: VecDeque::new(),
            taken: VecDeque::new(),
            given: HashSet::new(),
            is_walked: false,
            excluded: 0,
        })
    }
}

impl<D: Disk> Planner<D> {
    /// Asks and tells until everything was told.
    pub(super) fn run(mut self, link: &mut Link, tell: &mut impl FnMut(Told)) -> Result<(), Halted> {
        loop {
            while !self.questions.is_empty()
                && let Some(answer) = link.try_hear()?
            {
                self.take(answer)?;
            }
            self.tell_known(tell);
            if self.is_walked && self.open.is_empty() {
                return Ok(());
            }
            if link.has_room() && (self.ask_on(link)? || self.compare_on(link)?) {
                continue;
            }
            if !self.is_walked && link.has_room() && self.open.len() < PLAN_QUESTIONS_MAX {
                self.walk_on(link, tell)?;
            } else if !self.questions.is_empty() {
                let answer = link.hear()?;
                self.take(answer)?;
            }
        }
    }

    /// Tells what is known of entries before which nothing is unknown.
    fn tell_known(&mut self, tell: &mut impl FnMut(Told)) {
        while let Some(open) = self.open.front_mut() {
            let State::Known(action, moved_bytes) = open.state else { return };
            if self.existing == Existing::Rename && open.is_given(action, &mut self.given) {
                open.state = State::Taken(moved_bytes);
                self.taken.push_back(self.first);
                return;
            }
            let Some(Open { path, kind, bytes, .. }) = self.open.pop_front() else { return };
            self.first += 1;
            tell(Told::Found(Finding { path, kind, bytes, moved_bytes, action }));
        }
    }

    /// Takes the next step of the walk.
    fn walk_on(&mut self, link: &mut Link, tell: &mut impl FnMut(Told)) -> Result<(), Halted> {
        let notice = match self.walk.step() {
            None => {
                self.is_walked = true;
                match self.excluded {
                    0 => return Ok(()),
                    objects => Notice::Excluded { objects },
                }
            }
            Some(Walked::Directory(Found { path, .. })) => {
                return self.ask(link, Look { path, kind: FileKind::Directory, size: 0, target: vec![] });
            }
            Some(Walked::Symlink(Found { path, .. }, target)) => {
                return self.ask(link, Look { path, kind: FileKind::Symlink, size: 0, target });
            }
            Some(Walked::File(found, parent)) => return self.meet_file(link, found.path, &parent),
            Some(Walked::LeftOut(path, kind, reason)) => return self.leave_out(path, kind, reason),
            Some(Walked::TooLong(path)) => return self.leave_out(path, FileKind::Directory, Reason::PathTooLong),
            Some(Walked::Excluded) => {
                self.excluded += 1;
                return Ok(());
            }
            Some(Walked::RootFailed(object, source)) => {
                let problem = "cannot be listed";
                return Err(Error::Local { what: "source", object, problem, source: Some(source) }.into());
            }
            Some(Walked::Skipped(path)) => Notice::StateSkipped(path),
            Some(Walked::Mounted(path)) => Notice::MountSkipped(path),
            Some(Walked::BadPattern(file, bad)) => Notice::BadPattern { file, why: bad.to_string() },
        };
        tell(Told::Notice(notice));
        Ok(())
    }

    /// Whether a file can be read shows when it is opened.
    fn meet_file(&mut self, link: &mut Link, path: RelPath, parent: &Parent<D>) -> Result<(), Halted> {
        let opened = self.roots.disk().open(&parent.dir, &parent.name, Access::Read);
        let size = match opened.and_then(|file| file.stat()) {
            Ok(stat) => stat.size,
            Err(error) => return self.leave_out(path, FileKind::Regular, reason_of(&error)),
        };
        if Geometry::new(size, CHUNK_BYTES).is_none() {
            return self.leave_out(path, FileKind::Regular, Reason::SourceError);
        }
        self.ask(link, Look { path, kind: FileKind::Regular, size, target: vec![] })
    }

    fn ask(&mut self, link: &mut Link, look: Look) -> Result<(), Halted> {
        let (path, kind, bytes, target) = (look.path.clone(), look.kind, look.size, look.target.clone());
        self.questions.push_back(Question { entry: self.first + self.open.len() as u64, number: None, bytes: 0 });
        self.open.push_back(Open { path, kind, bytes, number: None, moved_bytes: bytes, target, state: State::Asked });
        Ok(link.ask(&Said::Look(look))?)
    }

    fn leave_out(&mut self, path: RelPath, kind: FileKind, reason: Reason) -> Result<(), Halted> {
        let action = Action::LeaveOut { reason, side: Role::Sender };
        let state = State::Known(action, 0);
        self.open.push_back(Open { path, kind, bytes: 0, number: None, moved_bytes: 0, target: vec![], state });
        Ok(())
    }

    /// Asks for the next name of an entry whose last one is taken. `false` if there is none.
    fn ask_on(&mut self, link: &mut Link) -> Result<bool, Halted> {
        let Some(number) = self.taken.pop_front() else { return Ok(false) };
        let Some(open) = entry(&mut self.open, self.first, number) else { return Ok(true) };
        match open.path.names().nth(1 + open.number.map_or(0, |last| usize::from(last.get()))) {
            Some((next, path)) => {
                (open.number, open.state) = (next, State::Asked);
                self.questions.push_back(Question { entry: number, number: next, bytes: 0 });
                link.ask(&Said::Look(Look { path, kind: open.kind, size: open.bytes, target: open.target.clone() }))?;
            }
            None => open.state = State::left_out(Reason::NamesTaken),
        }
        Ok(true)
    }

    /// Takes the answer to the question that was asked first.
    fn take(&mut self, answer: Answer) -> Result<(), Broken> {
        let question = self.questions.pop_front().ok_or(Broken::Misbehaved)?;
        let number = question.entry;
        // It may be known since, by an earlier answer.
        let Some(open) = entry(&mut self.open, self.first, number) else { return Ok(()) };
        if open.number != question.number {
            return Ok(());
        }
        match &mut open.state {
            State::Asked => {
                let judged = judge(self.existing, open.kind, open.bytes, answer)?;
                open.settle(judged);
                if matches!(open.state, State::Comparing(_)) {
                    self.comparing.push_back(number);
                }
            }
            State::Comparing(comparison) => {
                let Answer::Equal { bytes } = answer else { return Err(Broken::Misbehaved) };
                if let Some(known) = comparison.take(self.existing, question.bytes, bytes)? {
                    open.settle(known);
                }
            }
            State::Taken(_) | State::Known(..) => {}
        }
        if matches!(open.state, State::Taken(_)) {
            self.taken.push_back(number);
        }
        Ok(())
    }

    /// Reads the next chunks of a file that is compared, and asks about them. `false` if there are none at the moment.
    fn compare_on(&mut self, link: &mut Link) -> Result<bool, Halted> {
        while let Some(number) = self.comparing.front().copied() {
            let open = entry(&mut self.open, self.first, number);
            let Some(Open { path, bytes, number: name, state, .. }) = open else {
                self.comparing.pop_front();
                continue;
            };
            let first = match state {
                State::Comparing(Comparison { next: Some(first), .. }) => *first,
                State::Comparing(_) | State::Asked | State::Taken(_) | State::Known(..) => {
                    self.comparing.pop_front();
                    continue;
                }
            };
            let State::Comparing(comparison) = state else { continue };
            if comparison.open_runs >= PLAN_RUNS_AHEAD_MAX {
                return Ok(false);
            }
            match comparison.read(&self.roots, path) {
                Ok((run_bytes, digests)) => {
                    self.questions.push_back(Question { entry: number, number: *name, bytes: run_bytes });
                    let path = path.under(*name).expect("it was asked for under this name");
                    link.ask(&Said::Compare(Compare { path, size: *bytes, first, digests }))?;
                    return Ok(true);
                }
                Err(reason) => {
                    (*state, *bytes) = (State::Known(Action::LeaveOut { reason, side: Role::Sender }, 0), 0);
                }
            }
        }
        Ok(false)
    }
}

/// The entry of a number, unless it was told.
fn entry<D: Disk>(open: &mut VecDeque<Open<D>>, first: u64, number: u64) -> Option<&mut Open<D>> {
    open.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
}

impl<D: Disk> Open<D> {
    /// Takes what was found under the name that was asked for.
    fn settle(&mut self, found: State<D>) {
        self.state = match (found, self.number) {
            (State::Known(Action::Send, _), Some(number)) => State::Known(Action::Rename { number }, self.moved_bytes),
            (State::Taken(moved_bytes), None) => {
                // What is copied is copied from the file that has its own name.
                self.moved_bytes = moved_bytes;
                State::Taken(moved_bytes)
            }
            (found, _) => found,
        };
    }

    /// Whether an entry before would get the name that is free in the target. If not, this one gets it.
    fn is_given(&self, action: Action, given: &mut HashSet<PathHash>) -> bool {
        let may_be_given = match action {
            Action::Send => self.kind != FileKind::Directory && self.path.name().contains(&b'('),
            Action::Rename { .. } => true,
            Action::Present | Action::Replace | Action::LeaveOut { .. } => false,
        };
        may_be_given && self.path.under(self.number).is_some_and(|name| !given.insert(path_hash(&name)))
    }
}

impl<D: Disk> State<D> {
    fn left_out(reason: Reason) -> State<D> {
        State::Known(Action::LeaveOut { reason, side: Role::Receiver }, 0)
    }

    /// Something else has the name, or something that cannot be taken as it is.
    fn in_place_of(existing: Existing, is_elsewhere: bool, moved_bytes: u64) -> State<D> {
        match existing {
            Existing::Replace if is_elsewhere => State::left_out(Reason::OtherFileSystem),
            Existing::Replace => State::Known(Action::Replace, moved_bytes),
            Existing::Rename => State::Taken(moved_bytes),
            Existing::Refuse | Existing::Keep => State::left_out(refusal(existing)),
        }
    }
}

/// Why something that has the name stays.
fn refusal(existing: Existing) -> Reason {
    match existing {
        Existing::Keep => Reason::Kept,
        Existing::Refuse | Existing::Replace | Existing::Rename => Reason::ExistsDifferent,
    }
}

/// Whether an entry arrives whatever has its name, so that what of that can be copied is worth knowing.
fn may_arrive(existing: Existing) -> bool {
    matches!(existing, Existing::Replace | Existing::Rename)
}

/// What follows from what the target has, as the receiver of a transfer judges it. What is on another file system than the
/// target cannot be renamed into its place.
fn judge<D: Disk>(existing: Existing, kind: FileKind, size: u64, answer: Answer) -> Result<State<D>, Broken> {
    let is_file = kind == FileKind::Regular;
    Ok(match answer {
        Answer::Nothing { is_elsewhere: true } if is_file => State::left_out(Reason::OtherFileSystem),
        Answer::Nothing { .. } => State::Known(Action::Send, size),
        Answer::There if !is_file => State::Known(Action::Present, 0),
        Answer::Refused { reason } => State::left_out(reason),
        Answer::Directory if kind != FileKind::Directory => match existing {
            Existing::Rename => State::Taken(size),
            Existing::Refuse | Existing::Keep | Existing::Replace => State::left_out(refusal(existing)),
        },
        Answer::Other { is_elsewhere } if kind != FileKind::Directory => {
            State::in_place_of(existing, is_elsewhere, size)
        }
        Answer::File { is_same_size: false, .. } if is_file && !may_arrive(existing) => {
            State::left_out(refusal(existing))
        }
        Answer::File { is_same_size, is_elsewhere } if is_file => State::Comparing(Comparison {
            geometry: Geometry::new(size, CHUNK_BYTES).ok_or(Broken::Misbehaved)?,
            file: None,
            next: Some(0),
            open_runs: 0,
            equal_bytes: 0,
            is_same_size,
            is_elsewhere,
        }),
        _ => return Err(Broken::Misbehaved),
    })
}

impl<D: Disk> Comparison<D> {
    /// Digests of the chunks that come next, and their bytes. An empty file has none, and is asked for once.
    fn read(&mut self, roots: &Roots<D>, path: &RelPath) -> Result<(u64, Vec<ChunkDigest>), Reason> {
        let first = self.next.take().unwrap_or(0);
        if self.file.is_none() {
            self.file = Some(roots.open_file(path).map_err(|error| reason_of(&error))?);
        }
        let Some(file) = &self.file else { return Err(Reason::Vanished) };
        let count = (self.geometry.chunk_count() - first).min(PLAN_CHUNKS_MAX);
        let (mut bytes, mut digests) = (0, vec![]);
        for chunk in self.geometry.chunks(ChunkRun { first, count }) {
            let length = self.geometry.chunk_len(chunk);
            let content = read_chunk(file, self.geometry.offset(chunk), length as usize);
            digests.push(match content.map_err(|error| reason_of(&error))? {
                Content::Zero => zero_digest(self.geometry, chunk),
                Content::Bytes(bytes) => chunk_digest(self.geometry, chunk, &bytes),
            });
            bytes += u64::from(length);
        }
        self.next = (first + count < self.geometry.chunk_count()).then_some(first + count);
        if self.next.is_none() {
            self.file = None;
        }
        self.open_runs += 1;
        Ok((bytes, digests))
    }

    /// Takes what of `asked_bytes` the target has: `None` if it cannot be read there. What would be done, if that is known.
    fn take(&mut self, existing: Existing, asked_bytes: u64, found: Option<u64>) -> Result<Option<State<D>>, Broken> {
        self.open_runs -= 1;
        let size = self.geometry.file_bytes();
        let Some(found_bytes) = found else {
            return Ok(Some(State::in_place_of(existing, self.is_elsewhere, size)));
        };
        if found_bytes > asked_bytes {
            return Err(Broken::Misbehaved);
        }
        self.equal_bytes += found_bytes;
        let moved_bytes = size - self.equal_bytes;
        let is_over = self.next.is_none() && self.open_runs == 0;
        if is_over && self.is_same_size && moved_bytes == 0 {
            return Ok(Some(State::Known(Action::Present, 0)));
        }
        let is_decided = is_over || (!may_arrive(existing) && found_bytes < asked_bytes);
        Ok(is_decided.then(|| State::in_place_of(existing, self.is_elsewhere, moved_bytes)))
    }
}
