//! `kiln.lock`: every package and artefact with size and digest, so that a build is a function of files at hand.

mod artefact;
mod url;

pub use artefact::Artefact;
pub use url::{NotAUrl, Url};

use crate::digest::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The only version of the document that is read and written.
pub const VERSION: u32 = 1;

/// The way out of a lock that can't be read. A new one does not know which releases and artefacts were trusted before.
const BEGIN_ANEW: &str =
    "take it back from version control; or remove it, and `kiln lock` begins anew, trusting what it finds";

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
    /// The files that overlays fetch, sorted by name, architecture and address. Left out when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artefacts: Vec<Artefact>,
    /// Charts that are upgraded step by step, and their releases: what the next lock is held against. Left out when there
    /// are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub charts: BTreeMap<String, String>,
    /// SSH public keys by where they are published, such as `github:NAME`. Left out when there are none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ssh_keys: BTreeMap<String, Vec<String>>,
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
    /// `Valid-Until` of its InRelease, RFC 3339, where that had passed when the lock was made: by the user's word, for a mirror
    /// that stands still. Left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<String>,
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

/// Why a lock cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no lock.
    #[error("{} is no lock file of this kiln: {reason}; {BEGIN_ANEW}", path.display())]
    NotALock {
        /// The file.
        path: PathBuf,
        /// With line and column.
        reason: String,
    },
    /// Another version of the document.
    #[error("{} is of version {found}, and this kiln knows version {VERSION}; {BEGIN_ANEW}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// What the system says.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// How a package of a root, or an artefact, differs between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Architecture of the root; with its request behind it where several roots have that architecture. For an artefact
    /// its architecture.
    pub root: String,
    /// Name of the package or artefact.
    pub name: String,
    /// Version or address in the older lock; none when it comes new.
    pub from: Option<String>,
    /// Version or address in the newer lock; none when it goes.
    pub to: Option<String>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, .. } = self;
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from == to => write!(f, "{name} {to}: another file"),
            (Some(from), Some(to)) => write!(f, "{name} {from} -> {to}"),
            (None, Some(to)) => write!(f, "{name} {to} comes"),
            (Some(from), None) => write!(f, "{name} {from} goes"),
            (None, None) => write!(f, "{name}"),
        }
    }
}

impl Lock {
    /// The packages that differ in `newer`, by root and name, and then the artefacts; a root that one of the two has not
    /// got counts as empty there.
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        type Roots<'a> = BTreeMap<String, BTreeMap<&'a str, &'a Package>>;
        fn roots(lock: &Lock) -> Roots<'_> {
            let mut roots = Roots::new();
            for root in &lock.roots {
                let packages = root.packages.iter().map(|package| (package.name.as_str(), package));
                let alone = lock.roots.iter().filter(|r| r.architecture == root.architecture).count() == 1;
                let request = if alone { String::new() } else { format!(": {}", root.request.join(" ")) };
                roots.insert(format!("{}{request}", root.architecture), packages.collect());
            }
            roots
        }
        let (old, new, none) = (roots(self), roots(newer), BTreeMap::new());
        let mut changes = Vec::new();
        let labels: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for label in labels {
            let (old, new) = (old.get(label).unwrap_or(&none), new.get(label).unwrap_or(&none));
            let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
            for name in names {
                let (from, to) = (old.get(name), new.get(name));
                if from.map(|package| package.sha256) != to.map(|package| package.sha256) {
                    let version = |package: &&Package| package.version.clone();
                    let (from, to) = (from.map(version), to.map(version));
                    changes.push(Change { root: label.clone(), name: name.to_owned(), from, to });
                }
            }
        }
        changes.extend(artefact::changes(&self.artefacts, &newer.artefacts));
        let charts: BTreeSet<&String> = self.charts.keys().chain(newer.charts.keys()).collect();
        for name in charts {
            let (from, to) = (self.charts.get(name).cloned(), newer.charts.get(name).cloned());
            if from != to {
                changes.push(Change { root: "charts".to_owned(), name: name.clone(), from, to });
            }
        }
        let sources: BTreeSet<&String> = self.ssh_keys.keys().chain(newer.ssh_keys.keys()).collect();
        for name in sources {
            let said = |keys: Option<&Vec<String>>| keys.map(|keys| format!("{} keys", keys.len()));
            let (from, to) = (self.ssh_keys.get(name), newer.ssh_keys.get(name));
            if from != to {
                let (from, to) = (said(from), said(to));
                changes.push(Change { root: "SSH keys".to_owned(), name: name.clone(), from, to });
            }
        }
        changes
    }

    /// A warning about suites that had expired when the lock was made.
    pub fn stands_still(&self) -> Option<String> {
        let expired = self.suites.iter().filter_map(|suite| Some((&suite.name, suite.expired.as_ref()?)));
        let said: Vec<String> =
            expired.map(|(name, until)| format!("{name} (valid until {until})")).collect();
        (!said.is_empty()).then(|| {
            format!(
                "the lock is made from a mirror that stands still, as `kiln lock --allow-expired` says: {}; security updates since \
                 then are not in it",
                said.join(", ")
            )
        })
    }

    /// Reads a lock file; `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { action: "read", path: path.to_owned(), source }),
        }
    }

    /// Reads the text of a lock; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u64,
        }
        let path = || path.to_owned();
        let not_a_lock =
            |fault: serde_json::Error| Error::NotALock { path: path(), reason: fault.to_string() };
        let Versioned { version } = serde_json::from_str(text).map_err(not_a_lock)?;
        if version != u64::from(VERSION) {
            return Err(Error::OtherVersion { path: path(), found: version });
        }
        let lock: Self = serde_json::from_str(text).map_err(not_a_lock)?;
        // A date that is none would let an older release in.
        for suite in &lock.suites {
            if let Err(fault) = suite.date.parse::<jiff::Timestamp>() {
                let reason = format!("the date of {} is none: {fault}", suite.name);
                return Err(Error::NotALock { path: path(), reason });
            }
        }
        Ok(lock)
    }

    /// The text of the lock: JSON (so YAML, too) with a line for each suite, package and artefact, so that a
    /// difference of two locks reads as what changed.
    pub fn render(&self) -> Result<String, serde_json::Error> {
        let lines = |items: Vec<String>, indent: &str| {
            let lines: Vec<_> = items.iter().map(|item| format!("\n{indent}  {item}")).collect();
            if lines.is_empty() { "[]".to_owned() } else { format!("[{}\n{indent}]", lines.join(",")) }
        };
        let suites = self.suites.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let root = |root: &Root| {
            let packages = root.packages.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
            Ok(format!(
                "{{\n      \"architecture\": {},\n      \"request\": {},\n      \"packages\": {}\n    }}",
                serde_json::to_string(&root.architecture)?,
                serde_json::to_string(&root.request)?,
                lines(packages, "      "),
            ))
        };
        let roots = self.roots.iter().map(root).collect::<Result<_, serde_json::Error>>()?;
        let artefacts: Vec<String> =
            self.artefacts.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        let artefacts = match artefacts.is_empty() {
            true => String::new(),
            false => format!(",\n  \"artefacts\": {}", lines(artefacts, "  ")),
        };
        let charts = match self.charts.is_empty() {
            true => String::new(),
            false => format!(",\n  \"charts\": {}", serde_json::to_string(&self.charts)?),
        };
        let sources: Vec<String> = self
            .ssh_keys
            .iter()
            .map(|(name, keys)| {
                Ok(format!("{}: {}", serde_json::to_string(name)?, serde_json::to_string(keys)?))
            })
            .collect::<Result<_, serde_json::Error>>()?;
        let keys = match sources.is_empty() {
            true => String::new(),
            false => format!(",\n  \"ssh_keys\": {{\n    {}\n  }}", sources.join(",\n    ")),
        };
        Ok(format!(
            "{{\n  \"version\": {},\n  \"source_date\": {},\n  \"suites\": {},\n  \"roots\": {}{artefacts}{charts}{keys}\n}}\n",
            self.version,
            self.source_date,
            lines(suites, "  "),
            lines(roots, "  "),
        ))
    }

    /// Writes the lock file: whole, or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let fault = |source| Error::Io { action: "write", path: path.to_owned(), source };
        let text = self.render().map_err(|reason| fault(reason.into()))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        let mode = fs::Permissions::from_mode(0o644); // less what the user's umask takes
        let mut file = builder.permissions(mode).tempfile_in(folder).map_err(fault)?;
        // On the disk before it takes the old one's place: a power cut must leave one of the two.
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(fault)?;
        file.persist(path).map_err(|persist| fault(persist.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Artefact, Lock, Package, Root, Suite};
    use crate::digest::Sha256;
    use std::path::Path;

    fn package(name: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: "1:2.0-3+b1".to_owned(),
            architecture: "all".to_owned(),
            archive: "debian".to_owned(),
            file: format!("pool/main/{name}.deb"),
            size: 12,
            installed_kib: 30,
            sha256: Sha256::of(name.as_bytes()),
            wanted_by: vec!["requested".to_owned()],
        }
    }

    fn lock() -> Lock {
        let suite = Suite {
            archive: "debian".to_owned(),
            name: "trixie".to_owned(),
            date: "2026-09-12T07:55:41Z".to_owned(),
            in_release: Sha256::of(b""),
            expired: None,
        };
        let packages = vec![package("a"), package("b")];
        let root = Root { architecture: "amd64".to_owned(), request: vec!["a".to_owned()], packages };
        let artefacts = Vec::new();
        Lock {
            version: super::VERSION,
            source_date: 1_789_199_741,
            suites: vec![suite],
            roots: vec![root],
            artefacts,
            charts: Default::default(),
            ssh_keys: Default::default(),
        }
    }

    #[test]
    fn one_line_a_package() {
        let text = lock().render().unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("        {\"name\":")).count(), 2, "{text}");
        assert_eq!(text.lines().count(), 17, "{text}");
    }

    fn artefact(name: &str, url: &str) -> Artefact {
        Artefact {
            name: name.to_owned(),
            architecture: "amd64".to_owned(),
            url: url.to_owned(),
            size: 3,
            sha256: Sha256::of(url.as_bytes()),
        }
    }

    #[test]
    fn one_line_an_artefact_and_none_without() {
        assert!(!lock().render().unwrap().contains("artefacts"));
        let artefacts = vec![artefact("a", "https://x/a"), artefact("b", "https://x/b")];
        let lock = Lock { artefacts, ..lock() };
        let text = lock.render().unwrap();
        assert!(text.ends_with(&format!(
            "    {{\"name\":\"b\",\"architecture\":\"amd64\",\"url\":\"https://x/b\",\"size\":3,\"sha256\":\"{}\"}}\n  ]\n}}\n",
            Sha256::of(b"https://x/b")
        )), "{text}");
        assert_eq!(Lock::parse(&text, Path::new("kiln.lock")).unwrap(), lock);
    }

    #[test]
    fn what_changed_among_artefacts() {
        let artefacts =
            vec![artefact("a", "https://x/1"), artefact("b", "https://x/b"), artefact("c", "https://x/c")];
        let old = Lock { artefacts, ..lock() };
        let mut other = artefact("c", "https://x/c");
        other.sha256 = Sha256::of(b"others");
        let artefacts = vec![artefact("a", "https://x/2"), other, artefact("d", "https://x/d")];
        let new = Lock { artefacts, ..lock() };
        let changes: Vec<_> = old.changes(&new).iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "a https://x/1 -> https://x/2",
                "b https://x/b goes",
                "c https://x/c: another file",
                "d https://x/d comes"
            ]
        );
        assert_eq!(new.changes(&new), []);
    }

    #[test]
    fn written_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kiln.lock");
        assert_eq!(Lock::read(&path).unwrap(), None);
        lock().write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), Some(lock()));
        let empty = Lock { suites: Vec::new(), roots: Vec::new(), ..lock() };
        empty.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), Some(empty));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_changed() {
        let (old, mut new) = (lock(), lock());
        assert_eq!(old.changes(&new), []);
        let packages = &mut new.roots[0].packages;
        packages[0] = Package { version: "3".to_owned(), ..package("other file") };
        packages[0].name = "a".to_owned();
        packages[1] = package("c");
        let changes: Vec<_> = old.changes(&new).iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["a 1:2.0-3+b1 -> 3", "b 1:2.0-3+b1 goes", "c 1:2.0-3+b1 comes"]);
    }

    #[test]
    fn faults_are_named() {
        let message = |text: &str| Lock::parse(text, Path::new("kiln.lock")).unwrap_err().to_string();
        assert_eq!(
            message("{\"version\": 7, \"more\": 1}"),
            "kiln.lock is of version 7, and this kiln knows version 1; take it back from version control; or remove it, and \
             `kiln lock` begins anew, trusting what it finds"
        );
        let text = lock().render().unwrap().replacen("\"size\"", "\"sise\"", 1);
        assert!(
            message(&text).starts_with("kiln.lock is no lock file of this kiln: unknown field `sise`"),
            "{}",
            message(&text)
        );
        let text = lock().render().unwrap().replacen("2026-09-12T", "sometime ", 1);
        assert!(message(&text).contains("the date of trixie is none"), "{}", message(&text));
        assert!(message("").starts_with("kiln.lock is no lock file of this kiln: EOF"));
    }
}
