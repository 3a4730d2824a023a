//! The cluster as the rest of Kiln sees it: every value valid, every default filled in.

mod disks;
mod machine;
mod network;

pub use super::file::{Architecture, Distribution, Role, Suite};
pub use super::overlay::Quoting;
pub use disks::{DiskRule, DiskSlot, Disks};
pub use machine::{
    Content, DIRECTORIES, Keyboard, LINKED, Machine, Mount, OwnFile, behind_link, content_of, link_of,
};
pub use network::{
    BondHash, BondMode, Bonding, Fixed, Interface, LacpRate, Link, LinkKind, Network, Route, Wifi,
};

use super::identity::Identity;
use super::settings::Settings;
use super::user_data::UserData;
use super::words::BUILT_IN_LOCALES;
use crate::diag::{Span, nearest};
use kiln_contract::iscsi::Iscsi;
use kiln_contract::memory::Memory;
use kiln_contract::policy::FileSystem;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// A valid cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Identifier from which all others derive (see [`super::identity`]).
    pub id: Uuid,
    /// Name in the cluster file.
    pub name: String,
    /// What agents dial.
    pub endpoint: Option<String>,
    /// DNS domain of the nodes.
    pub domain: Option<String>,
    /// What all nodes are built from.
    pub base: Base,
    /// Where artefacts are taken from before they are asked for where they are published; tried in turn.
    pub artefacts: Vec<Location>,
    /// Where its secrets are.
    pub secrets: Secrets,
    /// SSH lets people log in with a password.
    pub ssh_password_authentication: bool,
    /// In the order of the file; at least one.
    pub nodes: Vec<Node>,
}

/// The operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Distribution.
    pub distribution: Distribution,
    /// Release.
    pub suite: Suite,
    /// Packages asked for beside those that Kiln always installs.
    pub packages: BTreeSet<String>,
    /// Firmware.
    pub firmware: Firmware,
    /// Tried in turn; empty: the host's own apt sources, then Debian's.
    pub mirrors: Vec<Mirror>,
    /// Keyring instead of the built-in one.
    pub keyring: Option<PathBuf>,
    /// Words to add to the kernel command line.
    pub kernel_arguments: Vec<String>,
    /// Packages that may go without their maintainer scripts.
    pub skip_scripts: BTreeSet<String>,
    /// Size of the root file system in bytes, a multiple of 1 MiB; `None` fits it to its content.
    pub root_size: Option<u64>,
}

/// Which firmware packages are installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// What bare metal commonly needs.
    Auto,
    /// None.
    None,
    /// These packages.
    Packages(BTreeSet<String>),
}

/// What [`Firmware::Auto`] means: microcode, and what wired network cards and disk controllers load. Firmware
/// of graphics, sound and Wi-Fi is large and named by those who need it.
pub const AUTO_FIRMWARE: &[(Option<Architecture>, &str)] = &[
    (Some(Architecture::Amd64), "amd64-microcode"),
    (Some(Architecture::Amd64), "intel-microcode"),
    (None, "firmware-bnx2"),
    (None, "firmware-bnx2x"),
    (None, "firmware-intel-misc"),
    (None, "firmware-misc-nonfree"),
    (None, "firmware-qlogic"),
    (None, "firmware-realtek"),
];

/// A source of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `debian`, `debian-security`; `None` when neither the file nor the address says it (every archive).
    pub archive: Option<String>,
    /// Where.
    pub location: Location,
}

/// Where a mirror is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `http://…` or `https://…`, without a slash at its end.
    Url(String),
    /// Folder of files, absolute or relative to the working directory.
    Folder(PathBuf),
}

/// A layer on top of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Its name; the folder's name for a user's own.
    pub name: String,
    /// Folder of a user's own overlay.
    pub folder: Option<PathBuf>,
    /// Packages that it adds.
    pub packages: BTreeSet<String>,
    /// Kernel modules that it has loaded at boot.
    pub modules: BTreeSet<String>,
    /// systemd units that it enables.
    pub enable: BTreeSet<String>,
    /// Nodes that it is for.
    pub roles: BTreeSet<Role>,
    /// What the cluster file says of it, and what its own document says where the cluster file does not.
    pub settings: Settings,
    /// Files that it fetches into the image.
    pub artefacts: Vec<Artefact>,
    /// Files that it has in seeds.
    pub seed: Vec<SeedFile>,
    /// Folders that it has with modes of their own.
    pub folders: Vec<SeedFolder>,
    /// Where the cluster file names it.
    pub span: Span,
}

/// A file that is fetched when an image is built. Its texts are templates still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Its name in the lock.
    pub name: String,
    /// Where it is published.
    pub url: String,
    /// Absolute path in the image.
    pub path: String,
    /// Where its digest is published.
    pub sums: Option<String>,
    /// Path in the archive that it is.
    pub member: Option<String>,
    /// Permission bits.
    pub mode: u16,
    /// Whether it is wanted.
    pub when: Option<String>,
}

/// A folder of a node's, made before anything is started that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFolder {
    /// Absolute path on the node.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Which nodes get it.
    pub when: Option<String>,
}

/// A file of the seed, before it is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFile {
    /// Absolute path on the node; with `each`, a template.
    pub path: String,
    /// What there is a file for each of: an expression; one file when there is none.
    pub each: Option<String>,
    /// Path of the template in the overlay's folder.
    pub template: String,
    /// Permission bits; when none are given, who reads it depends on whether a secret is in it.
    pub mode: Option<u16>,
    /// Which nodes get it.
    pub when: Option<String>,
    /// How values are quoted.
    pub quoting: Quoting,
}

/// Where the cluster's own secrets are, and who can read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The encrypted file, absolute or relative to the working directory, where the cluster file names one.
    pub file: Option<PathBuf>,
    /// age and SSH public keys that it is encrypted to; none are those of whoever makes it.
    pub recipients: Vec<String>,
}

impl Overlay {
    /// An overlay of that name with nothing in it.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            folder: None,
            packages: BTreeSet::new(),
            modules: BTreeSet::new(),
            enable: BTreeSet::new(),
            roles: BTreeSet::from([Role::Server, Role::Agent, Role::None]),
            settings: Settings::new(),
            artefacts: Vec::new(),
            seed: Vec::new(),
            folders: Vec::new(),
            span: 0..0,
        }
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Host name.
    pub name: String,
    /// What it does in the cluster.
    pub role: Role,
    /// Processor architecture.
    pub architecture: Architecture,
    /// How it reaches its network.
    pub network: Network,
    /// Time zone, as in the tz database.
    pub time_zone: String,
    /// Packages of this node alone.
    pub packages: BTreeSet<String>,
    /// Everybody who may log in, cluster-wide users first.
    pub users: Vec<User>,
    /// Logical sector size in bytes, 512 or 4096.
    pub sector_size: u32,
    /// What its disks are for.
    pub disks: Disks,
    /// What its memory is for.
    pub memory: Memory,
    /// What its system is told.
    pub machine: Machine,
    /// LUNs that it mounts and LUNs that it serves.
    pub iscsi: Option<Iscsi>,
    /// Its layers, in the order of the file, those that others need ahead of them.
    pub overlays: Vec<Overlay>,
    /// Kubernetes labels, as the cluster file has them.
    pub labels: BTreeMap<String, String>,
    /// Kubernetes taints, as `key=value:effect` or `key:effect`.
    pub taints: Vec<String>,
    /// The user's own files for cloud-init, that for every node first.
    pub user_data: Vec<Arc<UserData>>,
}

impl Node {
    /// The overlay of that name, when it applies.
    pub fn overlay(&self, name: &str) -> Option<&Overlay> {
        self.overlays.iter().find(|overlay| overlay.name == name)
    }
    /// The layer that is under every node, and the overlays on top of it.
    pub fn layers(&self) -> Vec<Overlay> {
        std::iter::once(super::overlay::base()).chain(self.overlays.iter().cloned()).collect()
    }
}

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// SSH public keys, one line each.
    pub ssh_keys: Vec<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// May become root.
    pub sudo: bool,
    /// Login shell.
    pub shell: String,
    /// crypt(5) hash.
    pub password_hash: Option<String>,
}

/// A name was asked for that no node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownNode {
    /// That name.
    pub name: String,
    /// The node that was most likely meant.
    pub near: Option<String>,
    /// Every node of the cluster.
    pub all: Vec<String>,
}

impl std::fmt::Display for UnknownNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the cluster has no node {:?}: ", self.name)?;
        if let Some(near) = &self.near {
            write!(f, "did you mean `{near}`? ")?;
        }
        write!(f, "its nodes are {}", self.all.join(", "))
    }
}

impl std::error::Error for UnknownNode {}

impl User {
    /// Where keys of the user are published, such as `github:NAME`; those are among `ssh_keys` until they are known.
    pub fn key_sources(&self) -> impl Iterator<Item = &String> {
        self.ssh_keys.iter().filter(|key| !key.contains(' '))
    }
}

impl Cluster {
    /// Where keys of users are published.
    pub fn key_sources(&self) -> BTreeSet<String> {
        self.nodes.iter().flat_map(|node| &node.users).flat_map(User::key_sources).cloned().collect()
    }
    /// Puts keys in the place of those sources of them that are known.
    pub fn take_keys(&mut self, known: &BTreeMap<String, Vec<String>>) {
        for user in self.nodes.iter_mut().flat_map(|node| &mut node.users) {
            let mut keys: Vec<String> = Vec::new();
            for key in std::mem::take(&mut user.ssh_keys) {
                match known.get(&key) {
                    Some(found) => keys.extend(found.iter().cloned()),
                    None => keys.push(key),
                }
            }
            let mut seen = BTreeSet::new();
            keys.retain(|key| seen.insert(key.clone()));
            user.ssh_keys = keys;
        }
    }
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
    /// The nodes of these names, in the order of the file and once each; all nodes when `names` is empty.
    pub fn select(&self, names: &[String]) -> Result<Vec<&Node>, UnknownNode> {
        if let Some(name) = names.iter().find(|name| self.node(name).is_none()) {
            let all: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
            let near = nearest(name, all.iter().map(String::as_str)).map(str::to_owned);
            return Err(UnknownNode { name: name.clone(), near, all });
        }
        Ok(self.nodes.iter().filter(|node| names.is_empty() || names.contains(&node.name)).collect())
    }
    /// Every identifier of a node.
    pub fn identity(&self, node: &Node) -> Identity {
        Identity::new(self.id, &node.name)
    }
    /// The server that makes the cluster: the first in the file.
    pub fn first_server(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.role == Role::Server)
    }
    /// True when an overlay of that name applies to any node.
    pub fn has_overlay(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.overlay(name).is_some())
    }
    /// The node's fully qualified name; its plain name when the cluster has no domain.
    pub fn fqdn(&self, node: &Node) -> String {
        match &self.domain {
            Some(domain) => format!("{}.{domain}", node.name),
            None => node.name.clone(),
        }
    }
    /// Everything to install on a node: what Kiln always installs and what the cluster file asks for.
    pub fn all_packages(&self, node: &Node) -> BTreeSet<String> {
        let architecture = node.architecture.as_str();
        let mut packages = self.packages(node);
        packages.extend(
            super::overlay::base().packages.iter().map(|p| p.replace("@ARCHITECTURE@", architecture)),
        );
        if self.base.firmware == Firmware::Auto {
            packages.extend(
                AUTO_FIRMWARE
                    .iter()
                    .filter(|(only, _)| only.is_none_or(|a| a == node.architecture))
                    .map(|(_, p)| (*p).to_owned()),
            );
        }
        packages
    }
    /// What the cluster file asks to install on a node: of the base, the overlays, the node itself, its disks and memory, named
    /// firmware, and `sudo` where a user needs it. What Kiln always installs is not among them, nor is what
    /// [`Firmware::Auto`] means.
    pub fn packages(&self, node: &Node) -> BTreeSet<String> {
        let mut packages = self.base.packages.clone();
        packages.extend(node.packages.iter().cloned());
        packages.extend(node.disks.packages().into_iter().map(str::to_owned));
        packages.extend(node.memory.zram.map(|_| "systemd-zram-generator".to_owned()));
        for overlay in &node.overlays {
            packages.extend(overlay.packages.iter().cloned());
        }
        if node.machine.mounts.iter().any(Mount::is_remote) {
            packages.insert("nfs-common".to_owned());
        }
        if node.machine.locale.as_ref().is_some_and(|name| !BUILT_IN_LOCALES.contains(&name.as_str())) {
            packages.insert("locales-all".to_owned());
        }
        if node.machine.keyboard.is_some() {
            packages.insert("console-setup".to_owned());
        }
        if node.network.wifis().next().is_some() {
            packages.extend(["wireless-regdb", "wpasupplicant"].map(str::to_owned));
        }
        if let Firmware::Packages(firmware) = &self.base.firmware {
            packages.extend(firmware.iter().cloned());
        }
        if node.users.iter().any(|user| user.sudo) {
            packages.insert("sudo".to_owned());
        }
        let luns = node.iscsi.iter().flat_map(|iscsi| &iscsi.luns);
        if luns.into_iter().any(|lun| lun.filesystem == FileSystem::Xfs) {
            packages.insert("xfsprogs".to_owned());
        }
        if node.iscsi.iter().flat_map(|iscsi| &iscsi.target).any(|target| target.thin) {
            // lvm activates no thin pool that its `thin_check` has not looked at.
            packages.insert("thin-provisioning-tools".to_owned());
        }
        packages
    }
    /// Directories at the top of the root below which any node mounts a data disk or a LUN, without a slash: a root that
    /// cannot be written to must have them, and nodes share it.
    pub fn mount_roots(&self) -> BTreeSet<String> {
        let disks = self
            .nodes
            .iter()
            .flat_map(|node| node.disks.slots())
            .filter_map(|slot| slot.mount_point.as_deref());
        let luns = self.nodes.iter().flat_map(|node| &node.iscsi).flat_map(|iscsi| &iscsi.luns);
        let mounts = self.nodes.iter().flat_map(|node| &node.machine.mounts);
        let points = disks
            .chain(luns.map(|lun| lun.mount_point.as_str()))
            .chain(mounts.map(|mount| mount.mount_point.as_str()));
        points.filter_map(|point| point.split('/').find(|part| !part.is_empty())).map(str::to_owned).collect()
    }
    /// The folders that any node asks for with `directories`: nodes share a root, which has the links to all of them.
    pub fn directories(&self) -> BTreeSet<String> {
        self.nodes.iter().flat_map(|node| node.machine.directories.iter().cloned()).collect()
    }
}
