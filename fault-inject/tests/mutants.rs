//! Every mutant still applies to the tree, so that a change of the code that it breaks cannot retire it in silence.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use fault_inject::mutants::{self, Apply};

/// Mutants that there must be.
const MUTANTS_MIN: usize = 30;

#[test]
fn every_mutant_applies_and_names_its_killer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let all = mutants::all().unwrap();
    assert!(all.len() >= MUTANTS_MIN, "{} mutants", all.len());
    let numbers: BTreeSet<&str> = all.iter().filter_map(|mutant| mutant.name.split('-').next()).collect();
    assert_eq!(numbers.len(), all.len(), "two mutants have one number");
    for mutant in all {
        assert!(!mutant.breaks.is_empty() && !mutant.killer.is_empty(), "{}", mutant.name);
        if let Err(why) = mutants::apply(&mutant.patch, root, Apply::Check) {
            panic!("{} does not apply any more: {why}", mutant.name);
        }
    }
}

#[test]
fn a_patch_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let patch = dir.path().join("misfit.patch");
    std::fs::write(
        &patch,
        "--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1,1 +1,1 @@\n-this line stands nowhere\n+nor this\n",
    )
    .unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert!(mutants::apply(&patch, root, Apply::Check).is_err());
}
