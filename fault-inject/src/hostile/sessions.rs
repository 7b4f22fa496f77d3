//! Attacks that take more than one connection: two peers with one ticket, an acknowledgement that never comes or
//! comes twice, a receipt for a source that has changed since, a link that is taken over.

use std::time::{Duration, Instant};

use landfall::identity::Role;
use landfall::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use landfall::receipt::{Core, signing_bytes};
use landfall::ticket::Ticket;
use landfall::wire::Message;
use tokio::time::timeout;

use super::act::{Act, Play, Signer};
use super::keys::{Face, Key};
use super::line::{self, End, Line};
use super::names::opening;
use super::stage::{self, Place, Script, Seen};
use super::words::{self, Manifest};
use super::{Attack, Case};
use crate::rig::oracle;
use crate::rig::process::{Finished, Landfall, Running, peak_bytes};

/// The code with which a side that is done closes its link.
const FINISHED: u64 = 1;
/// What a receiver says that was not told that the sender has the receipt.
const MAY_NOT_KNOW: &str = "the sender may not know yet";

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Two honest binaries dial one ticket of a binary in this role at once.
    TwoDial(Role),
    /// A stranger who has read the ticket comes after its owner.
    Second,
    /// The acknowledgement of a receipt does not come; the sender returns and gets the same receipt.
    NotAcknowledged,
    /// The acknowledgement comes twice, and for nothing that was issued.
    AcknowledgedTwice,
    /// The sender never returns after it was given the receipt.
    NeverReturns,
    /// A receipt for the source as it was, sent after the source has changed and the sender was started again.
    ChangedSource,
    /// As above, with what the receiver learnt of the new source: the sender agrees.
    ChangedSourceLearnt,
    /// The owner opens link after link, each newer one in the place of the older.
    Superseded,
    /// Where the secret and the state lie: in nobody's sight.
    Secrecy,
    /// A binary in this role dials a ticket, and a listener answers that holds another key than the ticket names.
    Imposter(Role),
    /// A sender whose log has nothing in common with what it sent before.
    OtherLog,
    /// As above, and the number of a file that was sealed is that of an enormous one now.
    FallenClaim,
}

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    let all = [
        ("second-of-two-receivers", 22, Session::TwoDial(Role::Sender)),
        ("second-of-two-senders", 22, Session::TwoDial(Role::Receiver)),
        ("second-key-with-the-ticket", 22, Session::Second),
        ("acknowledgement-lost", 17, Session::NotAcknowledged),
        ("acknowledgement-twice", 22, Session::AcknowledgedTwice),
        ("acknowledgement-never", 17, Session::NeverReturns),
        ("changed-source-old-receipt", 22, Session::ChangedSource),
        ("changed-source-new-receipt", 22, Session::ChangedSourceLearnt),
        ("superseded-again-and-again", 18, Session::Superseded),
        ("secret-is-nowhere", 21, Session::Secrecy),
        ("other-log-on-the-next-link", 22, Session::OtherLog),
        ("other-log-with-a-pebibyte-for-a-sealed-file", 16, Session::FallenClaim),
        ("imposter-for-a-sender", 20, Session::Imposter(Role::Receiver)),
        ("imposter-for-a-receiver", 20, Session::Imposter(Role::Sender)),
    ];
    all.into_iter()
        .map(|(name, class, session)| Case { name: name.to_owned(), class, attack: Attack::Session(session) })
        .collect()
}

/// Runs one.
pub fn perform(session: Session, key: &Key) -> Seen {
    let place = Place::new();
    let mut seen = Seen::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let result = match session {
        Session::TwoDial(role) => two_dial(role, &place, &mut seen),
        Session::ChangedSource => runtime.block_on(changed_source(&place, key, false, &mut seen)),
        Session::ChangedSourceLearnt => runtime.block_on(changed_source(&place, key, true, &mut seen)),
        Session::FallenClaim => runtime.block_on(fallen_claim(&place, key, &mut seen)),
        Session::Imposter(role) => runtime.block_on(imposter(role, &place, key, &mut seen)),
        other => runtime.block_on(against_receiver(other, &place, key, &mut seen)),
    };
    if let Err(why) = result {
        seen.failed = Some(why);
    }
    seen.wrongs.extend(place.canary.changes().into_iter().map(|what| format!("outside the target: {what}")));
    seen
}

fn odd(end: End) -> String {
    format!("{end:?}")
}

fn end_well(running: Running, codes: &[i32], says: &str, seen: &mut Seen) -> Option<Finished> {
    let finished = stage::finish(running, Duration::from_secs(75), seen)?;
    stage::judge_streams(&finished, seen);
    let is_right = finished.code().is_some_and(|code| codes.contains(&code)) && finished.text().contains(says);
    seen.noticed = is_right;
    if !is_right {
        let list = if finished.code() == Some(0) { &mut seen.wrongs } else { &mut seen.complaints };
        list.push(format!("not {codes:?} with `{says}`\n{}", finished.describe()));
    }
    Some(finished)
}

/// Who does not hold the ticket's key gets no word: the handshake ends before a stream is opened.
async fn imposter(product: Role, place: &Place, key: &Key, seen: &mut Seen) -> Result<(), String> {
    let endpoint = line::listen(&Face::of(key)).map_err(odd)?;
    let ticket = stage::ticket_of(&endpoint, &Key::new([0x77; 32]), product.other())?;
    let script = Script { product, ..Script::against_receiver(vec![]) };
    let mut running = place.command(&script, Some(&ticket.encode())).start();
    // It may try again before it believes it.
    while !running.has_ended() && seen.wrongs.is_empty() && running.age() < Duration::from_secs(20) {
        let Ok(Some(incoming)) = timeout(Duration::from_millis(50), endpoint.accept()).await else { continue };
        seen.happened = true;
        let Ok(connection) = incoming.await else { continue };
        if let Ok(Ok(_)) = timeout(Duration::from_secs(1), connection.accept_bi()).await {
            seen.wrongs.push("it talks to a listener that does not hold the ticket's key".to_owned());
        }
    }
    drop(endpoint);
    end_well(running, &[4], "does not hold the key", seen);
    Ok(())
}

/// One of the two has it all, the other is told that the ticket is taken, and has nothing.
fn two_dial(product: Role, place: &Place, seen: &mut Seen) -> Result<(), String> {
    let script = Script { product, ..Script::against_receiver(vec![]) }.option("--json");
    let mut listener = place.command(&script, None).start();
    place.ticket(&mut listener)?;
    let mut diallers = vec![];
    for name in ["one", "two"] {
        let command = Landfall::new(name, &place.beside(&format!("{name}-home")));
        let dir = place.beside(&format!("{name}-dir"));
        std::fs::create_dir(&dir).map_err(|error| error.to_string())?;
        let command = match product {
            Role::Sender => command.arg("recv").arg(&dir),
            Role::Receiver => {
                std::fs::write(dir.join(name), name).map_err(|error| error.to_string())?;
                command.arg("send").arg(dir.join(name))
            }
        };
        let command = command.arg("--ticket-file").arg(place.beside("ticket"));
        diallers.push((name, command.args(["--yes", "--json", "--patience", "20s"]).start()));
    }
    seen.happened = true;
    let mut codes = vec![];
    for (name, dialler) in diallers {
        let Some(finished) = stage::finish(dialler, Duration::from_secs(30), seen) else { return Ok(()) };
        let is_loser = finished.code() == Some(4) && finished.text().contains("already taken");
        let is_winner = finished.code() == Some(0);
        let target = if product == Role::Sender { place.beside(&format!("{name}-dir")) } else { place.target.clone() };
        let arrived = if product == Role::Sender { target.join("source") } else { target.join(name) };
        if (is_winner && !arrived.exists()) || (is_loser && arrived.exists()) {
            seen.wrongs.push(format!("{name}: what arrived does not go with its exit code\n{}", finished.describe()));
        }
        codes.push(finished.code());
    }
    codes.sort_unstable();
    if codes != [Some(0), Some(4)] {
        let list = if codes == [Some(0), Some(0)] { &mut seen.wrongs } else { &mut seen.complaints };
        list.push(format!("the two ended with {codes:?}"));
    }
    end_well(listener, &[0], "refused", seen);
    seen.survived = u64::from(seen.noticed && seen.wrongs.is_empty());
    Ok(())
}

async fn link(ticket: &Ticket, key: &Key, role: Role) -> Result<Play, String> {
    let line = Line::dial(key, line::address_of(ticket).map_err(odd)?).await.map_err(odd)?;
    Ok(Play::new(line, key, role, &ticket.secret))
}

async fn done(play: &mut Play, acts: &[Act]) -> Result<(), String> {
    match play.perform(acts).await {
        (_, None) => Ok(()),
        (number, Some(end)) => Err(format!("act {number} ended with {end:?}")),
    }
}

/// All sessions in which the binary receives.
async fn against_receiver(session: Session, place: &Place, key: &Key, seen: &mut Seen) -> Result<(), String> {
    let content = vec![0x5a; CHUNK_BYTES as usize + 77];
    let manifest = Manifest::default().file(b"wanted", &content).complete();
    let script = Script::against_receiver(vec![]).option("--json");
    let mut running = place.command(&script, None).start();
    let ticket = place.ticket(&mut running)?;
    let mut play = link(&ticket, key, Role::Sender).await?;
    let offer = [opening(), vec![Act::Offer(manifest.clone())]].concat();
    let whole = [offer.clone(), vec![Act::Serve(manifest.clone())]].concat();
    let unanswered = [offer, vec![Act::ServeUnacknowledged(manifest.clone())]].concat();
    let last = match session {
        Session::Secrecy => {
            seen.happened = true;
            look_for_secret(place, running.id(), seen)?;
            done(&mut play, &whole).await?;
            look_for_secret(place, running.id(), seen)?;
            Some(play)
        }
        Session::Second => {
            second(&ticket, &mut play, &manifest, seen).await?;
            Some(play)
        }
        Session::Superseded => Some(superseded(&ticket, key, play, &manifest, seen).await?),
        Session::OtherLog => {
            let other = Manifest::default().directory(b"other").complete();
            done(&mut play, &[opening(), vec![Act::Offer(other)]].concat()).await?;
            play.line.leave(0, &[]).await;
            let mut again = link(&ticket, key, Role::Sender).await?;
            seen.happened = true;
            // From the empty log: the receiver cuts its copy, and what it was told first counts no more.
            done(&mut again, &whole).await?;
            Some(again)
        }
        Session::AcknowledgedTwice => {
            done(&mut play, &unanswered).await?;
            seen.happened = true;
            let nothing = Message::Acknowledge(landfall::digest::OutcomeDigest([3; 32]));
            let _ = play.perform(&[Act::Say(nothing.clone()), Act::Say(nothing)]).await;
            Some(play)
        }
        Session::NotAcknowledged => {
            done(&mut play, &unanswered).await?;
            play.line.leave(0, &[]).await;
            seen.happened = true;
            let mut again = link(&ticket, key, Role::Sender).await?;
            done(&mut again, &[Act::Hello, Act::ContinueLast, Act::Serve(manifest)]).await?;
            if again.receipts != play.receipts {
                seen.wrongs.push("the receipt was made anew".to_owned());
            }
            Some(again)
        }
        _ => {
            done(&mut play, &unanswered).await?;
            play.line.leave(0, &[]).await;
            seen.happened = true;
            None
        }
    };
    finish_with(last, running, seen).await;
    let arrived = std::fs::read(place.target.join("wanted")).unwrap_or_default();
    if arrived != content {
        seen.wrongs.push("what stands under the final name is not what was sent".to_owned());
    }
    seen.survived = u64::from(seen.noticed && arrived == content);
    if oracle::snapshot_without(&place.target, &[b".landfall", b"wanted"]).len() > 1 {
        seen.wrongs.push("something else stands in the target".to_owned());
    }
    Ok(())
}

/// The ticket is in no argument, no variable and no file that another user may read.
fn look_for_secret(place: &Place, id: u32, seen: &mut Seen) -> Result<(), String> {
    let text = std::fs::read(place.beside("ticket")).map_err(|error| error.to_string())?;
    let text = text.trim_ascii();
    for name in ["cmdline", "environ"] {
        let found = std::fs::read(format!("/proc/{id}/{name}")).unwrap_or_default();
        if found.windows(text.len()).any(|window| window == text) {
            seen.wrongs.push(format!("the ticket stands in its {name}"));
        }
    }
    for (path, node) in oracle::snapshot(&place.home) {
        if node.mode & 0o077 != 0 && !path.is_empty() {
            seen.wrongs.push(format!("{} has mode {:04o}", path.escape_ascii(), node.mode));
        }
    }
    Ok(())
}

/// The ticket is taken: who comes with it and another key is told so, and the owner is not disturbed.
async fn second(ticket: &Ticket, play: &mut Play, manifest: &Manifest, seen: &mut Seen) -> Result<(), String> {
    done(play, &[opening(), vec![Act::Offer(manifest.clone()), Act::AwaitWant]].concat()).await?;
    let thief = Key::new([0x99; 32]);
    let mut stolen = link(ticket, &thief, Role::Sender).await?;
    let (_, end) = stolen.perform(&[Act::Hello]).await;
    seen.happened = true;
    if end != Some(End::Code(2)) {
        seen.wrongs.push(format!("the second key was answered with {end:?}"));
    }
    done(play, &[Act::Serve(manifest.clone())]).await
}

async fn superseded(
    ticket: &Ticket,
    key: &Key,
    mut play: Play,
    manifest: &Manifest,
    seen: &mut Seen,
) -> Result<Play, String> {
    done(&mut play, &opening()).await?;
    for _ in 0..30 {
        let mut newer = link(ticket, key, Role::Sender).await?;
        done(&mut newer, &opening()).await?;
        let end = play.line.end(Duration::from_secs(10)).await;
        if end != Some(End::Code(9)) {
            seen.complaints.push(format!("the older link ended with {end:?}"));
        }
        play = newer;
    }
    seen.happened = true;
    done(&mut play, &[Act::Offer(manifest.clone()), Act::Serve(manifest.clone())]).await?;
    Ok(play)
}

/// The receiver ends well either way. With the acknowledgement on its way it ends the link as finished, which is waited
/// for: nothing leaves this side while nobody runs its sockets. Without, it says that the sender may not know.
async fn finish_with(last: Option<Play>, running: Running, seen: &mut Seen) {
    let Some(play) = last else {
        end_well(running, &[0], MAY_NOT_KNOW, seen);
        return;
    };
    let end = play.line.end(line::PATIENCE).await;
    if end != Some(End::Code(FINISHED)) {
        seen.complaints.push(format!("the acknowledged link ended with {end:?}"));
    }
    let finished = end_well(running, &[0], "", seen);
    if finished.is_some_and(|finished| finished.text().contains(MAY_NOT_KNOW)) {
        seen.complaints.push("it does not know that it was acknowledged".to_owned());
    }
}

/// The claim of a sealed file goes by the file's number. Where it falls, the receiver must not remember every chunk of
/// what has the number now.
async fn fallen_claim(place: &Place, key: &Key, seen: &mut Seen) -> Result<(), String> {
    let content = b"sealed before the log was cut";
    let sealed = Manifest::default().file(b"wanted", content);
    let mut running = place.command(&Script::against_receiver(vec![]).option("--json"), None).start();
    let ticket = place.ticket(&mut running)?;
    let base_bytes = peak_bytes(running.id()).unwrap_or_default();
    let mut play = link(&ticket, key, Role::Sender).await?;
    let serve = vec![Act::Records(sealed.records), Act::AwaitWant, Act::Data(0, words::chunk(0, 0, content))];
    done(&mut play, &[opening(), serve].concat()).await?;
    let sealed = place.target.join("wanted");
    let began = Instant::now();
    while !sealed.exists() && began.elapsed() < line::PATIENCE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The claim follows the rename.
    tokio::time::sleep(Duration::from_millis(300)).await;
    play.line.leave(0, &[]).await;
    let mut again = link(&ticket, key, Role::Sender).await?;
    let huge = vec![words::begin(b"huge", FILE_BYTES_MAX), words::chunks(0, &[[7; 32]; 16])];
    done(&mut again, &[opening(), vec![Act::Records(huge)]].concat()).await?;
    seen.happened = sealed.exists();
    if let (_, Some(end)) = again.perform(&[Act::AwaitWant, Act::Pause(1000), Act::StillThere]).await {
        seen.complaints.push(format!("it does not ask for what it can have: {end:?}"));
    }
    again.line.leave(0, &[]).await;
    let Some(finished) = end_well(running, &[3], "no link to the sender", seen) else { return Ok(()) };
    let growth = finished.peak_bytes.saturating_sub(base_bytes);
    if growth > stage::GROWTH_BYTES_MAX {
        seen.wrongs.push(format!("its memory grew by {} MiB", growth >> 20));
    }
    let is_kept = std::fs::read(&sealed).is_ok_and(|found| found == content);
    if !is_kept || oracle::snapshot_without(&place.target, &[b".landfall", b"wanted"]).len() > 1 {
        seen.wrongs.push("what was sealed is gone, or something else stands in the target".to_owned());
    }
    seen.survived = u64::from(is_kept);
    Ok(())
}

/// The binary sends. What the receiver signed for the old source must not end the new one's transfer well.
async fn changed_source(place: &Place, key: &Key, is_learnt: bool, seen: &mut Seen) -> Result<(), String> {
    let script = Script::against_sender(vec![]).option("--json");
    let mut first = place.command(&script, None).start();
    let ticket = place.ticket(&mut first)?;
    let mut play = link(&ticket, key, Role::Receiver).await?;
    done(&mut play, &[Act::Hello, Act::Learn]).await?;
    let old: Core = play.honest_core();
    first.kill();
    drop(play);
    std::fs::write(&place.source, b"another text, and longer than the first").map_err(|error| error.to_string())?;
    let _ = std::fs::remove_file(place.beside("ticket"));
    // The ticket is taken, so no ticket is printed again: the port is the same, and it is dialled until it answers.
    let again = place.command(&script, None).start();
    let mut tries = 0;
    let mut play = loop {
        tries += 1;
        if let Ok(mut play) = link(&ticket, key, Role::Receiver).await
            && play.perform(&[Act::Hello]).await.1.is_none()
        {
            break play;
        }
        if tries >= 200 {
            return Err(again.describe("does not answer"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    done(&mut play, &[Act::Learn]).await?;
    seen.happened = true;
    if is_learnt {
        let acts = [Act::Receipt(|_| (), Signer::Own), Act::AwaitAcknowledge];
        done(&mut play, &acts).await?;
        end_well(again, &[0], "", seen);
        seen.survived = u64::from(seen.noticed);
        return Ok(());
    }
    let core = old.encode();
    let signature = key.sign(&signing_bytes(&core));
    done(&mut play, &[Act::Say(Message::Receipt { core, signature })]).await?;
    let _ = play.line.end(Duration::from_secs(20)).await;
    end_well(again, &[1], "", seen);
    Ok(())
}
