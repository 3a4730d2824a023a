//! Whose certificates are believed: those that the host believes, as apt, curl and git do.

use std::fs;
use std::path::{Path, PathBuf};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// Where systems keep the authorities that they trust, as one file: Debian and Arch, Fedora, SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// No honest bundle is larger (Debian's has 220 kB).
const MOST: u64 = 16 << 20;

/// The authorities of `SSL_CERT_FILE` and `SSL_CERT_DIR` (as OpenSSL reads them: in place of the host's), else the host's,
/// else those that this program was built with.
pub(super) fn roots(variable: impl Fn(&str) -> Option<PathBuf>) -> RootCerts {
    let (file, folders) = (variable("SSL_CERT_FILE"), variable("SSL_CERT_DIR"));
    let mut found = Vec::new();
    if file.is_some() || folders.is_some() {
        found.extend(file.iter().flat_map(|file| certificates(file)));
        let folders = folders.iter().flat_map(std::env::split_paths).collect::<Vec<_>>();
        for folder in folders {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(entries.flat_map(|entry| certificates(&entry.path())));
        }
    } else {
        let bundles = BUNDLES.iter().map(|bundle| certificates(Path::new(bundle)));
        found = bundles.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    }
    // Who names authorities means those and no others, whatever became of the file.
    let named = file.is_some() || folders.is_some();
    if !named && found.is_empty() { RootCerts::WebPki } else { RootCerts::from(found) }
}

/// The certificates of a file; what is none is passed over, as everybody does.
fn certificates(path: &Path) -> Vec<Certificate<'static>> {
    let sound = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= MOST);
    let Some(bytes) = sound.then(|| fs::read(path).ok()).flatten() else { return Vec::new() };
    let items = parse_pem(&bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    items.collect()
}
