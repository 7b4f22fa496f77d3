//! Rules about several files at once: dependencies and their reasons, limits and their units, golden bytes, the
//! README's two commands.

/// What a limit may count. The qualifier (`MAX`, `MIN`) comes after it.
const UNITS: &[&str] = &[
    "BYTES",
    "DESCRIPTORS",
    "NS",
    "MS",
    "SECONDS",
    "DAYS",
    "PERCENT", // measures
    "CHUNKS",
    "ENTRIES",
    "FILES",
    "THREADS",
    "PROBES",
    "PACKETS",
    "SNAPSHOTS",
    "DIGESTS",
    "RUNS",
    "COMPONENTS",
    "STRIKES",
    "INODES",
    "VERSIONS",
    "STREAMS",
    "RECORDS",
    "PATTERNS",
    "FRAMES",
    "ADDRESSES",
    "LINES",
    "ROUNDS",
    "ATTEMPTS",
    "STALLS",
    "DIRECTORIES",
    "READS",
    "SOURCES",
    "COLUMNS",
    "EVENTS",
    "BATCHES",
    "TASKS",
    "QUESTIONS",
    "INCOMING", // quinn's noun for a connection that nobody has accepted yet
];

/// Public constants of `limits.rs` without a doc, or without a unit in their name.
pub(crate) fn limit_faults(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) else { continue };
        if index == 0 || !lines[index - 1].starts_with("/// ") {
            found.push(format!("limits.rs:{}: `{name}` has no doc", index + 1));
        }
        if !name.split('_').any(|word| UNITS.contains(&word)) {
            found.push(format!("limits.rs:{}: `{name}` has no unit in its name", index + 1));
        }
    }
    found
}

/// Names of the crates in every dependency table of a `Cargo.toml`, without those given by path.
pub(crate) fn dependencies(cargo_toml: &str) -> Vec<String> {
    let mut is_in_table = false;
    let mut found = Vec::new();
    for line in cargo_toml.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            is_in_table = table.ends_with("dependencies");
            found.extend(table.rsplit_once("dependencies.").map(|(_, name)| name.to_owned()));
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_in_table)
            && !value.contains("path =")
        {
            found.push(name.split('.').next().unwrap_or(name).trim().to_owned());
        }
    }
    found
}

/// Crates that CONTRIBUTING.md does not give exactly one line with a reason, and lines about crates that are gone.
pub(crate) fn dependency_faults(crates: &[String], contributing: &str) -> Vec<String> {
    let listed: Vec<(&str, &str)> =
        contributing.lines().filter_map(|line| line.strip_prefix("- `")?.split_once("`: ")).collect();
    let mut found = Vec::new();
    for name in crates {
        let reasons: Vec<&str> = listed.iter().filter(|line| line.0 == name).map(|line| line.1.trim()).collect();
        if reasons.len() != 1 || reasons[0].is_empty() {
            found.push(format!("CONTRIBUTING.md: `{name}` has {} lines that say why, not one", reasons.len()));
        }
    }
    let gone = listed.iter().filter(|line| !crates.iter().any(|name| name == line.0));
    found.extend(gone.map(|line| format!("CONTRIBUTING.md: `{}` is no dependency", line.0)));
    found
}

/// Formats of which `tests/golden/` holds no file.
pub(crate) fn golden_faults(names: &[String]) -> Vec<String> {
    ["wire", "manifest", "journal", "ticket", "receipt"]
        .iter()
        .filter(|format| !names.iter().any(|name| name.starts_with(**format)))
        .map(|format| format!("tests/golden: no bytes of the format `{format}`"))
        .collect()
}

/// What the README lacks: its two commands (the only `sh` blocks, one line each; `.ci/run` runs what stands there),
/// or exactly one table row that begins with each of `rows`.
pub(crate) fn readme_faults(readme: &str, rows: &[&str]) -> Vec<String> {
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
    let mut found = Vec::new();
    if commands.len() != 2 || !commands[1].starts_with("cargo test --workspace") {
        found.push(format!("README.md: its two commands are {commands:?}"));
    }
    for row in rows.iter().filter(|row| readme.lines().filter(|line| line.starts_with(**row)).count() != 1) {
        found.push(format!("README.md: not one row `{row}`"));
    }
    found
}
