//! The cpio "newc" archive, as the Linux kernel reads it into an initramfs.
//!
//! Facts are from the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: an archive is a
//! row of records, each a header of ASCII hexadecimal fields, a name ended by NUL and padded to four bytes,
//! and data padded to four bytes. A record named `TRAILER!!!` ends the archive; zero bytes may follow, then
//! another archive. Extended attributes have no place in the format and are left out.

mod read;
mod write;

pub use read::{Archives, ReadError, read};
pub use write::{WriteError, write, write_aligned};

/// The first six bytes of each record.
const MAGIC: &[u8; 6] = b"070701";
/// Bytes of a record's header: the magic and thirteen fields of eight digits.
const HEADER: usize = 110;
/// The name of the record that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// The kernel skips records whose name with its NUL is longer (init/initramfs.c, PATH_MAX), and symbolic
/// links whose target is.
const PATH_MAX: usize = 4096;

/// The file type bits of `c_mode`, as in stat(2).
mod kind {
    pub(super) const MASK: u32 = 0o170_000;
    pub(super) const FIFO: u32 = 0o010_000;
    pub(super) const CHAR: u32 = 0o020_000;
    pub(super) const DIRECTORY: u32 = 0o040_000;
    pub(super) const BLOCK: u32 = 0o060_000;
    pub(super) const FILE: u32 = 0o100_000;
    pub(super) const SYMLINK: u32 = 0o120_000;
    pub(super) const SOCKET: u32 = 0o140_000;
}
