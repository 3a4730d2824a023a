//! Templates to documents: the cloud-init seed and the handoff document of a node, and the file of
//! `kiln init`. Pure.

mod artefacts;
mod context;
mod disks;
mod files;
mod filters;
mod folders;
mod machine;
mod manifests;
mod network;
mod networkd;
pub mod overlay;
mod scalar;
mod seed;
mod settle;
mod stock;
mod template;
mod user_data;
mod wifi;
mod written;
mod yaml;

pub use artefacts::{ARCHIVES, Artefact, artefacts};
pub use context::{NoVault, Vault};
pub use disks::policy;
pub use files::{File, files};
pub use seed::{Seed, Target, handoff, seed, stock_seed};
pub use stock::{Fetched, Stock, left_out};
pub use user_data::check as check_user_data;
pub use written::{Lost, lost};

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
    /// A secret of the cluster's own that a seed needs.
    #[error("node {node}: {reason}")]
    Secret {
        /// The node.
        node: String,
        /// Why there is none.
        reason: String,
    },
    /// An overlay that can't be read.
    #[error("{0}")]
    Overlay(String),
    /// A manifest that a node could do nothing with.
    #[error("the manifest {path}: {reason}")]
    Manifest {
        /// Where it was to be on the node.
        path: String,
        /// What is wrong with it; nothing that is secret.
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
    /// A Wi-Fi network whose password can't be had.
    #[error("the Wi-Fi network {ssid:?}: {reason}")]
    Wifi {
        /// Name of the network.
        ssid: String,
        /// Why, without the password.
        reason: String,
    },
    /// A user's own file for cloud-init.
    #[error("node {node}: {path}: {reason}")]
    UserData {
        /// The node.
        node: String,
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file that would not be written without a disk.
    #[error("{0}: {help}", help = Lost::HELP)]
    Lost(Lost),
    /// SSH keys that are published elsewhere.
    #[error("node {node}: the keys of {source_name} are not in the lock yet: `kiln lock` asks for them")]
    Keys {
        /// The node.
        node: String,
        /// Where they are published.
        source_name: String,
    },
    /// What a stock image can't be.
    #[error("node {node}: {reason}")]
    Stock {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
}

/// The file that `kiln init` writes: `user` may log in with `keys`.
pub fn starter(user: &str, keys: &[String]) -> Result<String, Error> {
    template::render(&template::INIT, minijinja::context! { user, keys => keys.to_vec() })
}
