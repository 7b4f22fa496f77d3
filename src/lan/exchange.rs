//! The exchange of a code for a ticket, as a state machine without clock and I/O: each step takes the peer's frame and
//! gives the next one, and is consumed, so that no step is taken twice. SPAKE2 on Ed25519 turns the password, two words,
//! into a key that only those share who used the same one; both keys of the installations, the nameplate and all messages go
//! into what is derived from it, so that a changed byte of any of them is a wrong code.
//!
//! Why one exchange is one guess. A SPAKE2 message is a random point plus a multiple of a fixed point that the password
//! chooses: for every password there is a random point that explains it, so the message alone tells nothing, whatever is
//! computed afterwards. Something of the shared key is first seen in the dialler's confirmation. A false listener thus
//! learns whether the one password that it had put into its own message was right; a false dialler has to confirm before
//! the listener does, and learns as much from the answer. A dialler that breaks off before it confirms has learnt nothing,
//! and nothing is counted against the code.

use spake2::{Ed25519Group, Identity, Password, Spake2};
use thiserror::Error;

use super::code::Code;
use crate::digest::{Proof, derive_key};
use crate::identity::PeerKey;
use crate::net::OnceKey;

const VERSION: u8 = 1;
const DIALLER_LABEL: &[u8] = b"landfall lan v1 sender dials";
const LISTENER_LABEL: &[u8] = b"landfall lan v1 receiver listens";
const EXCHANGE_CONTEXT: &str = "landfall lan exchange v1";
const DIALLER_CONTEXT: &str = "landfall lan dialler confirms v1";
const LISTENER_CONTEXT: &str = "landfall lan listener confirms v1";
const TICKET_CONTEXT: &str = "landfall lan ticket v1";

const KEY_BYTES: usize = 32;
/// SPAKE2's message: its side, and a point.
const POINT_BYTES: usize = 33;
const PROOF_BYTES: usize = 32;
const FIRST_BYTES: usize = 1 + KEY_BYTES + 2 + POINT_BYTES;
const SECOND_BYTES: usize = 1 + KEY_BYTES + POINT_BYTES;

/// Encodings of the points of small order on edwards25519, without the sign bit, that a decoder may accept. Neither would
/// help anybody who does not know the password; no honest side sends one.
const SMALL_POINTS: [[u8; 32]; 7] = [
    [0; 32],
    point(0x01, 0x00, 0x00),
    [
        0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0, 0xD5, 0xDF,
        0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
    ],
    [
        0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F, 0x2A, 0x20,
        0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
    ],
    point(0xEC, 0xFF, 0x7F),
    point(0xED, 0xFF, 0x7F),
    point(0xEE, 0xFF, 0x7F),
];

const fn point(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// Why an exchange ends without a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Fault {
    /// A frame of another length, or a point that is none.
    #[error("it does not speak as landfall does")]
    Malformed,
    /// A later landfall.
    #[error("it speaks version {0}, which this landfall does not know")]
    Version(u8),
    /// The listener shows another code by now.
    #[error("the code is an older one")]
    OtherCode,
    /// The peer's confirmation is not that of somebody with this code.
    #[error("the code is another one")]
    WrongCode,
}

/// What both sides have sent before anybody confirms: fields of fixed length, so that no two exchanges read the same.
fn transcript(dialler: PeerKey, listener: PeerKey, nameplate: u16, first: &[u8], second: &[u8]) -> Vec<u8> {
    [DIALLER_LABEL, LISTENER_LABEL, &dialler.0, &listener.0, &nameplate.to_be_bytes(), first, second].concat()
}

/// What is derived from SPAKE2's key.
struct Keys {
    dialler_proof: Proof,
    listener_proof: Proof,
    ticket: OnceKey,
}

impl Keys {
    fn derive(shared: &[u8], transcript: &[u8]) -> Keys {
        let root = derive_key(EXCHANGE_CONTEXT, &[shared, transcript].concat());
        let proof = |context| Proof::new(&derive_key(context, &root), &[transcript]);
        Keys {
            dialler_proof: proof(DIALLER_CONTEXT),
            listener_proof: proof(LISTENER_CONTEXT),
            ticket: OnceKey::new(&derive_key(TICKET_CONTEXT, &root)),
        }
    }
}

type Pake = Spake2<Ed25519Group>;

fn identities(nameplate: u16) -> (Identity, Identity) {
    let of = |label: &[u8]| Identity::new(&[label, &nameplate.to_be_bytes()].concat());
    (of(DIALLER_LABEL), of(LISTENER_LABEL))
}

/// SPAKE2's key, unless the peer's point is none, of small order, or this side's own.
fn finish(pake: Pake, ours: &[u8], theirs: &[u8]) -> Result<Vec<u8>, Fault> {
    let (mut plain, own) = (theirs[1..].to_vec(), &ours[1..]);
    let is_own = plain == own;
    plain[KEY_BYTES - 1] &= 0x7F;
    if is_own || SMALL_POINTS.iter().any(|small| small[..] == plain) {
        return Err(Fault::Malformed);
    }
    pake.finish(theirs).map_err(|_| Fault::Malformed)
}

/// A frame's fields, if it has that length and this version. A frame of a later version may have another length.
fn fields(frame: &[u8], bytes: usize) -> Result<(PeerKey, &[u8]), Fault> {
    match frame.first() {
        None => return Err(Fault::Malformed),
        Some(&VERSION) => {}
        Some(version) => return Err(Fault::Version(*version)),
    }
    if frame.len() != bytes {
        return Err(Fault::Malformed);
    }
    let (key, rest) = frame[1..].split_first_chunk().ok_or(Fault::Malformed)?;
    Ok((PeerKey(*key), rest))
}

/// The dialler that has said its first message.
pub(super) struct Called {
    pake: Pake,
    ours: PeerKey,
    nameplate: u16,
    message: Vec<u8>,
}

impl Called {
    /// Begins: the FIRST frame.
    pub(super) fn begin(code: &Code, ours: PeerKey) -> (Called, Vec<u8>) {
        let nameplate = code.nameplate_number();
        let (dialler, listener) = identities(nameplate);
        let (pake, message) = Pake::start_a(&Password::new(code.password()), &dialler, &listener);
        let frame = [&[VERSION], &ours.0[..], &nameplate.to_be_bytes(), &message].concat();
        (Called { pake, ours, nameplate, message }, frame)
    }

    /// Takes the SECOND frame: the CONFIRM frame. From here on the listener knows whether it had the right code.
    pub(super) fn answered(self, second: &[u8]) -> Result<(Confirmed, Vec<u8>), Fault> {
        let (listener, theirs) = fields(second, SECOND_BYTES)?;
        let transcript = transcript(self.ours, listener, self.nameplate, &self.message, theirs);
        let keys = Keys::derive(&finish(self.pake, &self.message, theirs)?, &transcript);
        let confirmation = keys.dialler_proof.to_bytes().to_vec();
        Ok((Confirmed { keys, listener }, confirmation))
    }
}

/// The dialler that has confirmed.
pub(super) struct Confirmed {
    keys: Keys,
    listener: PeerKey,
}

impl Confirmed {
    /// Takes the GRANT frame: the listener's key, and the text that it sealed. Anything else means that the listener has
    /// another code, or is somebody else.
    pub(super) fn granted(self, grant: &[u8]) -> Result<(PeerKey, Vec<u8>), Fault> {
        let (proof, sealed) = grant.split_first_chunk::<PROOF_BYTES>().ok_or(Fault::WrongCode)?;
        if Proof::from_bytes(*proof) != self.keys.listener_proof {
            return Err(Fault::WrongCode);
        }
        let text = self.keys.ticket.open(sealed).ok_or(Fault::WrongCode)?;
        Ok((self.listener, text))
    }
}

/// The listener that has answered a first message.
pub(super) struct Answered {
    keys: Keys,
}

impl Answered {
    /// Takes the FIRST frame: the SECOND one, which tells the dialler nothing about the code.
    pub(super) fn to(code: &Code, ours: PeerKey, first: &[u8]) -> Result<(Answered, Vec<u8>), Fault> {
        let (dialler, rest) = fields(first, FIRST_BYTES)?;
        let (nameplate, theirs) = rest.split_first_chunk::<2>().ok_or(Fault::Malformed)?;
        let nameplate = u16::from_be_bytes(*nameplate);
        if nameplate != code.nameplate_number() {
            return Err(Fault::OtherCode);
        }
        let (id_dialler, id_listener) = identities(nameplate);
        let (pake, message) = Pake::start_b(&Password::new(code.password()), &id_dialler, &id_listener);
        let transcript = transcript(dialler, ours, nameplate, theirs, &message);
        let keys = Keys::derive(&finish(pake, &message, theirs)?, &transcript);
        let frame = [&[VERSION], &ours.0[..], &message].concat();
        Ok((Answered { keys }, frame))
    }

    /// Takes the CONFIRM frame: the GRANT frame with that text. A frame that is not right was a guess.
    pub(super) fn confirmed(self, confirm: &[u8], text: &[u8]) -> Result<Vec<u8>, Fault> {
        let proof = <[u8; PROOF_BYTES]>::try_from(confirm).map_err(|_| Fault::WrongCode)?;
        if Proof::from_bytes(proof) != self.keys.dialler_proof {
            return Err(Fault::WrongCode);
        }
        Ok([&self.keys.listener_proof.to_bytes()[..], &self.keys.ticket.seal(text)].concat())
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
