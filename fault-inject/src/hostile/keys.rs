//! Keys and TLS of a peer that may lie: any application protocol, any key or none, one key shown and another used.
//! Its verifiers believe everybody, since it is the other side that has to be careful.

use std::sync::Arc;

use landfall::identity::PeerKey;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// The protocol of the shipped binary.
pub const PROTOCOL: &[u8] = b"landfall/1";
/// What precedes the key in a SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What precedes the seed in PKCS #8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An Ed25519 key pair from 32 bytes.
#[derive(Clone)]
pub struct Key {
    pkcs8: Vec<u8>,
    pair: Arc<Ed25519KeyPair>,
}

impl Key {
    /// The pair of a seed.
    pub fn new(seed: [u8; 32]) -> Key {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an Ed25519 seed");
        Key { pkcs8: [&PKCS8_PREFIX[..], &seed].concat(), pair: Arc::new(pair) }
    }

    /// The public half.
    pub fn public(&self) -> PeerKey {
        PeerKey(self.pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes"))
    }

    /// An Ed25519 signature.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    fn signing(&self) -> Arc<dyn SigningKey> {
        any_eddsa_type(&PrivatePkcs8KeyDer::from(self.pkcs8.clone())).expect("it is an Ed25519 key")
    }
}

/// What a hostile peer shows of itself.
#[derive(Clone)]
pub struct Face {
    /// Application protocols; none at all where it is empty.
    pub protocols: Vec<Vec<u8>>,
    /// The key that signs.
    pub key: Key,
    /// The SubjectPublicKeyInfo that is shown; none at all is `None`.
    pub shown: Option<Vec<u8>>,
    /// Whether what is shown is called a raw public key, or an X.509 certificate.
    pub is_raw: bool,
}

impl Face {
    /// An honest one.
    pub fn of(key: &Key) -> Face {
        Face { protocols: vec![PROTOCOL.to_vec()], key: key.clone(), shown: Some(spki(key.public())), is_raw: true }
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let shown = self.shown.iter().map(|spki| CertificateDer::from(spki.clone())).collect();
        Arc::new(CertifiedKey::new(shown, self.key.signing()))
    }

    /// For dialling.
    pub fn client(&self) -> Arc<QuicClientConfig> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous));
        let mut config = match self.shown {
            Some(_) => {
                let resolver: Arc<dyn ResolvesClientCert> = match self.is_raw {
                    true => Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.certified())),
                    false => Arc::new(Certificate(self.certified())),
                };
                builder.with_client_cert_resolver(resolver)
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config.enable_sni = false;
        Arc::new(QuicClientConfig::try_from(config).expect("the provider has the first suite of QUIC"))
    }

    /// For listening.
    pub fn server(&self) -> Arc<QuicServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.certified()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites")
            .with_client_cert_verifier(Arc::new(Credulous))
            .with_cert_resolver(resolver);
        config.alpn_protocols.clone_from(&self.protocols);
        Arc::new(QuicServerConfig::try_from(config).expect("the provider has the first suite of QUIC"))
    }
}

/// A key as TLS carries it.
pub fn spki(key: PeerKey) -> Vec<u8> {
    [&SPKI_PREFIX[..], &key.0].concat()
}

/// The key in a SubjectPublicKeyInfo of Ed25519.
pub fn key_of(spki: &[u8]) -> Option<PeerKey> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().map(PeerKey).ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Shows its key as if it were a certificate.
#[derive(Debug)]
struct Certificate(Arc<CertifiedKey>);

impl ResolvesClientCert for Certificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes everybody.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
