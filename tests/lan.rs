//! `--lan` between real processes in a network of their own: over its loopback, and between two namespaces that a pair of
//! virtual interfaces joins. Where no namespace can be made, nothing of this is seen: the exchange itself has unit tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use fault_inject::rig::facility;

/// What every script begins with: a way to wait for a line, and the words of a code.
const PRELUDE: &str = r#"
set -u
ip link set lo up
until_there() { for i in $(seq 400); do grep -q "$2" "$1" 2>/dev/null && return; sleep 0.05; done; echo "no $2 in $1"; cat "$1"; exit 99; }
# In the background only, where it is the process that a signal reaches.
receive() { exec "$B" recv in --yes --accept-level cache --lan "$@"; }
on_loopback="--listen 127.0.0.1:0"
sender() { LANDFALL_HOME=sender "$B" send tree --lan "$@"; }
"#;

/// Runs a script as root of a network of its own, in a directory with a tree. `None` if there can be no such network.
fn in_network(test: &str, dir: &Path, script: &str) -> Option<Output> {
    let unshare = if facility::is_root() { "-n" } else { "-rn" };
    let can = Command::new("unshare").args([unshare, "ip", "link", "set", "lo", "up"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        facility::skipped(test, "a network namespace");
        return None;
    }
    std::fs::create_dir(dir.join("tree")).unwrap();
    std::fs::write(dir.join("tree/file"), vec![7; 3_000_000]).unwrap();
    let mut command = Command::new("unshare");
    command.args([unshare, "sh", "-c", &(PRELUDE.to_owned() + script)]).current_dir(dir);
    command.env("B", env!("CARGO_BIN_EXE_landfall")).env("LANDFALL_HOME", dir.join("receiver"));
    command.env_remove("LANDFALL_CODE").env_remove("LANDFALL_TICKET").stdin(std::process::Stdio::null());
    Some(command.output().unwrap())
}

/// What the script said, if it ended well.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn assert_arrived(dir: &Path) {
    assert_eq!(std::fs::read(dir.join("in/tree/file")).unwrap(), vec![7; 3_000_000]);
}

#[test]
fn a_code_that_is_typed_brings_the_tree_and_nothing_of_it_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
receive $on_loopback >shown 2>told & R=$!
until_there shown -
[ "$(wc -l <shown)" = 1 ] || exit 1
# As a person types it: the first letters, in capitals, apart by spaces.
sed 's/\([a-z]\{3,4\}\)[a-z]*/\1/g; s/-/  /g' shown | tr a-z A-Z | sender >sent 2>&1 || { cat sent; exit 2; }
wait $R || exit 3
cat told shown
"#;
    let Some(output) = in_network("lan code", dir.path(), script) else { return };
    let text = said(&output);
    assert!(text.contains("  landfall send PATH... --lan\n"), "{text}");
    assert!(text.contains("the right code came from 127.0.0.1:"), "{text}");
    assert!(!text.contains("landfalla"), "no ticket is shown: {text}");
    assert_arrived(dir.path());
}

#[test]
fn a_wrong_code_is_told_on_both_sides_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
receive $on_loopback --json >shown 2>told & R=$!
until_there shown '"code"'
code() { grep '"event":"code"' shown | tail -1 | sed 's/.*"code":"\([a-z-]*\)".*/\1/'; }
first=$(code)
last=zoo; case $first in *-zoo) last=able;; esac
LANDFALL_CODE="${first%%-*} $last $last" sender >sent 2>&1
echo "exit $?"; cat sent
until_there shown wrong-code
until_there told 'is void'
for i in $(seq 100); do [ "$(code)" != "$first" ] && break; sleep 0.05; done
[ "$(code)" != "$first" ] || exit 1
LANDFALL_CODE=$(code) sender >sent 2>&1 || { cat sent; exit 2; }
wait $R || exit 3
"#;
    let Some(output) = in_network("lan wrong code", dir.path(), script) else { return };
    let text = said(&output);
    assert!(text.contains("exit 4\nerror: the code is not that of the machine at 127.0.0.1:"), "{text}");
    assert!(text.contains("hint: type the code that stands there now"), "{text}");
    assert_arrived(dir.path());
}

#[test]
fn the_same_commands_go_on_without_a_code_after_both_sides_were_killed() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
# Killed before anybody came: the same transfer, another code.
receive $on_loopback >shown 2>told & R=$!
until_there shown -
first=$(cat shown); kill -9 $R; wait $R
receive $on_loopback >again 2>told & R=$!
until_there again -
[ "$first" != "$(cat again)" ] || exit 1
grep -q 'continuing transfer' told || exit 2
LANDFALL_HOME=sender LANDFALL_CODE=$(cat again) "$B" send tree --lan --limit 500KB >sent 2>&1 & S=$!
until_there sent 'connected to'
kill -9 $S; wait $S; [ $? = 137 ] || exit 7
kill -9 $R; wait $R
receive $on_loopback >shown 2>told & R=$!
until_there told 'waiting at'
[ ! -s shown ] || exit 6
sender >sent 2>&1 || { cat sent; exit 3; }
wait $R || exit 4
grep -q 'goes on without a code' sent || exit 5
cat sent
"#;
    let Some(output) = in_network("lan again", dir.path(), script) else { return };
    let text = said(&output);
    assert!(text.contains("continuing transfer"), "{text}");
    assert_arrived(dir.path());
}

#[test]
fn a_sender_that_finds_nobody_says_what_it_waits_for_and_gives_up_when_patience_ends() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
receive $on_loopback >shown 2>told & R=$!
until_there shown -
other=zoo; case $(cat shown) in zoo-*) other=able;; esac
echo "$other zoo zoo" | sender --patience 5s --json
echo "exit $?"
kill $R; wait $R
true
"#;
    let Some(output) = in_network("lan nobody", dir.path(), script) else { return };
    let (text, told) = (said(&output), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\"kind\":\"nobody-found\"") && text.contains("\"others\":1"), "{text}");
    assert!(text.contains("\"exit\":3") && text.contains("exit 3\n"), "{text}");
    assert!(told.contains("(1 machine waits with other codes)"), "{told}");
    assert!(told.contains("error: nobody showed the code's first word for 5 seconds\n"), "{told}");
}

#[test]
fn two_machines_on_one_network_find_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
unshare -n sleep 100 & N=$!
for i in $(seq 100); do [ "$(readlink /proc/$N/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.05; done
ip link add here type veth peer name there netns $N || exit 98
ip address add 10.77.0.1/24 dev here && ip link set here up
there="nsenter -t $N -n"
$there ip address add 10.77.0.2/24 dev there && $there ip link set there up && $there ip link set lo up
$there "$B" recv in --yes --accept-level cache --lan >shown 2>told & R=$!
until_there shown -
sender <shown >sent 2>&1 || { cat sent told; exit 1; }
wait $R || exit 2
kill $N
cat told
"#;
    let Some(output) = in_network("lan two machines", dir.path(), script) else { return };
    let text = said(&output);
    assert!(text.contains("the right code came from ") && text.contains("connected to the sender at "), "{text}");
    assert_arrived(dir.path());
}
