//! ISO 9660: our bytes before other people's readers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod tools;

use kiln_formats::iso9660::{Options, WriteError, write};
use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use proptest::prelude::{Strategy, any, prop_assert_eq};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use tools::{Loop, Tool, cases, is_root, say_skipped};

/// 2024-12-31T12:00:01Z
const TIME: Timestamp = Timestamp { secs: 1_735_646_401, nanos: 0 };

fn tree(files: &[(&str, &[u8])]) -> Tree {
    let mut tree = Tree::new();
    for (path, bytes) in files {
        tree.make_parents(path, &Entry::directory());
        tree.insert(path, Entry::file(bytes.to_vec()));
    }
    tree.iter_mut().for_each(|(_, entry)| entry.meta.mtime = TIME);
    tree
}

fn options() -> Options<'static> {
    Options { label: "CIDATA", created: TIME }
}

fn image(folder: &Path, tree: &Tree) -> std::path::PathBuf {
    let path = folder.join("disc.iso");
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    let size = write(tree, &options(), &mut file).unwrap();
    assert_eq!(file.metadata().unwrap().len(), size);
    path
}

fn seed() -> Tree {
    let large = vec![7; 100_000];
    tree(&[
        ("user-data", b"#cloud-config\n"),
        ("meta-data", b"instance-id: x\n"),
        ("network-config", b""),
        ("kiln/handoff.json", b"{}"),
        ("kiln/after/user-data", &[9; 2048]),
        ("kiln/kiln-firstboot", &large),
    ])
}

fn files(tree: &Tree) -> BTreeMap<String, Vec<u8>> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let each = tree.iter().filter_map(|(path, entry)| match &entry.kind {
        Kind::File(content) => Some((text(path), content.read().unwrap())),
        _ => None,
    });
    each.collect()
}

#[test]
fn blkid_sees_a_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path(), &seed());
    let said = Tool::new("blkid", "util-linux").args(["-p", "-o", "export"]).args([&path]).run();
    for line in ["LABEL=CIDATA", "TYPE=iso9660", "BLOCK_SIZE=2048"] {
        assert!(said.lines().any(|other| other == line), "no {line} in\n{said}");
    }
}

#[test]
fn isoinfo_reads_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let tree = seed();
    let path = image(folder.path(), &tree);
    let path = path.to_str().unwrap();
    let listed = Tool::new("isoinfo", "genisoimage").args(["-J", "-f", "-i", path]).run();
    let mut listed: Vec<&str> = listed.lines().map(|line| line.trim_start_matches('/')).collect();
    listed.sort_unstable();
    let wanted: Vec<String> = tree
        .iter()
        .map(|(path, _)| String::from_utf8(path.to_vec()).unwrap())
        .filter(|p| !p.is_empty())
        .collect();
    assert_eq!(listed, wanted);
    for (name, bytes) in files(&tree) {
        let read = Tool::new("isoinfo", "genisoimage").args(["-J", "-i", path, "-x", &format!("/{name}")]);
        assert!(read.output(b"") == bytes, "{name} differs");
    }
    let described = Tool::new("isoinfo", "genisoimage").args(["-d", "-i", path]).run();
    assert!(
        described.contains("Volume id: CIDATA") && described.contains("Joliet with UCS level 3"),
        "{described}"
    );
    // What a reader without Joliet sees.
    let plain = Tool::new("isoinfo", "genisoimage").args(["-l", "-i", path]).run();
    assert!(plain.contains("USER_DAT.;1") && plain.contains("HANDOFF.JSO;1"), "{plain}");
    assert!(plain.contains("Dec 31 2024"), "{plain}");
}

/// What cloud-init sees: the kernel's own names.
#[test]
fn the_kernel_mounts_it() {
    if !is_root() {
        return say_skipped("the loop mount of an ISO 9660 volume: needs root");
    }
    let folder = tempfile::tempdir().unwrap();
    let tree = seed();
    let path = image(folder.path(), &tree);
    let Some(device) = Loop::attach(&path, 512) else {
        return say_skipped("the loop mount of an ISO 9660 volume: no loop device");
    };
    let place = folder.path().join("mnt");
    std::fs::create_dir(&place).unwrap();
    let mounted = Tool::new("mount", "mount")
        .args(["-t", "iso9660", "-o", "ro", &device.name])
        .args([&place])
        .try_run(b"");
    if !mounted.status.success() {
        let said = String::from_utf8_lossy(&mounted.stderr);
        // A mount loads the module where there is one.
        let known = std::fs::read_to_string("/proc/filesystems").unwrap().contains("iso9660");
        assert!(!known, "{said}");
        return say_skipped("the loop mount of an ISO 9660 volume: this kernel knows none");
    }
    let read = |name: &str| std::fs::read(place.join(name));
    let all: Vec<_> =
        files(&tree).into_iter().map(|(name, bytes)| (read(&name).ok() == Some(bytes), name)).collect();
    let modified = std::fs::metadata(place.join("user-data")).and_then(|meta| meta.modified());
    Tool::new("umount", "mount").args([&place]).run();
    assert!(all.iter().all(|(same, _)| *same), "{all:?}");
    let since = modified.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(i64::try_from(since.as_secs()).unwrap(), TIME.secs);
}

/// Bytes of a directory record's extent, and the records in it: name, is a directory, extent.
fn listed(disc: &[u8], (sector, size): (usize, usize)) -> Vec<(Vec<u8>, bool, (usize, usize))> {
    let number = |bytes: &[u8]| {
        let (low, high) = (&bytes[..4], &bytes[4..8]);
        let value = u32::from_le_bytes(low.try_into().unwrap());
        assert_eq!(value, u32::from_be_bytes(high.try_into().unwrap()), "both orders agree");
        value as usize
    };
    let bytes = &disc[sector * 2048..sector * 2048 + size];
    let mut records = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = usize::from(bytes[at]);
        if length == 0 {
            at = (at + 1).next_multiple_of(2048);
            continue;
        }
        let record = &bytes[at..at + length];
        assert!(at / 2048 == (at + length - 1) / 2048, "a record crosses a sector");
        let name = record[33..33 + usize::from(record[32])].to_vec();
        records.push((name, record[25] & 2 != 0, (number(&record[2..]), number(&record[10..]))));
        at += length;
    }
    records
}

fn walk(disc: &[u8], extent: (usize, usize), above: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    let records = listed(disc, extent);
    assert_eq!((&records[0].0[..], &records[1].0[..]), (&[0][..], &[1][..]));
    assert_eq!(records[0].2, extent);
    let names: Vec<_> = records[2..].iter().map(|(name, ..)| name.clone()).collect();
    assert!(names.is_sorted(), "Joliet names are sorted");
    for (name, directory, extent) in &records[2..] {
        let units: Vec<u16> =
            name.chunks(2).map(|pair| u16::from_be_bytes(pair.try_into().unwrap())).collect();
        let path = format!("{above}{}", String::from_utf16(&units).unwrap());
        if *directory {
            walk(disc, *extent, &format!("{path}/"), found);
        } else {
            let start = extent.0 * 2048;
            found.insert(path, disc[start..start + extent.1].to_vec());
        }
    }
}

fn trees() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let name = "[a-zé][a-zA-Z0-9._é-]{0,20}";
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let bytes = proptest::collection::vec(any::<u8>(), 0..5000);
    proptest::collection::btree_map(path, bytes, 0..60).prop_map(|all| {
        let inner: Vec<String> = all.keys().map(|path| format!("{path}/")).collect();
        let below = |path: &str| {
            inner.iter().any(|other| other.trim_end_matches('/') != path && path.starts_with(other.as_str()))
        };
        all.into_iter().filter(|(path, _)| !below(path)).collect()
    })
}

proptest::proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn every_file_is_found_again(all in trees()) {
        let given: Vec<(&str, &[u8])> = all.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect();
        let folder = tempfile::tempdir().unwrap();
        let disc = std::fs::read(image(folder.path(), &tree(&given))).unwrap();
        let again = std::fs::read(image(folder.path(), &tree(&given))).unwrap();
        assert!(disc == again, "equal trees make equal bytes");
        let root = &disc[17 * 2048 + 156..];
        let number = |at: usize| u32::from_le_bytes(root[at..at + 4].try_into().unwrap()) as usize;
        let mut found = BTreeMap::new();
        walk(&disc, (number(2), number(10)), "", &mut found);
        prop_assert_eq!(&found, &all);
        // The other tree of directories is sound, too.
        let isoinfo = Tool::new("isoinfo", "genisoimage").args(["-f", "-i"]).args([&folder.path().join("disc.iso")]).run();
        let listed = isoinfo.lines().filter(|line| line.ends_with(";1")).count();
        prop_assert_eq!(listed, given.len());
    }
}

#[test]
fn what_it_has_no_place_for() {
    let mut out = tempfile::tempfile().unwrap();
    let mut refused =
        |tree: &Tree, label| write(tree, &Options { label, created: TIME }, &mut out).unwrap_err();
    assert!(matches!(refused(&Tree::new(), "cidata"), WriteError::BadLabel(_)));
    assert!(matches!(refused(&Tree::new(), ""), WriteError::BadLabel(_)));
    let deep = tree(&[("a/b/c/d/e/f/g/h/i", b"")]);
    assert!(matches!(refused(&deep, "X"), WriteError::BadName { .. }));
    assert!(matches!(refused(&tree(&[("a:b", b"")]), "X"), WriteError::BadName { .. }));
    let mut link = Tree::new();
    link.insert("a", Entry::symlink(b"b"));
    assert!(matches!(refused(&link, "X"), WriteError::Unsupported(_)));
    let mut orphan = Tree::new();
    orphan.insert("a/b", Entry::file(Vec::new()));
    assert!(matches!(refused(&orphan, "X"), WriteError::NoParent(_)));
    assert_eq!(out.metadata().unwrap().len(), 0, "nothing was written");
}
