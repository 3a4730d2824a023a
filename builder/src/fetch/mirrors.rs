//! Where archives are: named mirrors and folders, then the Debian mirrors among the host's own apt sources,
//! then the public ones, and snapshot.debian.org for what all of them have dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The archives that suites are in; the last part of a mirror's address.
pub const ARCHIVES: [&str; 2] = ["debian", "debian-security"];

/// The archive name of packages that come from plain folders of `.deb` files.
pub const LOCAL: &str = "local";

const PUBLIC: [(&str, &str); 2] = [
    ("debian", "http://ftp.debian.org/debian"),
    ("debian-security", "http://security.debian.org/debian-security"),
];

/// A place that bytes can be had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An http or https address.
    Http(String),
    /// A file or folder of this machine.
    File(PathBuf),
}

impl Location {
    /// The location `path` (with slashes) below this one.
    pub fn join(&self, path: &str) -> Self {
        match self {
            Self::Http(address) => Self::Http(format!("{}/{path}", address.trim_end_matches('/'))),
            Self::File(folder) => Self::File(folder.join(path)),
        }
    }

    /// The server, by which failing ones are remembered; none for files.
    pub(super) fn server(&self) -> Option<&str> {
        let Self::Http(address) = self else { return None };
        address.split('/').nth(2)
    }
}

/// Without user name and password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Http(address) => {
                let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
                let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
                let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
                write!(f, "{scheme}://{server}/{path}")
            }
        }
    }
}

/// A mirror that was named is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The address does not say of which archive it is.
    #[error(
        "mirror {mirror}: its last part is neither debian nor debian-security; write debian={mirror} or debian-security={mirror}"
    )]
    WhichArchive {
        /// As it was given, without credentials.
        mirror: String,
    },
    /// A folder that is not there.
    #[error("mirror {mirror}: there is no such folder")]
    NoFolder {
        /// As it was given.
        mirror: String,
    },
    /// Neither http, https, file nor a path.
    #[error("mirror {mirror}: an address begins with http://, https:// or file://, a folder with / or ./")]
    NoAddress {
        /// As it was given, without credentials.
        mirror: String,
    },
}

/// What mirrors are gathered from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// `KILN_MIRROR`: mirrors with commas between them; they come first.
    pub environment: Option<&'a str>,
    /// Mirrors that the cluster file names.
    pub named: &'a [String],
    /// Where relative folders start.
    pub base: &'a Path,
    /// The host's apt configuration, `/etc/apt`; none to leave it out.
    pub apt: Option<&'a Path>,
    /// Whether the public mirrors and snapshot.debian.org come last.
    pub public: bool,
}

/// All mirrors, the first to be tried first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    archives: BTreeMap<String, Vec<Location>>,
    /// Plain folders of `.deb` files.
    pub folders: Vec<PathBuf>,
    /// Whether folders were named and no archive was: then a lock is made of the folders alone.
    pub folders_only: bool,
    snapshot: bool,
}

impl Mirrors {
    /// Gathers the mirrors.
    pub fn gather(sources: Sources<'_>) -> Result<Self, Error> {
        let mut mirrors = Self { snapshot: sources.public, ..Self::default() };
        let environment = sources.environment.unwrap_or_default().split(',').map(str::trim);
        let named = sources.named.iter().map(|mirror| mirror.trim());
        for mirror in environment.chain(named).filter(|mirror| !mirror.is_empty()) {
            mirrors.name(mirror, sources.base)?;
        }
        mirrors.folders_only = !mirrors.folders.is_empty() && mirrors.archives.is_empty();
        for address in sources.apt.map(apt_addresses).unwrap_or_default() {
            if let Some(archive) = archive_of(&address) {
                mirrors.add(archive, Location::Http(address.clone()));
            }
        }
        if sources.public {
            for (archive, address) in PUBLIC {
                mirrors.add(archive, Location::Http(address.to_owned()));
            }
        }
        Ok(mirrors)
    }

    /// Where a file of an archive can be had, the best place first.
    pub fn locations(&self, archive: &str, path: &str) -> Vec<Location> {
        let mirrors = self.archives.get(archive).into_iter().flatten();
        mirrors.map(|mirror| mirror.join(path)).collect()
    }

    /// Like [`Mirrors::locations`] for a package file, with the plain folders ahead and
    /// snapshot.debian.org last: the archive as it was half a day after `date` (seconds since the epoch),
    /// when that release had surely been taken in.
    pub fn package_locations(&self, archive: &str, path: &str, date: i64) -> Vec<Location> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let in_folder = |folder: &PathBuf| folder.join(if archive == LOCAL { path } else { name });
        let mut all: Vec<_> =
            self.folders.iter().map(in_folder).filter(|file| file.is_file()).map(Location::File).collect();
        all.extend(self.locations(archive, path));
        if self.snapshot && ARCHIVES.contains(&archive) {
            all.extend(snapshot(archive, path, date));
        }
        all
    }

    fn name(&mut self, mirror: &str, base: &Path) -> Result<(), Error> {
        let (said, place) = match mirror.split_once('=') {
            Some((archive, place)) if ARCHIVES.contains(&archive) => (Some(archive), place),
            _ => (None, mirror),
        };
        let shown = Location::Http(place.to_owned()).to_string();
        if place.starts_with("http://") || place.starts_with("https://") {
            let place = place.trim_end_matches('/');
            let archive = said.or(archive_of(place)).ok_or(Error::WhichArchive { mirror: shown })?;
            self.add(archive, Location::Http(place.to_owned()));
            return Ok(());
        }
        let folder = match place.strip_prefix("file://") {
            Some(path) => PathBuf::from(path),
            None if place.contains("://") => return Err(Error::NoAddress { mirror: shown }),
            None => base.join(place),
        };
        let mirror = place.to_owned();
        if !folder.is_dir() {
            return Err(Error::NoFolder { mirror });
        }
        if !folder.join("dists").is_dir() {
            self.folders.push(folder);
            return Ok(());
        }
        let archive =
            said.or(archive_of(place.trim_end_matches('/'))).ok_or(Error::WhichArchive { mirror })?;
        self.add(archive, Location::File(folder));
        Ok(())
    }

    fn add(&mut self, archive: &str, location: Location) {
        let mirrors = self.archives.entry(archive.to_owned()).or_default();
        if !mirrors.contains(&location) {
            mirrors.push(location);
        }
    }
}

fn archive_of(address: &str) -> Option<&'static str> {
    let last = address.trim_end_matches('/').rsplit('/').next()?;
    ARCHIVES.into_iter().find(|archive| *archive == last)
}

/// The address of a file in the archive as it was at a time.
fn snapshot(archive: &str, path: &str, date: i64) -> Option<Location> {
    let time = jiff::Timestamp::from_second(date.checked_add(12 * 3600)?).ok()?;
    let stamp = time.strftime("%Y%m%dT%H%M%SZ");
    Some(Location::Http(format!("http://snapshot.debian.org/archive/{archive}/{stamp}/{path}")))
}

/// The http and https addresses of the host's apt sources (sources.list(5)): both forms of files, in the
/// order of their names. What cannot be read is left out: it is only a hint.
fn apt_addresses(apt: &Path) -> Vec<String> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let mut addresses = one_line_addresses(&read(&apt.join("sources.list")));
    let parts = std::fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut parts: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
    parts.sort();
    for path in parts {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => addresses.extend(one_line_addresses(&read(&path))),
            Some("sources") => addresses.extend(deb822_addresses(&read(&path))),
            _ => {}
        }
    }
    addresses.retain(|address| address.starts_with("http://") || address.starts_with("https://"));
    addresses.iter_mut().for_each(|address| *address = address.trim_end_matches('/').to_owned());
    addresses
}

/// `deb [options] address suite component…`, one a line.
fn one_line_addresses(text: &str) -> Vec<String> {
    let address = |line: &str| {
        let rest = line.trim().strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        rest.split_ascii_whitespace().next().map(str::to_owned)
    };
    text.lines().filter_map(address).collect()
}

/// `URIs:` of the stanzas that are not disabled and list binary packages.
fn deb822_addresses(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    for stanza in text.split("\n\n") {
        let (mut field, mut addresses, mut wanted) = (String::new(), Vec::new(), true);
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            let value = match line.split_once(':') {
                Some((name, value)) if !line.starts_with([' ', '\t']) => {
                    field = name.to_ascii_lowercase();
                    value
                }
                _ => line,
            };
            let mut words = value.split_ascii_whitespace();
            match field.as_str() {
                "uris" => addresses.extend(words.map(str::to_owned)),
                "enabled" => wanted &= words.next() != Some("no"),
                "types" => wanted &= words.any(|word| word == "deb"),
                _ => {}
            }
        }
        if wanted {
            all.extend(addresses);
        }
    }
    all
}

#[cfg(test)]
mod tests;
