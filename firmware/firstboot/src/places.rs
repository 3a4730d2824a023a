//! Mount points. The root is read-only and shared by nodes, so the folders below its top-level ones are made at each boot:
//! on a small file system in memory, or on /var when they are there. Each is immutable: when its disk is absent, what was
//! meant for the disk (Longhorn's replicas, above all) must not fill memory or the state partition instead.

use crate::sys::{self, Flags};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes the folders `mount_points` (paths of the system, as [`resolve`] gives them) below `root`, where it is mounted.
pub(crate) fn make(root: &Path, mount_points: &[String]) -> io::Result<()> {
    let mount_points: Vec<&str> = mount_points.iter().map(String::as_str).collect();
    let mount_points = mount_points.as_slice();
    let on_memory: BTreeSet<&str> =
        mount_points.iter().filter_map(|path| memory_for(path, mount_points)).collect();
    for top in on_memory {
        let target = root.join(top);
        // What the image has there would be hidden.
        if fs::read_dir(&target)?.next().is_some() {
            return Err(io::Error::other(format!("/{top} of the image is not empty")));
        }
        let flags = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
        sys::mount("tmpfs", &target.to_string_lossy(), "tmpfs", (flags, "mode=0755,size=64k,nr_inodes=1k"))?;
    }
    for path in mount_points {
        // Below another mount point the folder is made on that file system, by systemd.
        if inside_another(path, mount_points) || top_of(path).is_none_or(|(_, deeper)| !deeper) {
            continue;
        }
        place(&root.join(path.trim_start_matches('/')))?;
    }
    Ok(())
}

/// A folder that nothing can be written to; on a file system without that flag, a plain one.
pub(crate) fn place(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // On a disk it is there since an earlier boot, immutable: not even its mode can be set again.
    if fs::metadata(folder)?.permissions().mode() & 0o7777 != 0o755 {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    sys::make_immutable(&File::open(folder)?).map(drop)
}

/// The path that a mount point really is, below `root`: systemd takes none with a symbolic link in it, and top-level
/// folders that people write to are links into /var.
pub(crate) fn resolve(root: &Path, path: &str) -> String {
    let path_below = path.trim_start_matches('/');
    let (top, rest) = path_below.split_once('/').unwrap_or((path_below, ""));
    match fs::read_link(root.join(top)) {
        // The image's links at the top are relative to it, and lead to plain folders.
        Ok(target) => {
            let target = target.to_string_lossy();
            format!("/{}/{rest}", target.trim_matches('/')).trim_end_matches('/').to_owned()
        }
        Err(_) => path.to_owned(),
    }
}

/// The top-level folder that must become one in memory for this mount point.
fn memory_for<'a>(path: &'a str, all: &[&str]) -> Option<&'a str> {
    let (top, deeper) = top_of(path)?;
    (deeper && top != "var" && !inside_another(path, all)).then_some(top)
}

/// First part of a path, and whether there are more.
fn top_of(path: &str) -> Option<(&str, bool)> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    Some((parts.next()?, parts.next().is_some()))
}

fn inside_another(path: &str, all: &[&str]) -> bool {
    all.iter().any(|other| *other != path && Path::new(path).starts_with(other))
}

#[cfg(test)]
mod tests {
    use super::{inside_another, memory_for, resolve};

    #[test]
    fn links_at_the_top_are_followed() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("var/srv", root.path().join("srv")).unwrap();
        std::fs::create_dir(root.path().join("mnt")).unwrap();
        let table = [
            ("/srv", "/var/srv"),
            ("/srv/a/b", "/var/srv/a/b"),
            ("/mnt/a", "/mnt/a"),
            ("/storage", "/storage"),
        ];
        for (path, want) in table {
            assert_eq!(resolve(root.path(), path), want);
        }
    }

    #[test]
    fn memory_is_for_what_is_deeper_than_the_root_has() {
        let all = ["/mnt/longhorn/a", "/storage", "/storage/longhorn", "/var/lib/x"];
        let memory: Vec<_> = all.iter().map(|path| memory_for(path, &all)).collect();
        assert_eq!(memory, [Some("mnt"), None, None, None]);
        assert!(inside_another("/storage/longhorn", &all));
        assert!(!inside_another("/storage", &all));
    }
}
