//! QEMU's copy-on-write image, version 3 (`compat=1.1`).
//!
//! Facts are from QEMU's docs/interop/qcow2.rst: a header, a two-level table (L1, L2) from clusters of the
//! guest's disk to clusters of the file, and a count of references to each cluster of the file. All numbers
//! are big-endian. Clusters of zeros are left out of the table and read as zeros.

mod disk;
mod read;
mod write;

pub use disk::Disk;
pub use read::{Compression, Header, ReadError, read_header};
pub use write::{Options, WriteError, write};

/// `QFI\xfb`, the first bytes.
const MAGIC: &[u8; 4] = b"QFI\xfb";
/// 64 KiB, QEMU's choice.
const CLUSTER_BITS: u32 = 16;
/// Bytes a cluster.
const CLUSTER: usize = 1 << CLUSTER_BITS;
/// Entries of an L2 table or of a cluster of the L1 or refcount table.
const ENTRIES: usize = CLUSTER / 8;
/// Incompatible feature bit 3: the header has a compression type other than zlib.
const COMPRESSION_BIT: u64 = 1 << 3;
/// Compression type of zstd.
const ZSTD: u8 = 1;
