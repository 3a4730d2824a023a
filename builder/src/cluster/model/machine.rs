//! What a node's system is told beside its packages.

use crate::cluster::settings::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What a node's system is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// Kernel parameters, by their names with dots.
    pub sysctls: BTreeMap<String, String>,
    /// Kernel modules to load.
    pub modules: BTreeSet<String>,
    /// Names of addresses.
    pub hosts: BTreeMap<IpAddr, Vec<String>>,
    /// Time servers; none leave Debian's.
    pub ntp: Vec<String>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// Files.
    pub files: Vec<OwnFile>,
}

/// What is mounted beside the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `server:/path`, or what the file system takes.
    pub source: String,
    /// Absolute path.
    pub mount_point: String,
    /// `nfs` and the like.
    pub filesystem: String,
    /// Options.
    pub options: Vec<String>,
}

impl Mount {
    /// It comes over the network.
    pub fn is_remote(&self) -> bool {
        self.filesystem.starts_with("nfs")
    }
}

/// A file of the user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits, where they are given.
    pub mode: Option<u16>,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// This text, which nodes share.
    Text(Arc<str>),
    /// A secret.
    Secret(Secret),
}

/// What is in it may be anything.
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{} bytes", text.len()),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}
