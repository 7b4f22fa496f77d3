//! The network: one QUIC endpoint, links to peers whose keys are known, and streams on them. The only floor that
//! names `quinn` and `rustls`. It moves frames and chunk bodies and knows nothing of what they mean; it does not
//! decide who may take a transfer, when to dial again, or what a refusal leads to.
//!
//! A link begins unproved: small windows, one stream, a deadline. [`Link::raise_windows`] ends that.

mod accept;
mod addresses;
mod config;
mod congestion;
mod control;
mod data;
mod dial;
mod endpoint;
mod error;
mod identity;
mod key_file;
mod limiter;
mod link;
pub mod relay;
mod seal;
mod tls;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tls_tests;

pub use control::{ControlReceiver, ControlSender};
pub use data::{DataReceiver, DataSender, Next};
pub use endpoint::{Accept, Endpoint};
pub use error::{BindError, CloseCode, LinkError};
pub use identity::{Identity, NoRandomness, random, random_secret, verify_signature};
pub use key_file::IdentityError;
pub use limiter::Limiter;
pub use link::{Link, LinkStats, NewLink};
pub use seal::OnceKey;
