//! Whether what arrived is what was sent: the rig's walk and plain hashes, which share nothing with any tool. Kinds,
//! contents and link targets count; modes and times do not, since some tools carry none.

use std::path::Path;

use fault_inject::rig::oracle::{Snapshot, snapshot_without};

/// Looks at a tree.
pub fn look(root: &Path) -> Snapshot {
    snapshot_without(root, &[b".landfall"])
}

/// Paths whose content is missing or different in `target`. What is there besides does not count.
pub fn wrong(source: &Snapshot, target: &Path) -> Vec<String> {
    let found = look(target);
    let is_wrong = |(path, wanted): &(&Vec<u8>, &fault_inject::rig::oracle::Node)| {
        !found.get(*path).is_some_and(|got| {
            (got.kind, got.size_bytes, &got.target) == (wanted.kind, wanted.size_bytes, &wanted.target)
                && got.digest == wanted.digest
        })
    };
    source.iter().filter(is_wrong).map(|(path, _)| path.escape_ascii().to_string()).collect()
}

/// Regular files, and the bytes in them.
pub fn totals(tree: &Snapshot) -> (u64, u64) {
    let files = tree.values().filter(|node| matches!(node.digest, Ok(Some(_))));
    files.fold((0, 0), |(count, bytes), node| (count + 1, bytes + node.size_bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_missing_and_a_changed_file_are_named_and_times_are_not() {
        let scratch = tempfile::tempdir().unwrap();
        let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
        for dir in [&source, &target] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("same"), "1").unwrap();
            std::fs::write(dir.join("changed"), dir.as_os_str().as_encoded_bytes()).unwrap();
        }
        std::fs::write(source.join("missing"), "2").unwrap();
        std::fs::write(target.join("besides"), "3").unwrap();
        let source = look(&source);
        assert_eq!(wrong(&source, &target), ["changed", "missing"]);
        assert_eq!(totals(&source).0, 3);
    }
}
