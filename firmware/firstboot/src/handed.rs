//! The handoff document as the boot left it for services that run later.

use crate::bounded;
use crate::chap::{self, Missing};
use kiln_contract::credentials;
use kiln_contract::handoff::{self, Handoff, MAX_BYTES, RUNTIME_PATH};
use std::io;
use std::path::Path;

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

/// The document as services need it.
pub(crate) struct Handed {
    /// With the CHAP names and passwords, wherever they are.
    pub(crate) handoff: Handoff,
    /// Why it has none of them: those in it are empty then, and must not be used.
    pub(crate) missing: Option<Missing>,
}

/// Reads it.
pub(crate) fn read() -> Result<Handed, Error> {
    let mut handoff = Handoff::parse(&bounded::read(Path::new(RUNTIME_PATH), MAX_BYTES)?)?;
    let missing = chap::restore(&mut handoff, Path::new(credentials::PATH)).err();
    Ok(Handed { handoff, missing })
}
