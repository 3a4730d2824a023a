//! To be written.

pub mod locking;
