//! Reading what somebody else wrote.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The bytes of a document. One byte more than the `most` that it may have is enough to refuse it.
pub(crate) fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
