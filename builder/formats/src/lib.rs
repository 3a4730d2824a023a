//! On-disk formats, and nothing else: a file tree in memory and the writers and readers that turn it into
//! bytes and back. This crate knows no clock, no path of the host, no network and no word of the project;
//! every identifier and time is given by the caller, so equal input makes equal bytes.
//!
//! | module | format | written | read |
//! | --- | --- | --- | --- |
//! | [`tree`] | the file tree that all of them share | | |
//! | [`path`] | paths of it, links followed | | |
//! | [`io`] | positioned reads and writes | | |
//! | [`sparse`] | the data and the holes of sparse files | | |
//! | [`stream`] | moving the bytes of files | | |
//! | [`ext4`] | ext4 file system | yes | yes |
//! | [`fat`] | FAT32 and FAT16 with long names | yes | yes |
//! | [`gpt`] | GUID partition table, 512 and 4096 byte sectors | yes | yes |
//! | [`iso9660`] | ISO 9660 file system with Joliet names | yes | |
//! | [`cpio`] | cpio `newc` archive (initramfs) | yes | yes |
//! | [`uki`] | PE/COFF unified kernel image | yes | yes |
//! | [`qcow2`] | QEMU copy-on-write image | yes | yes, uncompressed |
//! | [`deb`] | Debian binary package | | yes |
//! | [`elf`] | what a program or library needs to be loaded | | yes |

pub mod cpio;
#[cfg(feature = "images")]
pub mod deb;
pub mod elf;
pub mod ext4;
pub mod fat;
pub mod gpt;
pub mod io;
#[cfg(feature = "images")]
pub mod iso9660;
pub mod path;
#[cfg(feature = "images")]
pub mod qcow2;
pub mod sparse;
pub mod stream;
pub mod tree;
#[cfg(feature = "images")]
pub mod uki;
