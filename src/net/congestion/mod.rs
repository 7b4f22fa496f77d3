//! How much may be on its way: a congestion controller that fills a link which loses packets at random, and yields on
//! one that is full. It follows BBRv3 as in draft-ietf-ccwg-bbr-06 (sections are named where it does), within what
//! quinn offers: quinn paces at a fixed share of window and smoothed round trip, so the window is the only control.
//!
//! - `sampler`: rounds and delivery rates from what was sent and acknowledged (section 4.1).
//! - `model`: what the path carries, how long it takes, and what it loses anyhow (section 5.5).
//! - `machine`: phases, and the window that follows from them (sections 5.3 and 5.6).
//! - `rival`: the share of a queue that somebody else keeps full; the draft has no such phase.
//!
//! All of that is pure: times are arguments. This file is the adapter to quinn and decides nothing.

mod machine;
mod model;
mod rate;
mod rival;
mod sampler;

#[cfg(test)]
mod link_sim;
#[cfg(test)]
mod link_sim_tests;

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use crate::limits::CONGESTION_INITIAL_BYTES;
use machine::Machine;

/// Makes a controller for each new path.
#[derive(Debug)]
pub(super) struct Factory;

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Adapter(Machine::new(now, current_mtu)))
    }
}

/// Bytes that are on their way, and bytes that were acknowledged, as a connection's controller counts them.
pub(super) fn on_their_way_and_acknowledged(controller: Box<dyn Controller>) -> (u64, u64) {
    let ours = controller.into_any().downcast::<Adapter>();
    ours.map_or((0, 0), |adapter| adapter.0.on_their_way_and_acknowledged())
}

/// What quinn tells its controller, handed to the machine.
#[derive(Clone, Debug)]
struct Adapter(Machine);

impl Controller for Adapter {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.0.on_sent(now, bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.0.on_acked(now, sent, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.0.on_acks_end(now, in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.0.on_lost(now, sent, lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.0.on_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        self.0.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        CONGESTION_INITIAL_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
