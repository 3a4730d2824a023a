//! ext4, judged by e2fsck, debugfs, resize2fs and the kernel.
#![allow(missing_docs)]

mod boundary;
mod bytes;
mod hostile;
mod kernel;
mod oracle;
mod roundtrip;
