//! Sealing one message under one key: ChaCha20-Poly1305 of `ring`.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// A key that seals one message. Whoever makes it sees to it that no other message is ever sealed under the same bytes: the
/// nonce is always zero.
pub struct OnceKey(LessSafeKey);

impl OnceKey {
    /// From bytes that nobody else knows.
    pub fn new(bytes: &[u8; 32]) -> OnceKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).expect("any 32 bytes are a ChaCha20 key");
        OnceKey(LessSafeKey::new(key))
    }

    /// Sealed, with its tag: 16 bytes longer.
    pub fn seal(self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        let sealed = self.0.seal_in_place_append_tag(nonce(), Aad::empty(), &mut bytes);
        sealed.expect("a message in memory is short enough for one key");
        bytes
    }

    /// What was sealed; `None` if a bit of it is not as it was, or the key is another.
    pub fn open(self, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = sealed.to_vec();
        let plain = self.0.open_in_place(nonce(), Aad::empty(), &mut bytes).ok()?;
        Some(plain.to_vec())
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_the_same_key_opens_and_only_what_was_sealed() {
        let sealed = OnceKey::new(&[7; 32]).seal(b"ticket");
        assert_eq!(sealed.len(), 6 + 16);
        assert!(!sealed.windows(6).any(|window| window == b"ticket"));
        assert_eq!(OnceKey::new(&[7; 32]).open(&sealed).unwrap(), b"ticket");
        assert_eq!(OnceKey::new(&[8; 32]).open(&sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(OnceKey::new(&[7; 32]).open(&changed), None, "byte {at}");
        }
        assert_eq!(OnceKey::new(&[7; 32]).open(&sealed[..15]), None);
    }
}
