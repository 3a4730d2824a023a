//! Sparse files: where their data lies, so that holes are neither read nor written.

use crate::io::{ReadAt, WriteAt};
use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io::Result;
use std::ops::Range;

/// The stretches of a source that may hold data, in order, as byte ranges; all between them is zero.
///
/// A source that is no file, or lies on a file system that does not tell (lseek(2), `SEEK_DATA`), is one
/// stretch. Moves the file's cursor, which positioned reads do not use.
///
/// # Errors
/// When the size cannot be found out; later, from the iterator, when seeking fails.
pub fn data_extents(source: &dyn ReadAt) -> Result<DataExtents<'_>> {
    Ok(DataExtents { file: source.as_file(), at: 0, size: source.size()? })
}

/// See [`data_extents`].
#[derive(Debug)]
pub struct DataExtents<'a> {
    /// `None` when everything is one stretch.
    file: Option<&'a File>,
    at: u64,
    size: u64,
}

impl Iterator for DataExtents<'_> {
    type Item = Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.size {
            return None;
        }
        let found = match self.file.map_or(Err(Errno::INVAL), |file| extent(file, self.at)) {
            Ok(found) => found,
            // No such question to this file system, this device, or this source.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::SPIPE) => Some(self.at..self.size),
            Err(error) => {
                self.at = self.size;
                return Some(Err(error.into()));
            }
        };
        let Some(found) = found.filter(|found| found.start < self.size) else {
            self.at = self.size;
            return None;
        };
        // A file that changes meanwhile must not make this run in circles.
        let end = found.end.min(self.size).max(found.start + 1);
        self.at = end;
        Some(Ok(found.start..end))
    }
}

/// The first stretch of data from `at` on; `None` when there is only a hole.
fn extent(file: &File, at: u64) -> std::result::Result<Option<Range<u64>>, Errno> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some(start..seek(file, SeekFrom::Hole(start))?)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes that are read at once where the kernel cannot copy by itself.
const CHUNK: u64 = 256 << 10;
/// Pieces of this size (bytes) that are zero are not written: a file system's block.
const BLOCK: usize = 4096;

/// Copies the data of `source` into `out` from `offset` (bytes) on, in the kernel where both are files, and
/// returns the number of bytes that were copied. Holes are passed over: they must be zero in `out` already.
///
/// # Errors
/// Whatever reading, seeking or writing says.
pub fn copy<W: WriteAt + ?Sized>(source: &dyn ReadAt, out: &mut W, offset: u64) -> Result<u64> {
    let mut copied = 0;
    for extent in data_extents(source)? {
        let mut extent = extent?;
        copied += extent.end - extent.start;
        if let Some((from, to)) = source.as_file().zip(out.as_file()) {
            extent.start = in_kernel(from, to, extent.clone(), offset)?;
        }
        let mut buf = vec![0; usize::try_from((extent.end - extent.start).min(CHUNK)).unwrap_or_default()];
        while extent.start < extent.end {
            let len = usize::try_from(extent.end - extent.start).unwrap_or(usize::MAX).min(buf.len());
            source.read_exact_at(&mut buf[..len], extent.start)?;
            for (block, at) in buf[..len].chunks(BLOCK).zip((extent.start..).step_by(BLOCK)) {
                if !is_zero(block) {
                    out.write_all_at(block, offset + at)?;
                }
            }
            extent.start += len as u64;
        }
    }
    Ok(copied)
}

/// Copies as much of a stretch as copy_file_range(2) will, and returns where it stopped: at the start on file
/// systems between which it does not work.
fn in_kernel(from: &File, to: &File, extent: Range<u64>, offset: u64) -> Result<u64> {
    let (mut at, mut target) = (extent.start, extent.start + offset);
    while at < extent.end {
        let len = usize::try_from(extent.end - at).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut at), to, Some(&mut target), len) {
            // At the end of a file that was cut meanwhile, or for a file system that does not tell better.
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(at)
}

/// True when all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Without an early exit inside a piece the compiler compares whole vectors.
    bytes.chunks(1024).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}
