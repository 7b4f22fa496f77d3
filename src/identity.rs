//! Words for who takes part in a transfer: roles, keys and their fingerprints, transfer ids, and the secret of a
//! ticket. What this file does not do: make or keep keys (`net/identity.rs`), or decide whom to trust.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::{self, Proof};

const TRANSFER_ID_CONTEXT: &str = "landfall transfer id v1";
const PROOF_CONTEXT: &str = "landfall proof v1";
const FINGERPRINT_BYTES: usize = 20;
const FINGERPRINT_GROUP: usize = 4;

/// What a side does with the data. Who listens and who dials is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Reads the source and serves chunks.
    Sender,
    /// Asks for chunks and writes the target.
    Receiver,
}

impl Role {
    /// The role that the peer must have.
    pub fn other(self) -> Role {
        match self {
            Role::Sender => Role::Receiver,
            Role::Receiver => Role::Sender,
        }
    }

    /// The word used on screens and in file names.
    pub fn word(self) -> &'static str {
        match self {
            Role::Sender => "sender",
            Role::Receiver => "receiver",
        }
    }

    /// The byte used in tickets and proofs.
    pub fn to_byte(self) -> u8 {
        match self {
            Role::Sender => 0,
            Role::Receiver => 1,
        }
    }

    /// The role that a byte stands for, if any.
    pub fn from_byte(byte: u8) -> Option<Role> {
        match byte {
            0 => Some(Role::Sender),
            1 => Some(Role::Receiver),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An installation's Ed25519 public key: the only name that a peer has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerKey(pub [u8; 32]);

impl PeerKey {
    /// What people compare: the first 160 bits of the key, so that finding another key that shows the same is out of reach.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut prefix = [0; FINGERPRINT_BYTES];
        prefix.copy_from_slice(&self.0[..FINGERPRINT_BYTES]);
        Fingerprint(prefix)
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({})", self.fingerprint())
    }
}

/// A key as people read it: eight groups of four base32 letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; FINGERPRINT_BYTES]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = BASE32_NOPAD.encode(&self.0).to_ascii_lowercase();
        let mut rest = text.as_str();
        while rest.len() > FINGERPRINT_GROUP {
            let (group, tail) = rest.split_at(FINGERPRINT_GROUP);
            write!(f, "{group}-")?;
            rest = tail;
        }
        f.write_str(rest)
    }
}

/// Name of a transfer: all state on both sides is kept under it. Not secret: it does not reveal the ticket's secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransferId(pub [u8; 16]);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferId({self})")
    }
}

/// A text that is not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a transfer id is 32 hexadecimal digits")]
pub struct NotATransferId;

impl FromStr for TransferId {
    type Err = NotATransferId;

    fn from_str(text: &str) -> Result<TransferId, NotATransferId> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| NotATransferId)?;
        bytes.try_into().map(TransferId).map_err(|_| NotATransferId)
    }
}

/// The 128 bits that make a ticket a capability. It prints as nothing and compares with nothing: it may only be
/// stored, put into a ticket, or proved.
#[derive(Clone)]
pub struct Secret([u8; 16]);

impl Secret {
    /// A secret from random bytes, or from state that holds one.
    pub fn from_bytes(bytes: [u8; 16]) -> Secret {
        Secret(bytes)
    }

    /// The bytes, for the ticket and for the state file. Named so that a reader asks why.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    /// Name of the transfer that this secret opens.
    pub fn transfer_id(&self) -> TransferId {
        let mut id = [0; 16];
        id.copy_from_slice(&digest::derive_key(TRANSFER_ID_CONTEXT, &self.0)[..16]);
        TransferId(id)
    }

    /// Proof that the dialler of one link holds the secret. It is worth nothing on any other link, from any other
    /// key, or in the other role.
    pub fn proof(&self, meeting: &Meeting) -> Proof {
        let key = digest::derive_key(PROOF_CONTEXT, &self.0);
        let role = [meeting.dialler_role.to_byte()];
        Proof::new(&key, &[&meeting.exporter, &meeting.listener.0, &meeting.dialler.0, &role])
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a proof is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Meeting {
    /// Keying material that both ends of this one TLS connection share, and nobody between them.
    pub exporter: [u8; 32],
    /// Key of the side that listens.
    pub listener: PeerKey,
    /// Key of the side that dials.
    pub dialler: PeerKey,
    /// Role of the side that dials.
    pub dialler_role: Role,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn meeting() -> Meeting {
        Meeting { exporter: [1; 32], listener: PeerKey([2; 32]), dialler: PeerKey([3; 32]), dialler_role: Role::Sender }
    }

    #[test]
    fn a_fingerprint_is_eight_groups_of_four_letters() {
        let text = PeerKey([0xA5; 32]).fingerprint().to_string();
        assert_eq!(text, "uws2-ljnf-uws2-ljnf-uws2-ljnf-uws2-ljnf");
        assert_eq!(format!("{:?}", PeerKey([0xA5; 32])), format!("PeerKey({text})"));
    }

    #[test]
    fn a_transfer_id_is_read_back_from_its_text_in_either_case() {
        let id = Secret::from_bytes([7; 16]).transfer_id();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
        for bad in ["", "00", "0011223344556677889900112233445566", "zz112233445566778899001122334455"] {
            assert_eq!(bad.parse::<TransferId>(), Err(NotATransferId), "{bad}");
        }
    }

    #[test]
    fn a_secret_shows_nothing_of_itself() {
        assert_eq!(format!("{:?}", Secret::from_bytes([0x5A; 16])), "Secret");
    }

    #[test]
    fn a_proof_changes_with_everything_it_is_bound_to() {
        let secret = Secret::from_bytes([9; 16]);
        let proof = secret.proof(&meeting());
        assert!(proof == secret.clone().proof(&meeting()));
        assert!(proof != Secret::from_bytes([8; 16]).proof(&meeting()));
        for other in [
            Meeting { exporter: [0; 32], ..meeting() },
            Meeting { listener: PeerKey([0; 32]), ..meeting() },
            Meeting { dialler: PeerKey([0; 32]), ..meeting() },
            Meeting { dialler_role: Role::Receiver, ..meeting() },
        ] {
            assert!(proof != secret.proof(&other), "{other:?}");
        }
    }

    #[test]
    fn the_derivations_are_those_of_version_one() {
        let secret = Secret::from_bytes([0x11; 16]);
        assert_eq!(secret.transfer_id().0, digest::derive_key("landfall transfer id v1", &[0x11; 16])[..16]);
        let key = digest::derive_key("landfall proof v1", &[0x11; 16]);
        let expected = Proof::new(&key, &[&[[1_u8; 32], [2; 32], [3; 32]].concat(), &[0]]);
        assert!(secret.proof(&meeting()) == expected);
    }

    #[test]
    fn roles_survive_their_byte_and_oppose_each_other() {
        for role in [Role::Sender, Role::Receiver] {
            assert_eq!(Role::from_byte(role.to_byte()), Some(role));
            assert_ne!(role.other(), role);
            assert_eq!(role.other().other(), role);
        }
        assert_eq!(Role::from_byte(2), None);
    }
}
