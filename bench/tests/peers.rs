//! The whole command once, as small as it can be: two tools, one run, 8 MiB. No time is asserted anywhere.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use fault_inject::rig::process;
use fault_inject::rig::scratch::Scratch;

#[test]
fn peers_prints_the_machine_and_a_table_and_draws_a_chart() {
    process::build_landfall().unwrap();
    let scratch = Scratch::new("bench-peers");
    let chart = scratch.join("chart.svg");
    let run = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["peers", "--tools", "cp,landfall", "--loads", "big", "--big-mib", "8", "--runs", "1", "--work"])
        .arg(scratch.path())
        .arg("--svg")
        .arg(&chart)
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert_eq!(run.status.code(), Some(0), "{stdout}\n{stderr}");
    assert!(stdout.starts_with("machine: "), "{stdout}");
    for tool in ["cp", "landfall"] {
        let line = stdout.lines().find(|line| line.starts_with(&format!("| {tool} ")));
        assert!(line.is_some_and(|line| line.contains("| equal |") || line.contains(" equal |")), "{stdout}");
    }
    let drawn = std::fs::read_to_string(&chart).unwrap();
    assert!(drawn.contains(">landfall<") && drawn.ends_with("</svg>\n"), "{drawn}");
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["chart.svg"], "nothing else is left");
}
