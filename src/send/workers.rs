//! The threads of a sending run: one walks and hashes, one answers wants. The driver owns them, hears of them through
//! bounded channels, and joins them. What they do is in `source/`; here is only how they are woken and ended.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc as tokio_mpsc, watch};

use crate::disk::Disk;
use crate::error::Error;
use crate::event::Events;
use crate::geometry::EntryIndex;
use crate::limits::{CHUNK_BYTES, DATA_STREAMS, IN_FLIGHT_CHUNKS_MAX, SERVE_AHEAD_CHUNKS_MAX, SERVED_REPORT_CHUNKS};
use crate::manifest::Position;
use crate::outcome::Reason;
use crate::source::ahead::{Content, Gate, HashAhead};
use crate::source::producer::{Figures, Producer, Work};
use crate::source::serve::{Answer, Served, Server};
use crate::task::sender::{Input, Production};
use crate::wire::{Body, CHUNK_HEADER_BYTES, ChunkHeader, Place, Want};

/// Reports that wait for the driver.
const REPORTS_MAX: usize = 256;

/// What the driver hears from its threads and tasks.
#[derive(Debug)]
pub(super) enum Report {
    /// For the brain.
    Input(Input),
    /// For the brain, if this link is still the one in use.
    OnLine(u64, Input),
    /// The run cannot go on.
    Failed(Error),
}

/// How far the producer is.
#[derive(Clone, Debug)]
pub(super) struct Produced {
    pub(super) position: Position,
    pub(super) production: Production,
    pub(super) figures: Figures,
}

/// A chunk on its way to a data stream. Its permit is given back when QUIC has taken it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) header: [u8; CHUNK_HEADER_BYTES],
    pub(super) body: Option<Bytes>,
    _permit: OwnedSemaphorePermit,
}

/// Where answers to the wants of one link go.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    pub(super) line: u64,
    pub(super) lanes: [tokio_mpsc::Sender<Outgoing>; DATA_STREAMS],
}

/// Wants of one link.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) want: Want,
    pub(super) lanes: Lanes,
}

/// The threads.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) reports: tokio_mpsc::Receiver<Report>,
    pub(super) report: tokio_mpsc::Sender<Report>,
    pub(super) produced: watch::Receiver<Produced>,
    ahead: Arc<HashAhead>,
    permits: Arc<Semaphore>,
    renew: Option<mpsc::SyncSender<(EntryIndex, Reason)>>,
    serve: Option<mpsc::SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts both threads. Must be called inside a tokio runtime.
    pub(super) fn start<D: Disk>(producer: Producer<D>, server: Server<D>, events: &Events) -> Workers {
        let ahead = producer.ahead();
        let permits = Arc::new(Semaphore::new(SERVE_AHEAD_CHUNKS_MAX * CHUNK_BYTES as usize));
        let (report, reports) = tokio_mpsc::channel(REPORTS_MAX);
        let first =
            Produced { position: producer.log().position(), production: Production::Busy, figures: producer.figures() };
        let (told, produced) = watch::channel(first);
        let (renew, renewals) = mpsc::sync_channel(IN_FLIGHT_CHUNKS_MAX as usize);
        let (serve, jobs) = mpsc::sync_channel(IN_FLIGHT_CHUNKS_MAX as usize);
        let producing = Producing { producer, renewals, told, events: events.clone(), report: report.clone() };
        let serving = Serving {
            server,
            jobs,
            permits: Arc::clone(&permits),
            runtime: Handle::current(),
            events: events.clone(),
            report: report.clone(),
        };
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let threads = vec![
            named("producer").spawn(move || producing.run()).expect("the system has room for a thread"),
            named("server").spawn(move || serving.run()).expect("the system has room for a thread"),
        ];
        Workers { reports, report, produced, ahead, permits, renew: Some(renew), serve: Some(serve), threads }
    }

    /// Has wants answered. The brain bounds how many there are at a time.
    pub(super) fn serve(&self, job: Job) {
        self.ahead.considered(job.want.considered_through, &job.want.runs);
        if let Some(serve) = self.serve.as_ref().filter(|_| !job.want.runs.is_empty()) {
            // It fails only when the thread has ended, which it has reported.
            let _ = serve.try_send(job);
        }
    }

    /// The receiver has everything, and looks at no chunk any more: what is still hashed, since this side lost its
    /// log, waits for nobody.
    pub(super) fn keep_nothing(&self) {
        self.ahead.considered(Place { entry: u32::MAX, chunk: u32::MAX }, &[]);
    }

    /// The link is gone: what was kept for its wants is kept for nobody.
    pub(super) fn drop_wants(&self) {
        self.ahead.forget_wants();
    }

    /// Has a new version of an entry made.
    pub(super) fn renew(&self, entry: EntryIndex, reason: Reason) {
        if let Some(renew) = &self.renew {
            // It fails only when the thread has ended, which it has reported.
            let _ = renew.try_send((entry, reason));
        }
    }

    /// Whether bodies wait for the network.
    pub(super) fn is_queued(&self) -> bool {
        self.permits.available_permits() < SERVE_AHEAD_CHUNKS_MAX * CHUNK_BYTES as usize
    }
}

impl Workers {
    /// Ends both threads and waits for them.
    pub(super) fn stop(&mut self) {
        self.ahead.close();
        self.permits.close();
        self.reports.close();
        (self.renew, self.serve) = (None, None);
        for thread in self.threads.drain(..) {
            if let Err(panic) = thread.join()
                && !thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Producing<D: Disk> {
    producer: Producer<D>,
    renewals: mpsc::Receiver<(EntryIndex, Reason)>,
    told: watch::Sender<Produced>,
    events: Events,
    report: tokio_mpsc::Sender<Report>,
}

impl<D: Disk> Producing<D> {
    fn run(mut self) {
        let ahead = self.producer.ahead();
        while ahead.gate() == Gate::Open {
            let stepped = match self.producer.step() {
                Ok(stepped) => stepped,
                Err(error) => return tell(&self.report, Report::Failed(error)),
            };
            stepped.events.into_iter().for_each(|event| self.events.emit(event));
            let production = match stepped.work {
                Work::Ready => Production::Busy,
                Work::Blocked => Production::Blocked,
                Work::Settled(_) => Production::Settled,
            };
            let (position, figures) = (self.producer.log().position(), self.producer.figures());
            self.told.send_replace(Produced { position, production, figures });
            let renewal = match stepped.work {
                Work::Ready => self.renewals.try_recv().ok(),
                Work::Blocked => {
                    ahead.wait_for_room();
                    self.renewals.try_recv().ok()
                }
                Work::Settled(_) => match self.renewals.recv() {
                    Ok(renewal) => Some(renewal),
                    Err(mpsc::RecvError) => return,
                },
            };
            if let Some((entry, reason)) = renewal {
                self.producer.request(entry, reason);
            }
        }
    }
}

struct Serving<D: Disk> {
    server: Server<D>,
    jobs: mpsc::Receiver<Job>,
    permits: Arc<Semaphore>,
    runtime: Handle,
    events: Events,
    report: tokio_mpsc::Sender<Report>,
}

impl<D: Disk> Serving<D> {
    fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            if self.permits.is_closed() {
                return;
            }
            if let Err(report) = self.answer(&job) {
                return tell(&self.report, report);
            }
        }
    }

    /// Answers wants in order, alternating between the lanes. Stops early when their link is gone.
    fn answer(&mut self, job: &Job) -> Result<(), Report> {
        let mut unreported = 0;
        let mut lanes = job.lanes.lanes.iter().cycle();
        let on_line = |input| Report::OnLine(job.lanes.line, input);
        for run in &job.want.runs {
            // A run beyond the last number that a chunk could have is outside, whatever the file is.
            let Some(end) = run.first.checked_add(run.count) else {
                tell(&self.report, on_line(Input::WantedOutside));
                return Ok(());
            };
            for chunk in run.first..end {
                let served = self.server.serve(Place { entry: run.entry.0, chunk });
                let Served { answer, event, renew } =
                    served.map_err(|source| Report::Failed(Error::State { path: "manifest".into(), source }))?;
                event.into_iter().for_each(|event| self.events.emit(event));
                if let Some((entry, reason)) = renew {
                    tell(&self.report, Report::Input(Input::Unservable(entry, reason)));
                }
                let (body, bytes) = match answer {
                    Answer::Outside => {
                        tell(&self.report, on_line(Input::WantedOutside));
                        return Ok(());
                    }
                    Answer::Gone(reason) => (Body::Gone(reason), None),
                    Answer::Content(Content::Zero) => (Body::Zero, None),
                    Answer::Content(Content::Bytes(bytes)) => {
                        let length = u32::try_from(bytes.len()).expect("a chunk's length fits");
                        (Body::Bytes(length), Some(bytes))
                    }
                };
                let header = ChunkHeader { entry: run.entry, chunk, body };
                let lane = lanes.next().expect("there is at least one lane");
                if !self.hand_over(lane, &header, bytes) {
                    return Ok(());
                }
                unreported += 1;
                if unreported == SERVED_REPORT_CHUNKS {
                    tell(&self.report, on_line(Input::Served(std::mem::take(&mut unreported))));
                }
            }
        }
        tell(&self.report, on_line(Input::Served(unreported)));
        Ok(())
    }

    /// Waits for room and queues one chunk. Returns whether the link is still there.
    fn hand_over(&self, lane: &tokio_mpsc::Sender<Outgoing>, header: &ChunkHeader, body: Option<Bytes>) -> bool {
        let weight = body.as_ref().map_or(0, Bytes::len) + CHUNK_HEADER_BYTES;
        let weight = u32::try_from(weight).expect("a chunk's length fits");
        let acquire = Arc::clone(&self.permits).acquire_many_owned(weight);
        let Ok(permit) = self.runtime.block_on(acquire) else { return false };
        lane.blocking_send(Outgoing { header: header.encode(), body, _permit: permit }).is_ok()
    }
}

/// Tells the driver. A driver that is gone needs nothing more.
fn tell(reports: &tokio_mpsc::Sender<Report>, report: Report) {
    let _ = reports.blocking_send(report);
}
