//! Links that are not had, with the words and exit codes on both sides.

use std::time::Instant;

use super::super::dial::{Extent, RoundFailure};
use super::*;
use crate::error::Exit;
use crate::identity::Secret;
use crate::net::{Accept, CloseCode, Endpoint};
use crate::state::transfer::End;
use crate::wire::StopReason;

/// The text and exit of an error.
fn told(error: &Error) -> (String, Exit) {
    (error.to_string(), error.exit())
}

#[tokio::test]
async fn a_second_key_hears_who_took_the_ticket() {
    let (here, there, thief) = (Installation::new(), Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let mut dialler = there.dial(Role::Sender, &ticket).await;
    let (near, _far) = meet(&mut listener, &mut dialler).await;
    let mut second = thief.dial(Role::Sender, &ticket).await;
    let error = hears(&mut second, &mut listener).await;
    let owner = there.identity.public_key().fingerprint();
    let text = format!(
        "the receiver refused: the ticket is already taken by {owner}; if that is not you, somebody read the ticket"
    );
    assert_eq!(told(&error), (text, Exit::Refused));
    let refusals = listener.refusals();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert!(refusals[0].contains(&thief.identity.public_key().fingerprint().to_string()), "{refusals:?}");
    assert!(near.link.close_reason().is_none(), "the owner's link is not touched");
}

#[tokio::test]
async fn of_two_that_come_together_one_takes_the_ticket() {
    let (here, there, other) = (Installation::new(), Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let mut left = there.dial(Role::Sender, &ticket).await;
    let mut right = other.dial(Role::Sender, &ticket).await;
    let accepting = async {
        let _met = listener.next().await.unwrap();
        listener.next().await
    };
    let (left, right) = tokio::select! {
        both = async { tokio::join!(left.next(), right.next()) } => both,
        unexpected = accepting => panic!("{unexpected:?}"),
    };
    let (winner, loser) = if left.is_ok() { (&there, right) } else { (&other, left) };
    let error = loser.expect_err("only one is admitted");
    assert!(error.to_string().contains(&winner.identity.public_key().fingerprint().to_string()), "{error}");
    let record = here.home().load(ticket.transfer_id(), Role::Receiver).unwrap().unwrap();
    assert_eq!(record.peer, Some(winner.identity.public_key()));
}

#[tokio::test]
async fn a_wrong_proof_takes_nothing() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let mut dialler = there.dial(Role::Sender, &ticket).await;
    dialler.meet.desk.secret = Some(Secret::from_bytes([0; 16]));
    let error = hears(&mut dialler, &mut listener).await;
    let text = "the receiver refused: the other side does not know this ticket".to_owned();
    assert_eq!(told(&error), (text, Exit::Refused));
    assert_eq!(listener.refusals().len(), 1);
    let record = here.home().load(ticket.transfer_id(), Role::Receiver).unwrap().unwrap();
    assert!(record.peer.is_none() && record.secret.is_some());
}

#[tokio::test]
async fn another_ticket_of_the_same_listener_is_no_ticket() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = Ticket { secret: Secret::from_bytes([7; 16]), ..listener.ticket() };
    let mut dialler = there.dial(Role::Sender, &ticket).await;
    let error = hears(&mut dialler, &mut listener).await;
    let text = "the receiver refused: the other side has no such transfer".to_owned();
    assert_eq!(told(&error), (text, Exit::Refused));
}

#[tokio::test]
async fn equal_roles_are_found_before_dialling_and_refused_after() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let error = there.open(Role::Receiver, Meeting::Dial(ticket.clone())).await.err().unwrap();
    let text = "this ticket is the receiver's own: use it with `landfall send` on the other side".to_owned();
    assert_eq!(told(&error), (text, Exit::Usage));

    let mut dialler = there.dial(Role::Sender, &ticket).await;
    dialler.meet.desk.record.role = Role::Receiver;
    let error = hears(&mut dialler, &mut listener).await;
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().contains("both sides have the same role"), "{error}");
    assert!(here.home().load(ticket.transfer_id(), Role::Receiver).unwrap().unwrap().peer.is_none());
}

#[tokio::test]
async fn another_chunk_size_is_another_version() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let mut dialler = there.dial(Role::Sender, &listener.ticket()).await;
    let small = || HelloExtras { chunk_bytes: 4096, ..HelloExtras::default() };
    let error = tokio::select! {
        result = dialler.meet.next(small) => result.err().unwrap(),
        other = listener.next() => panic!("{other:?}"),
    };
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().contains("runs a version that cannot talk to this one"), "{error}");
}

#[tokio::test]
async fn a_ticket_that_nobody_took_in_time_is_given_up() {
    let here = Installation::new();
    let mut listener = here.listen(Role::Sender).await;
    let id = listener.ticket().transfer_id();
    listener.meet.desk.record.expiry_seconds = super::super::now_seconds();
    let error = listener.next().await.err().unwrap();
    assert!(matches!(error, Error::Expired) && error.exit() == Exit::Refused);
    let closed = here.home().load(id, Role::Sender).unwrap().unwrap().closed.unwrap();
    assert_eq!(closed.end, End::Abandoned);
    drop(listener);
    let again = here.listen(Role::Sender).await;
    assert_ne!(again.ticket().transfer_id(), id, "the same command begins anew");
}

#[tokio::test]
async fn the_wrong_machine_is_told_by_its_key() {
    let (here, there, stranger) = (Installation::new(), Installation::new(), Installation::new());
    let listener = here.listen(Role::Receiver).await;
    let mut other = stranger.listen(Role::Receiver).await;
    let address = other.ticket().addresses[0];
    let ticket = Ticket { addresses: vec![address], ..listener.ticket() };
    let mut dialler = there.dial(Role::Sender, &ticket).await;
    let error = hears(&mut dialler, &mut other).await;
    let text = format!("the machine at {address} does not hold the key that the ticket names");
    assert_eq!(told(&error), (text, Exit::Refused));
}

#[tokio::test]
async fn a_wrong_machine_at_one_address_does_not_hide_the_right_one_at_another() {
    let (here, there, stranger) = (Installation::new(), Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let other = stranger.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let addresses = vec![other.ticket().addresses[0], ticket.addresses[0]];
    let mut dialler = there.dial(Role::Sender, &Ticket { addresses, ..ticket }).await;
    meet(&mut listener, &mut dialler).await;
}

#[tokio::test]
async fn patience_ends_where_nobody_answers() {
    let (here, there) = (Installation::new(), Installation::new());
    let listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    kill(listener).await;
    let common = CommonOptions { patience: Some(Duration::from_millis(700)), ..there.common(Meeting::Dial(ticket)) };
    let mut dialler = there.open_common(Role::Sender, &common).await.unwrap();
    let begun = Instant::now();
    let error = dialler.next().await.err().unwrap();
    assert!(matches!(error, Error::NoLink { peer: Role::Receiver, .. }) && error.exit() == Exit::Again, "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(700) && begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_waited_for_as_long_as_patience_lasts() {
    let (here, there) = (Installation::new(), Installation::new());
    let listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    kill(listener).await;
    let identity = Arc::clone(&here.identity);
    let mut mute = Endpoint::bind(ticket.addresses[0], identity, Accept::Incoming).unwrap();
    let common = CommonOptions { patience: Some(Duration::from_millis(700)), ..there.common(Meeting::Dial(ticket)) };
    let mut dialler = there.open_common(Role::Sender, &common).await.unwrap();
    let holds = async {
        let mut held = vec![];
        while let Some(new) = mute.accept().await {
            held.push(new);
        }
    };
    let error = tokio::select! {
        result = dialler.next() => result.err().unwrap(),
        () = holds => panic!("the endpoint failed"),
    };
    assert!(matches!(error, Error::NoLink { .. }), "{error}");
}

#[tokio::test]
async fn a_dialler_that_says_nothing_keeps_nobody_out() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let strange = Arc::new(Identity::generate().unwrap());
    let mute = Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), strange, Accept::Nothing).unwrap();
    let held = tokio::select! {
        dialled = mute.dial(&ticket.addresses, ticket.key, PATIENCE) => dialled.unwrap(),
        other = listener.next() => panic!("{other:?}"),
    };
    let mut dialler = there.dial(Role::Sender, &ticket).await;
    meet(&mut listener, &mut dialler).await;
    assert!(held.link.close_reason().is_none(), "its time is not over");
}

#[tokio::test]
async fn nonsense_in_place_of_a_hello_is_misbehaviour() {
    let here = Installation::new();
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let strange = Arc::new(Identity::generate().unwrap());
    let endpoint = Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), strange, Accept::Nothing).unwrap();
    let nonsense = async {
        let mut new = endpoint.dial(&ticket.addresses, ticket.key, PATIENCE).await.unwrap();
        new.sender.send(b"\xFF\xFF\xFF\xFFnonsense").await.unwrap();
        new.link.closed().await
    };
    let closed = tokio::select! {
        closed = nonsense => closed,
        other = listener.next() => panic!("{other:?}"),
    };
    assert_eq!(closed, LinkError::Refused(CloseCode::Misbehaved));
}

#[tokio::test]
async fn a_new_transfer_closes_the_old_one_and_its_peer_hears_of_it() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let old = ticket.transfer_id();
    let mut dialler = there.dial(Role::Sender, &ticket).await;
    drop(meet(&mut listener, &mut dialler).await);
    kill(listener).await;

    let common = CommonOptions { continuation: Continue::New, ..here.common(listen_on_loopback()) };
    let mut anew = here.open_common(Role::Receiver, &common).await.unwrap();
    assert_ne!(anew.ticket().transfer_id(), old);
    let error = hears(&mut dialler, &mut anew).await;
    let text = "the receiver stopped: its user closed this transfer and started a new one".to_owned();
    assert_eq!(told(&error), (text, Exit::Refused));
    assert!(matches!(error, Error::StoppedByPeer { reason: StopReason::Closed, .. }));
}

#[tokio::test]
async fn a_spent_ticket_whose_listener_is_gone_is_not_dialled_for_ever() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let silence = || RoundFailure { error: LinkError::Unreachable { addresses: vec![] }, extent: Extent::Some };

    let mut dialler = there.dial(Role::Sender, &Ticket { expiry_seconds: 1, ..ticket }).await;
    let error = dialler.meet.round_failed(&silence()).unwrap_err();
    assert!(matches!(error, Error::Expired) && error.exit() == Exit::Refused, "{error}");
    // The clock of a listener that can be reached decides; and who was admitted needs no ticket.
    meet(&mut listener, &mut dialler).await;
    dialler.meet.round_failed(&silence()).unwrap();
}
