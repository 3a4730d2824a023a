//! Identity and trust that are made at build time and kept in one encrypted file beside the cluster file: the
//! cluster's certificate authorities, tokens, node passwords, SSH host keys, and values that the user sets.
//!
//! The file is an age file around a JSON document ([`document`]), or the same document encrypted by SOPS, which is
//! only read. Builds open it and take what is there; only `kiln secrets` makes ([`make`]) and writes.

mod authority;
mod document;
mod error;
mod file;
mod identities;
mod list;
mod make;
mod recipients;
mod rotate;
mod secret;
pub mod sops;
#[cfg(test)]
mod tests;
mod token;

pub use authority::{Authority, bundle_hash};
pub use document::Founded;
pub use error::Error;
pub use file::{FILE_NAME, Place};
pub use identities::Identities;
pub use list::Item;
pub use rotate::{Rotated, What, Wish};
pub use secret::Secret;
pub use token::{User, full as full_token, is_bootstrap_token};

use document::{Dated, Document, NodeSecrets, Sealed, Wrong};
use std::fmt;
use std::fs::{self, File};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The longest value that `kiln secrets set` keeps, in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// Everything in the secrets file of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    document: Document,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("cluster", &self.document.cluster.name).finish_non_exhaustive()
    }
}

/// The secrets of one node.
#[derive(Clone, Copy)]
pub struct Node<'a>(&'a NodeSecrets);

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node(..)")
    }
}

impl<'a> Node<'a> {
    /// 32 lower-case hexadecimal digits; `/etc/rancher/node/password` holds them and a newline, 0600.
    pub fn password(self) -> &'a Secret {
        &self.0.password.value.0
    }
    /// `/etc/ssh/ssh_host_ed25519_key`, 0600.
    pub fn ssh_host_key(self) -> &'a Secret {
        &self.0.ssh_host_key.private.0
    }
    /// `/etc/ssh/ssh_host_ed25519_key.pub`, without a newline; no secret.
    pub fn ssh_host_key_public(self) -> &'a str {
        &self.0.ssh_host_key.public
    }
}

impl Secrets {
    /// Makes the secrets of a new cluster; nothing is written.
    pub fn make(id: Uuid, name: &str) -> Result<Self, Error> {
        Ok(Self { document: make::document(document::Cluster { id, name: name.to_owned() })? })
    }

    /// Reads the file; [`Error::NotThere`] when there is none.
    pub fn open(place: &Place, identities: &Identities) -> Result<Self, Error> {
        let bytes = file::read(&place.file)?.ok_or_else(|| Error::NotThere { path: place.file.clone() })?;
        Self::decrypt(&bytes, place, identities)
    }

    fn decrypt(bytes: &[u8], place: &Place, identities: &Identities) -> Result<Self, Error> {
        let path = || place.file.clone();
        let text = if !file::is_age(bytes) && sops::is_sops(bytes) {
            sops::whole(&place.file, bytes, identities)?
        } else {
            file::decrypt(bytes, place, identities)?
        };
        match Document::parse(&text) {
            Ok(document) => Ok(Self { document }),
            Err(Wrong::Version(found)) => Err(Error::OtherVersion { path: path(), found }),
            Err(Wrong::Form(reason)) => Err(Error::NotADocument { path: path(), reason }),
        }
    }

    /// Refuses the secrets of another cluster. `name` and `place` are for the message.
    pub fn check_cluster(&self, id: Uuid, name: &str, place: &Place) -> Result<(), Error> {
        let cluster = &self.document.cluster;
        if cluster.id == id {
            return Ok(());
        }
        let (found, wanted) = (cluster.name.clone(), name.to_owned());
        Err(Error::OtherCluster { path: place.file.clone(), found, wanted })
    }
    /// The certificate of an authority, PEM; no secret.
    pub fn certificate(&self, authority: Authority) -> Result<&str, Error> {
        self.certified(authority).map(|certified| certified.certificate.as_str())
    }
    /// Refuses authorities that are not valid today: k3s would start, and nothing would talk to it. Gives a warning for
    /// those that end within a year.
    pub fn check_validity(&self) -> Result<Option<String>, Error> {
        self.check_validity_at(make::now().as_second())
    }

    fn check_validity_at(&self, now: i64) -> Result<Option<String>, Error> {
        let date = |secs| {
            jiff::Timestamp::from_second(secs).map_or_else(|_| "never".to_owned(), |at| at.to_string())
        };
        let mut first = i64::MAX;
        for (authority, made) in &self.document.authorities {
            let (from, until) = authority::validity(&made.certificate, authority.name())?;
            if now < from || now > until {
                return Err(Error::Ended {
                    what: authority.name(),
                    from: date(from),
                    until: date(until),
                    now: date(now),
                });
            }
            first = first.min(until);
        }
        let soon = first.saturating_sub(now) < 365 * 86_400;
        Ok(soon.then(|| {
            let until = date(first);
            format!("an authority of the cluster ends on {until}: `kiln secrets rotate` makes new ones, and says what that means")
        }))
    }
    /// The key of an authority, PEM.
    pub fn authority_key(&self, authority: Authority) -> Result<&Secret, Error> {
        self.certified(authority).map(|certified| &certified.key.0)
    }
    /// When the server's authority was made, seconds since 1970: no clock of the cluster is right before that.
    pub fn made(&self) -> i64 {
        let made = self.certified(Authority::Server).ok().and_then(|certified| certified.made.parse().ok());
        made.map_or(0, |made: jiff::Timestamp| made.as_second())
    }
    /// `service.key`, PEM: the key that signs, and behind it the one before it, which only proves.
    pub fn service_key(&self) -> Secret {
        let account = &self.document.service_account;
        let mut text = Zeroizing::new(String::with_capacity(4096));
        text.push_str(account.key.0.expose());
        if let Some(former) = &account.former {
            text.push_str(former.0.expose());
        }
        Secret::new(text)
    }
    /// The full token that servers join with.
    pub fn server_token(&self) -> Result<Secret, Error> {
        let secret = &self.document.tokens.server.0;
        token::full(self.certificate(Authority::Server)?, User::Server, secret)
    }
    /// The full token that agents join with.
    pub fn agent_token(&self) -> Result<Secret, Error> {
        let secret = &self.document.tokens.agent.0;
        token::full(self.certificate(Authority::Server)?, User::Node, secret)
    }
    /// The secret part of the server token.
    pub fn server_token_secret(&self) -> &Secret {
        &self.document.tokens.server.0
    }
    /// The secret part of the agent token, which servers are told as `agent-token`.
    pub fn agent_token_secret(&self) -> &Secret {
        &self.document.tokens.agent.0
    }
    /// The secrets of a node.
    pub fn node(&self, name: &str) -> Result<Node<'_>, Error> {
        self.document.nodes.get(name).map(Node).ok_or_else(|| Error::NoNode { node: name.to_owned() })
    }
    /// The names of nodes that have secrets.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.document.nodes.keys().map(String::as_str)
    }
    /// Since when the cluster is known to exist.
    pub fn founded(&self) -> Option<&Founded> {
        self.document.founded.as_ref()
    }
    /// The cluster exists, with so many servers. False when that was known.
    pub fn set_founded(&mut self, servers: u32) -> bool {
        let new = self.document.founded.is_none();
        if new {
            self.document.founded = Some(Founded { date: make::date(), servers });
        }
        new
    }
    /// The cluster is known no longer; false when it was not.
    pub fn clear_founded(&mut self) -> bool {
        self.document.founded.take().is_some()
    }
    /// A value that `kiln secrets set` was given.
    pub fn get(&self, name: &str) -> Result<&Secret, Error> {
        let value = self.document.values.get(name).map(|value| &value.value.0);
        value.ok_or_else(|| Error::NoValue { name: name.to_owned() })
    }
    /// Whom the file is encrypted to.
    pub fn recipients(&self) -> &[String] {
        &self.document.recipients
    }

    /// Makes what nodes of these names lack; the rest stays. Names those that were added.
    pub fn add_nodes<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, Error> {
        let mut added = Vec::new();
        for name in names {
            if !self.document.nodes.contains_key(name) {
                self.document.nodes.insert(name.to_owned(), make::node(name)?);
                added.push(name.to_owned());
            }
        }
        Ok(added)
    }

    /// Keeps a value under a name. True when it replaces another.
    pub fn set(&mut self, name: &str, value: Secret) -> Result<bool, Error> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !begins || name.len() > 64 || !name.bytes().all(good) {
            return Err(Error::NotAName { name: name.chars().take(64).collect() });
        }
        let text = value.expose();
        let reason = match text {
            "" => Some("is empty"),
            _ if text.len() > MAX_VALUE => Some("has more than 64 KiB"),
            _ if text.contains('\0') => Some("holds a zero byte"),
            _ => None,
        };
        if let Some(reason) = reason {
            return Err(Error::NotAValue { reason });
        }
        let value = Dated { made: make::date(), value: Sealed(value) };
        Ok(self.document.values.insert(name.to_owned(), value).is_some())
    }

    /// Every secret with a name that tells what it is, for whoever checks that none of them is anywhere else.
    pub fn values(&self) -> impl Iterator<Item = (String, &Secret)> {
        let document = &self.document;
        let authorities =
            document.authorities.iter().map(|(of, made)| (format!("{}.key", of.name()), &made.key.0));
        let account = &document.service_account;
        let single = [
            ("service.key".to_owned(), &account.key.0),
            ("server token".to_owned(), &document.tokens.server.0),
            ("agent token".to_owned(), &document.tokens.agent.0),
            ("digest key".to_owned(), &document.digest_key.0),
        ];
        let former = account.former.iter().map(|former| ("former service.key".to_owned(), &former.0));
        let nodes = document.nodes.iter().flat_map(|(name, node)| {
            [
                (format!("{name}: node password"), &node.password.value.0),
                (format!("{name}: SSH host key"), &node.ssh_host_key.private.0),
            ]
        });
        let values = document.values.iter().map(|(name, value)| (format!("value {name}"), &value.value.0));
        authorities.chain(single).chain(former).chain(nodes).chain(values)
    }

    /// A digest of `bytes` under a key that only the encrypted file has: it may be recorded, and tells who lacks the
    /// key nothing, not even whether a guess at a secret is right. BLAKE3, keyed; 64 hexadecimal digits.
    pub fn keyed_digest(&self, bytes: &[u8]) -> String {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finalize().to_hex().to_string()
    }

    /// Such a digest of all secrets and certificates. It changes when one of them does, and with nothing else.
    pub fn digest(&self) -> String {
        let mut hasher = self.hasher();
        let mut take = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for (name, secret) in self.values() {
            take(&name);
            take(secret.expose());
        }
        for (authority, made) in &self.document.authorities {
            take(authority.name());
            take(&made.certificate);
        }
        hasher.finalize().to_hex().to_string()
    }

    fn hasher(&self) -> blake3::Hasher {
        // The key of the file is itself text; this makes 32 bytes of any.
        let key = blake3::derive_key(
            "kiln secrets 2026 recorded digests",
            self.document.digest_key.0.expose().as_bytes(),
        );
        blake3::Hasher::new_keyed(&key)
    }

    fn certified(&self, authority: Authority) -> Result<&document::Certified, Error> {
        self.document.authorities.get(&authority).ok_or_else(|| Error::Certificate {
            what: authority.name().to_owned(),
            reason: "the file has none".to_owned(),
        })
    }
}

/// What becomes of the file that a new one replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// It is gone: the new one holds all that it held.
    Replace,
    /// It stays as `<file>.previous`, in place of an older one.
    Keep,
}

/// The secrets file while it is changed; others wait until this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    place: &'a Place,
    _lock: File,
}

impl<'a> Held<'a> {
    /// Waits for whoever else changes the file.
    pub fn take(place: &'a Place) -> Result<Self, Error> {
        Ok(Self { place, _lock: file::lock(&place.file)? })
    }

    /// The secrets; `None` when there is no file. A file that SOPS encrypted is [`Error::ReadOnly`].
    pub fn open(&self, identities: &Identities) -> Result<Option<Secrets>, Error> {
        let Some(bytes) = file::read(&self.place.file)? else { return Ok(None) };
        if !file::is_age(&bytes) && sops::is_sops(&bytes) {
            return Err(Error::ReadOnly { path: self.place.file.clone() });
        }
        Secrets::decrypt(&bytes, self.place, identities).map(Some)
    }

    /// Encrypts and writes: to the recipients of the place, without any to those that the file had, and for a new
    /// file to `identities`. What would be written is opened with `identities` first.
    pub fn save(&self, secrets: &mut Secrets, identities: &Identities, former: Former) -> Result<(), Error> {
        let mut place = self.place.clone();
        if place.recipients.is_empty() {
            place.recipients.clone_from(&secrets.document.recipients);
        }
        if place.recipients.is_empty() {
            place.recipients = identities.recipients();
        }
        secrets.document.recipients.clone_from(&place.recipients);
        let text = secrets
            .document
            .render()
            .map_err(|reason| Error::Make { what: "the document", reason: reason.to_string() })?;
        let bytes = file::encrypt(&text, &place)?;
        match Secrets::decrypt(&bytes, &place, identities) {
            Ok(again) if again == *secrets => {}
            Err(Error::NoMatchingKey { looked, .. }) => {
                return Err(Error::LockedOut { path: place.file, looked });
            }
            Err(other) => return Err(other),
            Ok(_) => {
                let reason = "it does not come back as it was".to_owned();
                return Err(Error::Make { what: "the encrypted file", reason });
            }
        }
        if former == Former::Keep {
            let path = file::previous(&place.file);
            let fault = |source| Error::Io { action: "read", path: place.file.clone(), source };
            file::write(&path, &fs::read(&place.file).map_err(fault)?)?;
        }
        file::write(&place.file, &bytes)
    }
}
