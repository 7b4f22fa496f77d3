//! The receipt's file, damaged after it was made: what is written in its place says what was signed, whatever the store
//! has come to since.

use std::fs;
use std::sync::{Arc, Mutex};

use super::super::receipt::{Issuer, Parties, load_whole};
use super::rig::Rig;
use super::sender::{CHUNK, HEADER, Sender, Tree, file};
use crate::identity::Role;
use crate::options::Existing;
use crate::outcome::Outcome;
use crate::state::home::Home;
use crate::state::outcome::Live;

#[test]
fn a_receipt_that_is_written_again_is_the_one_that_was_signed() {
    let home = tempfile::tempdir().unwrap();
    let home = Home::open(home.path()).unwrap();
    let identity = Arc::new(home.identity().unwrap());
    let parties = Parties { sender: identity.public_key(), sender_host: "sender".into(), sender_version: "0".into() };
    let issuer = Issuer {
        home: home.clone(),
        identity: Arc::clone(&identity),
        transfer: HEADER.transfer,
        host: "receiver".into(),
        started_seconds: 0,
        parties: Arc::new(Mutex::new(Some(parties))),
        issued: Mutex::new(None),
    };
    let rig = Rig::with(Existing::Refuse);
    fs::write(rig.at("taken"), "something else").unwrap();
    let tree = Tree::from([("f".to_owned(), file(1, 3 * CHUNK)), ("taken".to_owned(), file(2, CHUNK))]);
    let mut run = rig.start(None);
    rig.go_on(&mut run, &mut Sender::of(&tree), usize::MAX);
    let shared = &run.store.shared;
    issuer.issue(shared, &shared.with_log(Live::of).unwrap()).unwrap();
    let path = home.receipt_path(HEADER.transfer, Role::Receiver);
    let made = fs::read(&path).unwrap();

    // What the store says of the entry changes, as when its source is withdrawn, and the file is damaged.
    let exceptions = std::mem::take(&mut shared.ledger().exceptions);
    assert!(matches!(exceptions.values().collect::<Vec<_>>()[..], [Outcome::LeftOut(_)]), "{exceptions:?}");
    let mut damaged = made.clone();
    damaged[made.len() / 2] ^= 1;
    for broken in [Some(damaged), Some([&made[..], b"{}\n"].concat()), Some(vec![]), None] {
        match &broken {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let held = issuer.held(shared).unwrap().unwrap();
        assert_eq!(held.core.left_out, 1);
        assert!(fs::read(&path).unwrap() == made, "{:?}", broken.map(|bytes| bytes.len()));
        let (loaded, was_damaged) = load_whole(&home, HEADER.transfer, &identity.public_key()).unwrap();
        assert!(loaded.is_some() && !was_damaged);
    }
}
