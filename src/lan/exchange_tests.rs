//! The exchange between two honest sides, and with everything that can be done to its frames.
#![allow(clippy::unwrap_used)]

use super::*;

const SENDER: PeerKey = PeerKey([1; 32]);
const RECEIVER: PeerKey = PeerKey([2; 32]);
const TICKET: &[u8] = b"landfall ticket";

fn code(text: &str) -> Code {
    Code::parse(text).unwrap()
}

fn right() -> Code {
    code("action zoo legend")
}

/// How an exchange ended: at the listener, and at the dialler if the listener went on.
#[derive(Debug, PartialEq)]
struct Ended {
    listener: Result<(), Fault>,
    dialler: Option<Result<(PeerKey, Vec<u8>), Fault>>,
}

/// One exchange in which `change` may do anything to each frame: first, second, confirmation, grant.
fn exchange(typed: &Code, shown: &Code, change: impl Fn(usize, &mut Vec<u8>)) -> Ended {
    let at_dialler = |fault| Ended { listener: Ok(()), dialler: Some(Err(fault)) };
    let at_listener = |fault| Ended { listener: Err(fault), dialler: None };
    let (called, mut first) = Called::begin(typed, SENDER);
    change(0, &mut first);
    let (answered, mut second) = match Answered::to(shown, RECEIVER, &first) {
        Ok(answered) => answered,
        Err(fault) => return at_listener(fault),
    };
    change(1, &mut second);
    let (confirmed, mut confirmation) = match called.answered(&second) {
        Ok(confirmed) => confirmed,
        Err(fault) => return at_dialler(fault),
    };
    change(2, &mut confirmation);
    let mut grant = match answered.confirmed(&confirmation, TICKET) {
        Ok(grant) => grant,
        Err(fault) => return at_listener(fault),
    };
    change(3, &mut grant);
    Ended { listener: Ok(()), dialler: Some(confirmed.granted(&grant)) }
}

fn honest(typed: &Code, shown: &Code) -> Ended {
    exchange(typed, shown, |_, _| {})
}

fn lengths() -> [usize; 4] {
    [FIRST_BYTES, SECOND_BYTES, PROOF_BYTES, PROOF_BYTES + TICKET.len() + 16]
}

#[test]
fn the_same_code_gives_the_ticket_and_the_listeners_key() {
    let ended = honest(&right(), &right());
    assert_eq!(ended, Ended { listener: Ok(()), dialler: Some(Ok((RECEIVER, TICKET.to_vec()))) });
    exchange(&right(), &right(), |step, frame| {
        assert_eq!(frame.len(), lengths()[step]);
        let holds_ticket = frame.windows(TICKET.len()).any(|window| window == TICKET);
        assert!(!holds_ticket, "the ticket travels sealed");
    });
}

#[test]
fn another_password_is_found_out_by_the_listener_before_it_has_said_anything_of_the_key() {
    for other in ["action zoo length", "action legend zoo", "action zoo zoo"] {
        let ended = honest(&code(other), &right());
        assert_eq!(ended, Ended { listener: Err(Fault::WrongCode), dialler: None }, "{other}");
    }
}

#[test]
fn another_nameplate_is_an_older_code_and_no_guess() {
    let ended = honest(&code("legend zoo legend"), &right());
    assert_eq!(ended, Ended { listener: Err(Fault::OtherCode), dialler: None });
}

#[test]
fn a_changed_byte_at_any_place_of_any_frame_gives_no_ticket() {
    for (step, length) in lengths().into_iter().enumerate() {
        for at in 0..length {
            for bit in [0x01, 0x80] {
                let ended = exchange(&right(), &right(), |now, frame| {
                    if now == step {
                        frame[at] ^= bit;
                    }
                });
                let got = ended.dialler.is_some_and(|result| result.is_ok());
                assert!(!got, "frame {step}, byte {at}, bit {bit:#x}");
            }
        }
    }
}

#[test]
fn frames_that_are_too_short_or_too_long_are_refused() {
    for (step, length) in lengths().into_iter().enumerate() {
        for new_length in (0..length).chain([length + 1, 1000]) {
            let ended = exchange(&right(), &right(), |now, frame| {
                if now == step {
                    frame.resize(new_length, 0);
                }
            });
            let got = ended.dialler.is_some_and(|result| result.is_ok());
            assert!(!got, "frame {step} of {new_length} bytes");
        }
    }
}

#[test]
fn a_later_version_is_named() {
    let of = |step: usize| {
        exchange(&right(), &right(), |now, frame| {
            if now == step {
                frame[0] = 2;
                frame.push(0);
            }
        })
    };
    assert_eq!(of(0).listener, Err(Fault::Version(2)));
    assert_eq!(of(1).dialler, Some(Err(Fault::Version(2))));
}

#[test]
fn a_replayed_exchange_gives_nothing_new() {
    let frames = std::cell::RefCell::new(vec![vec![]; 4]);
    exchange(&right(), &right(), |step, frame| frames.borrow_mut()[step] = frame.clone());
    let frames = frames.into_inner();
    // To a listener: its own message is another one this time.
    let (answered, second) = Answered::to(&right(), RECEIVER, &frames[0]).unwrap();
    assert_ne!(second, frames[1]);
    assert_eq!(answered.confirmed(&frames[2], TICKET).unwrap_err(), Fault::WrongCode);
    // To a dialler.
    let (called, _) = Called::begin(&right(), SENDER);
    let (confirmed, _) = called.answered(&frames[1]).unwrap();
    assert_eq!(confirmed.granted(&frames[3]).unwrap_err(), Fault::WrongCode);
}

#[test]
fn ones_own_messages_come_back_in_vain() {
    let (called, first) = Called::begin(&right(), SENDER);
    let own = &first[FIRST_BYTES - POINT_BYTES..];
    for side in [b'A', b'B'] {
        let (called, mut second) = (Called { ..called_again(&called) }, vec![VERSION]);
        second.extend_from_slice(&SENDER.0);
        second.push(side);
        second.extend_from_slice(&own[1..]);
        assert_eq!(called.answered(&second).map(drop).unwrap_err(), Fault::Malformed, "{side}");
    }
    // The confirmation back as the grant.
    let (called, first) = Called::begin(&right(), SENDER);
    let (_, second) = Answered::to(&right(), RECEIVER, &first).unwrap();
    let (confirmed, confirmation) = called.answered(&second).unwrap();
    let grant = [&confirmation[..], &[0; 64]].concat();
    assert_eq!(confirmed.granted(&grant).unwrap_err(), Fault::WrongCode);
}

/// A dialler with the same message: what `answered` consumes.
fn called_again(called: &Called) -> Called {
    let (fresh, _) = Called::begin(&right(), SENDER);
    Called { message: called.message.clone(), ..fresh }
}

#[test]
fn points_of_small_order_and_points_that_are_none_are_refused() {
    let mut not_on_the_curve = [0; 32];
    not_on_the_curve[0] = 2;
    let bad = SMALL_POINTS.iter().copied().chain([not_on_the_curve]);
    for point in bad {
        for sign in [0x00, 0x80] {
            let mut point = point;
            point[31] |= sign;
            for (step, start) in [(0, FIRST_BYTES - 32), (1, SECOND_BYTES - 32)] {
                let ended = exchange(&right(), &right(), |now, frame| {
                    if now == step {
                        frame[start..].copy_from_slice(&point);
                    }
                });
                let fault = ended.dialler.unwrap_or(ended.listener.map(|()| (RECEIVER, vec![]))).unwrap_err();
                assert_eq!(fault, Fault::Malformed, "{point:?} in frame {step}");
            }
        }
    }
}

#[test]
fn two_diallers_and_two_listeners_do_not_understand_each_other() {
    // A dialler's point, in a listener's frame.
    let (called, _) = Called::begin(&right(), SENDER);
    let (_, theirs) = Called::begin(&right(), RECEIVER);
    let second = [&[VERSION], &RECEIVER.0[..], &theirs[FIRST_BYTES - POINT_BYTES..]].concat();
    assert_eq!(called.answered(&second).map(drop).unwrap_err(), Fault::Malformed);
    // A listener's point, in a dialler's frame.
    let (_, first) = Called::begin(&right(), SENDER);
    let (_, second) = Answered::to(&right(), RECEIVER, &first).unwrap();
    let mixed = [&first[..FIRST_BYTES - POINT_BYTES], &second[SECOND_BYTES - POINT_BYTES..]].concat();
    assert_eq!(Answered::to(&right(), RECEIVER, &mixed).map(drop).unwrap_err(), Fault::Malformed);
    // With its side rewritten it is a point like any other, and the key is another one.
    let mut mixed = mixed;
    mixed[FIRST_BYTES - POINT_BYTES] = b'A';
    let (answered, _) = Answered::to(&right(), RECEIVER, &mixed).unwrap();
    assert_eq!(answered.confirmed(&[0; PROOF_BYTES], TICKET).unwrap_err(), Fault::WrongCode);
}

#[test]
fn a_stranger_between_them_who_puts_in_his_own_key_gets_nothing_through() {
    for (step, start) in [(0, 1), (1, 1)] {
        let ended = exchange(&right(), &right(), |now, frame| {
            if now == step {
                frame[start..start + KEY_BYTES].fill(9);
            }
        });
        assert_eq!(ended.listener, Err(Fault::WrongCode), "frame {step}");
    }
}
