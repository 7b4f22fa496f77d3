//! Either side is killed and started again: the same command continues, on the same port, with the same ticket.

use super::*;
use crate::error::Exit;
use crate::event::Start;
use crate::net::CloseCode;
use crate::state::transfer::End;
use crate::wire::{Message, Retry, Stop, StopReason};

#[tokio::test]
async fn a_ticket_that_is_not_taken_is_shown_again_on_the_same_port() {
    let here = Installation::new();
    let listener = here.listen(Role::Receiver).await;
    let first = listener.ticket();
    kill(listener).await;
    let again = here.listen(Role::Receiver).await;
    assert_eq!(again.meet.start(), Start::Resumed);
    assert_eq!(again.ticket().encode(), first.encode());
}

#[tokio::test]
async fn a_listener_that_is_started_again_is_found_by_who_owns_its_ticket() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let mut dialler = there.dial(Role::Sender, &listener.ticket()).await;
    let met = meet(&mut listener, &mut dialler).await;
    let id = listener.meet.record().id;
    drop(met.0);
    kill(listener).await;
    let mut again = here.open(Role::Receiver, Meeting::Resume(id, Resumption::AsItWas)).await.unwrap();
    assert_eq!(again.meet.start(), Start::Resumed);
    let (near, _far) = meet(&mut again, &mut dialler).await;
    assert!(near.hello.proof.is_some(), "a dialler that still has its ticket proves it again");
    let shown = again.events.try_iter().any(|event| matches!(event, Event::Ticket { .. }));
    assert!(!shown, "a ticket that is taken is not shown");
}

#[tokio::test]
async fn a_dialler_continues_by_its_ticket_by_its_command_and_by_its_id() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    let id = ticket.transfer_id();
    let mut dialler = there.dial(Role::Sender, &ticket).await;
    drop(meet(&mut listener, &mut dialler).await);
    for meeting in [Meeting::Dial(ticket.clone()), listen_on_loopback(), Meeting::Resume(id, Resumption::AsItWas)] {
        drop(dialler);
        dialler = there.open(Role::Sender, meeting).await.unwrap();
        assert_eq!((dialler.meet.start(), dialler.meet.record().id), (Start::Resumed, id));
        drop(meet(&mut listener, &mut dialler).await);
    }
}

#[tokio::test]
async fn a_dialler_that_was_killed_before_the_answer_proves_again() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    drop(there.dial(Role::Sender, &ticket).await);
    let mut dialler =
        there.open(Role::Sender, Meeting::Resume(ticket.transfer_id(), Resumption::AsItWas)).await.unwrap();
    let (near, _far) = meet(&mut listener, &mut dialler).await;
    assert!(near.hello.proof.is_some());
}

#[tokio::test]
async fn a_port_that_somebody_else_has_is_an_error_that_keeps_the_state() {
    let here = Installation::new();
    let listener = here.listen(Role::Receiver).await;
    let ticket = listener.ticket();
    kill(listener).await;
    let taken = UdpSocket::bind(ticket.addresses[0]).unwrap();
    let error = here.open(Role::Receiver, listen_on_loopback()).await.err().unwrap();
    assert!(matches!(error, Error::Bind { address, .. } if address == ticket.addresses[0]), "{error}");
    assert_eq!(error.exit(), Exit::Again);
    drop(taken);
    assert_eq!(here.listen(Role::Receiver).await.ticket().encode(), ticket.encode());
}

#[tokio::test]
async fn a_second_process_is_told_who_is_at_work() {
    let here = Installation::new();
    let _first = here.listen(Role::Receiver).await;
    let error = here.open(Role::Receiver, listen_on_loopback()).await.err().unwrap();
    let me = std::process::id().to_string();
    assert!(matches!(&error, Error::Locked { holder, .. } if *holder == me), "{error}");
    assert_eq!(error.exit(), Exit::Again);
}

#[tokio::test]
async fn two_open_transfers_of_one_description_are_named() {
    let (here, there) = (Installation::new(), Installation::new());
    let one = there.listen(Role::Receiver).await.ticket();
    let two = {
        let other = Installation::new();
        other.listen(Role::Receiver).await.ticket()
    };
    drop(here.dial(Role::Sender, &one).await);
    drop(here.dial(Role::Sender, &two).await);
    let error = here.open(Role::Sender, listen_on_loopback()).await.err().unwrap();
    let text = error.to_string();
    assert_eq!(error.exit(), Exit::Usage);
    assert!([&one, &two].iter().all(|ticket| text.contains(&ticket.transfer_id().to_string())), "{text}");
}

#[tokio::test]
async fn a_target_directory_has_one_open_transfer() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = there.listen(Role::Sender).await;
    let mut receiver = here.dial(Role::Receiver, &listener.ticket()).await;
    drop(meet(&mut listener, &mut receiver).await);
    let old = receiver.meet.record().id;
    drop(receiver);
    let other = Installation::new().listen(Role::Sender).await.ticket();
    let error = here.open(Role::Receiver, Meeting::Dial(other.clone())).await.err().unwrap();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains(&format!("`landfall resume {old}`")), "{error}");
    let common = CommonOptions { continuation: Continue::New, ..here.common(Meeting::Dial(other.clone())) };
    let anew = here.open_common(Role::Receiver, &common).await.unwrap();
    assert_eq!(anew.meet.record().id, other.transfer_id());
    assert!(!here.home().load(old, Role::Receiver).unwrap().unwrap().is_open());
}

#[tokio::test]
async fn a_finished_ticket_answers_and_an_unconfirmed_one_goes_on() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Sender).await;
    let ticket = listener.ticket();
    let mut dialler = there.dial(Role::Receiver, &ticket).await;
    drop(meet(&mut listener, &mut dialler).await);
    dialler.meet.close(End::Unconfirmed).unwrap();
    dialler.meet.finish(CloseCode::Finished).await;
    let mut again = there.dial(Role::Receiver, &ticket).await;
    drop(meet(&mut listener, &mut again).await);
    again.meet.close(End::Finished).unwrap();
    again.meet.finish(CloseCode::Finished).await;
    for meeting in [Meeting::Dial(ticket.clone()), Meeting::Resume(ticket.transfer_id(), Resumption::AsItWas)] {
        let (selection, settings) = (Selection::default(), Settings::default());
        let wish = Wish { role: Role::Receiver, paths: vec!["/the/tree".into()], selection, settings };
        let (sender, _events) = sync_channel(10);
        let identity = Arc::clone(&there.identity);
        let common = there.common(meeting);
        let opened = Meet::open(&common, wish, there.home(), identity, Events::new(sender)).await.unwrap();
        let Opened::Finished(record) = opened else { panic!("{opened:?}") };
        assert_eq!(record.id, ticket.transfer_id());
    }
    let anew = there.listen(Role::Receiver).await;
    assert_eq!(anew.meet.start(), Start::New, "without the ticket the same command begins anew");
}

#[tokio::test]
async fn a_damaged_record_is_named_and_costs_a_new_ticket() {
    let here = Installation::new();
    let old = here.listen(Role::Receiver).await.ticket().transfer_id();
    let path = here.dir.path().join(format!("transfers/{old}/receiver/transfer"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let listener = here.listen(Role::Receiver).await;
    let events: Vec<Event> = listener.events.try_iter().collect();
    let named = |event: &Event| matches!(event, Event::Notice(Notice::StateRebuilt { .. }));
    assert_eq!(events.iter().filter(|event| named(event)).count(), 1);
    assert_ne!(listener.meet.record().id, old);
}

#[tokio::test]
async fn a_listener_hears_that_its_peer_began_a_new_transfer() {
    let (here, there) = (Installation::new(), Installation::new());
    let mut listener = here.listen(Role::Sender).await;
    let mut dialler = there.dial(Role::Receiver, &listener.ticket()).await;
    drop(meet(&mut listener, &mut dialler).await);
    drop(dialler);
    let common = CommonOptions { continuation: Continue::New, ..there.common(listen_on_loopback()) };
    let mut anew = there.open_common(Role::Receiver, &common).await.unwrap();
    let mut met = tokio::select! {
        met = listener.next() => met.unwrap(),
        other = anew.next() => panic!("{other:?}"),
    };
    let frame = tokio::select! {
        frame = met.receiver.recv(100) => frame.unwrap(),
        other = anew.next() => panic!("{other:?}"),
    };
    let stop = Stop { reason: StopReason::Closed, retry: Retry::Never };
    assert_eq!(Message::decode(&frame), Ok(Message::Stop(stop)));
}
