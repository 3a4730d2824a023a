//! What can go wrong with the secrets file. No variant holds a secret.

use super::document::VERSION;
use std::io;
use std::path::PathBuf;

/// Why secrets cannot be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the system says.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, `write`, `make`, `lock`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An authority is not valid now.
    #[error(
        "the certificate authority {what} is valid from {from} until {until}, and the clock of this machine says {now}: set the clock, \
         or make new authorities with `kiln secrets rotate`"
    )]
    Ended {
        /// The authority.
        what: &'static str,
        /// When it begins.
        from: String,
        /// When it ends.
        until: String,
        /// The time here.
        now: String,
    },
    /// There is no secrets file.
    #[error("{} is not there yet: `kiln secrets init` makes it", path.display())]
    NotThere {
        /// Where it would be.
        path: PathBuf,
    },
    /// The identities here do not open the file.
    #[error(
        "{} is encrypted to {recipients}, and no key that is here opens it; looked in {looked}; \
         name the file that holds the right key in KILN_IDENTITY",
        path.display()
    )]
    NoMatchingKey {
        /// The file.
        path: PathBuf,
        /// Whom it is encrypted to, as far as the file and the caller tell.
        recipients: String,
        /// Where identities were looked for, and what was there.
        looked: String,
    },
    /// The file opens with a passphrase.
    #[error("{} opens with a passphrase; kiln reads files that are encrypted to keys: `age -d` it and encrypt it to a recipient", path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are not what was written.
    #[error("{} is damaged or was changed: {reason}; take it from a backup{}", path.display(), previous(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// What is inside is no document of ours.
    #[error("{} opens, but holds no secrets of kiln: {reason}", path.display())]
    NotADocument {
        /// The file.
        path: PathBuf,
        /// With line and column, never with a value.
        reason: String,
    },
    /// Another version of the document.
    #[error("{} is of version {found}, and this kiln knows version {VERSION}; use the kiln that wrote it", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// The file was made for another cluster.
    #[error("{} holds the secrets of cluster {found}, not of {wanted}: two clusters share no secrets, \
         and each has a folder of its own; a cluster that was renamed keeps what it has with `id: {found}`", path.display())]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Its cluster.
        found: String,
        /// The cluster that was asked for.
        wanted: String,
    },
    /// A SOPS file can be read only.
    #[error("{} is encrypted by SOPS, which kiln only reads: change it with `sops edit`", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The SOPS file cannot be read.
    #[error(transparent)]
    Sops(#[from] super::sops::Error),
    /// Something that should hold identities does not.
    #[error("{place} holds no identity that kiln can use: {reason}")]
    NotAnIdentity {
        /// The file or the environment variable.
        place: String,
        /// Why, without its text.
        reason: &'static str,
    },
    /// Not a recipient.
    #[error(
        "{text:?} is no recipient: {reason}; a recipient is an age public key (`age1...`) or an SSH public key (`ssh-ed25519 ...`, `ssh-rsa ...`)"
    )]
    NotARecipient {
        /// As written, cut; never a private key.
        text: String,
        /// Why.
        reason: &'static str,
    },
    /// Nobody to encrypt to.
    #[error("there is nobody to encrypt {} to: name a recipient", path.display())]
    NoRecipient {
        /// The file.
        path: PathBuf,
    },
    /// The caller could not read what it would write.
    #[error(
        "{} was not written: no key that is here could open it again; looked in {looked}; add your own public \
         key to the recipients",
        path.display()
    )]
    LockedOut {
        /// The file.
        path: PathBuf,
        /// Where identities were looked for.
        looked: String,
    },
    /// A node without secrets.
    #[error("there are no secrets for node {node:?} yet: `kiln secrets init` adds what is missing")]
    NoNode {
        /// The node.
        node: String,
    },
    /// No value of that name.
    #[error("there is no secret value {name:?}: `kiln secrets set {name}` sets it")]
    NoValue {
        /// The name.
        name: String,
    },
    /// Not a name for a value.
    #[error(
        "{name:?} is no name for a value: up to 64 letters, digits, `.`, `_` and `-`, a letter or digit first"
    )]
    NotAName {
        /// As given.
        name: String,
    },
    /// The value cannot be kept.
    #[error("the value {reason}")]
    NotAValue {
        /// Why.
        reason: &'static str,
    },
    /// A certificate cannot be read.
    #[error("the certificate of the {what} cannot be read: {reason}")]
    Certificate {
        /// Whose.
        what: String,
        /// Why.
        reason: String,
    },
    /// Keys cannot be made.
    #[error("cannot make {what}: {reason}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// What the maker says.
        reason: String,
    },
}

fn previous(path: &std::path::Path) -> String {
    let previous = super::file::previous(path);
    if previous.exists() { format!("; {} is the one before it", previous.display()) } else { String::new() }
}
