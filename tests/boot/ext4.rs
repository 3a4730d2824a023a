//! ext4 file systems inside of disks, looked into and changed with e2fsprogs, which take a place in a file as
//! `file?offset=bytes`.

use crate::nodes::digest;
use kiln_tests::{said, succeed, tool};
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

fn place(disk: &Path, part: &Range<u64>) -> String {
    format!("{}?offset={}", disk.display(), part.start)
}

/// Looks for faults; any is the test's end. A file system that was not unmounted has one.
pub(crate) fn is_clean(disk: &Path, part: &Range<u64>) {
    let output = tool("e2fsck", "e2fsprogs").args(["-fn", &place(disk, part)]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// The superblock's fields, as dumpe2fs(8) names them.
pub(crate) fn facts(disk: &Path, part: &Range<u64>) -> BTreeMap<String, String> {
    let text = succeed(tool("dumpe2fs", "e2fsprogs").args(["-h", &place(disk, part)]));
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// Its size in bytes.
pub(crate) fn size(disk: &Path, part: &Range<u64>) -> u64 {
    let facts = facts(disk, part);
    let number = |name: &str| facts[name].parse::<u64>().unwrap();
    number("Block count") * number("Block size")
}

/// Has debugfs(8) execute a request and gives what it prints.
pub(crate) fn debug(disk: &Path, part: &Range<u64>, request: &str) -> String {
    succeed(tool("debugfs", "e2fsprogs").args(["-R", request, &place(disk, part)]))
}

/// Has debugfs(8) execute a request that changes the file system.
pub(crate) fn change(disk: &Path, part: &Range<u64>, request: &str) {
    succeed(tool("debugfs", "e2fsprogs").args(["-w", "-R", request, &place(disk, part)]));
}

/// A file's text.
pub(crate) fn text(disk: &Path, part: &Range<u64>, path: &str) -> String {
    debug(disk, part, &format!("cat {path}"))
}

/// All that is in a file system: every path with mode, owner and group, and what it holds (a file's digest, a link's
/// target). Numbers of inodes, times and the size of folders are left out.
pub(crate) fn tree(disk: &Path, part: &Range<u64>) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir_in(kiln_tests::shared()).unwrap();
    debug(disk, part, &format!("rdump / {}", folder.path().display()));
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(above) = folders.pop() {
        // `ls -p` prints `/inode/mode/owner/group/name/size/`, without the size for folders (debugfs(8)).
        for line in debug(disk, part, &format!("ls -p \"{above}/\"")).lines() {
            let fields: Vec<&str> = line.split('/').collect();
            let [_, _, mode, owner, group, name, _, ..] = fields[..] else { continue };
            if matches!(name, "" | "." | "..") {
                continue;
            }
            let path = format!("{above}/{name}");
            let here = folder.path().join(&path[1..]);
            let holds = if mode.starts_with("04") {
                folders.push(path.clone());
                String::new()
            } else if mode.starts_with("10") {
                digest(&here)
            } else if mode.starts_with("12") {
                format!("to {}", fs::read_link(&here).unwrap().display())
            } else {
                String::new()
            };
            found.insert(path, format!("{mode} {owner}:{group} {holds}").trim_end().to_owned());
        }
    }
    found
}
