//! Whole texts of refusals and errors, as a user reads them, one file for each in `tests/cli/texts/`. What changes
//! from run to run stands there as a word in capitals, and the scratch directory as `@`. To accept a new text, remove
//! its file and run the test with `LANDFALL_WRITE_GOLDEN=1`.

use std::fs;
use std::path::PathBuf;

use crate::common::process::Finished;
use crate::common::scratch::Scratch;

/// Compares the error that ended a process with the file of that name: exit code, stderr from `error:` on, and the
/// error event if there is one. `varying` are further words of this run with what stands for them.
pub(crate) fn assert_error(name: &str, scratch: &Scratch, finished: &Finished, varying: &[(&str, &str)]) {
    let stderr = finished.stderr_text();
    let error = stderr.find("error:").map_or(&*stderr, |start| &stderr[start..]);
    let mut text = format!("exit {}\n{error}", finished.code().map_or("none".into(), |code| code.to_string()));
    let stdout = finished.stdout_text();
    if let Some(event) = stdout.lines().last().filter(|line| line.contains("\"event\":\"error\"")) {
        text += &format!("{event}\n");
    }
    assert_text(name, &normal(&text, scratch, varying));
}

/// Compares a text with the file of that name.
pub(crate) fn assert_text(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cli/texts").join(format!("{name}.txt"));
    if !path.exists() && std::env::var_os("LANDFALL_WRITE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text == golden, "{} has\n{golden}\nand what was said is\n{text}", path.display());
}

/// A text with everything replaced that is another in every run.
pub(crate) fn normal(text: &str, scratch: &Scratch, varying: &[(&str, &str)]) -> String {
    let mut text = text.replace(scratch.path().to_str().unwrap(), "@");
    for (found, word) in varying {
        text = text.replace(found, word);
    }
    // How long it waited depends on how busy the machine is.
    for seconds in 2..30 {
        text = text.replace(&format!("for {seconds} seconds"), "for SOME seconds");
    }
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | ':');
    let (mut out, mut word) = (String::new(), String::new());
    for character in text.chars().chain(['\n']) {
        if is_part(character) {
            word.push(character);
            continue;
        }
        let name = word.trim_end_matches(['.', ':']);
        out += &word.replace(name, stand_in(name).unwrap_or(name));
        word.clear();
        out.push(character);
    }
    out.pop();
    out
}

/// What stands for a word that is another in every run.
fn stand_in(word: &str) -> Option<&'static str> {
    let groups: Vec<&str> = word.split('-').collect();
    let is_fingerprint = groups.len() == 8 && groups.iter().all(|group| group.len() == 4);
    let is_id = word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = word.strip_prefix("127.0.0.1:").is_some_and(|port| port.parse::<u16>().is_ok());
    match word {
        _ if is_fingerprint => Some("FINGERPRINT"),
        // The id of the table, which is nobody's.
        "0123456789abcdef0123456789abcdef" => None,
        _ if is_id => Some("ID"),
        _ if is_address => Some("ADDRESS"),
        _ => None,
    }
}
