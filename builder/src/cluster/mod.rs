//! The cluster file: types as written ([`file`]), the reader that reports every fault at once, validation
//! into a [`Cluster`] in which all is valid, and the identifiers that derive from it ([`identity`]).

pub mod file;
pub mod identity;
mod ip;
mod k3s;
mod model;
mod overlay;
pub mod pins;
mod read;
pub mod settings;
mod size;
mod ssh_key;
mod tree;
pub mod user_data;
mod validate;
mod words;

pub use model::{
    AUTO_FIRMWARE, Architecture, Artefact, Base, BondHash, BondMode, Bonding, Cluster, Content, DIRECTORIES,
    DiskRule, DiskSlot, Disks, Distribution, Firmware, Fixed, Interface, Keyboard, LINKED, LacpRate, Link,
    LinkKind, Location, Machine, Mirror, Mount, Network, Node, Overlay, OwnFile, Quoting, Role, Route,
    Secrets, SeedFile, SeedFolder, Suite, UnknownNode, User, Wifi, behind_link, content_of, link_of,
};
pub use read::{Spanned, Text};

use crate::diag::{Fault, Report};
use file::ClusterFile;
use read::Read as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The two-node cluster that is built when no cluster file is at hand.
pub const EXAMPLE: &str = include_str!("../../../templates/example/cluster.yaml");
/// What stands for a file name where [`EXAMPLE`] is meant.
pub const EXAMPLE_NAME: &str = "(the embedded example)";
/// The file's usual name.
pub const FILE_NAME: &str = "cluster.yaml";
/// No honest cluster file is larger; more bytes than this are refused unread.
pub const MAX_BYTES: usize = 4 << 20;

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has faults.
    #[error("{}", .0.summary())]
    Faults(Report),
}

/// A cluster and what is worth a look in its file.
#[derive(Debug)]
pub struct Loaded {
    /// The cluster.
    pub cluster: Cluster,
    /// Warnings only.
    pub warnings: Report,
}

/// Reads and validates a cluster file; relative paths in it count from its folder.
pub fn load(path: &Path) -> Result<Loaded, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&bytes, path, folder)
}

/// The embedded example.
pub fn example() -> Result<Loaded, Error> {
    parse(EXAMPLE.as_bytes(), Path::new(EXAMPLE_NAME), Path::new(""))
}

/// Validates the bytes of a cluster file. `file` is its name in faults; relative paths in it count from
/// `folder`, where only overlays and mirrors that the file names are looked at.
pub fn parse(bytes: &[u8], file: &Path, folder: &Path) -> Result<Loaded, Error> {
    let fail = |source: &str, faults| Err(Error::Faults(Report::new(file, source, faults)));
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has more than the {MAX_BYTES} bytes that one can have");
        return fail("", vec![Fault::error("too-large", &(0..0), message).help("is this a cluster file?")]);
    }
    let source = match std::str::from_utf8(bytes) {
        Ok(source) => source,
        Err(error) => {
            let at = error.valid_up_to();
            // Without the bytes that are not text there is a text to show.
            let text = String::from_utf8_lossy(bytes);
            let fault = Fault::error("not-utf-8", &(at..at), "the file is not UTF-8 text")
                .label("the first such byte")
                .help("save it as UTF-8");
            return fail(&text, vec![fault]);
        }
    };
    let (written, mut faults) = read_file(source);
    let cluster = written.map(|written| validate::validate(&written, folder, &mut faults));
    let report = Report::new(file, source, faults);
    match cluster.flatten() {
        Some(cluster) if !report.has_errors() => Ok(Loaded { cluster, warnings: report }),
        _ => Err(Error::Faults(report)),
    }
}

/// The file as written, and every fault of its form.
fn read_file(source: &str) -> (Option<ClusterFile>, Vec<Fault>) {
    let (tree, mut faults) = tree::parse(source);
    let empty = |tree: &tree::Tree| tree.value == tree::Value::Null;
    if faults.is_empty() && tree.as_ref().is_none_or(empty) {
        faults.push(
            Fault::error("empty", &(0..0), "the file is empty").help("`kiln init` writes one to start from"),
        );
        return (None, faults);
    }
    let written = tree.and_then(|tree| ClusterFile::read(&tree, &mut faults));
    (written, faults)
}

/// Bytes of a size with its unit, such as `20G`, `1.5GiB` (powers of 1024) or `2GB` (of 1000), rounded up to a
/// whole MiB. The error is the reason why `text` is none.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    size::parse(text)
}

/// The certificates of a text in PEM, each in PEM again; why it has not only such, when it has not.
pub fn certificates(pem: &str) -> Result<Vec<String>, String> {
    settings::certificates(pem)
}

/// True when `line` has the structure of an SSH public key that a cluster file may hold.
pub fn is_ssh_key(line: &str) -> bool {
    ssh_key::check(line).is_ok()
}

/// True when a person may have this login name.
pub fn is_free_login(name: &str) -> bool {
    words::login(name).is_ok() && !words::SYSTEM_ACCOUNTS.contains(&name)
}
