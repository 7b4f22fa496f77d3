//! What follows from the end of a link, or of the attempt to get one: another attempt, or an error that ends the run.

use crate::error::{Error, Exit};
use crate::identity::Role;
use crate::net::{CloseCode, LinkError};
use crate::session::admission::Refusal;
use crate::wire::{Retry, Stop, StopReason};

const NEW_TICKET: &str = "ask for a new ticket: the listening side prints one when it is started again";

/// The code that tells a dialler why it is refused.
pub(super) fn code(refusal: Refusal) -> CloseCode {
    match refusal {
        Refusal::Taken(owner) => CloseCode::Taken(Some(owner)),
        Refusal::Expired => CloseCode::Expired,
        Refusal::WrongProof => CloseCode::WrongProof,
        Refusal::EqualRoles => CloseCode::EqualRoles,
        Refusal::OtherVersion => CloseCode::OtherVersion,
        Refusal::UnknownTransfer => CloseCode::UnknownTransfer,
    }
}

/// What the listener's screen says about a dialler that was refused.
pub(super) fn notice(refusal: Refusal, dialler: &str) -> String {
    match refusal {
        Refusal::Taken(_) => format!("{dialler} came with a ticket that is already taken: two people may hold it"),
        Refusal::Expired => format!("{dialler} came after the ticket had expired"),
        Refusal::WrongProof => format!("{dialler} does not know this ticket"),
        Refusal::EqualRoles => format!("{dialler} has the same role as this side"),
        Refusal::OtherVersion => format!("{dialler} runs a version that cannot talk to this one"),
        Refusal::UnknownTransfer => format!("{dialler} asked for another transfer"),
    }
}

/// The error that follows from a link that was not admitted; `None` where another attempt may end otherwise.
pub(super) fn of_new_link(peer: Role, error: &LinkError) -> Option<Error> {
    match error {
        LinkError::Refused(code) if !is_passing(*code) => Some(refused(peer, *code)),
        LinkError::OtherVersion => Some(refused(peer, CloseCode::OtherVersion)),
        LinkError::Misbehaved(what) => Some(Error::Misbehaved { peer, what: (*what).to_owned() }),
        _ => None,
    }
}

/// The error that follows from the end of a link that was in use; `None` where another link may carry on.
pub(super) fn of_used_link(peer: Role, error: &LinkError) -> Option<Error> {
    match error {
        LinkError::Refused(code) if !is_passing(*code) => Some(refused(peer, *code)),
        // The driver broke it off with its own reasons, or broken streams may have broken with the link.
        _ => None,
    }
}

/// The error that follows from a peer that said it stops.
pub(super) fn stopped(peer: Role, stop: Stop) -> Error {
    let exit = match (stop.retry, stop.reason) {
        (Retry::Later, _) => Exit::Again,
        (Retry::Never, StopReason::Closed | StopReason::Declined) => Exit::Refused,
        (Retry::Never, _) => Exit::Failed,
    };
    Error::StoppedByPeer { peer, reason: stop.reason, exit }
}

/// The error that follows from a hello that does not go with this side's.
pub(super) fn unfit(peer: Role, refusal: Refusal) -> Error {
    match refusal {
        Refusal::UnknownTransfer => Error::Misbehaved { peer, what: "it answered for another transfer".to_owned() },
        other => refused(peer, code(other)),
    }
}

/// A peer that has finished is asked again for what is still missing here: it answers from its receipt.
fn is_passing(code: CloseCode) -> bool {
    code.is_retryable() || code == CloseCode::Finished
}

fn refused(peer: Role, code: CloseCode) -> Error {
    let hint = match code {
        CloseCode::Taken(_) | CloseCode::Expired | CloseCode::WrongProof | CloseCode::UnknownTransfer => {
            Some(NEW_TICKET)
        }
        CloseCode::OtherVersion => Some("update landfall on the older side"),
        CloseCode::EqualRoles => Some("run `landfall send` on one side and `landfall recv` on the other"),
        _ => None,
    };
    match code {
        CloseCode::Misbehaved => Error::Misbehaved { peer, what: "it says that this side broke it".to_owned() },
        _ => Error::RefusedByPeer { peer, why: code.to_string(), hint },
    }
}
