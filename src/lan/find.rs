//! The dialler's side: looks for the announcement of a nameplate, and exchanges the code for the ticket. All that is heard is
//! anybody's word: only the exchange decides.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::debug;

use super::announce::{AnnounceError, NAMEPLATE_KEY, PORT_KEY, SERVICE, VERSION, VERSION_KEY, end};
use super::code::Code;
use super::exchange::{Called, Fault};
use super::frames;
use crate::identity::PeerKey;
use crate::limits::{
    LAN_ADDRESSES_MAX, LAN_CROWD_DELAY_MS, LAN_DIAL_MS, LAN_ENTRIES_MAX, LAN_NOTICE_MS, LAN_SETTLE_MS,
    RETRY_DELAY_MS_MAX,
};
use crate::ticket::{DecodeError, Ticket};

/// What is to be found.
#[derive(Clone, Debug)]
pub struct Search {
    /// The code that was typed.
    pub code: Code,
    /// This side's key.
    pub key: PeerKey,
    /// How long is looked; `None` is for ever.
    pub patience: Option<Duration>,
}

/// How the search goes, told when it has taken a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nobody shows the nameplate; so many others wait.
    Nobody(usize),
    /// Somebody does, and cannot be reached.
    Unreachable(SocketAddr),
}

/// Why there is no ticket.
#[derive(Debug, Error)]
pub enum FindError {
    /// This machine cannot speak multicast DNS.
    #[error(transparent)]
    Browse(#[from] AnnounceError),
    /// Patience ended.
    #[error("nobody showed the code's first word for {0} seconds")]
    Nobody(u64),
    /// More than one listener shows the nameplate.
    #[error("{0} machines show the code's first word")]
    Several(usize),
    /// The peer has another code, or is not who it should be.
    #[error("the code is not that of the machine at {0}, or somebody else answered there")]
    WrongCode(SocketAddr),
    /// The ticket that came cannot be used.
    #[error("the ticket that came from {0} cannot be used")]
    Ticket(SocketAddr, #[source] DecodeError),
    /// The connection was lost after this side had shown that it knows the code, and before the answer.
    #[error("the connection to {0} was lost before the ticket came")]
    BrokenOff(SocketAddr),
    /// The ticket names another listener.
    #[error("the machine at {0} gave a ticket of another one")]
    OtherKey(SocketAddr),
    /// Another version.
    #[error("the machine at {0} speaks version {1} of this exchange, which this landfall does not know")]
    Version(SocketAddr, u8),
}

/// Announcements by their names: where they can be reached, if they show the nameplate.
#[derive(Debug, Default)]
struct Heard {
    peers: BTreeMap<String, Option<Vec<SocketAddr>>>,
}

impl Heard {
    fn take(&mut self, event: ServiceEvent, nameplate: &str) {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let name = service.get_fullname();
                let places = places(&service, nameplate);
                let is_room = self.peers.len() < LAN_ENTRIES_MAX || self.peers.contains_key(name);
                // Others may fill the list; two of the same code are enough to know that there are several.
                if is_room || (places.is_some() && self.meant().len() < 2) {
                    self.peers.insert(name.to_owned(), places);
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => drop(self.peers.remove(&name)),
            _ => {}
        }
    }

    fn meant(&self) -> Vec<&Vec<SocketAddr>> {
        self.peers.values().flatten().collect()
    }
}

/// Where the service is, if it shows the nameplate.
fn places(service: &ResolvedService, nameplate: &str) -> Option<Vec<SocketAddr>> {
    let says = |key| service.get_property_val_str(key);
    if says(VERSION_KEY) != Some(VERSION) || says(NAMEPLATE_KEY) != Some(nameplate) {
        return None;
    }
    let port: u16 = says(PORT_KEY)?.parse().ok().filter(|port| *port != 0)?;
    let mut places: Vec<SocketAddr> =
        service.get_addresses().iter().filter_map(|address| place(address, port)).collect();
    // IPv4 first: a link-local address works only with its interface.
    places.sort_by_key(|place| (place.is_ipv6(), *place));
    places.truncate(LAN_ADDRESSES_MAX);
    Some(places)
}

fn place(address: &ScopedIp, port: u16) -> Option<SocketAddr> {
    let ip = address.to_ip_addr();
    if ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    Some(match (ip, address) {
        (IpAddr::V6(ip), ScopedIp::V6(scoped)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, scoped.scope_id().index).into()
        }
        (ip, _) => SocketAddr::new(ip, port),
    })
}

impl Search {
    /// Looks until there is the ticket, or there will be none. `tell` hears how it goes, now and then at most. Needs a tokio
    /// runtime.
    pub async fn run(&self, mut tell: impl FnMut(Finding)) -> Result<Ticket, FindError> {
        let mut browser = Browser::new()?;
        let started = Instant::now();
        let deadline = self.patience.and_then(|patience| started.checked_add(patience));
        let mut notice = Some(started + Duration::from_millis(LAN_NOTICE_MS));
        // When the listener that was found is dialled.
        let mut dial: Option<Instant> = None;
        let mut heard = Heard::default();
        loop {
            let event = tokio::select! {
                event = browser.events.recv_async() => match event {
                    Ok(event) => Some(event),
                    // More came at once than it keeps for us, and it tells nothing any more. A new one remembers none of that.
                    Err(_) => {
                        debug!("more was announced than could be heard");
                        sleep(Duration::from_millis(LAN_CROWD_DELAY_MS)).await;
                        browser = Browser::new()?;
                        None
                    }
                },
                () = until(dial) => None,
                () = until(notice) => None,
                () = until(deadline) => return Err(FindError::Nobody(started.elapsed().as_secs())),
            };
            if let Some(event) = event {
                heard.take(event, self.code.nameplate());
            }
            let meant = heard.meant();
            dial = match meant.is_empty() {
                true => None,
                false => dial.or_else(|| Some(Instant::now() + Duration::from_millis(LAN_SETTLE_MS))),
            };
            if dial.is_some_and(|when| when <= Instant::now()) {
                if let Some(ticket) = self.ask(&meant).await? {
                    return Ok(ticket);
                }
                dial = Some(Instant::now() + Duration::from_millis(RETRY_DELAY_MS_MAX));
            }
            if notice.is_some_and(|when| when <= Instant::now()) {
                notice = None;
                tell(match meant.iter().find_map(|places| places.first()) {
                    Some(place) => Finding::Unreachable(*place),
                    None => Finding::Nobody(heard.peers.len()),
                });
            }
        }
    }

    /// Asks the one listener that is meant, at each of its addresses until one answers.
    async fn ask(&self, meant: &[&Vec<SocketAddr>]) -> Result<Option<Ticket>, FindError> {
        let places = match meant {
            [places] => *places,
            // To try one of them, and then the other, would be a second guess.
            several => return Err(FindError::Several(several.len())),
        };
        for place in places {
            let dialled = timeout(Duration::from_millis(LAN_DIAL_MS), TcpStream::connect(place)).await;
            let Ok(Ok(stream)) = dialled else { continue };
            if let Some(ticket) = self.exchange(stream, *place).await? {
                return Ok(Some(ticket));
            }
        }
        Ok(None)
    }

    /// One exchange. `None` if it broke off before this side had confirmed: nobody has guessed anything.
    async fn exchange(&self, mut stream: TcpStream, place: SocketAddr) -> Result<Option<Ticket>, FindError> {
        let (called, first) = Called::begin(&self.code, self.key);
        let second = async {
            frames::write(&mut stream, &first).await?;
            frames::read(&mut stream).await
        };
        let second = match second.await {
            Ok(second) => second,
            Err(error) => {
                debug!(%place, %error, "no answer");
                return Ok(None);
            }
        };
        let (confirmed, confirmation) = match called.answered(&second) {
            Ok(confirmed) => confirmed,
            Err(Fault::Version(version)) => return Err(FindError::Version(place, version)),
            Err(fault) => {
                debug!(%place, %fault, "no exchange");
                return Ok(None);
            }
        };
        // From here on whoever listens there knows whether its own code is this one: there is no second try.
        let grant = async {
            frames::write(&mut stream, &confirmation).await?;
            frames::read(&mut stream).await
        };
        let grant = grant.await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => FindError::WrongCode(place),
            _ => FindError::BrokenOff(place),
        })?;
        let (key, text) = confirmed.granted(&grant).map_err(|_| FindError::WrongCode(place))?;
        let decoded = Ticket::decode(&String::from_utf8_lossy(&text));
        let ticket = decoded.map_err(|error| FindError::Ticket(place, error))?;
        if ticket.key != key {
            return Err(FindError::OtherKey(place));
        }
        Ok(Some(ticket))
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// What listens for announcements, until it is dropped.
struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
}

impl Browser {
    fn new() -> Result<Browser, AnnounceError> {
        let daemon = ServiceDaemon::new()?;
        // Loopback too: a listener that is bound there announces itself there, and nowhere else.
        daemon.enable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        let events = daemon.browse(SERVICE)?;
        Ok(Browser { daemon, events })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        end(&self.daemon);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::net::TcpListener;

    use super::*;
    use crate::identity::{Role, Secret};
    use crate::lan::exchange::Answered;

    const RECEIVER: PeerKey = PeerKey([2; 32]);

    fn search() -> Search {
        Search { code: Code::parse("action zoo legend").unwrap(), key: PeerKey([1; 32]), patience: None }
    }

    fn ticket(key: PeerKey) -> String {
        let (secret, addresses) = (Secret::from_bytes([7; 16]), vec!["192.0.2.7:28170".parse().unwrap()]);
        Ticket { role: Role::Receiver, key, secret, addresses, expiry_seconds: 1 }.encode()
    }

    /// What a search makes of a listener that shows this code and gives this text.
    async fn asked(shown: &str, text: String) -> Result<Option<Ticket>, FindError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let code = Code::parse(shown).unwrap();
        let listening = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let first = frames::read(&mut stream).await.unwrap();
            let Ok((answered, second)) = Answered::to(&code, RECEIVER, &first) else { return };
            frames::write(&mut stream, &second).await.unwrap();
            let confirmation = frames::read(&mut stream).await.unwrap();
            if let Ok(grant) = answered.confirmed(&confirmation, text.as_bytes()) {
                frames::write(&mut stream, &grant).await.unwrap();
            }
        };
        let (search, places) = (search(), vec![place]);
        let meant = [&places];
        let (asked, ()) = tokio::join!(search.ask(&meant), listening);
        asked
    }

    #[tokio::test]
    async fn the_ticket_of_the_listener_with_the_code_comes() {
        let found = asked("action zoo legend", ticket(RECEIVER)).await.unwrap().unwrap();
        assert_eq!(found.key, RECEIVER);
    }

    #[tokio::test]
    async fn what_else_may_answer_is_told_apart() {
        let wrong = asked("action zoo length", ticket(RECEIVER)).await;
        assert!(matches!(wrong, Err(FindError::WrongCode(_))), "{wrong:?}");
        let other = asked("action zoo legend", ticket(PeerKey([9; 32]))).await;
        assert!(matches!(other, Err(FindError::OtherKey(_))), "{other:?}");
        let none = asked("action zoo legend", "landfallaaaa".to_owned()).await;
        assert!(matches!(none, Err(FindError::Ticket(_, DecodeError::Damaged))), "{none:?}");
        let older = asked("zoo zoo legend", ticket(RECEIVER)).await;
        assert!(matches!(older, Ok(None)), "it is no guess, and the search goes on: {older:?}");
    }

    #[tokio::test]
    async fn of_two_that_show_one_nameplate_neither_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let places = vec![listener.local_addr().unwrap()];
        let asked = search().ask(&[&places, &places]).await;
        assert!(matches!(asked, Err(FindError::Several(2))), "{asked:?}");
        let called = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(called.is_err(), "nobody called");
    }

    #[tokio::test]
    async fn of_several_addresses_the_first_that_answers_is_asked() {
        let (dead, silent) = ("127.0.0.1:1".parse().unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let places = vec![dead, silent.local_addr().unwrap()];
        let (search, hang_up) = (search(), async { drop(silent.accept().await.unwrap()) });
        let meant = [&places];
        let (asked, ()) = tokio::join!(search.ask(&meant), hang_up);
        assert!(matches!(asked, Ok(None)), "{asked:?}");
    }

    #[test]
    fn an_address_of_one_interface_keeps_it() {
        let v4 = ScopedIp::from(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(place(&v4, 7), Some("192.0.2.1:7".parse().unwrap()));
        for useless in ["0.0.0.0", "224.0.0.1", "::", "ff02::1"] {
            assert_eq!(place(&ScopedIp::from(useless.parse::<IpAddr>().unwrap()), 7), None, "{useless}");
        }
        let heard = Heard { peers: (0..3).map(|name| (name.to_string(), (name == 1).then(Vec::new))).collect() };
        assert_eq!(heard.meant().len(), 1);
    }
}
