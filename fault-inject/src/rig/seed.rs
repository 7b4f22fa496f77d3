//! Where randomness of the tests comes from, and how a failure tells to reproduce it.

use std::io::{self, Write};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The seed of one test run. If the test panics, the command that repeats it is printed.
pub struct Seed {
    /// The number itself.
    pub value: u64,
    binary: &'static str,
    test: &'static str,
}

impl Seed {
    /// `LANDFALL_TEST_SEED` (decimal or `0x` and hexadecimal, or `random`), else a fixed one for each test.
    pub fn of(binary: &'static str, test: &'static str) -> Seed {
        let value = match std::env::var("LANDFALL_TEST_SEED") {
            Ok(text) if text == "random" => rand_from_clock(),
            Ok(text) => parse(&text).unwrap_or_else(|| panic!("LANDFALL_TEST_SEED={text} is not a number")),
            Err(_) => u64::from_le_bytes(blake3::hash(test.as_bytes()).as_bytes()[..8].try_into().unwrap()),
        };
        Seed { value, binary, test }
    }

    /// A generator; different purposes get different streams.
    pub fn rng(&self, purpose: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.value);
        rng.set_stream(purpose);
        rng
    }

    /// What to type to run this test again with this seed.
    pub fn command(&self) -> String {
        format!("LANDFALL_TEST_SEED={:#x} cargo test --test {} {}", self.value, self.binary, self.test)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(io::stderr(), "reproduce: {}", self.command());
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn rand_from_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_nanos() as u64
}
