//! What far ends say: see `pipe`. Every line is written by hand here, so that it can say what the product's own types refuse
//! to hold.

use std::fmt::Write as _;

use super::Case;
use super::far::{READY, Talk};
use super::pipe::{Command, Pipe, Speech, case};

/// Of the binary, about a line.
const NO_MEANING: &str = "has no meaning";
const NOT_READY: &str = "it did not say that it is ready";
/// Bytes of a line without an end.
const ENDLESS_BYTES: usize = 100_000_000;
/// Lines of a flood.
const MANY: usize = 100_000;
/// What a terminal would obey, as JSON says it.
const LOUD: &str = r"a\u001b[2J\u0007owned\r\n\u009b31m\u202e";

/// Cases under which a far end misbehaves in words.
type Named = (String, u8, Speech, &'static [i32], &'static str);

fn says(name: &str, class: u8, text: impl Into<String>, exits: &'static [i32], says: &'static str) -> Named {
    (name.to_owned(), class, Speech::Says(text.into().into_bytes()), exits, says)
}

fn does(name: &str, class: u8, speech: fn(&mut Talk), exits: &'static [i32], says: &'static str) -> Named {
    (name.to_owned(), class, Speech::Does(speech), exits, says)
}

fn of(command: Command, all: Vec<Named>) -> Vec<Case> {
    let one = |(name, class, speech, exits, says): Named| case(&name, class, Pipe { command, speech, exits, says });
    all.into_iter().map(one).collect()
}

/// Names that no path of a peer may have, as JSON: what they are called, and their class.
fn bad_names() -> Vec<(&'static str, u8, String)> {
    let long = |name: &str, count: usize| format!("\"{}\"", name.repeat(count));
    vec![
        ("out", 1, r#""../outside""#.to_owned()),
        ("out-below", 1, r#""deep/../../outside""#.to_owned()),
        ("absolute", 1, r#""/etc/passwd""#.to_owned()),
        ("dot-dot", 1, r#""..""#.to_owned()),
        ("empty", 1, r#""""#.to_owned()),
        ("empty-part", 1, r#""a//b""#.to_owned()),
        ("state", 24, r#"".landfall/lock""#.to_owned()),
        ("nul", 9, r#""a\u0000b""#.to_owned()),
        ("5000-bytes", 12, long("n", 5000)),
        ("5000-bytes-of-parts", 13, long("n/", 2500)),
        ("5000-escapes", 9, long(r"\u001b", 5000)),
        ("base64-that-leads-out", 1, r#"{"b64":"Li4vb3V0c2lkZQ=="}"#.to_owned()),
        ("no-base64", 12, r#"{"b64":"%%%"}"#.to_owned()),
        ("number", 12, "7".to_owned()),
    ]
}

fn found(path: &str, bytes: &str, action: &str) -> String {
    format!(r#"{{"found":{{"path":{path},"kind":"Regular","bytes":{bytes},"moved_bytes":1,"action":{action}}}}}"#)
        + "\n"
}

const DONE: &str = "{\"done\":{\"excluded\":0}}\n";

/// A comparison of the last chunk that a number can name, with so many bytes of digests.
fn compare_zeros(path: &str, bytes: usize) -> String {
    let digests = "AAAA".repeat(bytes / 3) + ["", "AA==", "AAA="][bytes % 3];
    format!(r#"{{"compare":{{"path":"{path}","size":4,"first":4294967295,"digests":"{digests}"}}}}"#) + "\n"
}

/// A dry run.
pub(super) fn plans() -> Vec<Case> {
    [of(Command::RecvPlan, plans_from()), of(Command::SendPlan, plans_to())].concat()
}

fn plans_from() -> Vec<Named> {
    let mut from = vec![];
    for (name, class, path) in bad_names() {
        let look = format!(r#"{{"look":{{"path":{path},"kind":"Regular","size":1}}}}"#) + "\n";
        let compare = format!(r#"{{"compare":{{"path":{path},"size":1,"first":0,"digests":""}}}}"#) + "\n";
        from.push(says(&format!("finds-{name}"), class, found(&path, "1", "\"send\"") + DONE, &[1], NO_MEANING));
        from.push(says(&format!("looks-at-{name}"), class, look + DONE, &[1], NO_MEANING));
        from.push(says(&format!("compares-{name}"), class, compare + DONE, &[1], NO_MEANING));
    }
    let loud = format!("\"{LOUD}\"");
    let (twice, most) = (found("\"a\"", "1", "\"replace\""), u64::MAX.to_string());
    from.extend([
        // Names that a source may have are its own word, and are shown so that nothing obeys them.
        says(
            "finds-what-is-loud",
            9,
            found(&loud, "1", "\"replace\"") + DONE,
            &[0],
            r"would replace `a\u{1b}[2J\u{7}owned",
        ),
        says("finds-bytes", 9, found(r#"{"b64":"m2IKDQ=="}"#, "1", "\"replace\"") + DONE, &[0], r"would replace `\x9b"),
        says("finds-it-twice", 14, twice.repeat(2) + DONE, &[0], "nothing was written"),
        says(
            "finds-what-nobody-asked-about",
            8,
            found("\"x/y\"", "1", "\"present\"") + DONE,
            &[0],
            "nothing was written",
        ),
        says(
            "counts-to-u64",
            28,
            found("\"a\"", &most, "\"send\"").repeat(3) + "{\"done\":{\"excluded\":18446744073709551615}}\n",
            &[0],
            "nothing was written",
        ),
        says("counts-beyond-u64", 28, found("\"a\"", "18446744073709551616", "\"send\""), &[1], NO_MEANING),
        says("counts-below-nothing", 28, "{\"done\":{\"excluded\":-1}}\n", &[1], NO_MEANING),
        says("renames-by-zero", 28, found("\"a\"", "1", r#"{"rename":{"number":0}}"#), &[1], NO_MEANING),
        says("compares-65-chunks", 12, compare_zeros("good", 65 * 32), &[1], NO_MEANING),
        says("compares-half-a-digest", 12, compare_zeros("good", 48), &[1], NO_MEANING),
        says("compares-beyond-the-file", 28, compare_zeros("good", 32) + DONE, &[0], "nothing was written"),
        says("answers-instead", 25, "\"there\"\n", &[1], NO_MEANING),
        says("is-ready-twice", 25, "ready plan 1\n", &[1], NO_MEANING),
        says("says-what-is-loud", 9, "\u{1b}[2J\u{7}\u{202e}\n", &[1], NO_MEANING),
        says("nests", 13, "[".repeat(60_000) + "\n", &[1], NO_MEANING),
        says(
            "says-many-lines",
            18,
            (0..MANY).fold(String::new(), |all, n| all + &found(&format!("\"n{n}\""), "1", "\"send\"")) + DONE,
            &[0],
            "would send 100,000 files",
        ),
        says(
            "looks-and-does-not-read",
            18,
            "{\"look\":{\"path\":\"good\",\"kind\":\"Regular\",\"size\":1}}\n".repeat(MANY),
            &[3],
            "no link",
        ),
    ]);
    from.extend(broken_off());
    from
}

fn plans_to() -> Vec<Named> {
    let mut to = vec![
        says("answers-what-has-no-place", 25, "\"there\"\n", &[1], NO_MEANING),
        says("is-equal-to-nothing", 25, "{\"equal\":{\"bytes\":4}}\n", &[1], NO_MEANING),
        says("refuses-loudly", 9, format!("{{\"refused\":{{\"reason\":\"{LOUD}\"}}}}\n"), &[1], NO_MEANING),
        says("asks-instead", 25, "{\"look\":{\"path\":\"a\",\"kind\":\"Regular\",\"size\":1}}\n", &[1], NO_MEANING),
        says("says-noise", 12, "\u{0}\u{7f}\u{80}\u{ffff}\n", &[1], NO_MEANING),
        says("nests", 13, "[".repeat(60_000) + "\n", &[1], NO_MEANING),
        // Three of these are answers, and nobody asks for the others.
        says("answers-before-it-is-asked", 18, "{\"nothing\":{\"is_elsewhere\":false}}\n".repeat(MANY), &[0, 1], ""),
        does("has-more-than-was-asked", 28, |talk| equal(talk, "18446744073709551615"), &[1], NO_MEANING),
        does("has-less-than-nothing", 28, |talk| equal(talk, "-1"), &[1], NO_MEANING),
    ];
    to.extend(broken_off());
    to
}

/// Says that it has files of the same length, and so many bytes of each that are equal.
fn equal(talk: &mut Talk, bytes: &str) {
    talk.begin();
    while let Some(question) = talk.hear() {
        let answer = match question {
            compare if compare.contains("compare") => {
                talk.attack_line(&format!("{{\"equal\":{{\"bytes\":{bytes}}}}}"));
                return;
            }
            look if look.contains("Directory") => "\"there\"\n",
            _ => "{\"file\":{\"is_same_size\":true,\"is_elsewhere\":false}}\n",
        };
        talk.say(answer.as_bytes());
    }
}

/// What breaks off, goes on for ever or never comes, wherever lines are expected.
fn broken_off() -> Vec<Named> {
    let (gone, silent) = ("no link", "said nothing");
    vec![
        does("line-without-an-end", 12, endless, &[1], NO_MEANING),
        does("ends-before-it-is-ready", 17, |talk| end_after(talk, None), &[3], gone),
        does("ends-when-it-is-ready", 17, |talk| end_after(talk, Some(b"")), &[3], gone),
        does("ends-within-a-line", 17, |talk| end_after(talk, Some(b"{\"seen\":{\"all\":[{")), &[3], gone),
        does("is-never-ready", 17, |talk| fall_silent(talk, None), &[3], silent),
        does("never-answers", 17, |talk| fall_silent(talk, Some(b"")), &[3], silent),
        does("stops-within-a-line", 17, |talk| fall_silent(talk, Some(b"{\"exist\":")), &[3], silent),
        does("greets-without-an-end", 18, |talk| greet(talk, &"good \u{1b}[2Jmorning\n".repeat(MANY)), &[1], NOT_READY),
        does("is-ready-for-another-version", 20, |talk| greet(talk, "ready plan 2\n"), &[1], NOT_READY),
    ]
}

/// Is ready, if at all, says some of a line, and nothing more.
fn fall_silent(talk: &mut Talk, part: Option<&[u8]>) {
    match part {
        None => drop(talk.hear()),
        Some(_) => talk.begin(),
    }
    talk.strike();
    talk.say(part.unwrap_or_default());
}

fn end_after(talk: &mut Talk, part: Option<&[u8]>) {
    fall_silent(talk, part);
    talk.hang_up();
}

/// Says something in place of being ready.
fn greet(talk: &mut Talk, text: &str) {
    talk.hear();
    talk.attack(text.as_bytes());
}

fn endless(talk: &mut Talk) {
    talk.begin();
    endless_line(talk);
}

fn entry(path: &str, size: &str) -> String {
    format!(
        r#"{{"entry":{{"path":{path},"kind":"Regular","size":{size},"mtime":{{"seconds":1,"nanos":1}},"inode":1}}}}"#
    )
}

fn seen(entries: &[String]) -> String {
    format!("{{\"seen\":{{\"all\":[{}]}}}}\n", entries.join(","))
}

const SCANNED: &str = "\"scanned\"\n";

/// A deletion after an honest transfer.
pub(super) fn deletions() -> Vec<Case> {
    let mut to = vec![];
    for (name, class, path) in bad_names() {
        let stays = format!("{{\"stays\":{{\"path\":{path},\"why\":\"own\"}}}}");
        to.push(says(&format!("sees-{name}"), class, seen(&[entry(&path, "1")]) + SCANNED, &[1], NO_MEANING));
        to.push(says(&format!("keeps-{name}"), class, seen(&[stays]) + SCANNED, &[1], NO_MEANING));
    }
    let plain = |path: &str| entry(&format!("\"{path}\""), "1");
    to.extend([
        says("sees-it-twice", 14, seen(&[plain("a"), plain("a")]) + SCANNED, &[1], NO_MEANING),
        says("sees-them-out-of-order", 14, seen(&[plain("b"), plain("a")]) + SCANNED, &[1], NO_MEANING),
        says("sees-257-in-a-line", 12, seen(&vec![plain("a"); 257]) + SCANNED, &[1], NO_MEANING),
        // What the source has stays, whatever is seen.
        says("sees-what-the-source-has", 8, seen(&[plain("came"), plain("deep/came")]) + SCANNED, &[0], "\"deleted_files\":0"),
        says("has-removed-what-nobody-listed", 8, "{\"removed\":{\"number\":1,\"fates\":[\"removed\"]}}\n", &[1], NO_MEANING),
        says("answers-for-the-source", 25, "{\"exist\":{\"number\":1,\"are_there\":[false]}}\n", &[1], NO_MEANING),
        does("removes-more-than-it-is-told", 8, |talk| removing(talk, |_| "{\"removed\":{\"number\":1,\"fates\":[\"removed\",\"removed\",\"removed\"]}}".into()), &[1], NO_MEANING),
        does("removes-less", 8, |talk| removing(talk, |_| "{\"removed\":{\"number\":1,\"fates\":[]}}".into()), &[1], NO_MEANING),
        does("removes-for-another-question", 25, |talk| removing(talk, |_| "{\"removed\":{\"number\":2,\"fates\":[\"removed\",\"removed\"]}}".into()), &[1], NO_MEANING),
        does("fails-loudly", 9, |talk| removing(talk, |_| format!("{{\"removed\":{{\"number\":1,\"fates\":[{{\"failed\":\"{LOUD}\"}},{{\"failed\":\"{LOUD}\"}}]}}}}")), &[5], r"\\u{1b}[2J"),
        does("sees-sizes-of-u64", 28, sizes, &[0], "\"deleted_bytes\":18446744073709551615"),
        does("sees-a-hundred-thousand", 18, many, &[0], "\"deleted_files\":100000"),
    ]);
    to.extend(broken_off());
    let mut from = vec![
        does("everything-is-gone", 8, |talk| vouch(talk, |_| false), &[0], "\"deleted_files\":3"),
        does("gone-and-back", 8, |talk| vouch(talk, |number| number > 1), &[5], "\"deleted_files\":0"),
        does("vouches-for-less", 8, |talk| vouching(talk, "1", "false"), &[1], NO_MEANING),
        does(
            "vouches-for-much-more",
            12,
            |talk| vouching(talk, "1", &vec!["false"; 60_000].join(",")),
            &[1],
            NO_MEANING,
        ),
        does("vouches-for-another-question", 25, |talk| vouching(talk, "2", &["false"; 8].join(",")), &[1], NO_MEANING),
        does("vouches-with-numbers", 12, |talk| vouching(talk, "1", "0,0,0,0,0,0,0,0"), &[1], NO_MEANING),
        says("sees-what-is-outside", 1, seen(&[entry(r#""../canary/song""#, "1")]), &[1], NO_MEANING),
        says("has-scanned", 25, SCANNED, &[1], NO_MEANING),
        says("has-removed", 8, "{\"removed\":{\"number\":1,\"fates\":[\"removed\"]}}\n".repeat(MANY), &[1], NO_MEANING),
        says("asks-for-a-removal", 8, "{\"remove\":{\"number\":1,\"entries\":[]}}\n", &[1], NO_MEANING),
        says("says-what-is-loud", 9, "\u{1b}[2J\u{7}\u{202e}\n", &[1], NO_MEANING),
    ];
    from.extend(broken_off());
    let unagreed = vec![does("everything-is-gone", 10, |talk| vouch(talk, |_| false), &[5], "nothing was deleted")];
    [of(Command::SendDelete, to), of(Command::RecvDelete, from), of(Command::RecvDeleteUnagreed, unagreed)].concat()
}

/// Sees two things, and answers for their removal.
fn removing(talk: &mut Talk, answer: fn(&str) -> String) {
    talk.begin();
    talk.hear();
    talk.say((seen(&[entry("\"old\"", "3"), entry("\"zz\"", "3")]) + SCANNED).as_bytes());
    talk.answer_each(|question| Some(answer(question)));
}

fn removed(question: &str) -> String {
    let asked: serde_json::Value = serde_json::from_str(question).unwrap_or_default();
    let entries = asked["remove"]["entries"].as_array().map_or(0, Vec::len);
    let fates = vec!["\"removed\""; entries].join(",");
    format!("{{\"removed\":{{\"number\":{},\"fates\":[{fates}]}}}}", asked["remove"]["number"])
}

fn sizes(talk: &mut Talk) {
    let most = u64::MAX.to_string();
    talk.begin();
    talk.hear();
    talk.attack((seen(&[entry("\"old\"", &most), entry("\"zz\"", &most)]) + SCANNED).as_bytes());
    talk.answer_each(|question| Some(removed(question)));
}

fn many(talk: &mut Talk) {
    talk.begin();
    talk.hear();
    let lines = (0..MANY).fold(String::new(), |mut all, number| {
        let _ = write!(all, "{}", seen(&[entry(&format!("\"n{number:06}\""), "1")]));
        all
    });
    talk.attack((lines + SCANNED).as_bytes());
    talk.answer_each(|question| Some(removed(question)));
}

/// Answers the number-th question about the source alike for all of its paths.
fn vouch(talk: &mut Talk, is_there: fn(u64) -> bool) {
    talk.begin();
    talk.answer_each(|question| {
        let asked: serde_json::Value = serde_json::from_str(question).unwrap_or_default();
        let number = asked["exist"]["number"].as_u64()?;
        let are_there = vec![is_there(number).to_string(); asked["exist"]["paths"].as_array()?.len()].join(",");
        Some(format!("{{\"exist\":{{\"number\":{number},\"are_there\":[{are_there}]}}}}"))
    });
}

fn vouching(talk: &mut Talk, number: &str, are_there: &str) {
    talk.begin();
    talk.hear();
    talk.attack_line(&format!("{{\"exist\":{{\"number\":{number},\"are_there\":[{are_there}]}}}}"));
}

/// A transfer whose far end is never ready.
pub(super) fn silences() -> Vec<Case> {
    let mut all = broken_off();
    // What is said to a plan is nothing that a transfer expects.
    all.retain(|(name, ..)| ["is-never-ready", "greets-without-an-end"].contains(&name.as_str()));
    for (name, _, _, _, says) in &mut all {
        if name == "is-never-ready" {
            *says = "no link to the receiver for";
        }
    }
    all.push(does(
        "is-ready-for-something-else",
        25,
        |talk| {
            talk.hear();
            talk.attack(READY);
        },
        &[1],
        NOT_READY,
    ));
    all.push(does(
        "line-without-an-end",
        12,
        |talk| {
            talk.hear();
            endless_line(talk);
        },
        &[1],
        NOT_READY,
    ));
    of(Command::Send, all)
}

fn endless_line(talk: &mut Talk) {
    let part = vec![b'x'; 1 << 20];
    (0..ENDLESS_BYTES >> 20).all(|_| talk.attack(&part));
}
