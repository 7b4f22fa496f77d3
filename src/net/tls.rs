//! TLS 1.3 with mutual raw public keys (RFC 7250): a peer is its Ed25519 key and nothing else. No certificate is
//! ever parsed. The listener accepts any key that signs for itself, and the driver judges it; the dialler accepts
//! exactly the pinned one.

use std::sync::{Arc, OnceLock};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};

use super::identity::Identity;
use crate::identity::PeerKey;

/// Major version of the protocol: sides that differ in it do not complete a handshake.
const PROTOCOL: &[u8] = b"landfall/1";
/// What precedes the key in a SubjectPublicKeyInfo of Ed25519 (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];
/// TLS needs a name and nobody looks at it: it is not sent, and the key decides.
pub(super) const SERVER_NAME: &str = "landfall";

/// The key of a peer, from the form in which TLS carries it.
pub(super) fn peer_key(spki: &CertificateDer<'_>) -> Option<PeerKey> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().map(PeerKey).ok()
}

/// What the listener speaks TLS with.
pub(super) fn listener(identity: &Identity) -> Arc<QuicServerConfig> {
    quic_server(listener_config(identity))
}

/// What one dial speaks TLS with, and where it leaves the key that it found.
pub(super) fn dialler(identity: &Identity, pinned: PeerKey) -> (Arc<QuicClientConfig>, Found) {
    let found = Found::default();
    let verifier = PinnedListener::new(pinned, found.clone());
    (quic_client(dialler_config(identity, Arc::new(verifier))), found)
}

/// The key that answered a dial, if it came that far: set before the handshake fails over it.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<OnceLock<PeerKey>>);

impl Found {
    /// The key, if one was presented.
    pub(super) fn key(&self) -> Option<PeerKey> {
        self.0.get().copied()
    }
}

pub(super) fn listener_config(identity: &Identity) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
        .with_client_cert_verifier(Arc::new(AnyDialler::new()))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(identity))));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config
}

pub(super) fn dialler_config(identity: &Identity, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(identity))));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.enable_sni = false;
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    config
}

fn quic_server(config: ServerConfig) -> Arc<QuicServerConfig> {
    Arc::new(QuicServerConfig::try_from(config).expect("the provider has QUIC's initial suite"))
}

fn quic_client(config: ClientConfig) -> Arc<QuicClientConfig> {
    Arc::new(QuicClientConfig::try_from(config).expect("the provider has QUIC's initial suite"))
}

/// AES-128-GCM first: measured the cheapest per byte, and the order of the dialler decides.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        ..rustls::crypto::ring::default_provider()
    })
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::ring::default_provider().signature_verification_algorithms
}

pub(super) fn certified(identity: &Identity) -> Arc<CertifiedKey> {
    let pkcs8 = PrivatePkcs8KeyDer::from(identity.pkcs8());
    let key = any_eddsa_type(&pkcs8).expect("an identity holds an Ed25519 key");
    Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki(identity.public_key()))], key))
}

pub(super) fn spki(key: PeerKey) -> Vec<u8> {
    [&SPKI_PREFIX[..], &key.0].concat()
}

/// The presented key, if it is one raw Ed25519 key and nothing beside it.
fn presented(end_entity: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<PeerKey, Error> {
    match peer_key(end_entity) {
        Some(key) if others.is_empty() => Ok(key),
        _ => Err(CertificateError::BadEncoding.into()),
    }
}

fn verify(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(PeerIncompatible::NoSignatureSchemesInCommon.into());
    }
    verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(cert.as_ref()), signed, algorithms)
}

fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerIncompatible::Tls12NotOffered.into())
}

/// Verifier of the dialler: one key is right.
#[derive(Debug)]
pub(super) struct PinnedListener {
    pinned: PeerKey,
    found: Found,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedListener {
    pub(super) fn new(pinned: PeerKey, found: Found) -> PinnedListener {
        PinnedListener { pinned, found, algorithms: algorithms() }
    }
}

impl ServerCertVerifier for PinnedListener {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = presented(end_entity, intermediates)?;
        // A handshake presents one key; a later one could not change the verdict.
        let key = *self.found.0.get_or_init(|| key);
        match key == self.pinned {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Verifier of the listener: any key that its holder can sign with.
#[derive(Debug)]
pub(super) struct AnyDialler {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyDialler {
    pub(super) fn new() -> AnyDialler {
        AnyDialler { algorithms: algorithms() }
    }
}

impl ClientCertVerifier for AnyDialler {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        presented(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
