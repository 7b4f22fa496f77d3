//! This installation's Ed25519 key: made once, kept in a file that only its owner can read, used for TLS, for
//! receipts, and as the root of the keys that must survive a restart. The only file that names `ring`. It does not
//! decide whom to trust.

use std::fmt;

use quinn::crypto::HmacKey;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use thiserror::Error;

use crate::digest;
use crate::identity::{PeerKey, Secret};

/// Bytes of the private key as RFC 8032 has it.
pub(super) const SEED_BYTES: usize = 32;
/// What precedes the seed in PKCS #8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const RESET_KEY_CONTEXT: &str = "landfall stateless reset key v1";

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// This installation's key pair. It prints only its public half.
pub struct Identity {
    pair: Ed25519KeyPair,
    seed: [u8; SEED_BYTES],
}

impl Identity {
    /// A new key pair, not kept anywhere.
    pub fn generate() -> Result<Identity, NoRandomness> {
        Ok(Identity::from_seed(random()?))
    }

    pub(super) fn from_seed(seed: [u8; SEED_BYTES]) -> Identity {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an Ed25519 seed");
        Identity { pair, seed }
    }

    pub(super) fn seed(&self) -> &[u8; SEED_BYTES] {
        &self.seed
    }

    /// The public half: what tickets carry and peers pin.
    pub fn public_key(&self) -> PeerKey {
        let bytes = self.pair.public_key().as_ref();
        PeerKey(bytes.try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    /// Signs a message. The caller puts a text of its own kind in front, so that no signature serves two purposes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(message);
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// The private key in the form that TLS takes.
    pub(super) fn pkcs8(&self) -> Vec<u8> {
        [&PKCS8_PREFIX[..], &self.seed].concat()
    }

    /// Key of the stateless resets of an endpoint on this port. The same after a restart, so that a restarted
    /// listener can end the links of its predecessor; another for each port, so that no other process of this
    /// installation can be asked for resets that end this one's links (RFC 9000, section 21.11).
    pub(super) fn reset_key(&self, port: u16) -> Box<dyn HmacKey> {
        let material = [&self.seed[..], &port.to_be_bytes()].concat();
        Box::new(hmac::Key::new(hmac::HMAC_SHA256, &digest::derive_key(RESET_KEY_CONTEXT, &material)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public_key().fingerprint())
    }
}

/// Whether `signature` is that key's signature of `message`.
pub fn verify_signature(key: &PeerKey, message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key.0).verify(message, signature).is_ok()
}

/// A new secret for a ticket.
pub fn random_secret() -> Result<Secret, NoRandomness> {
    Ok(Secret::from_bytes(random()?))
}

/// Random bytes from the operating system, for anything else that must not be guessed or must not collide.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A new ECDSA key in PKCS #8, for tests of what is refused.
#[cfg(test)]
pub(super) fn other_kind_of_key() -> Vec<u8> {
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    key.expect("a test runs where there is randomness").as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_signature_is_good_for_one_key_and_one_message() {
        let (one, other) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let signature = one.sign(b"message");
        assert!(verify_signature(&one.public_key(), b"message", &signature));
        assert!(!verify_signature(&other.public_key(), b"message", &signature));
        assert!(!verify_signature(&one.public_key(), b"massage", &signature));
        assert!(!verify_signature(&one.public_key(), b"message", &signature[..63]));
        assert!(!verify_signature(&PeerKey([0; 32]), b"message", &[0; 64]));
    }

    #[test]
    fn the_public_key_is_that_of_rfc_8032() {
        let seed = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let public = data_encoding::HEXLOWER
            .decode(b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
            .unwrap();
        assert_eq!(Identity::from_seed(seed.try_into().unwrap()).public_key().0[..], public);
    }

    #[test]
    fn the_reset_key_is_stable_and_differs_by_identity_and_port() {
        let token = |seed, port| {
            let mut token = [0; 32];
            Identity::from_seed([seed; 32]).reset_key(port).sign(b"connection id", &mut token);
            token
        };
        assert_eq!(token(1, 4433), token(1, 4433));
        assert_ne!(token(1, 4433), token(1, 4434));
        assert_ne!(token(1, 4433), token(2, 4433));
    }

    #[test]
    fn random_identities_and_secrets_differ_and_do_not_show_themselves() {
        let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(one.public_key(), other.public_key());
        assert_ne!(random_secret().unwrap().expose(), random_secret().unwrap().expose());
        assert_eq!(format!("{one:?}"), format!("Identity({})", one.public_key().fingerprint()));
    }
}
