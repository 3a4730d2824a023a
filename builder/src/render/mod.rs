//! Templates to documents: the cloud-init seed and the handoff document of a node, and the file of
//! `kiln init`. Pure.

mod artefacts;
mod context;
mod disks;
mod files;
pub mod overlay;
mod scalar;
mod seed;
mod template;

pub use artefacts::{ARCHIVES, Artefact, artefacts};
pub use context::{NoVault, Vault};
pub use disks::policy;
pub use files::{File, files};
pub use seed::{Seed, handoff, seed};

/// Why a document could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template asks for what it isn't given, or isn't one.
    #[error("the template {name}{}: {reason}", if *line == 0 { String::new() } else { format!(", line {line}") })]
    Template {
        /// Its name below `templates/`.
        name: String,
        /// Line, from 1; 0 when it isn't known.
        line: usize,
        /// What minijinja says.
        reason: String,
    },
    /// An overlay that can't be read.
    #[error("{0}")]
    Overlay(String),
    /// The handoff document is one that a device would not take.
    #[error("node {node}: no device would take its handoff document: {source}")]
    Handoff {
        /// The node.
        node: String,
        /// What is wrong with it.
        source: kiln_contract::handoff::Error,
    },
}

/// The file that `kiln init` writes: `user` may log in with `keys`.
pub fn starter(user: &str, keys: &[String]) -> Result<String, Error> {
    template::render(&template::INIT, minijinja::context! { user, keys => keys.to_vec() })
}
