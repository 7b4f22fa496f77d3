//! A sender that lies about its files and breaks the order of what it says: sizes, counts, digests, offsets, bodies,
//! frames of a wrong kind, in a wrong place, or of no kind at all.

use landfall::digest::OutcomeDigest;
use landfall::geometry::EntryIndex;
use landfall::limits::{CHUNK_BYTES, FRAME_BYTES_MAX};
use landfall::manifest::Position;
use landfall::outcome::Reason;
use landfall::wire::{
    Body, Exception, Message, Phase, Place, Progress, Retry, Stop, StopReason, Want, WantRun, push_record,
};

use super::act::Act;
use super::names::{GOOD, delivered, opening, with_good};
use super::stage::{Script, Thing};
use super::words::{
    self, Manifest, begin, chunks, complete, end, number, over_the_limit, symlink, text, time, withdraw,
};
use super::{Case, case};

/// What a record that cannot be taken leads to.
const BAD_RECORD: &str = "the sender broke the protocol: a manifest record";
/// What a message that cannot be read leads to.
const BAD_MESSAGE: &str = "the sender broke the protocol: a control message";
/// What a frame leads to that claims too much.
const LONGER: &str = "a control frame is longer than its kind may be";
/// The sender is heard no more, and nobody comes instead.
const GONE: &str = "no link to the sender";

/// All cases of this room.
pub fn cases() -> Vec<Case> {
    let mut all = vec![];
    for (name, class, record) in bad_records() {
        all.push(case(format!("record-{name}"), class, offered(record)));
    }
    for (name, class, list) in bad_sequences() {
        let acts = [opening(), vec![Act::Hostile, Act::Records(list)]].concat();
        all.push(case(format!("sequence-{name}"), class, Script::against_receiver(acts).ends(&[1], BAD_RECORD)));
    }
    all.extend(frames());
    all.extend(out_of_place());
    all.extend(data());
    all.extend(totals());
    all.extend(leavings());
    // One of a version that would take a receipt with another name in it for a lie.
    let old = Script::against_receiver(vec![Act::Hostile, Act::Hello, Act::Pause(200)]);
    let old = old.option("--existing").option("rename").ends(&[1], "too old for `--existing rename`");
    all.push(case("sender-that-knows-no-new-name", 25, old));
    all
}

fn good(script: Script) -> Script {
    script.allow(b"good", Thing::File(GOOD.to_vec()))
}

/// One record after an honest file.
fn offered(record: Vec<u8>) -> Script {
    let manifest = with_good().raw(record, 1);
    good(Script::against_receiver([opening(), vec![Act::Hostile, Act::Offer(manifest)]].concat()))
        .ends(&[1], BAD_RECORD)
}

fn bad_records() -> Vec<(String, u8, Vec<u8>)> {
    let digest = [7; 32];
    let mut all: Vec<(String, u8, Vec<u8>)> = vec![];
    let mut add = |name: &str, class: u8, record: Vec<u8>| all.push((name.to_owned(), class, record));
    add("empty", 12, vec![]);
    add("of-no-kind-8", 12, vec![8]);
    add("of-no-kind-255", 12, vec![255, 1]);
    add("of-no-kind-huge", 12, number(u64::MAX));
    add("zeros", 12, vec![0; 64]);
    add("ones", 12, vec![0xff; 64]);
    add("with-a-byte-more", 12, [begin(b"x", 1), vec![0]].concat());
    add("with-a-kibibyte-more", 12, [begin(b"x", 1), vec![0; 1024]].concat());
    let whole = symlink(b"some/path", b"some/target");
    for cut in 1..whole.len() {
        add(&format!("cut-at-{cut}"), 12, whole[..cut].to_vec());
    }
    for (what, length) in [("u32", u64::from(u32::MAX)), ("i64", i64::MAX.cast_unsigned()), ("u64", u64::MAX)] {
        add(&format!("path-length-{what}"), 12, [vec![0], number(length), b"x".to_vec()].concat());
        add(&format!("target-length-{what}"), 12, [vec![4], text(b"x"), number(length), b"x".to_vec()].concat());
        add(&format!("digest-count-{what}"), 12, [vec![1, 1], number(length), vec![0; 64]].concat());
        add(&format!("size-{what}"), 28, begin(b"x", length.max(1 << 62)));
        add(&format!("mode-{what}"), 7, [vec![3], text(b"x"), number(length), time(0, 0)].concat());
        add(&format!("nanos-{what}"), 7, [vec![3], text(b"x"), number(0o755), time(0, length)].concat());
        add(&format!("chunks-of-entry-{what}"), 28, chunks(length, &[digest]));
        add(&format!("end-of-entry-{what}"), 28, end(length, &digest, 0o644));
        add(&format!("withdraw-entry-{what}"), 28, withdraw(length, 3));
    }
    add("size-beyond-the-limit", 28, begin(b"x", (1 << 50) + 1));
    for mode in [0o1000, 0o1777, 0o2755, 0o4755, 0o4777, 0o6777, 0o7777, 0o10000, 0o170_000] {
        add(&format!("mode-{mode:o}"), 7, words::directory(b"x", mode));
    }
    add("nanos-a-second", 7, [vec![3], text(b"x"), number(0o755), time(0, 1_000_000_000)].concat());
    add("number-without-end", 12, [vec![0], vec![0x80; 12]].concat());
    add("number-too-long", 12, [vec![0], text(b"x"), vec![0xff; 9], vec![0x7f]].concat());
    add("left-out-of-no-kind", 12, words::left_out(b"x", 4, 0));
    add("left-out-without-reason", 12, words::left_out(b"x", 0, 200));
    add("too-long", 12, [begin(b"x", 1), vec![0; 140_000]].concat());
    add("no-digests", 28, chunks(1, &[]));
    add("seventeen-digests", 28, chunks(1, &[digest; 17]));
    add("chunks-of-nobody", 28, chunks(0, &[digest]));
    add("end-of-nobody", 28, end(0, &digest, 0o644));
    add("withdraw-nobody", 28, withdraw(1, 3));
    all
}

/// Lists of records of which the last does not fit.
fn bad_sequences() -> Vec<(&'static str, u8, Vec<Vec<u8>>)> {
    let (one, whole) = words::digests_of(b"content");
    let file = |size: u64| begin(b"x", size);
    let mebibyte = u64::from(CHUNK_BYTES);
    let (many, _) = words::digests_of(&vec![1; 3 << 20]);
    vec![
        ("begin-within-a-file", 28, vec![file(7), begin(b"y", 7)]),
        ("directory-within-a-file", 28, vec![file(7), words::directory(b"y", 0o755)]),
        ("link-within-a-file", 28, vec![file(7), symlink(b"y", b"x")]),
        ("left-out-within-a-file", 28, vec![file(7), words::left_out(b"y", 0, 0)]),
        ("complete-within-a-file", 28, vec![file(7), complete([1, 0, 0, 0, 7])]),
        ("complete-within-an-empty-file", 28, vec![file(0), complete([1, 0, 0, 0, 0])]),
        ("end-without-digests", 28, vec![file(7), end(0, &whole, 0o644)]),
        ("end-of-another", 28, vec![file(7), chunks(0, &one), end(1, &whole, 0o644)]),
        ("chunks-of-another", 28, vec![file(7), chunks(1, &one)]),
        ("end-with-another-digest", 28, vec![file(7), chunks(0, &one), end(0, &[9; 32], 0o644)]),
        ("end-with-setuid", 7, vec![file(7), chunks(0, &one), end(0, &whole, 0o4755)]),
        ("end-twice", 28, vec![file(7), chunks(0, &one), end(0, &whole, 0o644), end(0, &whole, 0o644)]),
        ("digests-of-an-empty-file", 28, vec![file(0), chunks(0, &one)]),
        ("more-digests-than-bytes", 28, vec![file(7), chunks(0, &[[1; 32]; 2])]),
        ("digests-after-the-last", 28, vec![file(7), chunks(0, &one), chunks(0, &one)]),
        ("fewer-digests-than-chunks", 28, vec![file(3 * mebibyte), chunks(0, &many[..2])]),
        ("sixteen-digests-for-three-chunks", 28, vec![file(3 * mebibyte), chunks(0, &[[1; 32]; 16])]),
        ("last-chunk-longer-than-said", 28, vec![file(mebibyte), chunks(0, &many[..2])]),
        ("end-of-zero-with-content", 28, vec![file(0), end(0, &[0; 32], 0o644)]),
        ("withdraw-the-future", 28, vec![words::directory(b"d", 0o755), withdraw(1, 3)]),
        ("withdraw-another-within-a-file", 28, vec![words::directory(b"d", 0o755), file(7), withdraw(0, 3)]),
    ]
}

/// Bytes on the control stream that are no frame, or no message.
fn frames() -> Vec<Case> {
    let mut all = vec![];
    let mut add = |name: &str, class: u8, act: Act, exits: &[i32], says: &str| {
        let acts = [opening(), vec![Act::Hostile, act, Act::Pause(50)]].concat();
        all.push(case(format!("frame-{name}"), class, Script::against_receiver(acts).ends(exits, says)));
    };
    for (name, length) in
        [("u32", u32::MAX), ("i32", i32::MAX.cast_unsigned()), ("one-more", over_the_limit(FRAME_BYTES_MAX))]
    {
        add(&format!("length-{name}"), 12, Act::Bytes([&length.to_be_bytes()[..], &[0; 100]].concat()), &[1], LONGER);
    }
    add("of-no-bytes", 12, Act::Frame(vec![]), &[1], BAD_MESSAGE);
    for kind in [10, 11, 127, 255] {
        add(&format!("of-kind-{kind}"), 12, Act::Frame(vec![kind, 1, 0]), &[1], BAD_MESSAGE);
    }
    add("of-zeros", 12, Act::Frame(vec![0; 1000]), &[1], BAD_MESSAGE);
    add("of-ones", 12, Act::Frame(vec![0xff; 1000]), &[1], BAD_MESSAGE);
    add("largest-of-noise", 12, Act::Frame(vec![0xa5; FRAME_BYTES_MAX]), &[1], BAD_MESSAGE);
    let settled = Message::Settled(Position { record_count: 3, chain: landfall::digest::ChainValue([1; 32]) }).encode();
    for cut in [1, 2, 20, settled.len() - 1] {
        add(&format!("settled-cut-at-{cut}"), 12, Act::Frame(settled[..cut].to_vec()), &[1], BAD_MESSAGE);
    }
    add("settled-with-a-byte-more", 12, Act::Frame([settled, vec![0]].concat()), &[1], BAD_MESSAGE);
    let claims = [vec![2], number(u64::MAX)].concat();
    add("records-of-u64-bytes", 12, Act::Frame(claims), &[1], BAD_MESSAGE);
    let exceptions = [vec![6], number(u64::from(u32::MAX)), vec![0; 64]].concat();
    add("exceptions-of-u32-entries", 12, Act::Frame(exceptions), &[1], BAD_MESSAGE);
    let runs = [vec![4, 0, 0], number(u64::from(u32::MAX)), vec![0; 64]].concat();
    add("want-of-u32-runs", 12, Act::Frame(runs), &[1], BAD_MESSAGE);
    for (name, page) in [
        ("record-longer-than-its-page", vec![0, 0, 1, 0, 3]),
        ("record-of-u32-bytes", vec![0xff, 0xff, 0xff, 0xff, 3]),
        ("record-of-no-bytes", vec![0, 0, 0, 0]),
        ("half-a-length", vec![0, 0]),
    ] {
        add(name, 12, Act::Say(Message::Records(page)), &[1], BAD_RECORD);
    }
    all
}

/// Messages of a right kind in a wrong place, and of a kind that only a receiver sends.
fn out_of_place() -> Vec<Case> {
    let position = Position { record_count: 0, chain: landfall::digest::ChainValue([0; 32]) };
    let stop = |reason| Message::Stop(Stop { reason, retry: Retry::Never });
    let early = "a message before its place";
    let foreign = "a message that only a receiver sends";
    let exception = Exception {
        path: landfall::path::RelPath::parse(b"x").expect("a plain path"),
        outcome: landfall::outcome::Outcome::LeftOut(Reason::Changed),
    };
    let mut page = vec![];
    push_record(&mut page, &words::directory(b"early", 0o755));
    let mut all = vec![];
    let mut add = |name: &str, class: u8, front: Vec<Act>, messages: Vec<Message>, exits: &[i32], says: &str| {
        let attack = messages.into_iter().map(Act::Say);
        let acts = [front, vec![Act::Hostile], attack.collect(), vec![Act::Pause(50)]].concat();
        all.push(case(format!("order-{name}"), class, Script::against_receiver(acts).ends(exits, says)));
    };
    let hello = vec![Act::Hello];
    add("records-before-continue", 25, hello.clone(), vec![Message::Records(page)], &[1], early);
    add("settled-before-continue", 25, hello.clone(), vec![Message::Settled(position)], &[1], early);
    add("acknowledge-before-continue", 22, hello.clone(), vec![acknowledge()], &[1], early);
    add("want-before-continue", 25, hello.clone(), vec![Message::Want(Want::default())], &[1], early);
    add("continue-from-nowhere", 22, hello.clone(), vec![Message::Continue(position)], &[3], "no link");
    let far = Position { record_count: u64::MAX, ..position };
    add("continue-from-u64", 28, hello, vec![Message::Continue(far)], &[3], "no link");
    add("continue-twice", 25, opening(), vec![Message::Continue(position)], &[1], foreign);
    let want = Want { considered_through: Place::default(), runs: vec![run(0, 0, 1)] };
    add("want", 8, opening(), vec![Message::Want(want)], &[1], foreign);
    add("progress", 25, opening(), vec![Message::Progress(Progress::default())], &[1], foreign);
    let done = Progress { phase: Phase::Done, held_bytes: u64::MAX, ..Progress::default() };
    add("progress-done", 25, opening(), vec![Message::Progress(done)], &[1], foreign);
    add("exceptions", 25, opening(), vec![Message::Exceptions(vec![exception])], &[1], foreign);
    let receipt = Message::Receipt { core: vec![1; 100], signature: vec![0; 64] };
    add("receipt", 22, opening(), vec![receipt], &[1], foreign);
    let hello =
        super::line::plain_hello(landfall::identity::Role::Sender, landfall::identity::TransferId([0; 16]), None);
    add("hello-again", 25, opening(), vec![Message::Hello(hello)], &[1], foreign);
    // An acknowledgement of what nobody issued must not end anything well.
    add("acknowledge-nothing", 22, opening(), vec![acknowledge()], &[3], GONE);
    let flood = vec![acknowledge(); 1000];
    add("acknowledge-nothing-a-thousand-times", 22, opening(), flood, &[3], GONE);
    for reason in [StopReason::Declined, StopReason::Closed, StopReason::DiskFull, StopReason::Finished] {
        add(
            &format!("stop-{reason:?}").to_lowercase(),
            26,
            opening(),
            vec![stop(reason)],
            &[1, 3, 4],
            "the sender stopped",
        );
    }
    add("stop-before-continue", 26, vec![Act::Hello], vec![stop(StopReason::Misbehaved)], &[1], "the sender stopped");
    all.into_iter().map(ended_by_us).collect()
}

/// Whatever the binary still waits for: the sender leaves at the end.
fn ended_by_us(mut one: Case) -> Case {
    let super::Attack::Script(script) = &mut one.attack else { return one };
    if script.exits.contains(&3) {
        script.acts.push(Act::Leave(0, vec![]));
    }
    one
}

fn acknowledge() -> Message {
    Message::Acknowledge(OutcomeDigest([0; 32]))
}

fn run(entry: u32, first: u32, count: u32) -> WantRun {
    WantRun { entry: EntryIndex(entry), first, count }
}

/// What comes on data streams.
fn data() -> Vec<Case> {
    let manifest = || Manifest::default().file(b"wanted", b"seven b").complete();
    let wanted = || [opening(), vec![Act::Offer(manifest()), Act::AwaitWant, Act::Hostile]].concat();
    let bad = "the sender broke the protocol: a chunk header";
    let mut all = vec![];
    let mut add = |name: &str, class: u8, acts: Vec<Act>, exits: &[i32], says: &str| {
        let acts = [wanted(), acts].concat();
        all.push(case(format!("data-{name}"), class, Script::against_receiver(acts).ends(exits, says)));
    };
    let header = |at: usize, bytes: &[u8]| {
        let mut chunk = words::chunk(0, 0, b"seven b");
        chunk[at..at + bytes.len()].copy_from_slice(bytes);
        vec![Act::Data(0, chunk)]
    };
    add("of-no-kind", 11, header(8, &[3]), &[1], bad);
    add("of-kind-255", 11, header(8, &[255]), &[1], bad);
    add("reason-beside-bytes", 28, header(9, &[1]), &[1], bad);
    add("reserved-byte-set", 28, header(10, &[1]), &[1], bad);
    add("length-0", 28, header(12, &[0; 4]), &[1], bad);
    add("length-u32", 28, header(12, &[255; 4]), &[1], bad);
    add("length-a-chunk-and-one", 28, header(12, &(CHUNK_BYTES + 1).to_be_bytes()), &[1], bad);
    add("gone-for-no-reason", 28, header(8, &[2, 200]), &[1], bad);
    add("garbage", 12, vec![Act::Data(0, vec![0xa5; 4096])], &[1], bad);
    let stale = |name: &str, class: u8, chunk: Vec<u8>| {
        let serve = vec![Act::Data(0, chunk), Act::Data(0, words::chunk(0, 0, b"seven b")), Act::Serve(manifest())];
        let script = Script::against_receiver([wanted(), serve].concat()).ends(&[0], "");
        case(format!("data-{name}"), class, script.allow(b"wanted", Thing::File(b"seven b".to_vec())).all())
    };
    let strays = [
        ("of-entry-never-offered", 8, words::chunk(1, 0, b"seven b")),
        ("of-entry-u32", 28, words::chunk(u32::MAX, 0, b"seven b")),
        ("of-chunk-beyond-the-file", 28, words::chunk(0, 1, b"seven b")),
        ("of-chunk-u32", 28, words::chunk(0, u32::MAX, b"seven b")),
        ("zero-of-entry-u32", 28, words::bare_chunk(u32::MAX, 0, Body::Zero)),
        ("gone-of-entry-u32", 28, words::bare_chunk(u32::MAX, u32::MAX, Body::Gone(Reason::Changed))),
        ("gone-of-chunk-u32", 28, words::bare_chunk(0, u32::MAX, Body::Gone(Reason::Changed))),
    ];
    let mut more: Vec<Case> = strays.into_iter().map(|(name, class, chunk)| stale(name, class, chunk)).collect();
    // Wrong bytes, again and again: the file is left out, named, and never stands under its name.
    for (name, class, chunk) in [
        ("wrong-bytes", 25, words::chunk(0, 0, b"seven c")),
        ("too-few-bytes", 28, words::chunk(0, 0, b"seven")),
        ("too-many-bytes", 28, words::chunk(0, 0, b"seven bytes and more")),
        ("a-mebibyte-for-seven-bytes", 16, words::chunk(0, 0, &vec![7; CHUNK_BYTES as usize])),
        ("zero-where-there-is-none", 25, words::bare_chunk(0, 0, Body::Zero)),
    ] {
        let script = Script::against_receiver([wanted(), vec![Act::ServeLies(chunk)]].concat());
        more.push(case(format!("data-{name}"), class, script.option("--json").ends(&[5], "arrival-differs")));
    }
    let cut = |name: &str, bytes: Vec<u8>, end: Act| {
        let acts = [wanted(), vec![Act::Data(0, bytes), end, Act::Pause(100), Act::Leave(0, vec![])]].concat();
        case(format!("data-{name}"), 17, Script::against_receiver(acts).ends(&[1, 3], ""))
    };
    let half = words::chunk(0, 0, b"seven b");
    more.push(cut("ends-within-a-header", half[..9].to_vec(), Act::EndData(0)));
    more.push(cut("ends-within-a-body", half[..18].to_vec(), Act::EndData(0)));
    more.push(cut("reset-within-a-body", half[..18].to_vec(), Act::ResetData(0)));
    more.push(cut("stalls-within-a-body", half[..18].to_vec(), Act::StillThere));
    all.extend(more);
    all
}

/// More, or other, than was said or allowed.
fn totals() -> Vec<Case> {
    let content = vec![b'x'; 3000];
    let manifest = Manifest::default().file(b"large", &content).complete();
    let refused = |manifest: &Manifest| {
        let acts = vec![Act::Hostile, Act::Offer(manifest.clone()), Act::Serve(manifest.clone())];
        Script::against_receiver([opening(), acts].concat())
    };
    let too_large = refused(&manifest).option("--max-size").option("2000").ends(&[1], "larger than --max-size");
    let huge = Manifest::default().raw(begin(b"huge", 1 << 50), 1);
    let huge = Script::against_receiver([opening(), vec![Act::Hostile, Act::Offer(huge)]].concat());
    let huge = huge.option("--max-size").option("1000000").ends(&[1], "larger than --max-size");
    let sum = (0..2000).fold(Manifest::default(), |sum, n| sum.file(format!("f{n}").as_bytes(), b"x"));
    let sum = refused(&sum.complete()).option("--max-size").option("1000").ends(&[1], "larger than --max-size");
    let sum = (0..2000).fold(sum, |sum, n| sum.allow(format!("f{n}").as_bytes(), Thing::File(b"x".to_vec())));
    let lie = |counts: [u64; 5]| Manifest::default().file(b"one", b"one").raw(complete(counts), 0);
    let all_right = |name: &str, manifest: &Manifest| {
        let script = delivered(manifest, 0).allow(b"one", Thing::File(b"one".to_vec())).ends(&[0, 1], "");
        case(name, 28, script)
    };
    let (none, most) = (lie([0; 5]), lie([u64::MAX; 5]));
    let twice = Manifest::default().file(b"one", b"one").complete().complete();
    let unsettled = [opening(), vec![Act::Hostile, Act::Records(manifest.records.clone()), Act::AwaitWant]].concat();
    let served =
        vec![Act::Data(0, words::chunk(0, 0, &content)), Act::Pause(400), Act::StillThere, Act::Leave(0, vec![])];
    let unsettled = Script::against_receiver([unsettled, served].concat())
        .ends(&[3], GONE)
        .allow(b"large", Thing::File(content.clone()));
    let future = Position { record_count: u64::MAX, chain: landfall::digest::ChainValue([0; 32]) };
    let settled_later = [
        opening(),
        vec![Act::Hostile, Act::Records(manifest.records), Act::Say(Message::Settled(future)), Act::AwaitWant],
        vec![Act::Data(0, words::chunk(0, 0, &content)), Act::Pause(400), Act::StillThere, Act::Leave(0, vec![])],
    ];
    let settled_later =
        Script::against_receiver(settled_later.concat()).ends(&[3], GONE).allow(b"large", Thing::File(content));
    let unlimited = |name: &str, count: u32| {
        let hold = |n: u32| [begin(format!("huge{n}").as_bytes(), 1 << 50), chunks(u64::from(n), &[[7; 32]; 16])];
        let drop_it = |n: u32| [hold(n).to_vec(), vec![withdraw(u64::from(n), 3)]].concat();
        let list = (0..count).flat_map(drop_it).chain(hold(count));
        let list = list.fold(Manifest::default(), |list, record| list.raw(record, 0));
        let acts = vec![Act::Hostile, Act::Offer(list), Act::Pause(1000), Act::StillThere, Act::Leave(0, vec![])];
        case(name, 16, Script::against_receiver([opening(), acts].concat()).ends(&[1, 3], ""))
    };
    // Its first chunk is real: where no file can be so long, it cannot be written, and a new inode is tried.
    let first = vec![b'x'; CHUNK_BYTES as usize];
    let (digests, _) = words::digests_of(&[&first[..], b"more"].concat());
    let begun = vec![begin(b"huge", 1 << 50), chunks(0, &[&digests[..1], &[[7; 32]; 15]].concat())];
    let begun = vec![Act::Hostile, Act::Records(begun), Act::AwaitWant, Act::Data(0, words::chunk(0, 0, &first))];
    let rest = vec![Act::Pause(1000), Act::StillThere, Act::Leave(0, vec![])];
    let begun = Script::against_receiver([opening(), begun, rest].concat()).ends(&[3], GONE);
    vec![
        unlimited("total-of-a-pebibyte", 0),
        case("total-of-a-pebibyte-that-begins", 16, begun),
        unlimited("total-of-a-thousand-pebibytes", 1000),
        case("total-beyond-max-size", 14, too_large),
        case("total-of-a-huge-file", 14, huge),
        case("total-of-many-files", 14, sum),
        all_right("total-says-nothing", &none),
        all_right("total-says-u64", &most),
        all_right("total-said-twice", &twice),
        case("total-never-settled", 22, unsettled),
        case("total-settled-in-the-future", 22, settled_later),
    ]
}

/// A sender that ends, resets or leaves at each step: never a receipt, and the state is kept.
fn leavings() -> Vec<Case> {
    let manifest = Manifest::default().file(b"wanted", b"seven b").complete();
    let steps = [
        ("after-hello", vec![Act::Hello]),
        ("after-continue", opening()),
        ("after-half-a-frame", [opening(), vec![Act::Bytes(vec![0, 0, 1, 0, 2, 3])]].concat()),
        ("after-the-first-record", [opening(), vec![Act::Records(vec![begin(b"wanted", 7)])]].concat()),
        ("after-the-manifest", [opening(), vec![Act::Offer(manifest.clone())]].concat()),
        ("after-a-want", [opening(), vec![Act::Offer(manifest), Act::AwaitWant]].concat()),
    ];
    let mut all = vec![];
    for (when, front) in steps {
        let ends: [(&str, Act); 6] = [
            ("leaves", Act::Leave(0, vec![])),
            ("leaves-with-a-code-unheard-of", Act::Leave((1 << 62) - 1, b"\x1b[31mowned".to_vec())),
            ("leaves-as-finished", Act::Leave(1, vec![])),
            ("ends-control", Act::Finish),
            ("resets-control", Act::Reset),
            ("stops-reading", Act::StopReading),
        ];
        for (how, act) in ends {
            let acts = [front.clone(), vec![Act::Hostile, act, Act::Pause(150), Act::Leave(0, vec![])]].concat();
            // It may also be told that the sender refused it: a code of a later version. A stream that is reset is
            // never an accident.
            let (exits, says): (&[i32], &str) = match how {
                "resets-control" => (&[1], "the sender broke the protocol: it abandoned a stream"),
                _ => (&[1, 3, 4], "sender"),
            };
            let script = Script::against_receiver(acts).ends(exits, says);
            all.push(case(format!("{how}-{when}"), 17, script.allow(b"wanted", Thing::File(b"seven b".to_vec()))));
        }
    }
    all
}
