//! Flips in memory that no disk shows: a relay with both private keys stands for the sender's memory after it has
//! hashed and for the receiver's before it hashes, a child for what the receiver believes.

use landfall::geometry::EntryIndex;
use landfall::identity::Role;
use landfall::limits::{ARRIVAL_STRIKES_MAX, VERSIONS_MAX};
use landfall::net::Identity;
use landfall::receipt::{Core, signing_bytes};
use landfall::wire::{ChunkHeader, Message};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::above::{Above, Between, Meddler};
use crate::child::Child;
use crate::play::Play;
use crate::rng::stream;
use crate::verdict::{How, Report, Verdict};

const FILES: u32 = 6;
const FILE_BYTES: u64 = 2 << 20;
/// Messages that are altered before the memory is good again.
const TIMES: u64 = 3;

/// What a meddler does to what.
enum Deed {
    Pages,
    Lengths,
    Receipt(Box<Identity>),
    /// One chunk of one file never agrees with its digest, however often it is read and sent.
    Digest,
}

struct Alters {
    deed: Deed,
    stream: ChaCha8Rng,
    victim: Option<(EntryIndex, u32)>,
    /// Chunks that came by.
    chunks: u64,
    injected: u64,
}

impl Meddler for Alters {
    fn chunk(&mut self, header: &mut ChunkHeader, body: &mut Vec<u8>) {
        if matches!(self.deed, Deed::Digest) {
            let victim = *self.victim.get_or_insert((header.entry, header.chunk));
            if victim == (header.entry, header.chunk) {
                body[0] ^= 1;
                self.injected += 1;
            }
        }
        self.chunks += 1;
        // However the dice fall, one of them is altered.
        let is_due = self.injected == 0 && self.chunks > u64::from(FILES);
        let is_chosen = self.stream.random_bool(0.3) || is_due;
        if matches!(self.deed, Deed::Lengths) && self.injected < TIMES && is_chosen {
            let kept = body.len() - self.stream.random_range(1..body.len().min(5000));
            body.truncate(kept);
            self.injected += 1;
        }
    }

    fn message(&mut self, to: Role, message: Message) -> Vec<Message> {
        let is_first = self.injected == 0;
        vec![match (&self.deed, message) {
            (Deed::Pages, Message::Records(mut page)) if self.injected < TIMES && page.len() > 8 => {
                let at = self.stream.random_range(4..page.len());
                page[at] ^= 1 << self.stream.random_range(0..8);
                self.injected += 1;
                Message::Records(page)
            }
            (Deed::Receipt(identity), Message::Receipt { core, .. }) if is_first && to == Role::Sender => {
                let mut altered = Core::decode(&core).expect("the receiver's own receipt can be read");
                altered.outcome.0[7] ^= 1;
                let core = altered.encode();
                let signature = identity.sign(&signing_bytes(&core)).to_vec();
                self.injected += 1;
                Message::Receipt { core, signature }
            }
            (_, message) => message,
        }]
    }
}

fn played(name: &str, seed: u64, deed: impl FnOnce(&Play) -> Result<Deed, String>) -> Result<Report, String> {
    let mut play = Play::new(name, seed, FILES, FILE_BYTES)?;
    let (front, back) = play.setup.led_astray();
    let alters = Alters { deed: deed(&play)?, stream: stream(seed, name), victim: None, chunks: 0, injected: 0 };
    let between = Between {
        front,
        back,
        listener_home: &play.setup.receiver_home,
        dialler_home: &play.setup.sender_home,
        ticket: &play.setup.dialled_ticket(),
        dialler: Role::Sender,
    };
    let above = Above::start(&between, alters)?;
    let live = play.setup.start();
    let mut ending = play.finish(live)?;
    let injected = above.meddler().injected;
    play.note(format!("injected: {injected} alterations above the encryption"));
    // Whoever closes the link because of it, or runs again, has noticed.
    ending.notices += u64::from(ending.lives - 1);
    let links = ending.texts.matches("\"event\":\"link-lost\"").count() as u64;
    ending.notices += links.min(injected);
    Ok(play.report("", How::Child, injected, &ending))
}

pub(super) fn manifest_flipped(seed: u64) -> Result<Report, String> {
    played("manifest-flipped", seed, |_| Ok(Deed::Pages))
}

/// A core computes one digest wrongly, always so: to the receiver that is a chunk that never agrees with its digest
/// while each read of the source gives the same bytes. It must end, with that file named and all others delivered.
pub(super) fn digest_wrong(seed: u64) -> Result<Report, String> {
    let report = played("digest-wrong", seed, |_| Ok(Deed::Digest))?;
    let is_bounded = report.injected <= u64::from(ARRIVAL_STRIKES_MAX) * u64::from(VERSIONS_MAX);
    let verdict = match report.verdict {
        Verdict::Good if !is_bounded => Verdict::Stuck(format!("it was asked for {} times", report.injected)),
        verdict => verdict,
    };
    // Nothing can be repaired there: the file is named and left out.
    Ok(Report { verdict, repaired: 0, ..report })
}

pub(super) fn length_changed(seed: u64) -> Result<Report, String> {
    played("length-changed", seed, |_| Ok(Deed::Lengths))
}

/// The receiver computes the digest of everything wrongly and signs it: the sender's own differs, so that it does not
/// end with 0 on it. What both then hold is the right one.
pub(super) fn receipt_wrong(seed: u64) -> Result<Report, String> {
    played("receipt-wrong", seed, |play| {
        let identity = Identity::load_or_create(&play.setup.receiver_home.join("identity"));
        Ok(Deed::Receipt(Box::new(identity.map_err(|error| error.to_string())?)))
    })
}

/// The receiver's digests come wrong from its memory: good chunks do not match, and must not be asked for for ever.
pub(super) fn expectation_flipped(seed: u64) -> Result<Report, String> {
    let mut play = Play::new("expectation", seed, FILES, FILE_BYTES)?;
    let rule = "read-cached@manifest each:3 corrupt-cached:bit".parse()?;
    let child = Child { rules: vec![rule], seed, log: play.path("injected") };
    play.setup.receiver_below = child.command().map_err(|error| error.to_string())?;
    let live = play.setup.start();
    let ending = play.finish(live)?;
    let injected = child.injected();
    injected.iter().for_each(|line| play.note(format!("injected: {line}")));
    Ok(play.report("", How::Child, injected.len() as u64, &ending))
}
