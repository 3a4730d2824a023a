//! The handoff document as the boot left it for services that run later.

use kiln_contract::handoff::{self, Handoff, MAX_BYTES, RUNTIME_PATH};
use std::fs::File;
use std::io::{self, Read};

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can't be read.
    #[error("{RUNTIME_PATH}: {0}")]
    Read(#[from] io::Error),
    /// It is not good.
    #[error("{RUNTIME_PATH}: {0}")]
    Parse(#[from] handoff::Error),
}

/// Reads it.
pub(crate) fn read() -> Result<Handoff, Error> {
    let mut bytes = Vec::new();
    File::open(RUNTIME_PATH)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Handoff::parse(&bytes)?)
}
