//! The FAT file system with long names: FAT32, and FAT16 where a volume is too small for it.
//!
//! Facts are from Microsoft's "FAT: General Overview of On-Disk Format" (version 1.03, fatgen103), whose
//! sections are named at each fact. Files are laid down one after the other, each in one piece. Owners, modes
//! and extended attributes have no place in the format and are left out.

mod directory;
mod geometry;
mod names;
mod read;
pub(crate) mod time;
mod volume_id;
mod write;

pub use geometry::{Geometry, GeometryError, Width};
pub use read::{ReadError, Volume, read};
pub use volume_id::{VolumeIdError, set_volume_id};
pub use write::{Options, WriteError, write};

/// The bits of `DIR_Attr` (FAT Directory Structure).
mod attribute {
    pub(super) const VOLUME_ID: u8 = 0x08;
    pub(super) const DIRECTORY: u8 = 0x10;
    pub(super) const ARCHIVE: u8 = 0x20;
    /// READ_ONLY, HIDDEN, SYSTEM and VOLUME_ID together: a part of a long name.
    pub(super) const LONG_NAME: u8 = 0x0f;
    pub(super) const LONG_NAME_MASK: u8 = 0x3f;
}

/// Bytes of a directory entry.
const ENTRY: usize = 32;
/// `DIR_FileSize` and the habits of file systems limit a directory to 65536 entries.
const DIRECTORY_MAX: usize = 65_536 * ENTRY;
