//! The link in use: its control stream and its data streams, each written by a task of its own, so that neither
//! waits for the other. What is said on it is decided elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::workers::{Lanes, Outgoing, Report};
use crate::limits::{FAREWELL_MS, IN_FLIGHT_CHUNKS_MAX};
use crate::meet::Met;
use crate::net::{CloseCode, ControlReceiver, ControlSender, Limiter, Link, LinkError};
use crate::state::log::Cursor;
use crate::task::sender::Input;
use crate::wire::Message;

/// Frames that wait to be written: one page and a few short messages at a time.
const CONTROL_FRAMES_MAX: usize = 16;

/// What the control writer gets.
#[derive(Debug)]
enum Frame {
    Message(Vec<u8>),
    /// A page of records, and how many records of the log are sent with it.
    Page(Vec<u8>, u64),
}

/// A link in use.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) link: Link,
    /// Frames of the peer.
    pub(super) receiver: ControlReceiver,
    /// Writers, and a watch for answers; the first that ends ends the line.
    pub(super) writers: JoinSet<Result<(), LinkError>>,
    /// How far the log was sent.
    pub(super) cursor: Cursor,
    pub(super) lanes: Lanes,
    /// What ends with the link: the writers of data streams, and the watch for answers.
    data: Vec<AbortHandle>,
    control: mpsc::Sender<Frame>,
}

impl Line {
    /// Starts the writers. `number` tells this link from others of the run.
    pub(super) fn open(
        met: Met,
        number: u64,
        cursor: Cursor,
        limiter: &Limiter,
        wire_bytes: &Arc<AtomicU64>,
        report: &mpsc::Sender<Report>,
    ) -> Line {
        let Met { link, sender, receiver, hello: _ } = met;
        let (control, frames) = mpsc::channel(CONTROL_FRAMES_MAX);
        let (mut writers, mut data) = (JoinSet::new(), vec![]);
        writers.spawn(write_control(sender, frames, number, report.clone()));
        let lanes = std::array::from_fn(|_| {
            let (lane, chunks) = mpsc::channel(IN_FLIGHT_CHUNKS_MAX as usize);
            data.push(writers.spawn(write_data(link.clone(), limiter.clone(), chunks, Arc::clone(wire_bytes))));
            lane
        });
        let watched = link.clone();
        data.push(writers.spawn(async move { Err(watched.unanswered().await) }));
        let lanes = Lanes { line: number, lanes };
        Line { link, receiver, writers, data, cursor, lanes, control }
    }

    /// Queues a message. A queue that is full or closed belongs to a link that is as good as gone, which shows
    /// elsewhere.
    pub(super) fn send(&self, message: &Message) {
        let _ = self.control.try_send(Frame::Message(message.encode()));
    }

    /// Queues a page of records.
    pub(super) fn send_page(&self, page: Vec<u8>, sent_records: u64) {
        let _ = self.control.try_send(Frame::Page(Message::Records(page).encode(), sent_records));
    }

    /// Lets what was queued on the control stream arrive, as far as that can be waited for, and closes the link.
    pub(super) async fn close(mut self, code: CloseCode) {
        self.data.iter().for_each(AbortHandle::abort);
        drop(self.control);
        let farewell = async { while self.writers.join_next().await.is_some() {} };
        // A peer that no longer answers does not keep us; what matters to it will be said on the next link.
        let _ = timeout(Duration::from_millis(FAREWELL_MS), farewell).await;
        match code {
            CloseCode::Finished => self.link.close_now(code).await,
            _ => self.link.close(code),
        }
    }
}

async fn write_control(
    mut sender: ControlSender,
    mut frames: mpsc::Receiver<Frame>,
    number: u64,
    report: mpsc::Sender<Report>,
) -> Result<(), LinkError> {
    while let Some(frame) = frames.recv().await {
        match frame {
            Frame::Message(message) => sender.send(&message).await?,
            Frame::Page(page, sent_records) => {
                sender.send(&page).await?;
                // A driver that is gone needs nothing more.
                let _ = report.send(Report::OnLine(number, Input::PageSent(sent_records))).await;
            }
        }
    }
    sender.finish().await
}

async fn write_data(
    link: Link,
    limiter: Limiter,
    mut chunks: mpsc::Receiver<Outgoing>,
    wire_bytes: Arc<AtomicU64>,
) -> Result<(), LinkError> {
    let mut stream = link.open_data(&limiter).await?;
    while let Some(chunk) = chunks.recv().await {
        let length = chunk.body.as_ref().map_or(0, bytes::Bytes::len) as u64;
        stream.send(&chunk.header, chunk.body).await?;
        wire_bytes.fetch_add(length, Ordering::Relaxed);
    }
    stream.finish();
    Ok(())
}
