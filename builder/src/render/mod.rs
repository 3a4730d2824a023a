//! Templates to documents: the cloud-init seed and the handoff document of a node, and the file of
//! `kiln init`. Pure.

pub mod overlay;
mod seed;
mod template;

pub use seed::{Seed, seed};

/// Why a document could not be made. Both are faults of a template, not of a cluster file.
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
}

/// The file that `kiln init` writes: `user` may log in with `keys`.
pub fn starter(user: &str, keys: &[String]) -> Result<String, Error> {
    template::render(&template::INIT, minijinja::context! { user, keys => keys.to_vec() })
}
