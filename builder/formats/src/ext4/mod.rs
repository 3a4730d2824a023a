//! ext4: a deterministic, streaming writer and a reader.
//!
//! Names of fields and facts follow the kernel's `Documentation/filesystems/ext4` ("the kernel's ext4
//! pages" in comments: superblock.rst, group_descr.rst, bitmaps.rst, inodes.rst, ifork.rst, directory.rst,
//! attributes.rst, journal.rst, checksums.rst). Where that is silent, `fs/ext4` of Linux 6.12 is the source.
//!
//! What is written: 4 KiB blocks, 256 byte inodes, extents, a journal, hashed directories, checksums with a
//! seed of their own (`metadata_csum_seed`), so that [`set_uuid`] has to touch the superblocks only and one
//! root image serves many nodes. Growing works both ways: reserved descriptor blocks (`resize_inode`) for
//! the first factor of 1024, the kernel's change to `meta_bg` after that.

mod acl;
mod checksum;
mod contents;
mod dir;
mod error;
mod extent;
mod format;
mod group;
mod hash;
mod inode;
mod inventory;
mod journal;
mod layout;
mod metadata;
mod options;
mod place;
pub mod read;
mod resize;
mod sink;
mod superblock;
mod table;
mod uuid;
mod write;
mod xattr;

pub use error::{Error, XattrFault};
pub use options::{Options, Summary};
pub use uuid::{UuidPatch, set_uuid, uuid_patches};
pub use write::{minimum_size, write};
