//! Where the keys of the archive come from: a named keyring, the host's, or the archive itself.

use super::{Error, LockRequest, MOST_RELEASE};
use crate::archive::index;
use crate::archive::keyring::{DEBIAN, Keyring, Trust};
use crate::archive::release::Release;
use crate::fetch::download::{Fetcher, Wanted};
use kiln_formats::deb;
use kiln_formats::tree::Kind;
use std::fs::{self, File};
use std::io::{BufReader, Read as _, Seek as _};
use std::path::Path;

/// The package that holds Debian's keyring.
const PACKAGE: &str = "debian-archive-keyring";

/// The keys that releases are checked with.
pub(super) fn keyring(request: &LockRequest<'_>, fetcher: &Fetcher<'_>) -> Result<Keyring, Error> {
    if let Some(path) = request.keyring {
        let fault = |reason: String| Error::Keyring { place: path.display().to_string(), reason };
        let bytes = fs::read(path).map_err(|reason| fault(reason.to_string()))?;
        return Keyring::parse(&bytes, Trust::All).map_err(|reason| fault(reason.to_string()));
    }
    // A host's keyring without the pinned keys (a derivative's, an old one) is no fault: the archive has them.
    let host = request.host_keyrings.iter().filter_map(|path| fs::read(path).ok());
    let trusted = host.filter_map(|bytes| Keyring::parse(&bytes, Trust::Pinned(DEBIAN)).ok()).next();
    match trusted {
        Some(keyring) => Ok(keyring),
        None => from_archive(request, fetcher),
    }
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
    let mut text = Vec::new();
    let opened = File::open(&file).map_err(|reason| crate::cache::Error::io("read", &file, reason))?;
    let read = liblzma::read::XzDecoder::new(opened).take(super::MOST_INDEX).read_to_end(&mut text);
    read.map_err(|reason| fault(reason.to_string()))?;
    let text = String::from_utf8_lossy(&text);
    let packages = index::parse(&text).map_err(|reason| fault(reason.to_string()))?;
    let package = packages.iter().find(|package| package.name == PACKAGE);
    let package = package.ok_or_else(|| fault("there is no such package".to_owned()))?;
    let sha256 =
        package.sha256.parse().map_err(|reason: crate::digest::NotADigest| fault(reason.to_string()))?;
    let from = request.mirrors.locations("debian", package.file);
    let wanted =
        Wanted { name: format!("{PACKAGE} {}", package.version), from, size: Some(package.size), sha256 };
    let bytes = keyring_of(&fetcher.file(&wanted)?).map_err(fault)?;
    Keyring::parse(&bytes, Trust::Pinned(DEBIAN)).map_err(|reason| fault(reason.to_string()))
}

/// All keyrings that the package installs, one after the other.
fn keyring_of(package: &Path) -> Result<Vec<u8>, String> {
    let mut file = BufReader::new(File::open(package).map_err(|fault| fault.to_string())?);
    let mut unpacked = tempfile::tempfile().map_err(|fault| fault.to_string())?;
    deb::read(&mut file, &mut unpacked, &deb::Limits::default()).map_err(|fault| fault.to_string())?;
    unpacked.rewind().map_err(|fault| fault.to_string())?;
    let tree = deb::index(std::sync::Arc::new(unpacked)).map_err(|fault| fault.to_string())?;
    for name in super::HOST_KEYRINGS {
        if let Some(Kind::File(content)) = tree.get(name.trim_start_matches('/')).map(|entry| &entry.kind) {
            return content.read().map_err(|fault| fault.to_string());
        }
    }
    Err("it holds no keyring".to_owned())
}
