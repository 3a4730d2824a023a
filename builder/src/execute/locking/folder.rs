//! A plain folder of `.deb` files as a suite: its index is made from the packages' own control data.

use super::Error;
use crate::archive::control::stanzas;
use crate::cache::Cache;
use crate::digest::{Hashing, Sha256};
use kiln_formats::deb::{Limits, read};
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// An index that was made here.
pub(super) struct Index {
    /// In the form of a `Packages` file, sorted by file name.
    pub(super) text: String,
    /// The newest date of the packages, seconds since the epoch.
    pub(super) date: i64,
}

/// Reads the control data of every `.deb` file right in `folder`. What was read is kept in the cache by the
/// package's digest.
pub(super) fn index(folder: &Path, cache: &Cache) -> Result<Index, Error> {
    let fault = |path: &Path, reason: io::Error| Error::LocalPackage {
        path: path.to_owned(),
        reason: format!("it cannot be read: {reason}"),
    };
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|reason| fault(folder, reason))? {
        let path = entry.map_err(|reason| fault(folder, reason))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut index = Index { text: String::new(), date: 0 };
    for path in files {
        let mut file = File::open(&path).map_err(|reason| fault(&path, reason))?;
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut file, &mut hashing).map_err(|reason| fault(&path, reason))?;
        let (_, sha256, size) = hashing.finish();
        index.date = index.date.max(date(&path).map_err(|reason| fault(&path, reason))?);
        let bad = |reason: String| Error::LocalPackage { path: path.clone(), reason };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| bad("its name is not UTF-8".to_owned()))?;
        let control = control(&path, &sha256, cache)?;
        let stanza = stanzas(&control).next().ok_or_else(|| bad("its control file is empty".to_owned()))?;
        // A package cannot speak for its file: these fields are the index's own.
        let own = ["Filename", "Size", "SHA256", "MD5sum", "SHA1"];
        for (field, value) in stanza.fields().filter(|(field, _)| !own.contains(field)) {
            index.text += &format!("{field}: {value}\n");
        }
        index.text += &format!("Filename: {name}\nSize: {size}\nSHA256: {sha256}\n\n");
    }
    Ok(index)
}

/// The control file of a package.
fn control(path: &Path, sha256: &Sha256, cache: &Cache) -> Result<String, Error> {
    let io = |action| move |fault| crate::cache::Error::io(action, path, fault);
    let key = blake3::hash(format!("control file of {sha256}").as_bytes()).to_hex();
    let mut text = String::new();
    if let Some(mut kept) = cache.blob(&key) {
        kept.read_to_string(&mut text).map_err(io("read"))?;
        return Ok(text);
    }
    let bad = |reason: String| Error::LocalPackage { path: path.to_owned(), reason };
    let mut file = BufReader::new(File::open(path).map_err(io("read"))?);
    // All of it: a package that is cut off must not get into a lock.
    let control =
        read(&mut file, &mut io::sink(), &Limits::default()).map_err(|fault| bad(fault.to_string()))?;
    let text = control.text("control").ok_or_else(|| bad("it has no control file".to_owned()))?.into_owned();
    cache.store_blob(&key, |file| io::Write::write_all(file, text.as_bytes()))?;
    Ok(text)
}

/// When the package was built: the time of its first `ar` member (deb(5)), which is of its bytes, unlike
/// the file's own time.
fn date(path: &Path) -> io::Result<i64> {
    let mut header = [0; 8 + 28];
    match File::open(path)?.read_exact(&mut header) {
        Err(fault) if fault.kind() != io::ErrorKind::UnexpectedEof => return Err(fault),
        _ => {}
    }
    let digits = String::from_utf8_lossy(&header[24..36]);
    Ok(digits.trim().parse().unwrap_or(0))
}
