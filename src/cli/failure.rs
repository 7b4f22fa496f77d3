//! How a run that ends without a result says so: one sentence with its object, the causes below it, one hint that
//! can be typed. Owns the shape and the words of usage errors; what went wrong and what follows is `error.rs`.

use std::error::Error as _;
use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::shown;
use crate::error::{Error, Exit};

/// Why a run ended, ready to be shown. All texts are safe for a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What could not be done, and to what.
    pub(super) message: String,
    /// Why, outermost first.
    pub(super) causes: Vec<String>,
    /// What to do next.
    pub(super) hint: Option<String>,
    /// What follows.
    pub(super) exit: Exit,
    /// There is nobody to be told: whoever started this process has the screen, and is gone or says it better.
    pub(super) is_silent: bool,
}

impl Failure {
    /// Something that will not go better by itself.
    pub(super) fn new(message: &str, cause: &dyn std::error::Error) -> Failure {
        let (message, causes) = (shown::sentence(message), causes(Some(cause)));
        Failure { message, causes, hint: None, exit: Exit::Failed, is_silent: false }
    }

    /// A bad command line.
    pub(super) fn usage(message: impl AsRef<str>) -> Failure {
        let message = shown::sentence(message.as_ref());
        Failure { message, causes: Vec::new(), hint: None, exit: Exit::Usage, is_silent: false }
    }

    /// With what to do next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// With one more cause.
    pub(super) fn cause(mut self, cause: &str) -> Failure {
        self.causes.push(shown::lower_first(&shown::sentence(cause)));
        self
    }

    /// The text for a terminal, with its last newline.
    pub(super) fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        let last = self.causes.len().saturating_sub(1);
        for (index, cause) in self.causes.iter().enumerate() {
            let branch = if index == last { "└─" } else { "├─" };
            writeln!(text, "  {branch} {cause}").expect("writing into memory cannot fail");
        }
        if let Some(hint) = &self.hint {
            writeln!(text, "hint: {hint}").expect("writing into memory cannot fail");
        }
        text
    }

    /// What clap found wrong, in our words. `command` is the command that was being parsed, if one was recognised.
    pub(super) fn of_arguments(error: &clap::Error, command: Option<&str>) -> Failure {
        let of = |kind| error.get(kind).map(words).unwrap_or_default();
        let (argument, value) = (of(ContextKind::InvalidArg), of(ContextKind::InvalidValue));
        let failure = match error.kind() {
            ErrorKind::UnknownArgument => Failure::usage(format!("unexpected argument `{argument}`")),
            ErrorKind::InvalidSubcommand => {
                Failure::usage(format!("there is no command `{}`", of(ContextKind::InvalidSubcommand)))
            }
            ErrorKind::MissingRequiredArgument => Failure::usage(format!("missing {}", missing(error))),
            ErrorKind::ArgumentConflict => match of(ContextKind::PriorArg) {
                prior if prior == argument => Failure::usage(format!("`{argument}` can be given only once")),
                prior => Failure::usage(format!("`{argument}` cannot be given together with `{prior}`")),
            },
            ErrorKind::InvalidValue if value.is_empty() => Failure::usage(format!("`{argument}` needs a value")),
            ErrorKind::InvalidValue => Failure::usage(format!("`{value}` is not a value of `{argument}`"))
                .cause(&format!("it is one of `{}`", of(ContextKind::ValidValue))),
            ErrorKind::ValueValidation => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                Failure::usage(format!("`{value}` is not a value of `{argument}`")).cause(&cause)
            }
            ErrorKind::TooManyValues => Failure::usage(format!("`{argument}` takes no value")),
            _ => {
                let text = error.render().to_string();
                let line = text.lines().next().unwrap_or_default();
                Failure::usage(line.trim_start_matches("error: "))
            }
        };
        let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].map(of).concat();
        failure.hint(match (suggested.as_str(), command) {
            ("", None) => "`landfall --help` shows the commands".to_owned(),
            ("", Some(command)) => format!("`landfall {command} --help` shows its options"),
            (suggested, _) => format!("did you mean `{suggested}`?"),
        })
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure {
            message: shown::sentence(&error.to_string()),
            causes: causes(error.source()),
            hint: error.hint().map(str::to_owned),
            exit: error.exit(),
            is_silent: matches!(error, Error::ParentGone),
        }
    }
}

/// An error and all that caused it, each as a line.
fn causes(first: Option<&dyn std::error::Error>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut next = first;
    while let Some(cause) = next {
        lines.push(shown::lower_first(&shown::sentence(&cause.to_string())));
        next = cause.source();
    }
    lines
}

/// A value of clap's as text; several become `a`, `b` without the outer quotes.
fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join("`, `"),
        other => other.to_string(),
    }
}

fn missing(error: &clap::Error) -> String {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(names)) => {
            let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.trim_matches(['<', '>']))).collect();
            names.join(" and ").replace(">...`", "...`")
        }
        _ => "an argument".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io;
    use std::path::PathBuf;

    use clap::Parser;

    use super::super::arguments::Arguments;
    use super::*;
    use crate::identity::Role;

    fn usage(line: &str) -> String {
        let error = Arguments::try_parse_from(line.split_whitespace()).unwrap_err();
        let failure = Failure::of_arguments(&error, line.split_whitespace().nth(1));
        assert_eq!(failure.exit, Exit::Usage);
        failure.text()
    }

    #[test]
    fn usage_errors_are_said_in_our_words() {
        let options = "hint: `landfall send --help` shows its options\n";
        assert_eq!(usage("landfall send"), format!("error: missing `PATH...`\n{options}"));
        assert_eq!(usage("landfall send a --bogus"), format!("error: unexpected argument `--bogus`\n{options}"));
        assert_eq!(
            usage("landfall send a --tickt"),
            "error: unexpected argument `--tickt`\nhint: did you mean `--ticket`?\n"
        );
        assert_eq!(
            usage("landfall send a --ticket --to b"),
            format!("error: `--ticket` cannot be given together with `--to <DEST>`\n{options}")
        );
        assert_eq!(
            usage("landfall send a --to b --to c"),
            format!("error: `--to <DEST>` can be given only once\n{options}")
        );
        assert_eq!(
            usage("landfall send a --existing newer"),
            format!(
                "error: `newer` is not a value of `--existing <WHAT>`\n  \
                 └─ it is one of `refuse`, `keep`, `replace`, `rename`\n{options}"
            )
        );
        assert_eq!(
            usage("landfall send a --patience 10"),
            format!(
                "error: `10` is not a value of `--patience <DUR>`\n  \
                 └─ a time is written as `90s`, `10m`, `2h` or `forever`\n{options}"
            )
        );
        assert_eq!(
            usage("landfall send a --listen here"),
            format!(
                "error: `here` is not a value of `--listen <ADDR:PORT>`\n  └─ invalid socket address syntax\n{options}"
            )
        );
        assert_eq!(usage("landfall send a --receipt"), format!("error: `--receipt <FILE>` needs a value\n{options}"));
        assert_eq!(usage("landfall send a --json=x"), format!("error: `--json` takes no value\n{options}"));
    }

    #[test]
    fn an_unknown_command_is_named() {
        let error = Arguments::try_parse_from(["landfall", "fetch\u{1b}"]).unwrap_err();
        let text = Failure::of_arguments(&error, None).text();
        assert_eq!(text, "error: there is no command `fetch\\u{1b}`\nhint: `landfall --help` shows the commands\n");
    }

    #[test]
    fn an_error_shows_its_causes_and_a_hint_and_no_control_character() {
        let error = Error::State {
            path: PathBuf::from("a\n\u{202e}b"),
            source: io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()),
        };
        assert_eq!(
            Failure::from(&error).text(),
            "error: the state in `a\\n\\u{202e}b` could not be used\n  └─ no space left on device (os error 28)\n"
        );
        let error = Error::NoLink { peer: Role::Receiver, seconds: 9, cause: "it was silent".into() };
        let failure = Failure::from(&error);
        assert_eq!(failure.exit, Exit::Again);
        assert_eq!(
            failure.text(),
            "error: no link to the receiver for 9 seconds: it was silent\n\
             hint: run the same command again, or `landfall resume`, to continue\n"
        );
    }

    #[test]
    fn several_causes_are_a_tree() {
        let failure = Failure::usage("this").cause("That").cause("other");
        assert_eq!(failure.text(), "error: this\n  ├─ that\n  └─ other\n");
    }
}
