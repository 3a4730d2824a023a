//! Gathers small neighbouring pieces into large writes and leaves out what is zero anyway.

use super::error::Error;
use super::format::BLOCK;
use crate::io::WriteAt;

/// Bytes gathered before they are written: large enough to make system calls rare, small enough for a cache.
const CAPACITY: usize = 256 * 1024;
/// A run of zero blocks this long is left out; a shorter one costs less when written along.
const HOLE: usize = 16 * BLOCK;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A buffer in front of a target.
#[derive(Debug)]
pub(super) struct Sink<'w, W: ?Sized> {
    target: &'w mut W,
    buffer: Vec<u8>,
    start: u64,
    filled: usize,
}

impl<'w, W: WriteAt + ?Sized> Sink<'w, W> {
    pub(super) fn new(target: &'w mut W) -> Self {
        Self { target, buffer: vec![0; CAPACITY], start: 0, filled: 0 }
    }

    /// Room for up to `len` bytes that will be written at `offset`; at least one byte, and what is returned
    /// must be filled wholly.
    pub(super) fn room(&mut self, offset: u64, len: u64) -> Result<&mut [u8], Error> {
        if self.filled == CAPACITY || offset != self.start + self.filled as u64 {
            self.flush()?;
            self.start = offset;
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(CAPACITY - self.filled);
        let from = self.filled;
        self.filled += len;
        Ok(&mut self.buffer[from..self.filled])
    }

    /// Writes `bytes` at `offset`.
    pub(super) fn put(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        let mut offset = offset;
        while !bytes.is_empty() {
            let room = self.room(offset, bytes.len() as u64)?;
            let (now, rest) = bytes.split_at(room.len());
            room.copy_from_slice(now);
            offset += now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Writes out what is gathered.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let (mut from, mut zeros) = (0, 0);
        for at in (0..self.filled).step_by(BLOCK) {
            let end = (at + BLOCK).min(self.filled);
            if self.buffer[at..end] == ZEROS[..end - at] {
                zeros += end - at;
                continue;
            }
            if zeros >= HOLE || (zeros > 0 && from + zeros == at) {
                self.write(from, at - zeros)?;
                from = at;
            }
            zeros = 0;
        }
        self.write(from, self.filled - zeros)?;
        self.filled = 0;
        Ok(())
    }

    fn write(&mut self, from: usize, to: usize) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        let offset = self.start + from as u64;
        self.target
            .write_all_at(&self.buffer[from..to], offset)
            .map_err(|source| Error::Target { offset, source })
    }

    /// Writes one zero block as it is, so that the target reaches its end.
    pub(super) fn extend_to(&mut self, end: u64) -> Result<(), Error> {
        let offset = end.saturating_sub(BLOCK as u64);
        self.target.write_all_at(&ZEROS, offset).map_err(|source| Error::Target { offset, source })
    }
}
