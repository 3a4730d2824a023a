//! Doing what a plan says: packages to roots, roots to images, each file under its final name only when it
//! is whole.

pub mod artefacts;
pub mod document;
pub mod inputs;
pub mod locking;
pub mod nodes;
pub mod output;
pub mod room;
pub mod roots;
pub mod seeds;
pub mod ssh_keys;
pub mod unpack;
pub mod vault;
