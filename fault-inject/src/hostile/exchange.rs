//! The exchange of `--lan` as its description has it, made again: frames, SPAKE2 with the words of a code, proofs and the
//! sealed ticket. It shares its crates with the product and no line of code, and says whatever a case wants.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use spake2::{Ed25519Group, Identity, Password, Spake2};

/// The list as published (BIP-0039).
const WORDS: &str = include_str!("../../../src/lan/words.txt");
const DIALLER: &[u8] = b"landfall lan v1 sender dials";
const LISTENER: &[u8] = b"landfall lan v1 receiver listens";
/// Bytes of a share: its side, and a point.
pub const SHARE_BYTES: usize = 33;
/// Bytes of the first frame: version, key, nameplate, share.
pub const FIRST_BYTES: usize = 1 + 32 + 2 + SHARE_BYTES;
/// Bytes of the second frame: version, key, share.
pub const SECOND_BYTES: usize = 1 + 32 + SHARE_BYTES;
/// Bytes of a proof, and of the third frame.
pub const PROOF_BYTES: usize = 32;

/// Points of small order on edwards25519 without their sign, and ways to write them that are not the usual one: 0 and 1, the
/// two of order 8, -1, and p, p + 1 and p - 1 as they are.
pub const SMALL_POINTS: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// The bytes of one of them, with the sign or without.
pub fn small_point(hex: &str, has_sign: bool) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("the table is hexadecimal");
    let mut bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    bytes[31] |= if has_sign { 0x80 } else { 0 };
    bytes
}

/// A code, as numbers of its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub [u16; 3]);

impl Code {
    /// Of three words; `None` if that is none.
    pub fn of(text: &str) -> Option<Code> {
        let number = |word: &str| WORDS.lines().position(|known| known == word).and_then(|at| u16::try_from(at).ok());
        let words: Vec<u16> = text.split('-').map(number).collect::<Option<_>>()?;
        words.try_into().ok().map(Code)
    }

    /// Its words.
    pub fn text(self) -> String {
        self.0.map(word).join("-")
    }

    /// The word that is announced.
    pub fn nameplate(self) -> &'static str {
        word(self.0[0])
    }

    /// Another code with the same first word.
    #[must_use]
    pub fn beside(self, by: u16) -> Code {
        let Code([nameplate, second, third]) = self;
        Code([nameplate, second, (third + by) % 2048])
    }

    fn password(self) -> Password {
        Password::new([self.0[1].to_be_bytes(), self.0[2].to_be_bytes()].concat())
    }

    fn sides(self) -> (Identity, Identity) {
        let side = |label: &[u8]| Identity::new(&[label, &self.0[0].to_be_bytes()].concat());
        (side(DIALLER), side(LISTENER))
    }
}

fn word(number: u16) -> &'static str {
    WORDS.lines().nth(number.into()).expect("it is below the length of the list")
}

/// What both sides derive who used the same code.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The third frame.
    pub dialler_proof: [u8; PROOF_BYTES],
    /// What the fourth begins with.
    pub listener_proof: [u8; PROOF_BYTES],
    ticket: [u8; 32],
}

impl Keys {
    fn derive(shared: &[u8], [dialler, listener]: [&[u8]; 2], nameplate: u16, [first, second]: [&[u8]; 2]) -> Keys {
        let said = [DIALLER, LISTENER, dialler, listener, &nameplate.to_be_bytes(), first, second].concat();
        let root = blake3::derive_key("landfall lan exchange v1", &[shared, &said].concat());
        let proof = |context| *blake3::keyed_hash(&blake3::derive_key(context, &root), &said).as_bytes();
        Keys {
            dialler_proof: proof("landfall lan dialler confirms v1"),
            listener_proof: proof("landfall lan listener confirms v1"),
            ticket: blake3::derive_key("landfall lan ticket v1", &root),
        }
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &self.ticket).expect("any 32 bytes are a key"))
    }

    /// The fourth frame with that text.
    pub fn grant(&self, text: &[u8]) -> Vec<u8> {
        let mut sealed = text.to_vec();
        let done = self.cipher().seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed);
        done.expect("a text of a case is short");
        [&self.listener_proof[..], &sealed].concat()
    }

    /// The text of a fourth frame, if it is one of these keys.
    pub fn open(&self, grant: &[u8]) -> Option<Vec<u8>> {
        let (proof, sealed) = grant.split_at_checked(PROOF_BYTES)?;
        let mut text = sealed.to_vec();
        let plain = self.cipher().open_in_place(nonce(), Aad::empty(), &mut text).ok()?;
        (proof == self.listener_proof).then(|| plain.to_vec())
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// A caller that has made its first frame.
pub struct Caller {
    pake: Spake2<Ed25519Group>,
    key: [u8; 32],
    nameplate: u16,
    share: Vec<u8>,
    /// The first frame.
    pub first: Vec<u8>,
}

impl Caller {
    /// With this code and key.
    pub fn new(code: Code, key: [u8; 32]) -> Caller {
        let (dialler, listener) = code.sides();
        let (pake, share) = Spake2::start_a(&code.password(), &dialler, &listener);
        Caller { pake, key, nameplate: code.0[0], first: first(key, code.0[0], &share), share }
    }

    /// What follows from the second frame, if it is one.
    pub fn keys(self, second: &[u8]) -> Option<Keys> {
        if second.len() != SECOND_BYTES {
            return None;
        }
        let (listener, theirs) = (&second[1..33], &second[33..]);
        let shared = self.pake.finish(theirs).ok()?;
        Some(Keys::derive(&shared, [&self.key, listener], self.nameplate, [&self.share, theirs]))
    }
}

/// A first frame with any share.
pub fn first(key: [u8; 32], nameplate: u16, share: &[u8]) -> Vec<u8> {
    [&[1], &key[..], &nameplate.to_be_bytes(), share].concat()
}

/// What a host with this code and key answers to a first frame: the second one, and what follows from it.
pub fn answer(code: Code, key: [u8; 32], first: &[u8]) -> Option<(Vec<u8>, Keys)> {
    if first.len() != FIRST_BYTES {
        return None;
    }
    let (dialler, theirs) = (&first[1..33], &first[35..]);
    let (id_dialler, id_listener) = code.sides();
    let (pake, share) = Spake2::<Ed25519Group>::start_b(&code.password(), &id_dialler, &id_listener);
    let shared = pake.finish(theirs).ok()?;
    let keys = Keys::derive(&shared, [dialler, &key], code.0[0], [theirs, &share]);
    Some(([&[1], &key[..], &share].concat(), keys))
}

/// A frame with its length.
pub fn framed(frame: &[u8]) -> Vec<u8> {
    let length = u16::try_from(frame.len()).expect("frames of cases are short");
    [&length.to_be_bytes(), frame].concat()
}

/// Sends a frame.
pub fn send(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_all(&framed(frame))
}

/// The next frame; `None` if the other side closes or says nothing in time.
pub fn receive(stream: &mut TcpStream, patience: Duration) -> Option<Vec<u8>> {
    stream.set_read_timeout(Some(patience)).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

/// All that comes until the other side closes; `None` if it does not within that time.
pub fn rest(stream: &mut TcpStream, patience: Duration) -> Option<Vec<u8>> {
    let until = Instant::now() + patience;
    let (mut all, mut buffer) = (vec![], [0; 4096]);
    loop {
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        stream.set_read_timeout(Some(left)).ok()?;
        match stream.read(&mut buffer) {
            Ok(0) => return Some(all),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return None,
            // It was closed with something unread.
            Err(_) => return Some(all),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn both_sides_agree_with_one_code_and_with_no_other() {
        let code = Code::of("action-zoo-legend").unwrap();
        assert_eq!((code.0[1], code.text().as_str(), code.nameplate()), (2047, "action-zoo-legend", "action"));
        for (other, is_right) in [(code, true), (code.beside(1), false)] {
            let caller = Caller::new(code, [1; 32]);
            let (second, theirs) = answer(other, [2; 32], &caller.first).unwrap();
            let ours = caller.keys(&second).unwrap();
            assert_eq!(ours.dialler_proof == theirs.dialler_proof, is_right);
            assert_eq!(ours.open(&theirs.grant(b"ticket")), is_right.then(|| b"ticket".to_vec()));
        }
    }
}
