//! Sparse files: where their data lies, so that holes are neither read nor written.

use crate::io::ReadAt;
use rustix::fs::{SeekFrom, seek};
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

/// True when all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Without an early exit inside a piece the compiler compares whole vectors.
    bytes.chunks(1024).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}
