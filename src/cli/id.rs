//! `landfall id`: this installation's fingerprint, and where its key is. The key is made if there is none yet.

use serde_json::Value;

use super::arguments::IdArguments;
use super::console::Console;
use super::failure::Failure;
use super::{json, settings, shown};
use crate::state::home::Home;

/// Shows it.
pub(super) fn run(arguments: &IdArguments, console: &Console) -> Result<(), Failure> {
    let home = Home::open(&settings::home()?).map_err(|error| Failure::from(&error))?;
    let identity = home.identity().map_err(|error| Failure::from(&error))?;
    let fingerprint = identity.public_key().fingerprint().to_string();
    let path = home.path().join("identity");
    if arguments.json {
        let mut object = json::object("id");
        object.insert("fingerprint".into(), Value::from(fingerprint));
        json::put_path(&mut object, "file", &path);
        console.result(&json::line(object, None));
    } else {
        console.result(&format!("{fingerprint}\nkey in {}\n", shown::path(&path)));
    }
    Ok(())
}
