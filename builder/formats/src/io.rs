//! Positioned reads and writes, so that many threads can share one open file and nothing keeps a cursor.

use std::fmt::Debug;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A source of bytes that is read at offsets.
pub trait ReadAt: Send + Sync + Debug {
    /// Fills `buf` from `offset` (bytes). Fails with `UnexpectedEof` when the source ends before that.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;
    /// The size in bytes.
    fn size(&self) -> Result<u64>;
    /// The file behind the source, when its offsets are the file's own: allows an in-kernel copy.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

/// A target of bytes that is written at offsets. What is never written reads as zeros.
pub trait WriteAt {
    /// Writes all of `buf` at `offset` (bytes).
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> Result<()>;
    /// The file behind the target, when its offsets are the file's own: allows an in-kernel copy.
    fn as_file(&self) -> Option<&File> {
        None
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }
    fn size(&self) -> Result<u64> {
        Ok(self.metadata()?.len())
    }
    fn as_file(&self) -> Option<&File> {
        Some(self)
    }
}

impl WriteAt for File {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> Result<()> {
        FileExt::write_all_at(self, buf, offset)
    }
    fn as_file(&self) -> Option<&File> {
        Some(self)
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let eof = || Error::from(ErrorKind::UnexpectedEof);
        let start = usize::try_from(offset).map_err(|_| eof())?;
        let end = start.checked_add(buf.len()).ok_or_else(eof)?;
        buf.copy_from_slice(self.get(start..end).ok_or_else(eof)?);
        Ok(())
    }
    fn size(&self) -> Result<u64> {
        Ok(self.len() as u64)
    }
}

impl WriteAt for Vec<u8> {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
        let end = start.checked_add(buf.len()).ok_or_else(|| Error::from(ErrorKind::FileTooLarge))?;
        if self.len() < end {
            self.resize(end, 0);
        }
        self[start..end].copy_from_slice(buf);
        Ok(())
    }
}

/// A window of a source: `len` bytes from `start`, seen as offsets from 0 (a partition of a disk image).
#[derive(Debug, Clone)]
pub struct Window {
    source: Arc<dyn ReadAt>,
    start: u64,
    len: u64,
}

impl Window {
    /// The `len` bytes of `source` from `start`; reads past either end fail with `UnexpectedEof`.
    pub fn new(source: Arc<dyn ReadAt>, start: u64, len: u64) -> Self {
        Self { source, start, len }
    }
}

impl ReadAt for Window {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let start = self.start.checked_add(offset);
        match (end, start) {
            (Some(_), Some(start)) => self.source.read_exact_at(buf, start),
            _ => Err(Error::from(ErrorKind::UnexpectedEof)),
        }
    }
    fn size(&self) -> Result<u64> {
        Ok(self.len)
    }
}

/// A target that writes into another one from `start` bytes on (a partition inside a disk image).
#[derive(Debug)]
pub struct Shifted<'a, W: ?Sized> {
    target: &'a mut W,
    start: u64,
}

impl<'a, W: WriteAt + ?Sized> Shifted<'a, W> {
    /// Writes at offset 0 land at `start` of `target`.
    pub fn new(target: &'a mut W, start: u64) -> Self {
        Self { target, start }
    }
}

impl<W: WriteAt + ?Sized> WriteAt for Shifted<'_, W> {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> Result<()> {
        let offset = self.start.checked_add(offset).ok_or_else(|| Error::from(ErrorKind::FileTooLarge))?;
        self.target.write_all_at(buf, offset)
    }
}
