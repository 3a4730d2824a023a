//! Keeping what was built within a limit.

use super::{Cache, Error};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Bytes that built things may take when nobody says otherwise: about a dozen roots.
pub const LIMIT: u64 = 8 << 30;

/// No build takes longer.
const DAY: Duration = Duration::from_secs(86_400);

/// What can be made again from downloads.
const SHELVES: [&str; 2] = ["blobs", "unpacked"];

/// What [`Cache::trim`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trimmed {
    /// Files that were removed.
    pub files: usize,
    /// Bytes on the disk that they took.
    pub removed: u64,
    /// Bytes on the disk that built things take now.
    pub kept: u64,
}

struct Built {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl Cache {
    /// Removes built things, the longest unused first, until they take no more than `limit` bytes on the disk. Those that
    /// were used at or after `since` stay. Runs that have a removed file open keep it; others build it again.
    ///
    /// # Errors
    ///
    /// A folder that can't be read, a file that can't be removed.
    pub fn trim(&self, limit: u64, since: SystemTime) -> Result<Trimmed, Error> {
        let mut built = Vec::new();
        for shelf in SHELVES {
            for folder in entries(&self.root.join(shelf))? {
                for path in entries(&folder)? {
                    built.extend(look(path)?);
                }
            }
        }
        built.sort_unstable_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        let mut trimmed = Trimmed { kept: built.iter().map(|it| it.bytes).sum(), ..Trimmed::default() };
        for it in built.iter().take_while(|it| it.used < since) {
            if trimmed.kept <= limit {
                break;
            }
            super::remove(&it.path)?;
            trimmed.files += 1;
            trimmed.removed += it.bytes;
            trimmed.kept -= it.bytes;
        }
        Ok(trimmed)
    }
}

/// A file under its final name; another run may just have removed it.
fn look(path: PathBuf) -> Result<Option<Built>, Error> {
    // Earlier versions made temporary files here: one a day old is nobody's any more.
    let temporary = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    if temporary {
        let old = |metadata: fs::Metadata| metadata.modified().is_ok_and(|time| time + DAY < super::now());
        if super::metadata(&path)?.is_some_and(old) {
            super::remove(&path)?;
        }
        return Ok(None);
    }
    let Some(metadata) = super::metadata(&path)?.filter(fs::Metadata::is_file) else {
        return Ok(None);
    };
    let used = metadata.modified().map_err(|fault| Error::io("read", &path, fault))?;
    // stat(2): st_blocks counts 512 bytes, whatever the file system's blocks are.
    Ok(Some(Built { used, bytes: metadata.blocks() * 512, path }))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fault = |fault| Error::io("read", folder, fault);
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(gone) if matches!(gone.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(other) => return Err(fault(other)),
    };
    listed.map(|entry| entry.map(|entry| entry.path()).map_err(fault)).collect()
}
