//! ext4, judged by e2fsck, debugfs, resize2fs and the kernel.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this crate is tests

mod boundary;
mod bytes;
mod hostile;
mod kernel;
mod oracle;
mod roundtrip;
