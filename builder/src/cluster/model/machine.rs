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
    /// Folders that can be written to, by their absolute paths.
    pub directories: BTreeSet<String>,
    /// Files.
    pub files: Vec<OwnFile>,
    /// Locale, where one is given.
    pub locale: Option<String>,
    /// Keyboard of the console, where one is given.
    pub keyboard: Option<Keyboard>,
}

/// A keyboard, in the words of xkeyboard-config(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyboard {
    /// Layouts with commas between.
    pub layout: String,
    /// Variants, one for each layout, with commas between; may be empty.
    pub variant: String,
    /// Model.
    pub model: String,
    /// Options with commas between; may be empty.
    pub options: String,
}

/// Folders of a Kiln image that are links into /var, and where they lead (`rootfs::seal`): a folder below them needs no link
/// of its own.
pub const LINKED: [(&str, &str); 4] = [
    ("/home/", "/var/home/"),
    ("/opt/", "/var/opt/"),
    ("/srv/", "/var/srv/"),
    ("/usr/local/", "/var/usrlocal/"),
];
/// Where folders of `directories` have their content.
pub const DIRECTORIES: &str = "/var/directories";

/// Where a folder of `directories` has its content on a Kiln image.
pub fn content_of(directory: &str) -> String {
    behind_link(directory).unwrap_or_else(|| format!("{DIRECTORIES}{directory}"))
}

/// What a path behind one of those links is in truth; nothing where there is no link on its way.
pub fn behind_link(path: &str) -> Option<String> {
    LINKED.iter().find_map(|(link, to)| Some(format!("{to}{}", path.strip_prefix(link)?)))
}

/// The link at the top of a Kiln image's root that such a folder needs, without a slash, if it needs one.
pub fn link_of(directory: &str) -> Option<&str> {
    let needed = !LINKED.iter().any(|(link, _)| directory.starts_with(link));
    directory.split('/').find(|part| !part.is_empty()).filter(|_| needed)
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
