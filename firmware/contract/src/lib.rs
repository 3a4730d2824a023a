//! What the builder and the device must agree on. Both sides compile this crate; neither repeats a word of it.

pub mod addresses;
pub mod choose;
pub mod cmdline;
pub mod credentials;
pub mod datastore;
pub mod document;
pub mod encryption;
pub mod ending;
pub mod event;
pub mod glob;
pub mod handoff;
pub mod iscsi;
pub mod join;
pub mod machine;
pub mod manifest;
pub mod memory;
pub mod partition;
pub mod plan;
pub mod policy;
pub mod rejoin;
pub mod report;
pub mod secret;
pub mod settle;
