//! The layout of a root that is mounted read-only: /var is another file system, filled at first boot from
//! `usr/share/factory/var`; /etc is the lower layer of an overlay.
//!
//! What users write outside both (homes, /opt, /srv, /usr/local) becomes a link into /var. The dpkg database
//! belongs to the image, lives under /usr and is linked from /var. Below the mount point, which a running node never
//! shows, the same files stand once more: scanners read the image's `var/lib/dpkg` and follow no links.

use super::formats::tree::{Content, Entry, Kind, Meta, Path, Tree};

/// Where the contents of /var wait for the first boot.
const FACTORY: &str = "usr/share/factory/var";
/// Where the package database lives.
const PACKAGES: &str = "usr/lib/sysimage/dpkg";

/// Directories at the top or under /usr that become links into /var: path, place in /var.
const MOVED: [(&str, &str); 5] = [
    ("home", "var/home"),
    ("root", "var/roothome"),
    ("srv", "var/srv"),
    ("opt", "var/opt"),
    ("usr/local", "var/usrlocal"),
];

/// Mount points and the like, with modes, that must exist and be empty.
const EMPTY: [(&str, u16); 8] = [
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("media", 0o755),
    // What is mounted below it gets its folders at each boot, from the helper in the initramfs.
    ("mnt", 0o755),
    ("efi", 0o755),
];

/// Rearranges an assembled tree for a read-only root. The kernel's files stay under /boot, for they are the
/// package's and `dpkg -V` asks for them; firmware boots the copy on the boot partition. Hard links that would
/// end up on different file systems become copies.
pub fn seal(mut tree: Tree) -> Tree {
    // The newest time in the tree: systemd takes a /usr that is newer than the marks below for an update.
    let stamp = tree.iter().map(|(_, entry)| entry.meta.mtime).max().unwrap_or_default();
    let fresh = |kind, mode| {
        let mut entry = Entry::new(kind, mode);
        entry.meta.mtime = stamp;
        entry
    };
    break_links(&mut tree);
    for (path, _) in EMPTY {
        take(&mut tree, path);
    }
    for name in ["initrd.img", "initrd.img.old", "vmlinuz", "vmlinuz.old"] {
        tree.remove(name);
    }
    for (path, place) in MOVED {
        // What the packages ship stays reachable under the same name.
        for (below, entry) in take(&mut tree, path) {
            let to = [place.as_bytes(), &below].concat();
            if !below.is_empty() || !tree.contains(&to) {
                tree.insert(&to, entry);
            }
        }
        if !tree.contains(place) {
            tree.insert(place, fresh(Kind::Directory, 0o755));
        }
        let up = "../".repeat(path.matches('/').count());
        tree.insert(path, fresh(Kind::Symlink(format!("{up}{place}").into_bytes().into()), 0o777));
    }
    // Nothing needs to be updated at the first boot: systemd.unit(5), ConditionNeedsUpdate=.
    for path in ["etc/.updated", "var/.updated"] {
        tree.insert(path, fresh(Kind::File(Content::bytes(Vec::new())), 0o644));
    }
    let database = take(&mut tree, "var/lib/dpkg");
    if !database.is_empty() {
        tree.make_parents(PACKAGES, &fresh(Kind::Directory, 0o755));
        for (below, entry) in database {
            tree.insert(&[PACKAGES.as_bytes(), &below].concat(), entry);
        }
        tree.insert("var/lib/dpkg", fresh(Kind::Symlink(format!("/{PACKAGES}").into_bytes().into()), 0o777));
    }
    tree.make_parents(FACTORY, &fresh(Kind::Directory, 0o755));
    let mode = tree.get("var").map_or(0o755, |entry| entry.meta.mode);
    for (below, entry) in take(&mut tree, "var") {
        tree.insert(&[FACTORY.as_bytes(), &below].concat(), entry);
    }
    tree.insert("var", fresh(Kind::Directory, mode));
    show_to_scanners(&mut tree, &fresh(Kind::Directory, 0o755));
    for (path, mode) in EMPTY {
        tree.insert(path, fresh(Kind::Directory, mode));
    }
    if let Some(usr) = tree.get_mut("usr") {
        usr.meta.mtime = stamp;
    }
    tree
}

/// Hard links below /var to what the package database consists of: names cost little, and Trivy, which opens the path
/// literally, says "no packages, no holes" where it finds nothing.
fn show_to_scanners(tree: &mut Tree, folder: &Entry) {
    let database: Vec<(Path, Entry)> =
        tree.below(PACKAGES).map(|(path, entry)| (path.into(), entry.clone())).collect();
    for (path, mut entry) in database {
        let Some(below) = path.strip_prefix(PACKAGES.as_bytes()) else { continue };
        let place = [b"var/lib/dpkg".as_slice(), below].concat();
        tree.make_parents(&place, folder);
        if matches!(entry.kind, Kind::File(_)) {
            entry.kind = Kind::HardLink(path);
        }
        tree.insert(&place, entry);
    }
}

/// Takes `path` and everything below out; paths are what follows `path`, so its own is empty.
fn take(tree: &mut Tree, path: &str) -> Vec<(Path, Entry)> {
    let paths: Vec<Path> = tree.below(path).map(|(path, _)| path.into()).collect();
    let own = tree.remove(path).map(|entry| (Path::default(), entry));
    let below = paths.iter().filter_map(|full| Some((full[path.len()..].into(), tree.remove(full)?)));
    own.into_iter().chain(below.collect::<Vec<_>>()).collect()
}

/// Hard links from or to what moves become files of their own with the same content.
fn break_links(tree: &mut Tree) {
    let moves = |path: &[u8]| {
        path.starts_with(b"var/")
            || MOVED.iter().any(|(moved, _)| path.starts_with(format!("{moved}/").as_bytes()))
    };
    let links: Vec<(Path, Path)> = tree
        .iter()
        .filter_map(|(path, entry)| match &entry.kind {
            Kind::HardLink(to) if moves(path) || moves(to) => Some((path.into(), to.clone())),
            _ => None,
        })
        .collect();
    for (path, to) in links {
        let target: Option<(Meta, Kind)> =
            tree.get(&to).map(|entry| (entry.meta.clone(), entry.kind.clone()));
        if let (Some((meta, kind)), Some(entry)) = (target, tree.get_mut(&path)) {
            *entry = Entry { meta, kind };
        }
    }
}
