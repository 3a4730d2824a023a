//! What in an output folder is Kiln's, so that nothing else is ever removed, replaced or written through.

use super::{Error, MANIFEST, STATE};
use rustix::fs::{Mode, OFlags};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// How the name of a file begins that is being written.
pub(super) const NEW: &str = ".kiln-new.";
/// How the name of a file begins that steps aside for a new one.
pub(super) const OLD: &str = ".kiln-old.";

/// Folders below a node's own that Kiln writes to.
const INNER: &[&str] = &["", "seed", "seed/kiln"];

/// The path of a file on its way to, or from, `end`.
pub(super) fn beside(end: &Path, prefix: &str) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(end.file_name().unwrap_or_default());
    end.with_file_name(name)
}

/// Refuses a folder in which a link or something else has the place of what Kiln writes to.
pub(super) fn check(folder: &Path, nodes: &[&str]) -> Result<(), Error> {
    let of_nodes = nodes.iter().flat_map(|node| INNER.iter().map(move |inner| Path::new(node).join(inner)));
    for inner in of_nodes.chain([PathBuf::from(STATE)]) {
        // A slash at the end, which joining with "" leaves, would lead through a link.
        let path: PathBuf = folder.join(inner).components().collect();
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(meta) => return Err(Error::InTheWay { path, what: what(meta.file_type()) }),
            Err(gone) if matches!(gone.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(fault) => return Err(Error::io(&path, fault)),
        }
    }
    let manifest = folder.join(MANIFEST);
    match fs::read(&manifest) {
        Ok(bytes) if !is_manifest(&bytes) => Err(Error::NotOurs(manifest)),
        _ => Ok(()),
    }
}

/// Whether this is a `manifest.json` of any version of Kiln, or what a power cut left of one.
fn is_manifest(bytes: &[u8]) -> bool {
    let empty = bytes.iter().all(|byte| *byte == 0);
    let document = || serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let ours = |document: &serde_json::Value| {
        ["kiln", "cluster_id", "files"].iter().all(|key| document.get(key).is_some())
    };
    empty || document().is_some_and(|document| ours(&document))
}

fn what(kind: fs::FileType) -> &'static str {
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_file() {
        "a file"
    } else {
        "no folder"
    }
}

/// Opens the file that a build locks. What is in it stays: it may be anybody's.
pub(super) fn lock_file(path: &Path) -> Result<File, Error> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let in_the_way = |what| Error::InTheWay { path: path.to_owned(), what };
    let file = match rustix::fs::open(path, flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::LOOP) => return Err(in_the_way("a symbolic link")),
        Err(fault) => return Err(Error::io(path, fault.into())),
    };
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(in_the_way("no file")),
        Err(fault) => Err(Error::io(path, fault)),
    }
}

/// Removes files that were not finished and puts back what had stepped aside: only a build that was cut leaves any.
/// What can't be removed does no harm.
pub(super) fn sweep(folder: &Path, nodes: &[&str]) {
    let of_nodes = nodes.iter().flat_map(|node| INNER.iter().map(move |inner| folder.join(node).join(inner)));
    for folder in of_nodes.chain([folder.to_owned(), folder.join(STATE)]) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of the entry itself, not of what a link leads to.
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.starts_with(NEW) {
                let _ = fs::remove_file(&path);
            } else if let Some(name) = name.strip_prefix(OLD) {
                let end = path.with_file_name(name);
                // A link that leads nowhere is something, too.
                let there = fs::symlink_metadata(&end).is_ok();
                let _ = if there { fs::remove_file(&path) } else { fs::rename(&path, end) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Error, Output};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// All names below a folder with what is in them.
    fn everything(folder: &Path) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                all.extend(everything(&path));
            } else if kind.is_file() {
                all.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
        all.sort();
        all
    }

    #[test]
    fn a_build_that_was_cut_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("n/seed")).unwrap();
        fs::write(path("n/.kiln-new.disk.img"), "half").unwrap();
        fs::write(path("n/seed/.kiln-new.user-data"), "half").unwrap();
        fs::write(path("n/disk.img"), "old").unwrap();
        fs::write(path("n/.kiln-old.image.json"), "old").unwrap();
        fs::write(path("n/.kiln-old.disk.img"), "older").unwrap();
        Output::open(folder.path(), &["n"]).unwrap();
        let names = everything(&path("n")).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(names, ["old", "old"], "disk.img and image.json");
        assert!(path("n/image.json").exists() && path("n/disk.img").exists());
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for inner in ["n/seed/kiln", "n/notes", "stranger/seed", ".kiln", "seed"] {
            fs::create_dir_all(path(inner)).unwrap();
        }
        let names =
            ["thesis.partial", "thesis.previous", "thesis", ".partial", ".previous", "disk.img.partial"];
        for folder in [
            "",
            "n/",
            "n/seed/",
            "n/seed/kiln/",
            "n/notes/",
            "stranger/",
            "stranger/seed/",
            ".kiln/",
            "seed/",
        ] {
            for name in names {
                fs::write(path(&format!("{folder}{name}")), name).unwrap();
            }
        }
        fs::write(path("stranger/.kiln-new.disk.img"), "another cluster builds this").unwrap();
        fs::write(path("n/notes/.kiln-new.disk.img"), "not where Kiln writes").unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("precious"), "precious").unwrap();
        symlink(outside.path().join("precious"), path("n/.kiln-new.link")).unwrap();
        symlink(outside.path().join("precious"), path("n/.kiln-old.link")).unwrap();
        let before = everything(folder.path());
        let output = Output::open(folder.path(), &["n"]).unwrap();
        output.write("n/thesis2", b"x").unwrap();
        fs::remove_file(path("n/thesis2")).unwrap();
        drop(output);
        fs::write(path(".kiln/lock"), "").unwrap();
        let mut after = everything(folder.path());
        after.retain(|(name, _)| !name.ends_with("/lock"));
        assert_eq!(after, before);
        assert_eq!(fs::read_to_string(outside.path().join("precious")).unwrap(), "precious");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let outside = tempfile::tempdir().unwrap();
        let precious = outside.path().join("precious");
        for link in [".kiln/lock", ".kiln", "n", "n/seed", "n/seed/kiln"] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(&precious, "precious").unwrap();
            fs::write(outside.path().join(".kiln-new.disk.img"), "precious").unwrap();
            let at = folder.path().join(link);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            let target = if link == ".kiln/lock" { precious.as_path() } else { outside.path() };
            symlink(target, &at).unwrap();
            let error = Output::open(folder.path(), &["n"]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "{} is a symbolic link, and Kiln writes through none: move it away, or name another folder with -o",
                    at.display()
                )
            );
            assert_eq!(everything(outside.path()).len(), 2, "{link}");
            assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{link}");
            // A link that leads nowhere would make its target.
            fs::remove_file(&at).unwrap();
            symlink(outside.path().join("nowhere"), &at).unwrap();
            assert!(matches!(Output::open(folder.path(), &["n"]), Err(Error::InTheWay { .. })), "{link}");
            assert!(!outside.path().join("nowhere").exists(), "{link}");
        }
        // The folder itself may be a link: that is its owner's word.
        let folder = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("dist")).unwrap();
        Output::open(&folder.path().join("dist"), &["n"]).unwrap();
    }

    #[test]
    fn what_has_a_name_of_kilns_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path(".kiln")).unwrap();
        fs::write(path(".kiln/lock"), "a text").unwrap();
        fs::write(path("manifest.json"), "{\"name\": \"my web app\"}").unwrap();
        let error = Output::open(folder.path(), &["n"]).unwrap_err();
        assert!(matches!(error, Error::NotOurs(_)), "{error}");
        fs::remove_file(path("manifest.json")).unwrap();
        fs::write(path("n"), "a file").unwrap();
        let error = Output::open(folder.path(), &["n"]).unwrap_err();
        assert!(error.to_string().contains("/n is a file, and Kiln writes"), "{error}");
        fs::remove_file(path("n")).unwrap();
        drop(Output::open(folder.path(), &["n"]).unwrap());
        assert_eq!(fs::read_to_string(path(".kiln/lock")).unwrap(), "a text");
    }
}
