//! A door on loopback, and callers that do to it what they like.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::*;
use crate::lan::exchange::Called;
use crate::limits::LAN_FRAME_BYTES_MAX;

const SENDER: PeerKey = PeerKey([1; 32]);
const RECEIVER: PeerKey = PeerKey([2; 32]);
const PATIENCE: Duration = Duration::from_secs(20);

fn open() -> Door {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = free.local_addr().unwrap();
    drop(free);
    Door::open(bound, RECEIVER, "the ticket".to_owned()).unwrap()
}

async fn next(door: &mut Door) -> Visit {
    timeout(PATIENCE, door.next()).await.unwrap()
}

/// The same nameplate, and another password.
fn wrong(code: &Code) -> Code {
    let last = if code.text().ends_with("-zoo") { "able" } else { "zoo" };
    Code::parse(&format!("{} {last} {last}", code.nameplate())).unwrap()
}

/// Calls with a code up to its confirmation.
async fn confirm(address: SocketAddr, code: Code) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let (called, first) = Called::begin(&code, SENDER);
    frames::write(&mut stream, &first).await?;
    let second = frames::read(&mut stream).await?;
    let (confirmed, confirmation) = called.answered(&second).unwrap();
    frames::write(&mut stream, &confirmation).await?;
    let grant = frames::read(&mut stream).await?;
    Ok(confirmed.granted(&grant).unwrap().1)
}

#[tokio::test]
async fn the_right_code_gets_the_ticket_and_stays_good_until_that_is_taken() {
    let mut door = open();
    let (address, code) = (door.socket.local_addr().unwrap(), Code::parse(door.code()).unwrap());
    for _ in 0..2 {
        let (text, visit) = tokio::join!(confirm(address, code), next(&mut door));
        assert_eq!(text.unwrap(), b"the ticket");
        assert!(matches!(visit, Visit::Given(from) if from.ip() == address.ip()), "{visit:?}");
    }
}

#[tokio::test]
async fn a_wrong_code_burns_the_right_one() {
    let mut door = open();
    let (address, code) = (door.socket.local_addr().unwrap(), Code::parse(door.code()).unwrap());
    let (text, visit) = tokio::join!(confirm(address, wrong(&code)), next(&mut door));
    assert!(text.is_err(), "nothing comes");
    let Visit::Wrong(_, Some(shown)) = visit else { panic!("{visit:?}") };
    assert_ne!(shown, code.text());
    assert_eq!(shown, door.code());
    // The burnt one is no guess at the new one, and gets nothing.
    let burnt = tokio::select! {
        text = confirm(address, code) => text,
        visit = next(&mut door) => panic!("{visit:?}"),
    };
    assert!(burnt.is_err());
    let code = Code::parse(door.code()).unwrap();
    let (text, _) = tokio::join!(confirm(address, code), next(&mut door));
    assert_eq!(text.unwrap(), b"the ticket");
}

#[tokio::test]
async fn after_too_many_wrong_codes_there_is_no_further_one() {
    let mut door = open();
    let address = door.socket.local_addr().unwrap();
    for guess in 1..=LAN_ATTEMPTS_MAX {
        let code = Code::parse(door.code()).unwrap();
        let (_, visit) = tokio::join!(confirm(address, wrong(&code)), next(&mut door));
        let is_last = guess == LAN_ATTEMPTS_MAX;
        assert!(matches!(visit, Visit::Wrong(_, next) if next.is_none() == is_last), "guess {guess}");
    }
    let code = Code::parse(door.code()).unwrap();
    let got = tokio::select! {
        text = confirm(address, code) => text,
        visit = next(&mut door) => panic!("{visit:?}"),
    };
    assert!(got.is_err());
}

#[tokio::test]
async fn callers_that_break_off_or_say_nonsense_count_as_nothing_and_keep_nobody_out() {
    let mut door = open();
    let (address, code) = (door.socket.local_addr().unwrap(), Code::parse(door.code()).unwrap());
    let callers = async {
        // Before its first frame, after half of it, after the answer to it.
        drop(TcpStream::connect(address).await.unwrap());
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(&[0, 68, 1]).await.unwrap();
        drop(half);
        let mut answered = TcpStream::connect(address).await.unwrap();
        frames::write(&mut answered, &Called::begin(&code, SENDER).1).await.unwrap();
        frames::read(&mut answered).await.unwrap();
        drop(answered);
        // Nonsense, and a length that no frame has.
        let mut nonsense = TcpStream::connect(address).await.unwrap();
        frames::write(&mut nonsense, &[7; 100]).await.unwrap();
        assert!(frames::read(&mut nonsense).await.is_err());
        let mut long = TcpStream::connect(address).await.unwrap();
        let length = u16::try_from(LAN_FRAME_BYTES_MAX + 1).unwrap();
        long.write_all(&length.to_be_bytes()).await.unwrap();
        assert!(frames::read(&mut long).await.is_err());
        // As many as are heard at a time, silent.
        let mut silent = Vec::new();
        for _ in 0..LAN_INCOMING_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // A sender that waits behind them calls again, and none of that is a guess.
        loop {
            if let Ok(text) = confirm(address, code).await {
                return text;
            }
        }
    };
    let (text, visit) = tokio::join!(callers, next(&mut door));
    assert_eq!(text, b"the ticket");
    assert!(matches!(visit, Visit::Given(_)), "{visit:?}");
    assert_eq!(door.code(), code.text(), "it was never burnt");
}
