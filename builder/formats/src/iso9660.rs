//! The ISO 9660 file system with Joliet names, for small trees: a disc that carries a handful of files.
//!
//! Facts are from ECMA-119 (4th edition), whose sections are named at each fact, and from Microsoft's "Joliet
//! Specification" of 1995. There are two trees of directories over one set of files: the primary one has names in capitals, as
//! the standard wants them, and the Joliet one has the names as they are, which is what Linux shows. Owners, modes and
//! extended attributes have no place in it and are left out.

mod directory;
mod names;
mod time;
mod volume;
mod write;

pub use write::{Options, WriteError, write};

/// Bytes of a logical sector and block (ECMA-119 §6.1.2, §6.2.2).
const SECTOR: usize = 2048;
