//! Links that are had: a ticket is taken, by either role, and ownership stands on disk.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::super::open::RANDOM_PORTS;
use super::*;
use crate::event::Start;
use crate::limits::TICKET_SECONDS;
use crate::net::CloseCode;
use crate::state::transfer::{End, Side};

#[tokio::test]
async fn a_ticket_is_taken_in_both_directions_and_forgotten() {
    for role in [Role::Receiver, Role::Sender] {
        let (here, there) = (Installation::new(), Installation::new());
        let mut listener = here.listen(role).await;
        let ticket = listener.ticket();
        assert_eq!((ticket.role, ticket.key), (role, here.identity.public_key()));
        let id = ticket.transfer_id();
        let saved = here.home().load(id, role).unwrap().expect("it was saved before the ticket was shown");
        assert_eq!(saved.secret.map(|secret| *secret.expose()), Some(*ticket.secret.expose()));
        let port = saved.port.expect("with its port");
        assert!(RANDOM_PORTS.contains(&port));
        assert_eq!(saved.expiry_seconds, ticket.expiry_seconds);
        assert_eq!(saved.expiry_seconds, saved.created_seconds + TICKET_SECONDS);

        let mut dialler = there.dial(role.other(), &ticket).await;
        assert_eq!((listener.meet.start(), dialler.meet.start()), (Start::New, Start::New));
        let (near, far) = meet(&mut listener, &mut dialler).await;
        assert_eq!((near.hello.role, far.hello.role), (role.other(), role));
        assert!(near.hello.proof.is_some() && far.hello.proof.is_none());
        assert_eq!(far.hello.addresses, [SocketAddr::from(([127, 0, 0, 1], port))]);
        for run in [&listener, &dialler] {
            let connected = run.events.try_iter().filter(|event| matches!(event, Event::Connected { .. })).count();
            assert_eq!(connected, 1);
        }

        let owned = here.home().load(id, role).unwrap().unwrap();
        assert_eq!(owned.peer, Some(there.identity.public_key()));
        assert!(owned.secret.is_none() && owned.side == Side::Listener);
        let known = there.home().load(id, role.other()).unwrap().unwrap();
        assert_eq!(known.peer, Some(here.identity.public_key()));
        assert!(known.secret.is_none() && known.side == Side::Dialler);
        assert_eq!(known.addresses, far.hello.addresses);
    }
}

#[tokio::test]
async fn control_frames_follow_the_hellos() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let mut dialler = there.dial(Role::Sender, &listener.ticket()).await;
    let (mut near, mut far) = meet(&mut listener, &mut dialler).await;
    near.sender.send(b"one").await.unwrap();
    far.sender.send(b"two").await.unwrap();
    assert_eq!(&far.receiver.recv(10).await.unwrap()[..], b"one");
    assert_eq!(&near.receiver.recv(10).await.unwrap()[..], b"two");
}

#[tokio::test]
async fn a_ticket_goes_to_a_private_file_where_that_is_asked() {
    let here = Installation::new();
    let path = here.dir.path().join("ticket");
    let address = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let meeting = Meeting::Listen { address, write_ticket: Some(path.clone()), shows_code: false };
    let listener = here.open(Role::Sender, meeting).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let ticket = Ticket::decode(&text).unwrap();
    let event = listener.events.try_iter().find_map(|event| match event {
        Event::Ticket { text, written_to, expires } => Some((text, written_to, expires)),
        _ => None,
    });
    let (shown, written_to, expires) = event.unwrap();
    assert_eq!((format!("{shown}\n"), written_to, expires), (text, Some(path), ticket.expiry_seconds));
}

#[tokio::test]
async fn the_owners_newer_link_supersedes_the_older() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let mut first = there.dial(Role::Sender, &listener.ticket()).await;
    let (_old_near, old_far) = meet(&mut listener, &mut first).await;
    // The same key with another home: what its own lock does not see.
    let clone = Installation { dir: tempfile::tempdir().unwrap(), identity: Arc::clone(&there.identity) };
    std::fs::remove_dir(clone.dir.path()).unwrap();
    copy_dir(there.dir.path(), clone.dir.path());
    let id = first.meet.record().id;
    let mut second = clone.open(Role::Sender, Meeting::Resume(id, Resumption::AsItWas)).await.unwrap();
    let (near, _far) = meet(&mut listener, &mut second).await;
    assert!(near.hello.proof.is_none(), "the secret is forgotten");
    assert_eq!(old_far.link.closed().await, LinkError::Refused(CloseCode::Superseded));
    assert!(near.link.close_reason().is_none());
    // The older process does not fight for it.
    let error = hears(&mut first, &mut listener).await;
    assert_eq!(error.exit(), crate::error::Exit::Refused, "{error}");
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_link_that_is_lost_is_had_again_at_once() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let mut dialler = there.dial(Role::Sender, &listener.ticket()).await;
    let mut last = meet(&mut listener, &mut dialler).await;
    for code in [CloseCode::Dropped, CloseCode::Interrupted, CloseCode::Finished] {
        last.0.link.close(code);
        let lost = Instant::now();
        last = meet(&mut listener, &mut dialler).await;
        assert!(lost.elapsed().as_secs() < 3, "{:?}", lost.elapsed());
    }
    let losses = dialler.events.try_iter().filter(|event| matches!(event, Event::LinkLost { .. })).count();
    assert_eq!(losses, 2, "a peer that has finished is no loss");
}

#[tokio::test]
async fn goodbye_reaches_the_peer() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let mut dialler = there.dial(Role::Sender, &listener.ticket()).await;
    let (_near, far) = meet(&mut listener, &mut dialler).await;
    listener.meet.close(End::Finished).unwrap();
    let id = listener.meet.record().id;
    listener.meet.finish(CloseCode::Finished).await;
    assert_eq!(far.link.closed().await, LinkError::Refused(CloseCode::Finished));
    let closed = here.home().load(id, Role::Receiver).unwrap().unwrap().closed.unwrap();
    assert_eq!(closed.end, End::Finished);
}

#[tokio::test]
async fn nothing_is_lost_when_next_is_cancelled_again_and_again() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let mut dialler = there.dial(Role::Sender, &listener.ticket()).await;
    let impatient = async |run: &mut Run| loop {
        if let Ok(met) = timeout(Duration::from_micros(300), run.meet.next(extras)).await {
            return met.unwrap();
        }
        tokio::task::yield_now().await;
    };
    for _ in 0..3 {
        let both = async { tokio::join!(impatient(&mut listener), impatient(&mut dialler)) };
        let (near, far) = timeout(PATIENCE, both).await.unwrap();
        assert_eq!(near.link.exporter(), far.link.exporter());
        near.link.close(CloseCode::Dropped);
    }
}
