//! A dialler whose transfer `--new` closes tells the listener, if that can be reached at once: it would wait for ever.
//! A listener's peer needs no such call: it comes by itself (`listen.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::debug;

use super::HelloExtras;
use super::greet::{self, GreetFailure};
use crate::limits::{CHUNK_BYTES, HANDSHAKE_MS_MAX};
use crate::net::{Accept, CloseCode, Endpoint, Identity};
use crate::state::transfer::{Side, TransferRecord};
use crate::wire::{Retry, Stop, StopReason};

/// Begins to tell the listeners of these records.
pub(super) fn begin(identity: &Arc<Identity>, abandoned: Vec<TransferRecord>) -> JoinSet<()> {
    let mut farewells = JoinSet::new();
    for record in abandoned.into_iter().filter(|record| record.side == Side::Dialler) {
        let identity = Arc::clone(identity);
        farewells.spawn(async move {
            // Nothing depends on it: whoever is not reached finds no such transfer, or nobody, later.
            let told = tell(identity, &record).await;
            debug!(id = %record.id, ?told, "said goodbye");
        });
    }
    farewells
}

async fn tell(identity: Arc<Identity>, record: &TransferRecord) -> Result<(), GreetFailure> {
    let Some(pinned) = record.peer else { return Ok(()) };
    let Ok(endpoint) = Endpoint::bind_everywhere(0, Arc::clone(&identity), Accept::Nothing) else { return Ok(()) };
    let patience = Duration::from_millis(HANDSHAKE_MS_MAX);
    let new = endpoint.dial(&record.addresses, pinned, patience).await?;
    let extras = HelloExtras { chunk_bytes: CHUNK_BYTES, ..HelloExtras::default() };
    let ours = greet::hello(&identity, record, record.secret.as_ref(), &new.link, vec![], extras);
    let mut met = greet::call(new, ours).await?;
    let stop = Stop { reason: StopReason::Closed, retry: Retry::Never };
    greet::say_stop(&mut met.sender, stop).await?;
    met.link.close(CloseCode::Dropped);
    endpoint.wait_idle().await;
    Ok(())
}
