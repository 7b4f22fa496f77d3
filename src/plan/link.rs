//! The asking end of a plan's two pipes. Lines are written and answers are read on threads of their own, so that neither
//! side ever waits for the other to read: at most as many questions are open as both queues have room for.

use std::io::{self, BufRead, BufWriter, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::line::{Answer, Said, read_line};
use crate::error::Error;
use crate::identity::Role;
use crate::limits::{PLAN_LINE_BYTES_MAX, PLAN_QUESTIONS_MAX};

/// What ends a plan at the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It has ended, or cannot be reached any more.
    Gone,
    /// It said something that has no meaning.
    Misbehaved,
    /// It is there, and has said nothing for so long.
    Silent(Duration),
}

impl Broken {
    /// What a pipe that could not be read or written says, if it is waited for with so much patience.
    pub(crate) fn of(error: &io::Error, patience: Option<Duration>) -> Broken {
        match patience {
            Some(patience) if error.kind() == io::ErrorKind::TimedOut => Broken::Silent(patience),
            _ if error.kind() == io::ErrorKind::InvalidData => Broken::Misbehaved,
            _ => Broken::Gone,
        }
    }

    /// The error where nothing more is known of the other side.
    pub(crate) fn error(self, peer: Role) -> Error {
        match self {
            Broken::Gone => Error::NoLink { peer, seconds: 0, cause: "it ended before the plan was whole".to_owned() },
            Broken::Silent(patience) => {
                let seconds = patience.as_secs().max(1);
                Error::NoLink { peer, seconds, cause: "what was started there said nothing".to_owned() }
            }
            Broken::Misbehaved => Error::Misbehaved { peer, what: "a line of its plan has no meaning".to_owned() },
        }
    }
}

/// Where lines go to be written.
#[derive(Clone, Debug)]
pub(super) struct Says(SyncSender<Vec<u8>>);

impl Says {
    /// Has a line written; waits for room.
    pub(super) fn say(&self, said: &Said) -> Result<(), Broken> {
        self.0.send(said.line()).map_err(|_| Broken::Gone)
    }
}

/// The asking end.
#[derive(Debug)]
pub(super) struct Link {
    says: Option<Says>,
    answers: Receiver<Result<Answer, Broken>>,
    writer: Option<JoinHandle<()>>,
    open: usize,
    patience: Option<Duration>,
}

impl Link {
    /// Over a pair of pipes, with so much patience for an answer. The thread that reads ends with its pipe or the process: a
    /// read cannot be taken back.
    pub(super) fn new(
        input: impl BufRead + Send + 'static,
        output: impl Write + Send + 'static,
        patience: Option<Duration>,
    ) -> Result<Link, Error> {
        let (says, lines) = sync_channel(PLAN_QUESTIONS_MAX);
        let (heard, answers) = sync_channel(PLAN_QUESTIONS_MAX);
        let failed = |source| Error::Local {
            what: "thread",
            object: "plan".into(),
            problem: "could not be started",
            source: Some(source),
        };
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let writer = named("plan-writer").spawn(move || write_all(&lines, output)).map_err(failed)?;
        named("plan-reader").spawn(move || read_all(input, &heard)).map_err(failed)?;
        Ok(Link { says: Some(Says(says)), answers, writer: Some(writer), open: 0, patience })
    }

    /// A further way to say something.
    pub(super) fn says(&self) -> Says {
        self.says.clone().expect("it is taken away only when the link is closed")
    }

    /// Whether one more question may be asked.
    pub(super) fn has_room(&self) -> bool {
        self.open < PLAN_QUESTIONS_MAX
    }

    /// Asks. Its answer comes after those of all questions before it.
    pub(super) fn ask(&mut self, question: &Said) -> Result<(), Broken> {
        self.open += 1;
        self.says.as_ref().ok_or(Broken::Gone)?.say(question)
    }

    /// The next answer, if it has come.
    pub(super) fn try_hear(&mut self) -> Result<Option<Answer>, Broken> {
        match self.answers.try_recv() {
            Ok(answer) => self.count(answer).map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Broken::Gone),
        }
    }

    /// Waits for the next answer.
    pub(super) fn hear(&mut self) -> Result<Answer, Broken> {
        let answer = match self.patience {
            Some(patience) => self.answers.recv_timeout(patience).map_err(|error| match error {
                RecvTimeoutError::Timeout => Broken::Silent(patience),
                RecvTimeoutError::Disconnected => Broken::Gone,
            })?,
            None => self.answers.recv().map_err(|_| Broken::Gone)?,
        };
        self.count(answer)
    }

    /// An answer to no question has no meaning.
    fn count(&mut self, answer: Result<Answer, Broken>) -> Result<Answer, Broken> {
        self.open = self.open.checked_sub(1).ok_or(Broken::Misbehaved)?;
        answer
    }

    /// Writes what is still to be written, and closes the pipe to the other side.
    pub(super) fn close(mut self) {
        self.says = None;
        // A panic there has ended the process.
        drop(self.writer.take().map(JoinHandle::join));
    }
}

/// Writes lines until nobody says any more, and holds back none while nothing more is to be written.
fn write_all(lines: &Receiver<Vec<u8>>, output: impl Write) {
    let mut output = BufWriter::new(output);
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            if output.write_all(&line).is_err() {
                return;
            }
            next = lines.try_recv().ok();
        }
        if output.flush().is_err() {
            return;
        }
    }
}

fn read_all(mut input: impl BufRead, heard: &SyncSender<Result<Answer, Broken>>) {
    let mut line = vec![];
    loop {
        let answer = match read_line(&mut input, &mut line, PLAN_LINE_BYTES_MAX) {
            Ok(true) => Answer::parse(&line).ok_or(Broken::Misbehaved),
            Ok(false) => return,
            Err(error) => Err(Broken::of(&error, None)),
        };
        if heard.send(answer).is_err() || answer.is_err() {
            return;
        }
    }
}
