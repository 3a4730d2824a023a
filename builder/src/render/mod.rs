//! Templates to documents: the cloud-init seed and the handoff document of a node, and the file of
//! `kiln init`. Pure.

mod disks;
pub mod overlay;
mod seed;
mod template;

pub use disks::policy;
pub use seed::{Seed, seed};

/// Why a document could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template asks for what it isn't given, or isn't one.
    #[error("the template {name}, line {line}: {reason}")]
    Template {
        /// Its name below `templates/`.
        name: String,
        /// Line, from 1; 0 when it isn't known.
        line: usize,
        /// What minijinja says.
        reason: String,
    },
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
