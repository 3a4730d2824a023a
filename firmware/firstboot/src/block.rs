//! A block device as bytes at offsets.

use kiln_formats::io::{ReadAt, WriteAt};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long another may hold a disk: udev does while it looks at one.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

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

/// Holds a whole disk (systemd's "Locking Block Device Access") until what this gives is dropped. Where udev runs, it reads
/// the partition table again whenever a disk was written to, and partitions are gone for a moment: not while one is held.
pub(crate) fn hold(disk: &Path) -> io::Result<File> {
    let file = File::open(disk)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => std::thread::sleep(POLL),
            Err(error) => return Err(error.into()),
        }
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
