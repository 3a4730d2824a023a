//! What the builder and the device must agree on. Both sides compile this crate; neither repeats a word of it.

pub mod cmdline;
pub mod handoff;
pub mod partition;
pub mod report;
