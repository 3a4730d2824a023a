//! Private keys that open secrets: where they are looked for, and what was there.

use super::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where `sops` keeps age keys, below the folder for configuration.
const SOPS_FILE: &str = "sops/age/keys.txt";
/// Where Kiln keeps the key that it made, below the folder for configuration.
const OWN_FILE: &str = "kiln/identity.txt";
/// No file of identities is larger.
const MAX_BYTES: usize = 1 << 20;

enum Key {
    X25519(Box<age::x25519::Identity>),
    Ssh(Box<age::ssh::Identity>),
}

impl Key {
    fn as_identity(&self) -> &dyn age::Identity {
        match self {
            Self::X25519(key) => key.as_ref(),
            Self::Ssh(key) => key.as_ref(),
        }
    }
    fn recipient(&self) -> Option<String> {
        match self {
            Self::X25519(key) => Some(key.to_public().to_string()),
            Self::Ssh(key) => {
                age::ssh::Recipient::try_from(key.as_ref().clone()).ok().map(|key| key.to_string())
            }
        }
    }
}

/// age identities and SSH private keys.
#[derive(Default)]
pub struct Identities {
    keys: Vec<Key>,
    looked: Vec<String>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("keys", &self.keys.len()).field("looked", &self.looked).finish()
    }
}

impl Identities {
    /// Looks where `environment` (`std::env::var_os`) points: in the file that `KILN_IDENTITY` names, and there
    /// alone; without it in `SOPS_AGE_KEY_FILE`, in the text of `SOPS_AGE_KEY`, in sops' own file of keys and in
    /// the one that [`make_own`](Self::make_own) writes. A file that is named and cannot be used is an error.
    pub fn find(environment: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        let mut found = Self::default();
        if let Some(path) = set("KILN_IDENTITY") {
            found.named("KILN_IDENTITY", &PathBuf::from(path))?;
            return Ok(found);
        }
        found.looked.push("KILN_IDENTITY (not set)".to_owned());
        match set("SOPS_AGE_KEY_FILE") {
            Some(path) => found.named("SOPS_AGE_KEY_FILE", &PathBuf::from(path))?,
            None => found.looked.push("SOPS_AGE_KEY_FILE (not set)".to_owned()),
        }
        match set("SOPS_AGE_KEY").map(OsString::into_string) {
            Some(Ok(text)) => found.take(&Zeroizing::new(text), "SOPS_AGE_KEY")?,
            Some(Err(_)) => return Err(not_usable("SOPS_AGE_KEY", "it is not text")),
            None => found.looked.push("SOPS_AGE_KEY (not set)".to_owned()),
        }
        if let Some(folder) = configuration(&environment) {
            for path in [folder.join(SOPS_FILE), folder.join(OWN_FILE)] {
                let place = path.display().to_string();
                match read(&path) {
                    Ok(text) => found.take(&text, &place)?,
                    Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
                        found.looked.push(format!("{place} (not there)"));
                    }
                    Err(source) => return Err(Error::Io { action: "read", path, source }),
                }
            }
        }
        Ok(found)
    }

    /// The identities of a text: lines of `AGE-SECRET-KEY-1...`, with `#` comments, or one SSH private key without
    /// a passphrase. `place` is for messages.
    pub fn parse(text: &str, place: &str) -> Result<Self, Error> {
        let mut found = Self::default();
        found.take(text, place)?;
        Ok(found)
    }

    /// Makes an age identity in the user's folder for configuration, 0600 in a folder of 0700, and never over
    /// another; the path is given back.
    pub fn make_own(environment: impl Fn(&str) -> Option<OsString>) -> Result<(Self, PathBuf), Error> {
        let Some(folder) = configuration(&environment) else {
            return Err(not_usable("the environment", "neither XDG_CONFIG_HOME nor HOME is set"));
        };
        let path = folder.join(OWN_FILE);
        let key = super::make::identity();
        let text = Zeroizing::new(format!(
            "# made by `kiln secrets init`; back it up: what is encrypted to it opens with nothing else\n\
             # public key: {}\n{}\n",
            key.to_public(),
            age::secrecy::ExposeSecret::expose_secret(&key.to_string()),
        ));
        super::file::write_new(&path, text.as_bytes())?;
        let mut made = Self::default();
        made.take(&text, &path.display().to_string())?;
        Ok((made, path))
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
    /// The public keys of all.
    pub fn recipients(&self) -> Vec<String> {
        self.keys.iter().filter_map(Key::recipient).collect()
    }
    /// Where they were looked for, with what was there, for a sentence.
    pub fn looked(&self) -> String {
        self.looked.join(", ")
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.keys.iter().map(Key::as_identity)
    }

    fn named(&mut self, variable: &str, path: &Path) -> Result<(), Error> {
        let text =
            read(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
        self.take(&text, &format!("{} ({variable})", path.display()))
    }

    fn take(&mut self, text: &str, place: &str) -> Result<(), Error> {
        let before = self.keys.len();
        if text.trim_start().starts_with("-----BEGIN ") {
            self.keys.push(ssh(text, place)?);
        } else {
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
            {
                let reason = match line.parse() {
                    Ok(key) => {
                        self.keys.push(Key::X25519(Box::new(key)));
                        continue;
                    }
                    Err(_) if line.starts_with("AGE-PLUGIN-") => "keys of age plugins are not supported",
                    Err(_) if line.starts_with("AGE-SECRET-KEY-PQ-") => {
                        "post-quantum age keys are not supported yet"
                    }
                    Err(_) if line.starts_with("age1") => "this is a public key; the private one is wanted",
                    Err(_) => "a line is neither an age identity nor a comment",
                };
                return Err(not_usable(place, reason));
            }
        }
        match self.keys.len() - before {
            0 => self.looked.push(format!("{place} (no key in it)")),
            1 => self.looked.push(format!("{place} (1 key)")),
            count => self.looked.push(format!("{place} ({count} keys)")),
        }
        Ok(())
    }
}

fn ssh(text: &str, place: &str) -> Result<Key, Error> {
    let key = age::ssh::Identity::from_buffer(text.as_bytes(), None)
        .map_err(|_| not_usable(place, "it is no SSH private key that can be read"))?;
    match &key {
        age::ssh::Identity::Unencrypted(_) => Ok(Key::Ssh(Box::new(key))),
        age::ssh::Identity::Encrypted(_) => Err(not_usable(
            place,
            "the SSH key has a passphrase, which kiln does not ask for; use an age identity",
        )),
        age::ssh::Identity::Unsupported(_) => Err(not_usable(
            place,
            "the SSH key is of a type that cannot decrypt; ssh-ed25519 and ssh-rsa can",
        )),
    }
}

fn not_usable(place: &str, reason: &'static str) -> Error {
    Error::NotAnIdentity { place: place.to_owned(), reason }
}

/// The user's folder for configuration (XDG Base Directory Specification).
fn configuration(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| environment(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(fs::read(path)?);
    let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= MAX_BYTES);
    text.map(|text| Zeroizing::new(text.to_owned()))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not a text of keys"))
}
