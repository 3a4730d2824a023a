//! A block device as bytes at offsets.

use kiln_formats::io::{ReadAt, WriteAt};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// O_EXCL and O_DSYNC of asm-generic/fcntl.h.
const O_EXCL: i32 = 0o200;
const O_DSYNC: i32 = 0o10000;

/// An open device. Its size is sysfs' word: a device's own file has none.
#[derive(Debug)]
pub(crate) struct Block {
    file: File,
    size: u64,
}

impl Block {
    /// Opens a device of `size` bytes to look at it.
    pub(crate) fn open(path: &Path, size: u64) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, size })
    }

    /// Opens a device for writing that nothing else may have in use: a mounted one is refused by the kernel. Each
    /// write is on the medium when it returns, so that writes reach it in their order.
    pub(crate) fn claim(path: &Path, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(O_EXCL | O_DSYNC).open(path)?;
        Ok(Self { file, size })
    }

    /// Opens a device for writing beside those who use its partitions.
    pub(crate) fn share(path: &Path, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(O_DSYNC).open(path)?;
        Ok(Self { file, size })
    }

    /// The file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl ReadAt for Block {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.file, buf, offset)
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }
}

impl WriteAt for Block {
    fn write_all_at(&mut self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.file, buf, offset)
    }
}
