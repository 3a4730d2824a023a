//! Moving the bytes of files without holding them in memory.

use crate::io::WriteAt;
use crate::tree::Content;
use std::io::{Result, Write};

/// Bytes moved at once: large enough that the cost of a call vanishes, small enough for the cache.
const CHUNK: usize = 256 << 10;

/// Writes all of `content` to `out`.
///
/// # Errors
/// Whatever reading or writing says.
pub fn copy(content: &Content, out: &mut impl Write) -> Result<()> {
    each_chunk(content, |chunk, _| out.write_all(chunk))
}

/// Writes all of `content` into `out` from `offset` (bytes) on.
///
/// # Errors
/// Whatever reading or writing says.
pub fn copy_at<W: WriteAt + ?Sized>(content: &Content, out: &mut W, offset: u64) -> Result<()> {
    each_chunk(content, |chunk, at| out.write_all_at(chunk, offset + at))
}

/// Calls `take` with each piece of `content` in order, and the piece's offset.
fn each_chunk(content: &Content, mut take: impl FnMut(&[u8], u64) -> Result<()>) -> Result<()> {
    if let Content::Bytes(bytes) = content {
        return if bytes.is_empty() { Ok(()) } else { take(bytes, 0) };
    }
    let size = content.len();
    let mut buf = vec![0; usize::try_from(size).unwrap_or(CHUNK).min(CHUNK)];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        content.read_exact_at(&mut buf[..len], at)?;
        take(&buf[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
