//! The announcement: DNS-SD over multicast DNS, on the interfaces of this machine. It says that landfall waits here, at
//! which port, and for whom the nameplate is; nothing of what is received, nor of who receives it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use data_encoding::HEXLOWER;
use mdns_sd::{IfKind, ServiceDaemon, ServiceInfo};
use thiserror::Error;
use tracing::debug;

use crate::identity::PeerKey;
use crate::limits::LAN_GOODBYE_MS;
use crate::net::random;

/// Type of the service.
pub(super) const SERVICE: &str = "_landfall._udp.local.";
/// Version of what the announcement says.
pub(super) const VERSION: &str = "1";
/// Keys of what it says: version, nameplate, TCP port, and the first letters of the fingerprint.
pub(super) const VERSION_KEY: &str = "v";
pub(super) const NAMEPLATE_KEY: &str = "n";
pub(super) const PORT_KEY: &str = "p";
pub(super) const FINGERPRINT_KEY: &str = "f";
/// Letters of the fingerprint that are announced: enough to look at, and proof of nothing.
const FINGERPRINT_LETTERS: usize = 9;

/// This machine cannot speak multicast DNS.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct AnnounceError(pub(super) String);

impl From<mdns_sd::Error> for AnnounceError {
    fn from(error: mdns_sd::Error) -> AnnounceError {
        AnnounceError(error.to_string())
    }
}

/// Where a listener can be reached.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The one address to which it is bound, if it is bound to one.
    pub(super) bound: Option<IpAddr>,
    /// Port of QUIC.
    pub(super) udp_port: u16,
    /// Port of the exchange.
    pub(super) tcp_port: u16,
    /// Its key.
    pub(super) key: PeerKey,
}

/// What others see of a listener, until it is dropped.
pub(super) struct Announcement {
    daemon: ServiceDaemon,
    place: Place,
    fullname: Option<String>,
}

impl Announcement {
    /// Says nothing yet.
    pub(super) fn new(place: Place) -> Result<Announcement, AnnounceError> {
        let daemon = ServiceDaemon::new()?;
        let announcement = Announcement { daemon, place, fullname: None };
        match announcement.place.bound {
            // Nobody on another machine reaches it there, and this machine's own processes hear the other interfaces.
            None => announcement.daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?,
            Some(address) => {
                announcement.daemon.disable_interface(IfKind::All)?;
                announcement.daemon.enable_interface(IfKind::Addr(address))?;
            }
        }
        Ok(announcement)
    }

    /// Announces this nameplate in place of an earlier one. Each has a name of its own, so that no cache mixes them up.
    pub(super) fn show(&mut self, nameplate: &str) -> Result<(), AnnounceError> {
        self.take_back();
        let name = HEXLOWER.encode(&random::<6>().map_err(|error| AnnounceError(error.to_string()))?);
        let Place { bound, udp_port, tcp_port, key } = &self.place;
        let fingerprint: String = key.fingerprint().to_string().chars().take(FINGERPRINT_LETTERS).collect();
        let tcp_port = tcp_port.to_string();
        let says = [
            (VERSION_KEY, VERSION),
            (NAMEPLATE_KEY, nameplate),
            (PORT_KEY, &tcp_port),
            (FINGERPRINT_KEY, &fingerprint),
        ];
        let host = format!("landfall-{name}.local.");
        let addresses: Vec<IpAddr> = bound.iter().copied().collect();
        let info = ServiceInfo::new(SERVICE, &name, &host, &addresses[..], *udp_port, &says[..])?;
        let mut info = if bound.is_none() { info.enable_addr_auto() } else { info };
        // The name is random: nobody has to be asked whether it is free.
        info.set_requires_probe(false);
        let fullname = info.get_fullname().to_owned();
        self.daemon.register(info)?;
        self.fullname = Some(fullname);
        Ok(())
    }

    fn take_back(&mut self) {
        if let Some(fullname) = self.fullname.take() {
            // Its answer is of no use: what is not taken back expires.
            let taken = self.daemon.unregister(&fullname);
            debug!(is_taken_back = taken.is_ok(), "announcement");
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.take_back();
        end(&self.daemon);
    }
}

/// Ends the thread of a daemon, and gives it a moment to say goodbye.
pub(super) fn end(daemon: &ServiceDaemon) {
    if let Ok(ended) = daemon.shutdown() {
        drop(ended.recv_timeout(Duration::from_millis(LAN_GOODBYE_MS)));
    }
}

/// The address of a listener's socket, if it is not all of them.
pub(super) fn one_address(bound: SocketAddr) -> Option<IpAddr> {
    let ip = bound.ip().to_canonical();
    (!ip.is_unspecified()).then_some(ip)
}
