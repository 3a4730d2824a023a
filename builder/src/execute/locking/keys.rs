//! Where the keys of the archive come from: a named keyring, the host's, or the archive itself.

use super::{Error, LockRequest, MOST_RELEASE};
use crate::archive::index;
use crate::archive::keyring::{DEBIAN, Keyring, Trust};
use crate::archive::release::Release;
use crate::fetch::download::{Fetcher, Wanted};
use kiln_formats::deb;
use kiln_formats::tree::Kind;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _, Seek as _};
use std::path::Path;

/// The most bytes of a keyring (Debian's has 57 kB), and of the files of the package that holds it.
const MOST_KEYRING: u64 = 1 << 20;
const MOST_PACKAGE: u64 = 16 << 20;
/// The most bytes of a line and of a stanza in an index of which nothing is known yet.
const MOST_LINE: u64 = 1 << 18;
const MOST_STANZA: usize = 1 << 20;

/// The package that holds Debian's keyring.
const PACKAGE: &str = "debian-archive-keyring";

/// The keys that releases are checked with.
pub(super) fn keyring(request: &LockRequest<'_>, fetcher: &Fetcher<'_>) -> Result<Keyring, Error> {
    if let Some(path) = request.keyring {
        let fault = |reason: String| Error::Keyring { place: path.display().to_string(), reason };
        let bytes = file(path).map_err(|reason| fault(reason.to_string()))?;
        return Keyring::parse(&bytes, Trust::All).map_err(|reason| fault(reason.to_string()));
    }
    // A host's keyring without the pinned keys (a derivative's, an old one) is no fault: the archive has them.
    let host = request.host_keyrings.iter().filter_map(|path| file(path).ok());
    let trusted = host.filter_map(|bytes| Keyring::parse(&bytes, Trust::Pinned(DEBIAN)).ok()).next();
    match trusted {
        Some(keyring) => Ok(keyring),
        None => from_archive(request, fetcher),
    }
}

/// All of a keyring, which the OpenPGP library may take long over.
fn file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST_KEYRING + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_KEYRING {
        let most = format!("it has more than the {MOST_KEYRING} bytes that a keyring can have");
        return Err(io::Error::new(ErrorKind::FileTooLarge, most));
    }
    Ok(bytes)
}

/// The keyring out of the archive's own package. Nothing on the way there is trusted: what makes it Debian's
/// is that its keys are the pinned ones.
fn from_archive(request: &LockRequest<'_>, fetcher: &Fetcher<'_>) -> Result<Keyring, Error> {
    let fault = |reason: String| Error::Keyring {
        place: format!("of {PACKAGE} in {}", request.suite),
        reason: format!("{reason}; install {PACKAGE}, or name a keyring in the cluster file (base.keyring)"),
    };
    let suite = request.suite;
    let from = request.mirrors.locations("debian", &format!("dists/{suite}/InRelease"));
    let name = format!("the release file of {suite}");
    let release = fetcher.fresh(&name, (&from, MOST_RELEASE), |bytes, _| {
        Release::open_untrusted(&bytes).map_err(|fault| fault.to_string())
    })?;
    let architecture = request.roots.first().map_or("amd64", |root| root.architecture.as_str());
    let path = format!("main/binary-{architecture}/Packages.xz");
    let listed = release.files.get(&path).ok_or_else(|| fault(format!("the release lists no {path}")))?;
    let from = request.mirrors.locations("debian", &format!("dists/{suite}/{path}"));
    let name = format!("{path} of {suite}");
    let file = fetcher.file(&Wanted { name, from, size: Some(listed.size), sha256: listed.sha256 })?;
    let opened = File::open(&file).map_err(|reason| crate::cache::Error::io("read", &file, reason))?;
    let text = super::unxz(opened).and_then(|index| stanza(BufReader::new(index.take(super::MOST_INDEX))));
    let text = text.map_err(|reason| fault(reason.to_string()))?;
    let packages = index::parse(&text).map_err(|reason| fault(reason.to_string()))?;
    let package = packages.iter().find(|package| package.name == PACKAGE);
    let package = package.ok_or_else(|| fault("there is no such package".to_owned()))?;
    let sha256 =
        package.sha256.parse().map_err(|reason: crate::digest::NotADigest| fault(reason.to_string()))?;
    let from = request.mirrors.locations("debian", package.file);
    let wanted =
        Wanted { name: format!("{PACKAGE} {}", package.version), from, size: Some(package.size), sha256 };
    if package.size > MOST_PACKAGE {
        return Err(fault(format!("the package is said to have {} bytes", package.size)));
    }
    let bytes = keyring_of(&fetcher.file(&wanted)?).map_err(fault)?;
    Keyring::parse(&bytes, Trust::Pinned(DEBIAN)).map_err(|reason| fault(reason.to_string()))
}

/// The stanza of [`PACKAGE`]: of an index that anybody may have written nothing else is kept.
fn stanza(mut index: impl BufRead) -> io::Result<String> {
    let (mut text, mut found, mut line) = (String::new(), false, Vec::new());
    loop {
        line.clear();
        let read = index.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)?;
        let words = String::from_utf8_lossy(&line);
        if read as u64 == MOST_LINE || text.len() > MOST_STANZA {
            return Err(io::Error::new(ErrorKind::InvalidData, "a line or stanza of it is too long"));
        }
        if words.trim_end().is_empty() {
            if found || read == 0 {
                return Ok(if found { text } else { String::new() });
            }
            text.clear();
            continue;
        }
        found |= words.strip_prefix("Package:").is_some_and(|name| name.trim() == PACKAGE);
        text.push_str(&words);
    }
}

/// All keyrings that the package installs, one after the other.
fn keyring_of(package: &Path) -> Result<Vec<u8>, String> {
    let mut file = BufReader::new(File::open(package).map_err(|fault| fault.to_string())?);
    let limits = deb::Limits { control: MOST_KEYRING, data: MOST_PACKAGE, threads: 1 };
    let mut unpacked = tempfile::tempfile().map_err(|fault| fault.to_string())?;
    deb::read(&mut file, &mut unpacked, &limits).map_err(|fault| fault.to_string())?;
    unpacked.rewind().map_err(|fault| fault.to_string())?;
    let tree = deb::index(std::sync::Arc::new(unpacked)).map_err(|fault| fault.to_string())?;
    for name in super::HOST_KEYRINGS {
        if let Some(Kind::File(content)) = tree.get(name.trim_start_matches('/')).map(|entry| &entry.kind) {
            return content.read_at_most(MOST_KEYRING).map_err(|fault| fault.to_string());
        }
    }
    Err("it holds no keyring".to_owned())
}
