//! Writing a partition table, and making the kernel see it.

use crate::block::Block;
use crate::sys;
use crate::{DEV, SYSFS};
use kiln_formats::gpt::{self, Table};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a partition's device may take to appear once the kernel has read the table.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a table was not written or not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The device can't be opened for writing alone.
    #[error("{device} can't be opened for writing: {error}")]
    Claim { device: String, error: io::Error },
    /// The table is impossible, or can't be written.
    #[error("{device}: {error}")]
    Write { device: String, error: gpt::WriteError },
    /// The kernel does not take the table.
    #[error("the kernel can't read the new partition table of {device}: {error}")]
    Reread { device: String, error: io::Error },
    /// The kernel took the table, and a partition is not there.
    #[error("{device} has no partition {number} although its table does")]
    NoDevice { device: String, number: u32 },
}

/// Writes both copies of the table, the backup first, each on the medium before the next, and has the kernel read
/// them. No partition of the disk may be mounted.
pub(crate) fn write(disk: &str, table: &Table) -> Result<(), Error> {
    let path = Path::new(DEV).join(disk);
    let device = path.display().to_string();
    let mut block = match Block::claim(&path, table.disk_size) {
        Ok(block) => block,
        Err(error) => return Err(Error::Claim { device, error }),
    };
    gpt::write(table, &mut block).map_err(|error| Error::Write { device: device.clone(), error })?;
    sys::reread_partitions(block.file()).map_err(|error| Error::Reread { device, error })
}

/// Changes the types of partitions, which the kernel does not look at: it need not read the table again, and the
/// partitions may be in use.
pub(crate) fn write_types(disk: &str, table: &Table) -> Result<(), Error> {
    let path = Path::new(DEV).join(disk);
    let device = path.display().to_string();
    let mut block = match Block::share(&path, table.disk_size) {
        Ok(block) => block,
        Err(error) => return Err(Error::Claim { device, error }),
    };
    gpt::write(table, &mut block).map_err(|error| Error::Write { device, error })
}

/// The device of a disk's partition, once it is there.
pub(crate) fn device(disk: &str, number: u32) -> Result<PathBuf, Error> {
    let start = Instant::now();
    loop {
        if let Some(name) = name(Path::new(SYSFS), disk, number) {
            let device = Path::new(DEV).join(name);
            if device.exists() {
                return Ok(device);
            }
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::NoDevice { device: format!("{DEV}/{disk}"), number });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The kernel's name of a disk's partition.
pub(crate) fn name(sysfs: &Path, disk: &str, number: u32) -> Option<String> {
    let entries = fs::read_dir(sysfs.join("class/block").join(disk)).ok()?;
    let mut partitions = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let wanted = number.to_string();
    let found = partitions
        .find(|path| fs::read_to_string(path.join("partition")).is_ok_and(|text| text.trim() == wanted))?;
    Some(found.file_name()?.to_string_lossy().into_owned())
}
