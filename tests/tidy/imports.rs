//! Which module may import which, and which crate is named where.

use crate::source::Source;

/// What one top-level module of `src/` may import.
pub(crate) struct Module {
    /// Its name: a file or a directory of `src/`.
    pub(crate) name: &'static str,
    /// Its floor (ARCHITECTURE.md).
    pub(crate) floor: u8,
    /// The modules it may name with `crate::`; WORDS stands for floor 0, FORMATS for floor 1.
    pub(crate) may_import: &'static str,
}

const fn module(floor: u8, name: &'static str, may_import: &'static str) -> Module {
    Module { name, floor, may_import }
}

/// The import graph: each module may import only what stands above it here, so there is no cycle. An edge that
/// is not here is a decision to make in review, before it is a line of code.
pub(crate) const MODULES: &[Module] = &[
    module(0, "limits", ""),
    module(0, "attributes", ""),
    module(0, "geometry", "limits"),
    module(0, "path", "limits"),
    module(0, "digest", "limits geometry path"),
    module(0, "identity", "limits digest"),
    module(0, "outcome", "limits attributes path digest"),
    module(1, "manifest", "WORDS"),
    module(1, "journal", "WORDS"),
    module(1, "ticket", "WORDS"),
    module(1, "lists", "WORDS"),
    module(1, "receipt", "WORDS manifest"),
    module(1, "wire", "WORDS manifest receipt"),
    module(1, "error", "WORDS wire"),
    module(1, "event", "WORDS wire error receipt"),
    module(1, "task", "WORDS manifest wire error event"),
    module(1, "options", "WORDS ticket lists"),
    module(2, "session", "WORDS FORMATS"),
    module(3, "pool", "limits error"),
    module(3, "buffers", "limits"),
    module(3, "disk", "limits attributes path error buffers"),
    module(3, "net", "WORDS FORMATS buffers"),
    module(3, "state", "WORDS FORMATS disk net"),
    module(3, "source", "WORDS FORMATS buffers disk pool state"),
    module(3, "store", "WORDS FORMATS disk pool state"),
    module(3, "lan", "WORDS FORMATS net"),
    module(4, "meet", "WORDS FORMATS session disk state net lan"),
    module(4, "send", "WORDS FORMATS session disk pool state source net meet"),
    module(4, "recv", "WORDS FORMATS session disk pool state store net meet"),
    module(4, "verify", "WORDS FORMATS disk pool state net"),
    module(4, "plan", "WORDS FORMATS disk state source store meet"),
    module(4, "prune", "WORDS FORMATS disk state source meet plan"),
    module(5, "progress", "WORDS wire error event"),
    module(5, "cli", "WORDS FORMATS disk pool state source store net lan meet send recv verify plan prune progress"),
    module(6, "lib", ""),
    module(6, "main", "cli"),
];

impl Module {
    /// The modules it may import, groups expanded.
    fn targets(&self) -> Vec<&'static str> {
        let group = |floor: u8| MODULES.iter().filter(move |module| module.floor == floor).map(|module| module.name);
        let mut targets = Vec::new();
        for word in self.may_import.split_whitespace() {
            match word {
                "WORDS" => targets.extend(group(0)),
                "FORMATS" => targets.extend(group(1)),
                name => targets.push(name),
            }
        }
        targets
    }
}

/// A name of the outside world and the modules that may use it (each a file or a directory).
struct Owned {
    path: &'static [&'static str],
    owners: &'static [&'static str],
}

const OWNED: &[Owned] = &[
    Owned { path: &["blake3"], owners: &["src/digest"] },
    Owned { path: &["std", "fs"], owners: &["src/disk", "src/state"] },
    // The identity's file is read before there is any state to speak of.
    Owned { path: &["rustix", "fs"], owners: &["src/disk", "src/state", "src/net/key_file"] },
    Owned { path: &["tokio", "fs"], owners: &[] },
    Owned { path: &["quinn"], owners: &["src/net"] },
    Owned { path: &["quinn_proto"], owners: &["src/net/congestion"] },
    Owned { path: &["rustls"], owners: &["src/net"] },
    Owned { path: &["ring"], owners: &["src/net/identity", "src/net/seal"] },
    Owned { path: &["spake2"], owners: &["src/lan/exchange"] },
    Owned { path: &["mdns_sd"], owners: &["src/lan"] },
];

/// What floors 0 to 2 never name: no runtime, network, clock or randomness. Types of addresses are words.
const IMPURE: &[&[&str]] = &[
    &["tokio"],
    &["quinn"],
    &["quinn_proto"],
    &["rustls"],
    &["ring"],
    &["rand"],
    &["socket2"],
    &["tempfile"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "net", "UdpSocket"],
    &["std", "net", "TcpStream"],
    &["std", "net", "TcpListener"],
    &["std", "time", "SystemTime"],
];

/// The brains know no addresses either.
const IMPURE_IN_SESSION: &[&[&str]] = &[&["std", "net"], &["core", "net"]];

/// Top-level module of a file of `src/`, and how deep in it the file lies (1: the module itself).
fn module_of(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<&str> = inner.split('/').collect();
    let is_mod = parts.len() > 1 && parts.last() == Some(&"mod");
    Some((parts[0], parts.len() - usize::from(is_mod)))
}

fn is_module(name: &str) -> bool {
    MODULES.iter().any(|module| module.name == name)
}

/// Edges of the product's code and of its unit tests that the table does not hold.
pub(crate) fn edges(source: &Source) -> Vec<String> {
    let Some((name, depth)) = module_of(&source.path) else { return Vec::new() };
    let Some(module) = MODULES.iter().find(|module| module.name == name) else {
        return vec![format!("{}: module `{name}` has no floor: add it to the table", source.path)];
    };
    let targets = module.targets();
    let mut found = Vec::new();
    for path in source.paths() {
        let supers = path.parts.iter().take_while(|part| *part == "super").count();
        let target = match path.parts[0].as_str() {
            "crate" => path.parts.get(1),
            // An inline module needs one `super` more, so a chain that only seems to leave names no module.
            "super" if supers >= depth => path.parts.get(supers).filter(|target| is_module(target)),
            _ => None,
        };
        let Some(target) = target.filter(|target| *target != name) else { continue };
        if !targets.contains(&target.as_str()) {
            let line = source.line(path.offset);
            found.push(format!("{}:{line}: `{name}` may not import `crate::{target}`", source.path));
        }
    }
    found
}

/// Crates and parts of std outside the places that own them.
pub(crate) fn owners(source: &Source) -> Vec<String> {
    if !source.path.starts_with("src/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for owned in OWNED.iter().filter(|owned| !owned.owners.iter().any(|owner| is_in(&source.path, owner))) {
        for line in uses(source, owned.path) {
            let (name, owners) = (owned.path.join("::"), owned.owners);
            found.push(format!("{}:{line}: only {owners:?} may name `{name}`", source.path));
        }
    }
    found
}

/// Whether a file is a module or lies below it.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Anything of the outside world on floors 0 to 2.
pub(crate) fn purity(source: &Source) -> Vec<String> {
    let floor = module_of(&source.path).and_then(|(name, _)| MODULES.iter().find(|module| module.name == name));
    let Some(module) = floor.filter(|module| module.floor <= 2) else { return Vec::new() };
    let further = if module.name == "session" { IMPURE_IN_SESSION } else { &[] };
    let mut found = Vec::new();
    for banned in IMPURE.iter().chain(further) {
        for line in uses(source, banned) {
            let (name, floor) = (banned.join("::"), module.floor);
            found.push(format!("{}:{line}: floor {floor} is pure and never names `{name}`", source.path));
        }
    }
    found
}

/// Lines on which the product's code names something below `prefix`.
fn uses(source: &Source, prefix: &[&str]) -> Vec<usize> {
    let is_below = |parts: &[String]| parts.len() >= prefix.len() && parts.iter().zip(prefix).all(|(a, b)| a == b);
    let paths = source.paths();
    let found = paths.iter().filter(|path| is_below(&path.parts) && !source.is_test(path.offset));
    found.map(|path| source.line(path.offset)).collect()
}

/// Whether the table itself keeps the law: imports point down or to what stands above in it, hands never import
/// brains, brains never import hands.
pub(crate) fn table_faults() -> Vec<String> {
    let mut found = Vec::new();
    for (index, module) in MODULES.iter().enumerate() {
        for target in module.targets() {
            match MODULES.iter().position(|module| module.name == target) {
                None => found.push(format!("`{}` imports `{target}`, which has no floor", module.name)),
                Some(above) if above >= index => found.push(format!("`{}` imports `{target}` from above", module.name)),
                Some(above) if (module.floor, MODULES[above].floor) == (3, 2) => {
                    found.push(format!("`{}` is a hand and imports the brain `{target}`", module.name));
                }
                Some(_) => {}
            }
        }
    }
    let is_sorted = MODULES.windows(2).all(|pair| pair[0].floor <= pair[1].floor);
    found.extend((!is_sorted).then(|| "the table is not sorted by floor".to_owned()));
    found
}
