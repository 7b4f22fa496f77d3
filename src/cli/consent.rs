//! The question to the user of a listening receiver: who wants to send what, and what it would meet. It decides
//! nothing about when to ask.

use std::sync::Arc;

use super::console::Console;
use super::shown;
use crate::options::{Answer, Consent, Question};
use crate::path::Escaped;
use crate::progress::figures::{bytes, count, counted};

/// Asks on this console.
pub(super) fn asking(console: Arc<Console>) -> Consent {
    Consent::Ask(Arc::new(move |question| {
        let answer = console.ask(&question_text(&question)).unwrap_or_default();
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Answer::Accept,
            _ => Answer::Decline,
        }
    }))
}

fn question_text(question: &Question) -> String {
    let bound = if question.is_total { "" } else { "at least " };
    let names: Vec<String> = question.roots.iter().map(|name| format!("`{}`", Escaped(name))).collect();
    let more = question.root_count.saturating_sub(names.len() as u64);
    let more = if more > 0 { format!(" and {} more", count(more)) } else { String::new() };
    let existing = match question.existing {
        0 => "none of these names is there yet".to_owned(),
        number => format!("{} of these names exist already", count(number)),
    };
    format!(
        "sender     {} (calls itself `{}`)\n\
         wants to   send {}{more}: {bound}{}, {}\n\
         into       {}: {existing}; {} free\n\
         receive this? [y/N] ",
        question.peer.fingerprint(),
        Escaped(question.host.as_bytes()),
        names.join(", "),
        counted(question.files, "file", "files"),
        bytes(question.bytes),
        shown::path(&question.dir),
        bytes(question.bytes_free),
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::identity::PeerKey;

    #[test]
    fn the_question_says_who_what_and_where_and_escapes_all_of_it() {
        let question = Question {
            roots: vec![b"photos".to_vec(), b"a\x1b[2J".to_vec()],
            root_count: 5,
            files: 1204,
            bytes: 3 << 30,
            is_total: false,
            peer: PeerKey([0xA5; 32]),
            host: "lap\u{202e}top".into(),
            existing: 1,
            bytes_free: 5 << 30,
            dir: PathBuf::from("in"),
        };
        assert_eq!(
            question_text(&question),
            "sender     uws2-ljnf-uws2-ljnf-uws2-ljnf-uws2-ljnf (calls itself `lap\\u{202e}top`)\n\
             wants to   send `photos`, `a\\u{1b}[2J` and 3 more: at least 1,204 files, 3.0 GiB\n\
             into       in: 1 of these names exist already; 5.0 GiB free\n\
             receive this? [y/N] "
        );
        let whole = Question { is_total: true, root_count: 2, existing: 0, ..question };
        let text = question_text(&whole);
        assert!(text.contains("`a\\u{1b}[2J`: 1,204 files"), "{text}");
        assert!(text.contains("none of these names is there yet"), "{text}");
    }
}
