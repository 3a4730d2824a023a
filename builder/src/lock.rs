//! `kiln.lock`: every package with version, size and digest, so that a build is a function of files at hand.

use crate::digest::Sha256;
use serde::{Deserialize, Serialize};

/// The only version of the document that is read and written.
pub const VERSION: u32 = 1;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Always [`VERSION`].
    pub version: u32,
    /// The newest `Date` of the suites, seconds since the epoch: the time that every built byte carries.
    pub source_date: i64,
    /// The suites that the packages were chosen from.
    pub suites: Vec<Suite>,
    /// One package set for each different (architecture, request) of the cluster's nodes.
    pub roots: Vec<Root>,
}

/// A suite as it was when the lock was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The archive: `debian` or `debian-security`, as the last part of a mirror's address.
    pub archive: String,
    /// `trixie`, `trixie-updates`, `trixie-security`.
    pub name: String,
    /// `Date` of its InRelease, RFC 3339.
    pub date: String,
    /// Digest of its InRelease file.
    pub in_release: Sha256,
}

/// A package set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Debian's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// What was asked for, sorted.
    pub request: Vec<String>,
    /// What that resolved to, sorted by name.
    pub packages: Vec<Package>,
}

/// A package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Package name.
    pub name: String,
    /// Full version with epoch and revision.
    pub version: String,
    /// `amd64`, `all`, …
    pub architecture: String,
    /// The archive that holds it (see [`Suite::archive`]).
    pub archive: String,
    /// Path below the archive's address: `pool/main/…/name_version_arch.deb`.
    pub file: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// `Installed-Size` in KiB.
    pub installed_kib: u64,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Who asked: `requested`, or the packages that depend on it, at most three.
    pub wanted_by: Vec<String>,
}
