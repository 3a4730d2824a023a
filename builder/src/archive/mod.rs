//! Debian archives, as bytes: signed release files, package indices, and which packages a request needs.
//!
//! Everything here is pure: bytes come in, types go out, and the clock is an argument. What downloads is
//! [`crate::fetch`]; what joins the two is [`crate::execute::locking`].

pub mod control;
#[cfg(test)]
pub(crate) mod fixture;
pub mod index;
pub mod keyring;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod universe;
pub mod version;
