//! Who may take part in a transfer: what a listener makes of a dialler's hello, and a dialler of a listener's.
//! Pure; `meet` writes the ownership down, answers and closes links.
//!
//! ```text
//!  ticket      dialler                       verdict
//!  any         names another transfer        unknown transfer
//!  taken       another key than the owner's  taken, naming the owner
//!  not taken   no proof or a wrong one       wrong proof
//!  not taken   proof, too late               expired
//!  whoever is left, same role                equal roles
//!  whoever is left, other chunk size         other version
//!  taken       the owner                     admitted
//!  not taken   proof in time                 takes the ticket
//! ```

use crate::digest::Proof;
use crate::identity::{Meeting, PeerKey, Role, Secret, TransferId};
use crate::wire::Hello;

/// What the listener knows of its transfer.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    /// Its own key.
    pub key: PeerKey,
    /// Its role.
    pub role: Role,
    /// Its transfer.
    pub transfer: TransferId,
    /// Whether the ticket is taken.
    pub ticket: TicketState<'a>,
    /// Chunk size that it speaks.
    pub chunk_bytes: u32,
    /// Now, in seconds since 1970.
    pub now_seconds: u64,
}

/// Whether a ticket is taken.
#[derive(Clone, Copy, Debug)]
pub enum TicketState<'a> {
    /// It can be taken, until then (seconds since 1970).
    Open {
        /// What a dialler has to prove.
        secret: &'a Secret,
        /// When it is too late.
        expiry_seconds: u64,
    },
    /// It belongs to this key.
    Taken(PeerKey),
}

/// What the listener knows of a dialler.
#[derive(Clone, Copy, Debug)]
pub struct Dialler<'a> {
    /// The key that TLS has proved.
    pub key: PeerKey,
    /// Keying material of the link.
    pub exporter: [u8; 32],
    /// Its first message.
    pub hello: &'a Hello,
}

/// Who is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The owner, again.
    Owner,
    /// A dialler that takes the ticket now: this has to be durable before it is answered.
    Takes,
}

/// Why somebody is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The ticket belongs to this other key.
    Taken(PeerKey),
    /// The ticket was not taken in time.
    Expired,
    /// The dialler does not know the ticket's secret.
    WrongProof,
    /// Both sides have the same role.
    EqualRoles,
    /// The two programs cannot work together.
    OtherVersion,
    /// Another transfer is meant.
    UnknownTransfer,
}

/// What a listener makes of a dialler.
pub fn admit(listener: &Listener<'_>, dialler: &Dialler<'_>) -> Result<Admission, Refusal> {
    let hello = dialler.hello;
    if hello.transfer != listener.transfer {
        return Err(Refusal::UnknownTransfer);
    }
    let admission = match listener.ticket {
        TicketState::Taken(owner) if owner == dialler.key => Admission::Owner,
        TicketState::Taken(owner) => return Err(Refusal::Taken(owner)),
        TicketState::Open { secret, expiry_seconds } => {
            let expected = secret.proof(&Meeting {
                exporter: dialler.exporter,
                listener: listener.key,
                dialler: dialler.key,
                dialler_role: hello.role,
            });
            // Proof compares in constant time.
            if hello.proof.map(Proof::from_bytes) != Some(expected) {
                return Err(Refusal::WrongProof);
            }
            if listener.now_seconds >= expiry_seconds {
                return Err(Refusal::Expired);
            }
            Admission::Takes
        }
    };
    agree(listener.role, listener.chunk_bytes, hello)?;
    Ok(admission)
}

/// What a dialler makes of the hello of a listener, whose key was pinned.
pub fn accept(role: Role, transfer: TransferId, chunk_bytes: u32, hello: &Hello) -> Result<(), Refusal> {
    if hello.transfer != transfer {
        return Err(Refusal::UnknownTransfer);
    }
    agree(role, chunk_bytes, hello)
}

fn agree(role: Role, chunk_bytes: u32, hello: &Hello) -> Result<(), Refusal> {
    if hello.role != role.other() {
        return Err(Refusal::EqualRoles);
    }
    if hello.chunk_bytes != chunk_bytes { Err(Refusal::OtherVersion) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LISTENER: PeerKey = PeerKey([1; 32]);
    const DIALLER: PeerKey = PeerKey([2; 32]);
    const OTHER: PeerKey = PeerKey([3; 32]);
    const EXPORTER: [u8; 32] = [4; 32];
    const CHUNK: u32 = 1 << 20;

    fn secret() -> Secret {
        Secret::from_bytes([5; 16])
    }

    fn hello(role: Role, proof: Option<[u8; 32]>) -> Hello {
        Hello {
            minor: 0,
            features: 0,
            role,
            transfer: secret().transfer_id(),
            proof,
            chunk_bytes: CHUNK,
            addresses: vec![],
            ladder: vec![],
            has_receipt: false,
            host: String::new(),
            version: String::new(),
        }
    }

    fn proof(secret: &Secret, dialler: PeerKey, dialler_role: Role) -> Option<[u8; 32]> {
        Some(secret.proof(&Meeting { exporter: EXPORTER, listener: LISTENER, dialler, dialler_role }).to_bytes())
    }

    /// A receiver listens; its ticket expires at 100.
    fn judge(owner: Option<PeerKey>, now_seconds: u64, key: PeerKey, hello: &Hello) -> Result<Admission, Refusal> {
        let secret = secret();
        let ticket = match owner {
            Some(owner) => TicketState::Taken(owner),
            None => TicketState::Open { secret: &secret, expiry_seconds: 100 },
        };
        let role = Role::Receiver;
        let transfer = secret.transfer_id();
        let listener = Listener { key: LISTENER, role, transfer, ticket, chunk_bytes: CHUNK, now_seconds };
        admit(&listener, &Dialler { key, exporter: EXPORTER, hello })
    }

    #[test]
    fn each_row_of_the_table() {
        let good = hello(Role::Sender, proof(&secret(), DIALLER, Role::Sender));
        let bare = hello(Role::Sender, None);
        let wrong = hello(Role::Sender, proof(&Secret::from_bytes([6; 16]), DIALLER, Role::Sender));
        let stolen = hello(Role::Sender, proof(&secret(), OTHER, Role::Sender));
        let twisted = hello(Role::Sender, proof(&secret(), DIALLER, Role::Receiver));
        let equal = hello(Role::Receiver, proof(&secret(), DIALLER, Role::Receiver));
        let elsewhere = Hello { transfer: TransferId([9; 16]), ..good.clone() };
        let chunks = Hello { chunk_bytes: 4096, ..good.clone() };
        let table = [
            ("in time", None, 99, &good, Ok(Admission::Takes)),
            ("at the very end", None, 100, &good, Err(Refusal::Expired)),
            ("no proof", None, 0, &bare, Err(Refusal::WrongProof)),
            ("no proof, too late: nothing is told", None, 100, &bare, Err(Refusal::WrongProof)),
            ("another secret", None, 0, &wrong, Err(Refusal::WrongProof)),
            ("another key's proof", None, 0, &stolen, Err(Refusal::WrongProof)),
            ("another role's proof", None, 0, &twisted, Err(Refusal::WrongProof)),
            ("equal roles", None, 0, &equal, Err(Refusal::EqualRoles)),
            ("another transfer", None, 0, &elsewhere, Err(Refusal::UnknownTransfer)),
            ("another chunk size", None, 0, &chunks, Err(Refusal::OtherVersion)),
            ("owner with proof", Some(DIALLER), 0, &good, Ok(Admission::Owner)),
            ("owner without proof", Some(DIALLER), 0, &bare, Ok(Admission::Owner)),
            ("owner after expiry", Some(DIALLER), 1000, &bare, Ok(Admission::Owner)),
            ("owner in the wrong role", Some(DIALLER), 0, &equal, Err(Refusal::EqualRoles)),
            ("owner with another chunk size", Some(DIALLER), 0, &chunks, Err(Refusal::OtherVersion)),
            ("owner of another transfer", Some(DIALLER), 0, &elsewhere, Err(Refusal::UnknownTransfer)),
            ("second key with the ticket", Some(OTHER), 0, &good, Err(Refusal::Taken(OTHER))),
            ("second key without", Some(OTHER), 0, &bare, Err(Refusal::Taken(OTHER))),
        ];
        for (case, owner, now, hello, expected) in table {
            assert_eq!(judge(owner, now, DIALLER, hello), expected, "{case}");
        }
    }

    #[test]
    fn a_dialler_wants_the_transfer_it_called_in_the_other_role() {
        let id = secret().transfer_id();
        let good = hello(Role::Sender, None);
        assert_eq!(accept(Role::Receiver, id, CHUNK, &good), Ok(()));
        assert_eq!(accept(Role::Sender, id, CHUNK, &good), Err(Refusal::EqualRoles));
        assert_eq!(accept(Role::Receiver, TransferId([0; 16]), CHUNK, &good), Err(Refusal::UnknownTransfer));
        assert_eq!(accept(Role::Receiver, id, 4096, &good), Err(Refusal::OtherVersion));
    }
}
