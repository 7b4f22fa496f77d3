//! The other side of `--to` and `--from`: its options as JSON, written by the parent's command line and read by the
//! child's. How they travel, with the key and the secret, is `meet`'s.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::arguments::ReceiverArguments;
use super::failure::Failure;
use super::json::put_path;
use super::settings::{from_here, home, with_receiver};
use super::values::{ExistingWord, LevelWord};
use crate::identity::Role;
use crate::limits::CHILD_ALONE_MS;
use crate::meet::ChildTask;
use crate::options::{
    ChildCommand, CommonOptions, Consent, Continue, EXPECTED, Existing, LISTED, Meeting, Reach, RecvOptions, Selection,
    SendOptions,
};
use crate::plan::Sources;
use crate::source::roots::name_of;

/// Key of a child that helps to delete: its transfer is over.
const DELETES: &str = "deletes";

/// All that a parent may say.
const KEYS: [&str; 15] = [
    "role",
    "path",
    "path_b64",
    "reach",
    "existing",
    "accept_level",
    "max_size",
    "reserve",
    "patterns",
    "ignore_files",
    "one_file_system",
    "reread_source",
    DELETES,
    LISTED,
    EXPECTED,
];

/// What a child is asked to do.
#[derive(Debug)]
pub(super) enum Asked {
    /// To send.
    Send(SendOptions),
    /// To receive.
    Receive(RecvOptions),
}

/// What a child of a dry run is asked to do.
#[derive(Debug)]
pub(super) enum AskedToPlan {
    /// To walk.
    Walk(Sources),
    /// To say what is in a directory.
    Answer(PathBuf),
    /// To say what a source has.
    Vouch(PathBuf),
    /// To say what a directory has, and to remove from it.
    Prune(PathBuf),
}

/// This very program, to be started as a child.
pub(super) fn command(options: &Map<String, Value>) -> Result<ChildCommand, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new("could not find this program to start it again", &error))?;
    let options = Value::Object(options.clone());
    Ok(ChildCommand { program, arguments: vec![OsString::from("child")], options, remote: None })
}

/// Options of a receiving child.
pub(super) fn receiver_options(dir: &Path, receiver: &ReceiverArguments) -> Map<String, Value> {
    let mut options = Map::new();
    options.insert("role".into(), Role::Receiver.word().into());
    put_path(&mut options, "path", dir);
    put_word(&mut options, "existing", receiver.existing);
    put_word(&mut options, "accept_level", receiver.accept_level);
    options.extend(receiver.max_size.map(|bytes| ("max_size".to_owned(), bytes.into())));
    options.extend(receiver.reserve.map(|bytes| ("reserve".to_owned(), bytes.into())));
    options
}

/// Options of a sending child.
pub(super) fn sender_options(source: &Path, selection: &Selection, reads_twice: bool) -> Map<String, Value> {
    let mut options = Map::new();
    options.insert("role".into(), Role::Sender.word().into());
    put_path(&mut options, "path", source);
    // Its lists are added when the child is started: they are too long for the record that keeps these options.
    let Selection { patterns, ignore_files, one_file_system, listed: _, expected: _ } = selection;
    if !patterns.is_empty() {
        options.insert("patterns".into(), patterns.clone().into());
    }
    let words =
        [("ignore_files", *ignore_files), ("one_file_system", *one_file_system), ("reread_source", reads_twice)];
    for (key, is_asked) in words {
        options.extend(is_asked.then(|| (key.to_owned(), true.into())));
    }
    options
}

/// Options of a child that walks for a dry run: those of one that sends, and what the target does with what it has.
pub(super) fn walker_options(options: &mut Value, receiver: &ReceiverArguments) {
    if let Value::Object(options) = options {
        put_word(options, "existing", receiver.existing);
    }
}

/// The same child, to be started once more to help to delete.
pub(super) fn deleting(child: &ChildCommand) -> ChildCommand {
    let mut child = child.clone();
    if let Value::Object(options) = &mut child.options {
        options.insert(DELETES.to_owned(), true.into());
    }
    child
}

/// The name under which what a sending child sends arrives; `None` if it is what is in a directory.
pub(super) fn arrives_as(child: &ChildCommand) -> Option<Vec<u8>> {
    path_of(&child.options).and_then(|path| name_of(&path))
}

/// Reads what the parent wrote.
pub(super) fn parse(task: ChildTask) -> Result<Asked, Failure> {
    let ChildTask { owner, secret, options } = task;
    let path = known_path(&options)?;
    let reach = reach_of(&options).ok_or_else(|| unreadable("unknown words"))?;
    let common = CommonOptions {
        home: home()?,
        meeting: Meeting::Child { owner, secret, reach },
        // The parent decides how long to wait: the child ends with it. From another machine its end may not be heard.
        patience: (reach != Reach::Machine).then(|| Duration::from_millis(CHILD_ALONE_MS)),
        answer_patience: None,
        limit_bytes_per_s: None,
        receipt: None,
        continuation: Continue::Open,
    };
    match options["role"].as_str() {
        Some("sender") => {
            let selection = selection_of(&options).ok_or_else(|| unreadable("unknown words"))?;
            let reads_twice = is_asked(&options, "reread_source").ok_or_else(|| unreadable("unknown words"))?;
            Ok(Asked::Send(SendOptions { common, paths: vec![path], selection, reads_twice }))
        }
        Some("receiver") => {
            let receiver = receiver_of(&options).ok_or_else(|| unreadable("unknown words"))?;
            Ok(Asked::Receive(with_receiver(common, path, &receiver, Consent::Given)))
        }
        _ => Err(unreadable("no role")),
    }
}

/// Reads what the parent of a dry run wrote.
pub(super) fn parse_plan(options: &Value) -> Result<AskedToPlan, Failure> {
    let path = known_path(options)?;
    let deletes = is_asked(options, DELETES).ok_or_else(|| unreadable("unknown words"))?;
    match options["role"].as_str() {
        Some("sender") if deletes => Ok(AskedToPlan::Vouch(path)),
        Some("receiver") if deletes => Ok(AskedToPlan::Prune(path)),
        Some("sender") => {
            let words = || Some((selection_of(options)?, word_of::<ExistingWord>(options, "existing")?));
            let (selection, existing) = words().ok_or_else(|| unreadable("unknown words"))?;
            let existing = existing.map(Existing::from).unwrap_or_default();
            Ok(AskedToPlan::Walk(Sources { paths: vec![path], selection, existing }))
        }
        Some("receiver") => Ok(AskedToPlan::Answer(path)),
        _ => Err(unreadable("no role")),
    }
}

/// The path in the options, once all of them are known.
fn known_path(options: &Value) -> Result<PathBuf, Failure> {
    // An option of a later landfall may be what keeps something from being sent.
    let is_known = |key: &String| KEYS.contains(&key.as_str());
    if !options.as_object().is_some_and(|options| options.keys().all(is_known)) {
        return Err(unreadable("an option that this landfall does not know"));
    }
    // A relative path begins at the home of whoever has logged in.
    from_here(&path_of(options).ok_or_else(|| unreadable("no path"))?)
}

fn unreadable(cause: &str) -> Failure {
    Failure::usage("`landfall child` is started by landfall itself, with its options on standard input").cause(cause)
}

fn receiver_of(options: &Value) -> Option<ReceiverArguments> {
    Some(ReceiverArguments {
        existing: word_of::<ExistingWord>(options, "existing")?,
        max_size: number_of(options, "max_size")?,
        reserve: number_of(options, "reserve")?,
        accept_level: word_of::<LevelWord>(options, "accept_level")?,
    })
}

fn is_asked(options: &Value, key: &str) -> Option<bool> {
    options.get(key).map_or(Some(false), Value::as_bool)
}

fn selection_of(options: &Value) -> Option<Selection> {
    let patterns = options.get("patterns").map_or(Some(&[][..]), |patterns| patterns.as_array().map(Vec::as_slice))?;
    let selection = Selection {
        patterns: patterns.iter().map(|pattern| pattern.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        ignore_files: is_asked(options, "ignore_files")?,
        one_file_system: is_asked(options, "one_file_system")?,
        ..Selection::default()
    };
    selection.with_lists(options)
}

fn put_word<T: ValueEnum>(options: &mut Map<String, Value>, key: &str, word: Option<T>) {
    let word = word.and_then(|word| word.to_possible_value());
    options.extend(word.map(|word| (key.to_owned(), word.get_name().into())));
}

fn word_of<T: ValueEnum>(options: &Value, key: &str) -> Option<Option<T>> {
    match options.get(key) {
        None => Some(None),
        Some(word) => T::from_str(word.as_str()?, false).ok().map(Some),
    }
}

fn reach_of(options: &Value) -> Option<Reach> {
    let Some(word) = options.get("reach") else { return Some(Reach::Machine) };
    let word = word.as_str()?;
    Reach::ALL.into_iter().find(|reach| reach.word() == word)
}

fn number_of(options: &Value, key: &str) -> Option<Option<u64>> {
    match options.get(key) {
        None => Some(None),
        Some(number) => number.as_u64().map(Some),
    }
}

/// The path in the options of a child.
pub(super) fn path_of(options: &Value) -> Option<PathBuf> {
    match options.get("path") {
        Some(text) => Some(PathBuf::from(text.as_str()?)),
        None => {
            let bytes = BASE64.decode(options.get("path_b64")?.as_str()?.as_bytes()).ok()?;
            Some(OsString::from_vec(bytes).into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::attributes::Level;
    use crate::identity::{PeerKey, Secret};
    use crate::lists::{DigestList, Given, PathList};

    fn task(options: Map<String, Value>) -> ChildTask {
        ChildTask { owner: PeerKey([1; 32]), secret: Secret::from_bytes([2; 16]), options: Value::Object(options) }
    }

    #[test]
    fn a_receiving_child_reads_what_its_parent_wrote() {
        let receiver = ReceiverArguments {
            existing: Some(ExistingWord::Replace),
            max_size: Some(7),
            reserve: None,
            accept_level: Some(LevelWord::Cache),
        };
        let path = Path::new(OsStr::from_bytes(b"/a/\xff\n"));
        let Asked::Receive(options) = parse(task(receiver_options(path, &receiver))).unwrap() else {
            panic!("not a receiver")
        };
        assert_eq!(options.dir, path);
        assert_eq!((options.existing, options.accept_level), (Existing::Replace, Level::Cache));
        assert_eq!((options.max_bytes, options.reserve_bytes), (Some(7), None));
        let Meeting::Child { owner, secret, reach: Reach::Machine } = &options.common.meeting else {
            panic!("not a child")
        };
        assert_eq!((owner.0, *secret.expose()), ([1; 32], [2; 16]));
    }

    #[test]
    fn a_sending_child_reads_what_its_parent_wrote() {
        let some = Selection {
            patterns: vec!["*.o".into(), "!a b".into()],
            ignore_files: true,
            one_file_system: false,
            listed: Some(Given::new(PathList::parse(b"b\na\xff").unwrap())),
            expected: Some(Given::new(DigestList::parse(&[&[b'0'; 64][..], b"  a"].concat(), &[], b"").unwrap())),
        };
        for (selection, reads_twice) in [(Selection::default(), false), (some, true)] {
            let mut written = sender_options(Path::new("/a b"), &selection, reads_twice);
            assert!(!written.contains_key(LISTED) && !written.contains_key(EXPECTED));
            selection.put_lists(&mut written);
            let Asked::Send(options) = parse(task(written)).unwrap() else { panic!("not a sender") };
            let lists = [&options.selection, &selection].map(|selection| {
                let listed = selection.listed.as_ref().and_then(|given| given.list.clone());
                (listed, selection.expected.as_ref().and_then(|given| given.list.clone()))
            });
            assert_eq!(lists[0], lists[1]);
            assert_eq!((options.paths, options.selection), (vec![PathBuf::from("/a b")], selection));
            assert_eq!(options.reads_twice, reads_twice);
        }
        for (key, value) in [
            ("patterns", Value::from(vec![7])),
            ("ignore_files", 1.into()),
            ("patterns", "x".into()),
            (LISTED, "x".into()),
            (EXPECTED, "AAAA".into()),
        ] {
            let mut options = sender_options(Path::new("/a"), &Selection::default(), false);
            options.insert(key.into(), value);
            assert!(parse(task(options)).is_err(), "{key}");
        }
    }

    #[test]
    fn a_child_of_a_dry_run_reads_what_its_parent_wrote() {
        let keep = ReceiverArguments { existing: Some(ExistingWord::Keep), ..ReceiverArguments::default() };
        let selection = Selection { patterns: vec!["x".into()], ..Selection::default() };
        let mut written = Value::Object(sender_options(Path::new("/a"), &selection, true));
        walker_options(&mut written, &keep);
        let AskedToPlan::Walk(sources) = parse_plan(&written).unwrap() else { panic!("not a walker") };
        assert_eq!((sources.paths, sources.existing), (vec![PathBuf::from("/a")], Existing::Keep));
        assert_eq!(sources.selection, selection);
        let written = Value::Object(receiver_options(Path::new("/b"), &keep));
        assert!(matches!(parse_plan(&written).unwrap(), AskedToPlan::Answer(dir) if dir == Path::new("/b")));
        let written = |role: Map<String, Value>| {
            let options = Value::Object(role);
            let child = ChildCommand { program: "".into(), arguments: vec![], options, remote: None };
            parse_plan(&deleting(&child).options).unwrap()
        };
        let (sends, receives) =
            (sender_options(Path::new("/a/."), &selection, false), receiver_options(Path::new("/b"), &keep));
        assert!(matches!(written(sends), AskedToPlan::Vouch(path) if path == Path::new("/a/.")));
        assert!(matches!(written(receives), AskedToPlan::Prune(path) if path == Path::new("/b")));
        for (key, value) in [("role", "moon"), ("existing", "newer"), ("moon", "full"), (DELETES, "yes")] {
            let mut options = Value::Object(sender_options(Path::new("/a"), &selection, false));
            options[key] = value.into();
            assert!(parse_plan(&options).is_err(), "{key}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let changed = |key: &str, value: Value| {
            let mut options = receiver_options(Path::new("/a"), &ReceiverArguments::default());
            options.insert(key.into(), value);
            parse(task(options))
        };
        assert!(changed("role", "receiver".into()).is_ok());
        assert!(changed("existing", "keep".into()).is_ok());
        assert!(changed("reach", "network".into()).is_ok());
        assert!(changed("reach", "moon".into()).is_err());
        assert!(changed("moon", "full".into()).is_err());
        for key in ["role", "path", "existing", "accept_level", "max_size", "reserve", "reach"] {
            assert!(changed(key, Value::Bool(true)).is_err(), "{key}");
        }
        assert!(changed("existing", "newer".into()).is_err());
        assert!(parse(task(Map::new())).is_err());
    }
}
