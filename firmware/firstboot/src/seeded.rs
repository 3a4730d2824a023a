//! Whether what cloud-init did is to be believed. It marks its work as done before any of it is on the disk: names are there
//! after seconds, what is in the files after half a minute. Power that goes in between leaves empty files that are never
//! written again. So Kiln has marks of its own: one from before cloud-init first runs, and one from when it had ended and all
//! of it was on the disk. Where the second is missing, the next boot begins anew.

use crate::sys;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

/// A first boot with this helper has begun. Relative to /var, as all paths here.
const BEGUN: &str = "lib/kiln/seeding";
/// It has come to its end.
const DONE: &str = "lib/kiln/seeded";
/// Where cloud-init keeps what is done, of this instance and for ever. What else is below lib/cloud is not its own word.
const MARKS: [&str; 4] = ["lib/cloud/instance", "lib/cloud/instances", "lib/cloud/data", "lib/cloud/sem"];
/// The layers of /etc, in which most of it is that cloud-init writes.
const ETC: [&str; 2] = ["lib/kiln/etc/upper", "lib/kiln/etc/work"];
/// There when cloud-init's last stage has ended (cloudinit/cmd/main.py, `status_wrapper`).
const RESULT: &str = "run/cloud-init/result.json";
/// No honest file that every home begins with is larger.
const MAX_SKELETON: u64 = 1 << 20;

/// What a boot finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Nothing was begun.
    First,
    /// What was begun has not come to its end.
    Cut,
    /// It has, or a helper without marks began it.
    Whole,
}

/// Before /etc is laid over: what a boot that was cut left half done goes, so that it is done again. `root` is the image's,
/// and its /var is mounted. True when there was something to undo.
pub(crate) fn begin(root: &Path) -> io::Result<bool> {
    let var = root.join("var");
    match found(&var) {
        Found::Whole => Ok(false),
        Found::First => mark(&var, BEGUN).map(|()| false),
        Found::Cut => undo(root, &var).map(|()| true),
    }
}

fn found(var: &Path) -> Found {
    let is_there = |path: &str| fs::symlink_metadata(var.join(path)).is_ok();
    match (is_there(DONE), is_there(BEGUN), is_there(MARKS[0])) {
        (true, ..) | (false, false, true) => Found::Whole,
        (false, true, _) => Found::Cut,
        (false, false, false) => Found::First,
    }
}

fn undo(root: &Path, var: &Path) -> io::Result<()> {
    for path in MARKS.iter().chain(&ETC).map(|path| var.join(path)) {
        let gone = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match gone {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    refill_homes(&root.join("etc/skel"), &var.join("home"))?;
    sys::sync_file_system(var)
}

/// useradd(8) puts nothing into a home that is there already. What is empty in one and is not in the image is written again,
/// in its place: whose it is stays, and what a person has written, too.
fn refill_homes(skeleton: &Path, homes: &Path) -> io::Result<()> {
    let names = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    for file in names(skeleton) {
        let facts = fs::symlink_metadata(file.path())?;
        if !facts.is_file() || facts.len() == 0 || facts.len() > MAX_SKELETON {
            continue;
        }
        for home in names(homes) {
            let there = home.path().join(file.file_name());
            let is_empty = fs::symlink_metadata(&there).is_ok_and(|it| it.is_file() && it.len() == 0);
            if is_empty && fs::symlink_metadata(home.path())?.is_dir() {
                fs::write(there, fs::read(file.path())?)?;
            }
        }
    }
    Ok(())
}

/// `kiln-firstboot seeded`: after cloud-init's last stage.
pub(crate) fn run() -> ExitCode {
    match end(Path::new("/")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kiln-firstboot seeded: {error}; the next boot does again what the seed says");
            ExitCode::FAILURE
        }
    }
}

/// What cloud-init did is on the disk, and stays so: that is what the mark says, and it is the last to be written. On a system
/// that Kiln did not build there is nobody to read it, and what is written is as safe.
pub(crate) fn end(root: &Path) -> io::Result<()> {
    let var = root.join("var");
    if var.join(DONE).exists() {
        return Ok(());
    }
    if !root.join(RESULT).exists() {
        return Err(io::Error::other("cloud-init has not come to its end"));
    }
    for folder in [root.join("etc"), var.clone()].iter().filter(|folder| folder.exists()) {
        sys::sync_file_system(folder)?;
    }
    mark(&var, DONE)
}

/// A file that is on the disk when this returns.
fn mark(var: &Path, path: &str) -> io::Result<()> {
    let path = var.join(path);
    let folder = path.parent().unwrap_or(var);
    fs::create_dir_all(folder)?;
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(&path)?;
    file.write_all(b"1\n")?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{BEGUN, DONE, Found, RESULT, begin, end, found};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A root of which cloud-init has done a part, and an `instance` that is a link to what is not there.
    fn cut(root: &Path) {
        put(root, "etc/skel/.profile", "# profile\n");
        put(root, "etc/skel/.empty", "");
        assert!(!begin(root).unwrap());
        put(root, "var/lib/cloud/instances/i-1/sem/config_write_files", "");
        symlink("/var/lib/cloud/instances/i-1", root.join("var/lib/cloud/instance")).unwrap();
        put(root, "var/lib/cloud/data/instance-id", "i-1\n");
        put(root, "var/lib/cloud/scripts/per-boot/mine", "#!/bin/sh\n");
        put(root, "var/lib/kiln/etc/upper/hostname", "");
        put(root, "var/lib/kiln/etc/upper/shadow.lock", "364");
        put(root, "var/lib/kiln/etc/work/work/x", "");
        put(root, "var/lib/rancher/k3s/server/db/state", "etcd");
        for (file, text) in [(".profile", ""), (".bashrc", ""), ("thesis", "all of it")] {
            put(root, &format!("var/home/ops/{file}"), text);
        }
        put(root, "var/home/ann/.profile", "hers\n");
    }

    #[test]
    fn what_was_cut_is_undone_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(found(&root.join("var")), Found::First);
        cut(root);
        assert_eq!(found(&root.join("var")), Found::Cut);
        // Whatever of it was done when power went again.
        for _ in 0..2 {
            assert!(begin(root).unwrap());
            for gone in ["lib/cloud/instance", "lib/cloud/instances", "lib/cloud/data", "lib/kiln/etc/upper"]
            {
                assert!(fs::symlink_metadata(root.join("var").join(gone)).is_err(), "{gone}");
            }
            let text = |path: &str| fs::read_to_string(root.join("var").join(path)).unwrap();
            assert_eq!(text("lib/cloud/scripts/per-boot/mine"), "#!/bin/sh\n");
            assert_eq!(text("lib/rancher/k3s/server/db/state"), "etcd");
            assert_eq!(text("home/ops/.profile"), "# profile\n");
            assert_eq!(
                (text("home/ops/.bashrc"), text("home/ops/thesis")),
                (String::new(), "all of it".into())
            );
            assert_eq!(text("home/ann/.profile"), "hers\n");
        }
        assert_eq!(found(&root.join("var")), Found::Cut);
    }

    #[test]
    fn the_mark_comes_after_cloud_init_and_is_believed() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        cut(root);
        assert_eq!(end(root).unwrap_err().to_string(), "cloud-init has not come to its end");
        assert!(!root.join("var").join(DONE).exists());
        put(root, RESULT, "{}");
        end(root).unwrap();
        end(root).unwrap();
        assert_eq!(found(&root.join("var")), Found::Whole);
        assert!(!begin(root).unwrap());
        assert!(root.join("var/lib/kiln/etc/upper/shadow.lock").exists());
        assert!(root.join("var").join(BEGUN).exists());
    }

    /// A helper without marks set the node up.
    #[test]
    fn an_older_nodes_state_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "var/lib/cloud/instances/i-1/sem/config_write_files", "");
        symlink("/var/lib/cloud/instances/i-1", root.join("var/lib/cloud/instance")).unwrap();
        put(root, "var/lib/kiln/etc/upper/hostname", "n1\n");
        assert!(!begin(root).unwrap());
        assert_eq!(fs::read_to_string(root.join("var/lib/kiln/etc/upper/hostname")).unwrap(), "n1\n");
        put(root, RESULT, "{}");
        end(root).unwrap();
        assert_eq!(found(&root.join("var")), Found::Whole);
    }
}
