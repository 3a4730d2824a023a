//! k3s' folder: files go into it when their kinds are there, and are out of it when k3s starts.

use crate::join::Around;
use kiln_contract::manifest::{FOLDER, Index, KEPT, Laid};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

fn place(around: &Around, name: &str) -> PathBuf {
    around.path(&format!("{KEPT}/{name}.yaml"))
}

/// Lays a file; false when it lay there already, as it is.
pub(super) fn lay(around: &Around, name: &str, laid: &Laid) -> io::Result<bool> {
    let path = place(around, name);
    if fs::read(&path).is_ok_and(|bytes| bytes == laid.text.as_bytes()) {
        return Ok(false);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(around.path(KEPT))?;
    // k3s reads no file with that ending.
    let beside = path.with_extension("yaml.new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(laid.text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    Ok(true)
}

/// Takes a file out; what became of it, if there was one. One that is not what was laid is kept beside, under a name that k3s
/// does not read: it is of an older seed, or somebody's own.
pub(super) fn clear(around: &Around, name: &str, laid: Option<&Laid>) -> io::Result<Option<String>> {
    let path = place(around, name);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    if laid.is_some_and(|laid| laid.text.as_bytes() == bytes) {
        fs::remove_file(&path)?;
        return Ok(Some(format!("{name}.yaml is out of k3s' folder until its kinds are there")));
    }
    let beside = path.with_extension("yaml.before");
    fs::rename(&path, &beside)?;
    Ok(Some(format!(
        "{KEPT}/{name}.yaml of an earlier seed is not kept in force any more, and is {name}.yaml.before now"
    )))
}

/// Documents of a seed before, which this one has not.
pub(super) fn forget(around: &Around, index: &Index) -> Result<(), String> {
    let entries = match fs::read_dir(around.path(FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{FOLDER}: {error}")),
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let ours = path.extension().is_some_and(|ending| ending == "json");
        if ours && !index.manifests.contains(&stem) {
            fs::remove_file(&path).map_err(|error| format!("{FOLDER}/{stem}.json: {error}"))?;
        }
    }
    Ok(())
}
