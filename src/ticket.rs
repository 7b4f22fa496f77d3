//! The ticket: what lets the other side call, once. This file owns its text and its bytes, and does not decide
//! whether a ticket is still good (the listener's state does) or where its text may stand (`cli/`).
//!
//! Text: the letters `landfall`, then the bytes in lower-case base32 (RFC 4648) without padding. A reader ignores
//! case, white space, line breaks and hyphens, which mail and paper add. Bytes, numbers big-endian:
//!
//! ```text
//!  offset  bytes
//!       0      1  version, 1
//!       1      1  role of the listener: 0 sender, 1 receiver
//!       2     32  Ed25519 public key of the listener
//!      34     16  secret
//!      50      8  expiry, seconds since 1970
//!      58      1  number of addresses, 1 to 16
//!      59         each: 4 or 6 (1 byte), IPv4 or IPv6 address (4 or 16 bytes), port (2 bytes)
//!     end      4  first bytes of the BLAKE3 of all bytes before: a check against typing, not against forgery
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::BASE32_NOPAD;
use thiserror::Error;

use crate::digest;
use crate::identity::{PeerKey, Role, Secret, TransferId};
use crate::limits::TICKET_ADDRESSES_MAX;

const PREFIX: &str = "landfall";
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 4;
/// Version, role, key, secret, expiry, count, one IPv4 address, check: shorter texts are not tickets.
const BYTES_MIN: usize = 59 + 7 + CHECK_BYTES;
const BYTES_MAX: usize = 59 + 19 * TICKET_ADDRESSES_MAX + CHECK_BYTES;

/// What the listener prints and the dialler reads. Whoever holds it may take the transfer.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Role of the listener; the holder takes the other one.
    pub role: Role,
    /// Key of the listener: what is pinned when dialling.
    pub key: PeerKey,
    /// What proves that the dialler holds the ticket.
    pub secret: Secret,
    /// Where the listener can be reached, best first. Never empty after decoding.
    pub addresses: Vec<SocketAddr>,
    /// Seconds since 1970 after which the ticket can no longer be taken.
    pub expiry_seconds: u64,
}

/// Why a text is not a ticket that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// It does not begin like one.
    #[error("this is not a ticket: a ticket begins with `{PREFIX}`")]
    NotATicket,
    /// A character that no ticket has.
    #[error("the ticket contains `{0}`, which no ticket has: copy it again")]
    Character(char),
    /// Letters are missing or changed.
    #[error("the ticket is damaged or cut short: copy it again")]
    Damaged,
    /// Intact, and of a format that this program does not know.
    #[error("the ticket has version {0}, which this landfall does not know: update it")]
    Version(u8),
    /// Intact, and written by a program that is not right.
    #[error("the ticket is intact but its {0} makes no sense: it was not written by landfall")]
    Malformed(&'static str),
}

impl Ticket {
    /// The text that a user copies. Addresses beyond [`TICKET_ADDRESSES_MAX`] are left out: the best come first.
    pub fn encode(&self) -> String {
        let addresses = &self.addresses[..self.addresses.len().min(TICKET_ADDRESSES_MAX)];
        let mut bytes = vec![VERSION, self.role.to_byte()];
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(&self.expiry_seconds.to_be_bytes());
        bytes.push(u8::try_from(addresses.len()).expect("limits.rs keeps the count in a byte"));
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        bytes.extend_from_slice(&digest::check4(&bytes));
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    /// Reads a ticket from text that a person may have wrapped, spaced or put in capitals.
    pub fn decode(text: &str) -> Result<Ticket, DecodeError> {
        let letters = letters_of(text).ok_or(DecodeError::NotATicket)?;
        if let Some(odd) = letters.chars().find(|c| !is_base32(*c)) {
            return Err(DecodeError::Character(odd));
        }
        let bytes = BASE32_NOPAD.decode(letters.as_bytes()).map_err(|_| DecodeError::Damaged)?;
        if bytes.len() <= CHECK_BYTES {
            return Err(DecodeError::Damaged);
        }
        let (body, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
        if digest::check4(body) != check {
            return Err(DecodeError::Damaged);
        }
        decode_body(body)
    }

    /// Name of the transfer that this ticket opens.
    pub fn transfer_id(&self) -> TransferId {
        self.secret.transfer_id()
    }
}

/// Whether a text is meant to be a ticket, intact or not. For places where a ticket must not stand, such as argv.
pub fn looks_like_ticket(text: &str) -> bool {
    let long_enough = BASE32_NOPAD.encode_len(BYTES_MIN) / 2;
    letters_of(text).is_some_and(|letters| letters.len() >= long_enough && letters.chars().all(is_base32))
}

/// The letters after the prefix in capitals, without what people add.
fn letters_of(text: &str) -> Option<String> {
    let longest = PREFIX.len() + BASE32_NOPAD.encode_len(BYTES_MAX);
    let added = |c: &char| !c.is_whitespace() && *c != '-';
    // One letter more than the longest ticket is enough to be damaged, whatever the length of the text.
    let plain: String = text.chars().filter(added).take(longest + 1).map(|c| c.to_ascii_uppercase()).collect();
    plain.strip_prefix(&PREFIX.to_ascii_uppercase()).map(str::to_owned)
}

fn is_base32(c: char) -> bool {
    matches!(c, 'A'..='Z' | '2'..='7')
}

fn decode_body(body: &[u8]) -> Result<Ticket, DecodeError> {
    let mut rest = body;
    let [version] = take(&mut rest)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let [role] = take(&mut rest)?;
    let role = Role::from_byte(role).ok_or(DecodeError::Malformed("role"))?;
    let key = PeerKey(take(&mut rest)?);
    let secret = Secret::from_bytes(take(&mut rest)?);
    let expiry_seconds = u64::from_be_bytes(take(&mut rest)?);
    let [count] = take(&mut rest)?;
    if count == 0 || usize::from(count) > TICKET_ADDRESSES_MAX {
        return Err(DecodeError::Malformed("number of addresses"));
    }
    let mut addresses = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        addresses.push(take_address(&mut rest)?);
    }
    if !rest.is_empty() {
        return Err(DecodeError::Malformed("length"));
    }
    Ok(Ticket { role, key, secret, addresses, expiry_seconds })
}

fn take_address(rest: &mut &[u8]) -> Result<SocketAddr, DecodeError> {
    let [kind] = take(rest)?;
    let ip = match kind {
        4 => IpAddr::V4(Ipv4Addr::from(take::<4>(rest)?)),
        6 => IpAddr::V6(Ipv6Addr::from(take::<16>(rest)?)),
        _ => return Err(DecodeError::Malformed("kind of address")),
    };
    let port = u16::from_be_bytes(take(rest)?);
    if port == 0 || ip.is_unspecified() || ip.is_multicast() {
        return Err(DecodeError::Malformed("address"));
    }
    Ok(SocketAddr::new(ip, port))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(DecodeError::Malformed("length"))?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const GOLDEN: &str = "landfallaeaqaaicamcakbqhbaequcymbuha6earcijrifiwc4mbsgq3dqor4h5augrkhjffu2t2rknkvowk3lvp\
        aaaaaadljhjaaaqeyaaaeb3obidcaainxaaaaaaaaaaaaaaaaaaac3qkpxu3jsi";

    fn sample() -> Ticket {
        Ticket {
            role: Role::Receiver,
            key: PeerKey(std::array::from_fn(|i| u8::try_from(i).unwrap())),
            secret: Secret::from_bytes(std::array::from_fn(|i| 0xA0 + u8::try_from(i).unwrap())),
            addresses: vec!["192.0.2.7:28170".parse().unwrap(), "[2001:db8::1]:28170".parse().unwrap()],
            expiry_seconds: 1_800_000_000,
        }
    }

    fn same(left: &Ticket, right: &Ticket) -> bool {
        left.role == right.role
            && left.key == right.key
            && left.secret.expose() == right.secret.expose()
            && left.addresses == right.addresses
            && left.expiry_seconds == right.expiry_seconds
    }

    /// A ticket text around any body, with a good check.
    fn sealed(body: &[u8]) -> String {
        let bytes = [body, &digest::check4(body)].concat();
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    fn body() -> Vec<u8> {
        let text = sample().encode();
        let bytes = BASE32_NOPAD.decode(text[PREFIX.len()..].to_ascii_uppercase().as_bytes()).unwrap();
        bytes[..bytes.len() - CHECK_BYTES].to_vec()
    }

    #[test]
    fn version_one_has_these_bytes_for_ever() {
        assert_eq!(sample().encode(), GOLDEN);
        assert!(same(&Ticket::decode(GOLDEN).unwrap(), &sample()));
        let body = body();
        assert_eq!((body[0], body[1], body[58]), (1, 1, 2));
        assert_eq!(body[2..34], sample().key.0);
        assert_eq!(body[34..50], *sample().secret.expose());
        assert_eq!(body[50..58], 1_800_000_000_u64.to_be_bytes());
        assert_eq!(body[59..66], [4, 192, 0, 2, 7, 0x6E, 0x0A]);
        assert_eq!(body.len(), 59 + 7 + 19);
    }

    #[test]
    fn what_mail_and_paper_do_to_a_ticket_is_undone() {
        let text = sample().encode();
        let wrapped: Vec<String> =
            text.as_bytes().chunks(30).map(|c| String::from_utf8_lossy(c).into_owned()).collect();
        for variant in [
            format!("\t {text} \r\n"),
            text.to_uppercase(),
            wrapped.join("\n  "),
            wrapped.join("-"),
            format!("LANDFALL {}", &text[8..]),
        ] {
            assert!(same(&Ticket::decode(&variant).unwrap(), &sample()), "{variant}");
            assert!(looks_like_ticket(&variant), "{variant}");
        }
    }

    #[test]
    fn each_kind_of_damage_has_its_own_name() {
        let text = sample().encode();
        assert_eq!(Ticket::decode("").unwrap_err(), DecodeError::NotATicket);
        assert_eq!(Ticket::decode("landfal").unwrap_err(), DecodeError::NotATicket);
        assert_eq!(Ticket::decode("photos/2019").unwrap_err(), DecodeError::NotATicket);
        assert_eq!(Ticket::decode(PREFIX).unwrap_err(), DecodeError::Damaged);
        assert_eq!(Ticket::decode(&format!("{text}1")).unwrap_err(), DecodeError::Character('1'));
        assert_eq!(Ticket::decode(&text[..text.len() - 8]).unwrap_err(), DecodeError::Damaged);
        assert_eq!(Ticket::decode(&format!("{text}{}", "a".repeat(1000))).unwrap_err(), DecodeError::Damaged);

        let changed = |at: usize, value: u8| {
            let mut body = body();
            body[at] = value;
            Ticket::decode(&sealed(&body)).unwrap_err()
        };
        assert_eq!(changed(0, 2), DecodeError::Version(2));
        assert_eq!(changed(1, 2), DecodeError::Malformed("role"));
        assert_eq!(changed(58, 0), DecodeError::Malformed("number of addresses"));
        assert_eq!(changed(58, 17), DecodeError::Malformed("number of addresses"));
        assert_eq!(changed(58, 1), DecodeError::Malformed("length"));
        assert_eq!(changed(58, 3), DecodeError::Malformed("length"));
        assert_eq!(changed(59, 5), DecodeError::Malformed("kind of address"));
        assert_eq!(changed(60, 224), DecodeError::Malformed("address"));
        assert_eq!(Ticket::decode(&sealed(&[1])).unwrap_err(), DecodeError::Malformed("length"));
    }

    #[test]
    fn every_single_changed_letter_is_noticed() {
        let text = sample().encode();
        for at in PREFIX.len()..text.len() {
            let mut letters = text.clone().into_bytes();
            letters[at] = if letters[at] == b'q' { b'r' } else { b'q' };
            let changed = String::from_utf8(letters).unwrap();
            assert_eq!(Ticket::decode(&changed).unwrap_err(), DecodeError::Damaged, "letter {at}");
            assert!(looks_like_ticket(&changed));
        }
    }

    #[test]
    fn names_of_files_do_not_look_like_tickets() {
        for name in ["landfall", "landfall.tar", "landfall-backup-2026", "landfalls", "photos", ""] {
            assert!(!looks_like_ticket(name), "{name}");
        }
    }

    #[test]
    fn the_best_addresses_are_kept() {
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let many: Vec<SocketAddr> = (1..40).map(address).collect();
        let decoded = Ticket::decode(&Ticket { addresses: many.clone(), ..sample() }.encode()).unwrap();
        assert_eq!(decoded.addresses, many[..TICKET_ADDRESSES_MAX]);
    }

    #[test]
    fn the_secret_is_not_in_the_debug_text() {
        let text = format!("{:?}", sample());
        assert!(text.contains("secret: Secret,"), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_decodes_or_fails_without_panic(text in "\\PC*") {
            let _ = Ticket::decode(&text);
            let _ = looks_like_ticket(&format!("landfall{text}"));
            let _ = Ticket::decode(&format!("landfall{text}"));
        }

        #[test]
        fn any_body_with_a_good_check_decodes_to_what_encodes_to_it(
            tail in proptest::collection::vec(any::<u8>(), 0..80), kept in 0_usize..86,
        ) {
            let mut bytes = body();
            bytes.truncate(kept);
            bytes.extend_from_slice(&tail);
            if let Ok(ticket) = Ticket::decode(&sealed(&bytes)) {
                prop_assert_eq!(ticket.encode(), sealed(&bytes));
            }
        }

        #[test]
        fn every_ticket_survives_its_text(
            key: [u8; 32], secret: [u8; 16], expiry_seconds: u64, sends: bool,
            addresses in proptest::collection::vec((any::<u32>(), any::<u128>(), 1_u16..), 1..=8),
        ) {
            let role = if sends { Role::Sender } else { Role::Receiver };
            let addresses = addresses.into_iter()
                .flat_map(|(v4, v6, port)| [
                    SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits((v4 % 0xE000_0000) | 1)), port),
                    SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits((v6 >> 1) | 1)), port),
                ])
                .collect();
            let ticket = Ticket { role, key: PeerKey(key), secret: Secret::from_bytes(secret), addresses, expiry_seconds };
            prop_assert!(same(&Ticket::decode(&ticket.encode()).unwrap(), &ticket));
        }
    }
}
