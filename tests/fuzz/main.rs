//! Hostile bytes for every parser that reads some: each must answer, soon and in little memory, and panic at nothing.
//!
//! Inputs are made from good ones: bits turned, lengths and counts replaced, pieces cut, doubled and swapped. A share of
//! 45 seconds for each parser by default; `KILN_FUZZ_SECONDS=10` gives each one ten, 3600 an hour. `KILN_FUZZ_ONLY=ext4` is one
//! of them, `KILN_FUZZ_SEED` chooses other inputs. A failure names the seed and the number of the input, which make it again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod documents;
mod engine;
mod formats;
mod texts;

use engine::{Target, run};
use std::time::Duration;

/// For all parsers together, where nobody says otherwise.
const ALL: Duration = Duration::from_secs(45);

#[test]
fn hostile_bytes_end_in_words() {
    let variable = |name: &str| std::env::var(name).ok();
    let only = variable("KILN_FUZZ_ONLY");
    let seed = variable("KILN_FUZZ_SEED").and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut targets: Vec<Target> =
        [formats::targets(), texts::targets(), documents::targets()].into_iter().flatten().collect();
    targets.retain(|target| only.as_deref().is_none_or(|only| only == target.name));
    assert!(!targets.is_empty(), "no parser is called {only:?}");
    let each = variable("KILN_FUZZ_SECONDS").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let each = each.unwrap_or(ALL / u32::try_from(targets.len()).unwrap());
    for target in &targets {
        run(target, (seed, each));
    }
}
