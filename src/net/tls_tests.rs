//! What TLS refuses, message by message and without a network: every way to come without the right key.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::quic::{ClientConnection, KeyChange, ServerConnection, Version};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, CipherSuite, ClientConfig, Error, PeerIncompatible, ServerConfig, SignatureScheme};

use super::identity::{Identity, other_kind_of_key};
use super::tls::{
    AnyDialler, Found, PinnedListener, SERVER_NAME, certified, dialler_config, listener_config, peer_key, spki,
};
use crate::identity::PeerKey;

fn listener_identity() -> Identity {
    Identity::from_seed([1; 32])
}

fn dialler_identity() -> Identity {
    Identity::from_seed([2; 32])
}

fn server() -> ServerConfig {
    listener_config(&listener_identity())
}

fn client() -> ClientConfig {
    client_pinning(listener_identity().public_key()).0
}

fn client_pinning(pinned: PeerKey) -> (ClientConfig, Found) {
    let found = Found::default();
    let verifier = PinnedListener::new(pinned, found.clone());
    (dialler_config(&dialler_identity(), Arc::new(verifier)), found)
}

/// Both ends of a handshake, and the first error with the side that raised it.
struct Meeting {
    client: ClientConnection,
    server: ServerConnection,
}

#[derive(Debug, PartialEq)]
enum Refusal {
    ByDialler(Error),
    ByListener(Error),
}

impl Meeting {
    fn new(client: ClientConfig, server: ServerConfig) -> Meeting {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        Meeting {
            client: ClientConnection::new(Arc::new(client), Version::V1, name, vec![]).unwrap(),
            server: ServerConnection::new(Arc::new(server), Version::V1, vec![]).unwrap(),
        }
    }

    fn run(&mut self) -> Result<(), Refusal> {
        while self.client.is_handshaking() || self.server.is_handshaking() {
            let mut has_moved = false;
            // One call writes the messages of one encryption level, which QUIC delivers apart.
            while let Some(messages) = written(|buffer| self.client.write_hs(buffer)) {
                self.server.read_hs(&messages).map_err(Refusal::ByListener)?;
                has_moved = true;
            }
            while let Some(messages) = written(|buffer| self.server.write_hs(buffer)) {
                self.client.read_hs(&messages).map_err(Refusal::ByDialler)?;
                has_moved = true;
            }
            assert!(has_moved, "a handshake that stands still");
        }
        Ok(())
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Option<KeyChange>) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    let key_change = write(&mut buffer);
    (key_change.is_some() || !buffer.is_empty()).then_some(buffer)
}

fn refusal(client: ClientConfig, server: ServerConfig) -> Refusal {
    Meeting::new(client, server).run().unwrap_err()
}

/// Presents anything, signs with anything, as raw key or as X.509.
#[derive(Debug)]
struct Impostor {
    shown: Arc<CertifiedKey>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    RawKey,
    X509,
}

impl Impostor {
    fn new(shown: Vec<Vec<u8>>, signer: &Identity, kind: Kind) -> Arc<Impostor> {
        let certs = shown.into_iter().map(CertificateDer::from).collect();
        let key = certified(signer).key.clone();
        Arc::new(Impostor { shown: Arc::new(CertifiedKey::new(certs, key)), kind })
    }
}

impl ResolvesClientCert for Impostor {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        self.kind == Kind::RawKey
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        self.kind == Kind::RawKey
    }
}

fn impostor_listener(shown: Vec<Vec<u8>>, kind: Kind) -> ServerConfig {
    let mut config = server();
    config.cert_resolver = Impostor::new(shown, &Identity::from_seed([66; 32]), kind);
    config
}

fn dialler_showing(resolver: Arc<dyn ResolvesClientCert>) -> ClientConfig {
    let mut config = client();
    config.client_auth_cert_resolver = resolver;
    config
}

fn impostor_dialler(shown: Vec<Vec<u8>>, kind: Kind) -> ClientConfig {
    dialler_showing(Impostor::new(shown, &Identity::from_seed([66; 32]), kind))
}

#[test]
fn both_sides_learn_the_key_of_the_other_with_the_cheapest_cipher() {
    let mut meeting = Meeting::new(client(), server());
    meeting.run().unwrap();
    let seen = |certs: Option<&[CertificateDer<'_>]>| peer_key(&certs.unwrap()[0]).unwrap();
    assert_eq!(seen(meeting.server.peer_certificates()), dialler_identity().public_key());
    assert_eq!(seen(meeting.client.peer_certificates()), listener_identity().public_key());
    let suite = meeting.client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
    assert_eq!(meeting.client.alpn_protocol(), Some(&b"landfall/1"[..]));
    assert_eq!(meeting.server.server_name(), None);
}

#[test]
fn a_wrong_pin_is_refused_and_the_key_that_was_found_is_known() {
    let (client, found) = client_pinning(PeerKey([9; 32]));
    let wrong = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    assert_eq!(refusal(client, server()), Refusal::ByDialler(wrong));
    assert_eq!(found.key(), Some(listener_identity().public_key()));
}

#[test]
fn the_right_key_with_a_signature_of_another_is_refused_by_both_sides() {
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    let listener = impostor_listener(vec![spki(listener_identity().public_key())], Kind::RawKey);
    assert_eq!(refusal(client(), listener), Refusal::ByDialler(bad()));
    let dialler = impostor_dialler(vec![spki(dialler_identity().public_key())], Kind::RawKey);
    assert_eq!(refusal(dialler, server()), Refusal::ByListener(bad()));
}

#[test]
fn anything_but_one_raw_ed25519_key_is_refused() {
    let key = Identity::from_seed([66; 32]).public_key();
    let mut other_algorithm = spki(key);
    other_algorithm[8] = 0x71;
    let longer = [spki(key), vec![0]].concat();
    for shown in [vec![spki(key), spki(key)], vec![other_algorithm], vec![longer], vec![key.0.to_vec()]] {
        let bad = Error::InvalidCertificate(CertificateError::BadEncoding);
        assert_eq!(refusal(impostor_dialler(shown, Kind::RawKey), server()), Refusal::ByListener(bad));
    }
}

#[test]
fn x509_is_refused_by_both_sides() {
    let shown = || vec![spki(Identity::from_seed([66; 32]).public_key())];
    let dialler = impostor_dialler(shown(), Kind::X509);
    assert!(matches!(refusal(dialler, server()), Refusal::ByListener(Error::PeerIncompatible(_))));
    let listener = impostor_listener(shown(), Kind::X509);
    assert!(matches!(
        refusal(client(), listener),
        Refusal::ByDialler(Error::PeerIncompatible(_)) | Refusal::ByListener(Error::PeerIncompatible(_))
    ));
}

#[test]
fn a_dialler_without_a_key_is_refused() {
    #[derive(Debug)]
    struct Nobody;
    impl ResolvesClientCert for Nobody {
        fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }
        fn only_raw_public_keys(&self) -> bool {
            true
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let dialler = dialler_showing(Arc::new(Nobody));
    assert_eq!(refusal(dialler, server()), Refusal::ByListener(Error::NoCertificatesPresented));
}

#[test]
fn a_key_of_another_kind_is_refused() {
    let pkcs8 = other_kind_of_key();
    let key = any_ecdsa_type(&PrivatePkcs8KeyDer::from(pkcs8).into()).unwrap();
    let shown = CertificateDer::from(key.public_key().unwrap().to_vec());
    let resolver = Impostor { shown: Arc::new(CertifiedKey::new(vec![shown], key)), kind: Kind::RawKey };
    let dialler = dialler_showing(Arc::new(resolver));
    assert!(matches!(refusal(dialler, server()), Refusal::ByListener(_)));
}

#[test]
fn a_protocol_of_another_name_or_none_is_refused_by_both_sides() {
    for protocols in [vec![], vec![b"landfall/2".to_vec()], vec![b"h3".to_vec()]] {
        let (mut dialler, mut listener) = (client(), server());
        dialler.alpn_protocols.clone_from(&protocols);
        assert_eq!(refusal(dialler, server()), Refusal::ByListener(Error::NoApplicationProtocol));
        listener.alpn_protocols = protocols;
        assert!(matches!(
            refusal(client(), listener),
            Refusal::ByDialler(Error::NoApplicationProtocol) | Refusal::ByListener(Error::NoApplicationProtocol)
        ));
    }
}

#[test]
fn an_offer_of_tls_1_2_is_refused() {
    let mut meeting = Meeting::new(client(), server());
    let mut hello = Vec::new();
    assert!(meeting.client.write_hs(&mut hello).is_none());
    // The extension `supported_versions` with TLS 1.3 as its only entry (RFC 8446, section 4.2.1).
    let offer = [0x00, 0x2B, 0x00, 0x03, 0x02, 0x03, 0x04];
    let at = hello.windows(offer.len()).position(|window| window == offer).unwrap();
    hello[at + offer.len() - 1] = 0x03;
    let refused = meeting.server.read_hs(&hello).unwrap_err();
    assert_eq!(refused, Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled));
}

#[test]
fn nothing_is_kept_that_could_resume_a_session() {
    let mut meeting = Meeting::new(client(), server());
    meeting.run().unwrap();
    let mut after = Vec::new();
    assert!(meeting.server.write_hs(&mut after).is_none());
    assert!(after.is_empty(), "the listener sent a session ticket");
    assert!(meeting.client.zero_rtt_keys().is_none());
    assert_eq!(server().max_early_data_size, 0);
    assert!(!client().enable_early_data);
}

#[test]
fn the_listener_always_asks_for_a_key() {
    use rustls::server::danger::ClientCertVerifier;
    let verifier = AnyDialler::new();
    assert!(verifier.offer_client_auth() && verifier.client_auth_mandatory());
    assert_eq!(verifier.supported_verify_schemes(), [SignatureScheme::ED25519]);
}
