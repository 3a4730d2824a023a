//! The root file system as the kernel shows it, against the tree that was asked for, entry by entry.

use crate::formats::partition;
use kiln::cache::Cache;
use kiln::cluster::Cluster;
use kiln::execute::{inputs, roots};
use kiln::lock::Lock;
use kiln::{cluster, rootfs};
use kiln_formats::tree::{Entry, Kind, Tree};
use kiln_tests::{example, root_or_skip, shared, succeed, tool};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

/// The sealed tree of the example's root, made anew from the packages.
fn wanted() -> Tree {
    let cluster = cluster::example().unwrap().cluster;
    rootfs::seal(root(&cluster, &shared().join("example/kiln.lock")))
}

/// The tree of a cluster's first root.
pub(crate) fn root(cluster: &Cluster, lock: &Path) -> Tree {
    let lock = Lock::read(lock).unwrap().unwrap();
    let cache = Cache::open(&shared().join("cache/kiln")).unwrap();
    let nodes = cluster.select(&[]).unwrap();
    let vault: Arc<dyn kiln::render::Vault> = Arc::new(kiln::render::NoVault);
    let gathered = inputs::gather((cluster, &nodes), &lock, "test", &vault).unwrap();
    let making = roots::Making {
        cluster,
        lock: &lock,
        overlays: &gathered.overlays[0],
        enable: &gathered.enable[0],
        sector_size: 512,
        programs: &gathered.programs[0],
        threads: 2,
        fresh: false,
        step: &|_| (),
    };
    roots::tree(&gathered.roots[0], &making, &cache).unwrap()
}

/// Every extended attribute below `root`, as getfattr(1) dumps it: path, then `name=0x…`.
fn attributes(root: &Path) -> BTreeMap<Vec<u8>, Vec<String>> {
    let mut command = tool("getfattr", "attr");
    command.args(["-R", "-h", "-d", "-m", "-", "-e", "hex", "."]).current_dir(root);
    let mut all: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    let mut path = Vec::new();
    for line in succeed(&mut command).lines() {
        match line.strip_prefix("# file: ") {
            Some(file) => path = file.trim_start_matches("./").as_bytes().to_vec(),
            None if !line.is_empty() => all.entry(path.clone()).or_default().push(line.to_owned()),
            None => {}
        }
    }
    all
}

fn paths(root: &Path, below: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec());
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            paths(root, &path, found);
        }
    }
}

fn compare(tree: &Tree, path: &[u8], root: &Path) -> Vec<String> {
    let full = root.join(OsStr::from_bytes(path));
    let meta = fs::symlink_metadata(&full).unwrap();
    let mut entry = tree.get(path).unwrap();
    if let Kind::HardLink(to) = &entry.kind {
        let other = fs::symlink_metadata(root.join(OsStr::from_bytes(to))).unwrap();
        if other.ino() != meta.ino() {
            return vec!["is no hard link".to_owned()];
        }
        entry = tree.get(to).unwrap();
    }
    let Entry { meta: want, kind } = entry;
    let mut wrong = Vec::new();
    let mut check = |what: &str, is: String, wanted: String| {
        if is != wanted {
            wrong.push(format!("{what} is {is}, wanted {wanted}"));
        }
    };
    let (is, wanted) = (
        meta.file_type(),
        match kind {
            Kind::Directory => "directory",
            Kind::File(_) | Kind::HardLink(_) => "file",
            Kind::Symlink(_) => "symlink",
            Kind::CharDevice { .. } => "character device",
            Kind::BlockDevice { .. } => "block device",
            Kind::Fifo => "fifo",
            Kind::Socket => "socket",
        },
    );
    let is = match is {
        is if is.is_dir() => "directory",
        is if is.is_symlink() => "symlink",
        is if is.is_char_device() => "character device",
        is if is.is_block_device() => "block device",
        is if is.is_fifo() => "fifo",
        is if is.is_socket() => "socket",
        _ => "file",
    };
    check("type", is.to_owned(), wanted.to_owned());
    if is != "symlink" {
        check("mode", format!("{:o}", meta.mode() & 0o7777), format!("{:o}", want.mode));
    }
    check("owner", format!("{}:{}", meta.uid(), meta.gid()), format!("{}:{}", want.uid, want.gid));
    let mtime = format!("{}.{:09}", want.mtime.secs, want.mtime.nanos);
    check("mtime", format!("{}.{:09}", meta.mtime(), meta.mtime_nsec()), mtime);
    match kind {
        Kind::File(content) => {
            check("size", meta.len().to_string(), content.len().to_string());
            if fs::read(&full).unwrap() != content.read().unwrap() {
                wrong.push("content differs".to_owned());
            }
        }
        Kind::Symlink(to) if fs::read_link(&full).unwrap().as_os_str().as_bytes() != to.as_ref() => {
            wrong.push("target differs".to_owned());
        }
        _ => {}
    }
    wrong
}

#[test]
fn the_mounted_root_is_the_tree_that_was_asked_for() {
    if !root_or_skip("the loop mount of the root") {
        return;
    }
    example();
    let tree = wanted();
    let part = partition("tree", "k3s1", "root-a");
    let mounted = shared().join("mounted");
    fs::create_dir_all(&mounted).unwrap();
    succeed(tool("mount", "mount").args(["-o", "loop,ro"]).arg(&part).arg(&mounted));
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut found = Vec::new();
        paths(&mounted, &mounted, &mut found);
        found.retain(|path| path != b"lost+found");
        found.sort();
        let wanted: Vec<Vec<u8>> =
            tree.iter().map(|(path, _)| path.to_vec()).filter(|path| !path.is_empty()).collect();
        let missing: Vec<_> = wanted.iter().filter(|path| found.binary_search(path).is_err()).collect();
        let extra: Vec<_> = found.iter().filter(|path| !tree.contains(path)).collect();
        assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
        assert!(found.len() > 10_000, "only {} entries: is this the whole root?", found.len());
        let mut wrong = Vec::new();
        for path in &found {
            let name = String::from_utf8_lossy(path).into_owned();
            wrong.extend(compare(&tree, path, &mounted).into_iter().map(|fault| format!("/{name}: {fault}")));
        }
        let dumped = attributes(&mounted);
        for (path, entry) in tree.iter().filter(|(_, entry)| !entry.meta.xattrs.is_empty()) {
            for (name, value) in &entry.meta.xattrs {
                let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                let line = format!("{}=0x{hex}", String::from_utf8_lossy(name));
                if !dumped.get(path).is_some_and(|lines| lines.contains(&line)) {
                    wrong.push(format!("/{}: lacks {line}", String::from_utf8_lossy(path)));
                }
            }
        }
        let asked: usize = tree.iter().map(|(_, entry)| entry.meta.xattrs.len()).sum();
        assert_eq!(dumped.values().map(Vec::len).sum::<usize>(), asked, "attributes that nobody asked for");
        assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
        // Who looks at an image as a scanner does, by the path alone, finds all packages and the files of each.
        let query = |arguments: &[&str]| {
            let mut query = tool("dpkg-query", "dpkg");
            succeed(query.arg("--admindir").arg(mounted.join("var/lib/dpkg")).args(arguments))
        };
        let (seen, built) = (
            query(&["-W", "-f", "${Package}\n"]),
            fs::read(mounted.join("usr/lib/sysimage/dpkg/status")).unwrap(),
        );
        let packages =
            String::from_utf8(built).unwrap().lines().filter(|line| line.starts_with("Package: ")).count();
        assert!(
            packages > 100 && seen.lines().count() == packages,
            "{} of {packages} are seen",
            seen.lines().count()
        );
        assert!(query(&["-L", "systemd"]).contains("/usr/lib/systemd/systemd\n"));
    }));
    succeed(tool("umount", "mount").arg(&mounted));
    fs::remove_file(part).unwrap();
    if let Err(fault) = judged {
        std::panic::resume_unwind(fault);
    }
}
