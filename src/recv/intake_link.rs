//! The receiver's end of one link: data streams are read into commands, control messages are decoded. Nothing here
//! decides; what breaks the protocol is told.

use std::sync::Arc;
use std::sync::mpsc::Sender as Commander;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::engine::Command;
use crate::limits::{CHUNK_BYTES, DATA_STREAMS, IN_FLIGHT_BYTES_MAX, LINK_VERDICT_MS};
use crate::net::{ControlReceiver, ControlSender, DataReceiver, Limiter, Link, LinkError, Next};
use crate::wire::{Body, CHUNK_HEADER_BYTES, ChunkHeader};

/// What a chunk counts at least against the permits, so that empty ones are bounded too.
const CHUNK_WEIGHT_MIN: u32 = 4096;

/// How long the peer is waited for when this side ends.
const VERDICT: Duration = Duration::from_millis(LINK_VERDICT_MS);

/// One link in use.
pub(super) struct Channel {
    pub(super) link: Link,
    pub(super) sender: ControlSender,
    pub(super) receiver: ControlReceiver,
    /// The sender has said from where its records continue.
    pub(super) is_continued: bool,
    /// The sender shows what was found here.
    pub(super) hears_reused: bool,
    pub(super) readers: JoinSet<()>,
}

impl Channel {
    /// Lets what was said last, a stop with its reason, arrive before the link closes.
    pub(super) async fn say_all(&mut self) {
        drop(timeout(VERDICT, self.sender.finish()).await);
    }

    /// After the sender's last word: tells by the end of the control stream that it was heard, and lets the sender close
    /// the link, which it does then.
    pub(super) async fn part(&mut self) {
        let parted = async {
            let _ = self.sender.finish().await;
            self.link.closed().await
        };
        drop(timeout(VERDICT, parted).await);
    }
}

/// What a data stream tells besides chunks.
pub(super) enum DataNews {
    /// Body bytes that came.
    Bytes(u64),
    /// The peer broke the protocol.
    Misbehaved(&'static str),
}

/// The permits that bound received bytes that are not yet written.
pub(super) fn permits() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(IN_FLIGHT_BYTES_MAX).expect("a bound of memory fits the memory")))
}

/// Reads the data streams of a link until it ends.
pub(super) fn spawn_readers(
    tasks: &mut JoinSet<()>,
    link: &Link,
    limiter: &Limiter,
    permits: &Arc<Semaphore>,
    commands: &Commander<Command>,
    news: &UnboundedSender<DataNews>,
) {
    let (link, limiter, permits) = (link.clone(), limiter.clone(), Arc::clone(permits));
    let (commands, news) = (commands.clone(), news.clone());
    tasks.spawn(async move {
        let mut readers = JoinSet::new();
        for _ in 0..DATA_STREAMS {
            let Ok(stream) = link.accept_data(&limiter).await else { break };
            let (permits, commands, news) = (Arc::clone(&permits), commands.clone(), news.clone());
            readers.spawn(async move {
                let ended = read_stream(stream, permits, &commands, &news).await;
                if let Err(Ended::Misbehaved(what)) = ended {
                    drop(news.send(DataNews::Misbehaved(what)));
                }
            });
        }
        while readers.join_next().await.is_some() {}
    });
}

enum Ended {
    /// The link is gone; whoever waits for it learns why.
    Lost,
    Misbehaved(&'static str),
}

impl From<LinkError> for Ended {
    fn from(_: LinkError) -> Ended {
        Ended::Lost
    }
}

async fn read_stream(
    mut stream: DataReceiver,
    permits: Arc<Semaphore>,
    commands: &Commander<Command>,
    news: &UnboundedSender<DataNews>,
) -> Result<(), Ended> {
    let mut bytes = [0; CHUNK_HEADER_BYTES];
    while let Next::Header = stream.read_header(&mut bytes).await? {
        let header = ChunkHeader::decode(&bytes, CHUNK_BYTES).map_err(|_| Ended::Misbehaved("a chunk header"))?;
        let length = match header.body {
            Body::Bytes(length) => length,
            Body::Zero | Body::Gone(_) => 0,
        };
        let weight = length.max(CHUNK_WEIGHT_MIN);
        let permit = Arc::clone(&permits).acquire_many_owned(weight).await.map_err(|_| Ended::Lost)?;
        let body = match length {
            0 => None,
            _ => Some(stream.read_body(length as usize).await?),
        };
        drop(news.send(DataNews::Bytes(u64::from(length))));
        if commands.send(Command::Chunk(header, body, permit)).is_err() {
            return Err(Ended::Lost);
        }
    }
    Ok(())
}
