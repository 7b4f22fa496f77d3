//! `[user@]host:PATH`: the other side on another machine, which landfall starts through the user's own ssh. Data goes over
//! QUIC all the same; only the child's first line, and its end, travel through ssh.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::arguments::RemoteArguments;
use super::failure::Failure;
use super::settings::from_here;
use super::shown;
use crate::options::{ChildCommand, Reach, Remote};

/// Options that OpenSSH gets besides the user's own: no terminal there, and a dead connection is noticed within half a
/// minute, so that the other side is started again.
const OPENSSH: [&str; 3] = ["-T", "-oServerAliveInterval=10", "-oServerAliveCountMax=3"];
/// What the login's shell is given, whichever it is: more places to look for programs, then the program as `$0`.
const START: &str =
    r#"exec sh -c 'PATH="$PATH:$HOME/.cargo/bin:$HOME/.local/bin:/usr/local/bin"; export PATH; exec "$0" child'"#;

/// A place on another machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The machine, as ssh is told, with the user's name if there is one.
    pub(super) host: String,
    /// The path there; a relative one begins at the user's home.
    pub(super) path: PathBuf,
}

/// What DEST or SRC names on another machine; `None` if it is a path on this one.
pub(super) fn place(text: &OsStr, what: &str) -> Result<Option<Place>, Failure> {
    let bytes = text.as_bytes();
    let slash = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
    // An IPv6 address stands in brackets, since it has colons of its own.
    let from = bytes[..slash].iter().position(|byte| *byte == b']').unwrap_or(0);
    let Some(colon) = bytes[from..slash].iter().position(|byte| *byte == b':').map(|at| from + at) else {
        return Ok(None);
    };
    let wrong = |cause: &str| {
        let shown = format!("{what} `{}` names no machine", shown::os(text));
        Failure::usage(shown)
            .cause(cause)
            .hint("write `host:PATH` or `user@host:PATH`, and a local name with a colon as `./a:b`")
    };
    let host = std::str::from_utf8(&bytes[..colon]).map_err(|_| wrong("the name of the machine is not UTF-8"))?;
    let host = host.replace(['[', ']'], "");
    if host.is_empty() || host.starts_with('-') || host.ends_with('@') {
        return Err(wrong("the name of a machine stands before the colon"));
    }
    if host.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Err(wrong("the name of the machine has a blank in it"));
    }
    // That is where relative paths begin.
    let path = match &bytes[colon + 1..] {
        b"~" => b"",
        path => path.strip_prefix(b"~/").unwrap_or(path),
    };
    if path.starts_with(b"~") {
        return Err(wrong("a home other than your own is written as the path that it has"));
    }
    let path = if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) };
    Ok(Some(Place { host, path: path.into() }))
}

/// How the other side is started there.
pub(super) fn command(
    host: String,
    asked: &RemoteArguments,
    mut options: Map<String, Value>,
) -> Result<ChildCommand, Failure> {
    let text = asked.ssh.as_deref().unwrap_or("ssh");
    let mut words = text.split_whitespace();
    let program = words.next().ok_or_else(|| Failure::usage("`--ssh` names no program"))?;
    // It is started again from elsewhere; a bare name is looked for each time.
    let path = if program.contains('/') { from_here(Path::new(program))? } else { program.into() };
    let mut arguments: Vec<OsString> = words.map(OsString::from).collect();
    if is_openssh(OsStr::new(program)) {
        arguments.extend(OPENSSH.map(OsString::from));
        arguments.push("--".into());
    }
    let landfall = asked.remote_landfall.as_deref().map_or_else(|| "landfall".to_owned(), shell_word);
    arguments.push(OsString::from(&host));
    arguments.push(format!("{START} {landfall}").into());
    let reach = if asked.relay_over_ssh { Reach::Pipes } else { Reach::Network };
    options.insert("reach".into(), reach.word().into());
    let remote = Remote { host, is_relayed: asked.relay_over_ssh };
    Ok(ChildCommand { program: path, arguments, options: Value::Object(options), remote: Some(remote) })
}

/// Whether a program is OpenSSH's, by its name: another one is given nothing but the machine and the command.
fn is_openssh(program: &OsStr) -> bool {
    Path::new(program).file_name() == Some(OsStr::new("ssh"))
}

/// A word of a shell's command line; one that no shell changes stands as it is.
fn shell_word(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_./~+-".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(text: &str) -> Option<(String, String)> {
        place(OsStr::new(text), "DEST").unwrap().map(|place| (place.host, place.path.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_machine_stands_before_the_first_colon_that_no_slash_precedes() {
        let is = |text: &str, host: &str, path: &str| {
            assert_eq!(parsed(text), Some((host.to_owned(), path.to_owned())), "{text}");
        };
        is("web1:/backup", "web1", "/backup");
        is("me@web1:in/x", "me@web1", "in/x");
        is("web1:", "web1", ".");
        is("web1:~/in", "web1", "in");
        is("web1:~", "web1", ".");
        is("web1:x/.", "web1", "x/.");
        is("web1:a:b", "web1", "a:b");
        is("[2001:db8::5]:/x", "2001:db8::5", "/x");
        is("me@[::1]:x", "me@::1", "x");
        for here in ["in", "./a:b", "/a:b", "in/host:x", ""] {
            assert_eq!(parsed(here), None, "{here}");
        }
        for bad in [":/x", "-oProxyCommand=x:/y", "me@:/x", "a b:/x", "web1:~bob/x"] {
            assert!(place(OsStr::new(bad), "DEST").is_err(), "{bad}");
        }
    }

    fn words(asked: &RemoteArguments) -> Vec<String> {
        let command = command("me@web1".into(), asked, Map::new()).unwrap();
        let words = std::iter::once(command.program.into_os_string()).chain(command.arguments);
        words.map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn ssh_is_started_as_the_user_has_it() {
        let plain = words(&RemoteArguments::default());
        assert_eq!(plain[0], "ssh");
        assert_eq!(plain[plain.len() - 3..plain.len() - 1], ["--", "me@web1"]);
        assert!(plain.last().unwrap().ends_with("\"$0\" child' landfall"), "{plain:?}");
        let asked = RemoteArguments {
            ssh: Some("/opt/my-ssh -p 2222".into()),
            remote_landfall: Some("/opt/it's here/landfall".into()),
            relay_over_ssh: true,
        };
        let given = words(&asked);
        assert_eq!(given[..4], ["/opt/my-ssh", "-p", "2222", "me@web1"]);
        assert!(given[4].ends_with(r" '/opt/it'\''s here/landfall'"), "{given:?}");
        assert!(command("h".into(), &asked, Map::new()).unwrap().remote.unwrap().is_relayed);
        let nothing = RemoteArguments { ssh: Some("  ".into()), ..RemoteArguments::default() };
        assert!(command("h".into(), &nothing, Map::new()).is_err());
    }
}
