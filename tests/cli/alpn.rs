//! A listener that speaks another version of the protocol: a QUIC endpoint of the test's own, at the address of a
//! genuine ticket.

use std::net::SocketAddr;
use std::sync::Arc;

use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::sign::CertifiedKey;

use crate::common::process::{Landfall, PATIENT};
use crate::common::scratch::Scratch;
use crate::common::transfer::{self, Listens, Live, Setup, Side};
use crate::common::trees;
use crate::texts;

/// DER of an Ed25519 public key, up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn server(protocol: &[u8]) -> quinn::ServerConfig {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
    let public = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap().public_key().as_ref().to_vec();
    let spki = CertificateDer::from([&SPKI_PREFIX[..], &public].concat());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()));
    let key = CertifiedKey::new(vec![spki], any_eddsa_type(&PrivatePkcs8KeyDer::from(private.secret_der())).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(key))));
    config.alpn_protocols = vec![protocol.to_vec()];
    let config = quinn::crypto::rustls::QuicServerConfig::try_from(config).unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(config))
}

/// Listens at an address, on a thread of its own, until the test ends.
fn listen(address: SocketAddr, protocol: &'static [u8]) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let endpoint = quinn::Endpoint::server(server(protocol), address).unwrap();
            ready.send(()).unwrap();
            while let Some(incoming) = endpoint.accept().await {
                let _ = incoming.await;
            }
        });
    });
    is_ready.recv().expect("the endpoint listens");
}

#[test]
fn a_listener_of_another_version_is_told_apart_from_a_silent_one() {
    let scratch = Scratch::new("alpn");
    let source = trees::directories(&scratch.join("source"), 1);
    let address = transfer::free_address();
    let ticket = scratch.join("ticket");
    let command = Landfall::new("recv", &scratch.join("home")).arg("recv").arg(scratch.join("in"));
    let command = command.args(["--yes", "--listen", &address.to_string()]).arg("--write-ticket").arg(&ticket);
    command.start().wait_for_ticket(&ticket).kill();
    listen(address, b"landfall/999");
    let sender = Landfall::new("send", &scratch.join("other-home")).arg("send").arg(&source).arg("--ticket-file");
    let refused = sender.arg(&ticket).args(["--patience", "10s", "--json"]).run();
    refused.assert_code(4);
    texts::assert_error("other-version", &scratch, &refused, &[]);
}

#[test]
fn a_dialler_of_another_version_disturbs_nobody() {
    let scratch = Scratch::new("alpn-dialler");
    let source = trees::medley(&scratch.join("source"), 1);
    let mut setup = Setup::new(&scratch, "run", &[&source], Listens::Receiver);
    setup.through_relay(1);
    let receiver = setup.listener();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let address = setup.relay().address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let mut config = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        config.alpn_protocols = vec![b"h3".to_vec()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        endpoint.connect_with(config, address, "landfall").unwrap().await.map(|_| ())
    });
    assert!(outcome.is_err(), "another protocol is not let in");
    let sender = setup.command(Side::Sender).start();
    Live { sender, receiver }.wait(PATIENT).assert_success();
    transfer::assert_arrived(&source, &setup.target);
}
