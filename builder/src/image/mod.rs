//! Partitions and file systems into a disk image: the node's identifiers go in here and nowhere else.
//!
//! ESP and root come as blobs that all nodes of one root share; each node's copy gets its own volume id and
//! file system UUID by patching the few fields that hold them. The image ends after the last partition and
//! its backup GPT; the first boot moves that to the real end of the disk.

mod layout;
mod write;

pub use layout::{Body, Disk, Partition, Placed, align, place};
pub use write::{Error, Written, digest, stream, write};
