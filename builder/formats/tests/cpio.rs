//! The cpio writer, judged by GNU cpio, and the reader, judged by what was written.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod tools;

use kiln_formats::cpio::{self, ReadError, WriteError};
use kiln_formats::io::ReadAt;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use proptest::prelude::{Just, Strategy, any, prop, proptest};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;
use tools::{Tool, differences, is_root, say_skipped};

fn sample() -> Tree {
    let mut tree = Tree::new();
    for dir in ["", "dev", "dir", "dir/empty", "long"] {
        tree.insert(dir, Entry::directory());
    }
    let mut script = Entry::file(*b"#!/bin/sh\n");
    script.meta.mode = 0o4755;
    script.meta.uid = 12;
    script.meta.gid = 70_000;
    script.meta.mtime = Timestamp { secs: 1_700_000_001, nanos: 5 };
    tree.insert("dir/script", script);
    tree.insert("dir/0-link", Entry::new(Kind::HardLink(b"dir/script".as_slice().into()), 0));
    tree.insert("long/zlink", Entry::new(Kind::HardLink(b"dir/script".as_slice().into()), 0));
    tree.insert("dir/one", Entry::file(*b"1"));
    tree.insert("dir/nothing", Entry::file(*b""));
    tree.insert("dir/big", Entry::file(vec![7; 1_000_003]));
    tree.insert("dir/grüße ☃", Entry::file(*b"utf"));
    tree.insert("dir/sym", Entry::symlink("../dev"));
    tree.insert(&format!("long/{}", "n".repeat(255)), Entry::file(*b"long name"));
    tree.insert("dev/console", Entry::new(Kind::CharDevice { major: 5, minor: 1 }, 0o600));
    tree.insert("dev/vda", Entry::new(Kind::BlockDevice { major: 254, minor: 1 << 18 }, 0o660));
    tree.insert("dev/pipe", Entry::new(Kind::Fifo, 0o622));
    tree.insert("dev/sock", Entry::new(Kind::Socket, 0o666));
    tree
}

fn archive(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let size = cpio::write(tree, &mut bytes).unwrap();
    assert_eq!(size, bytes.len() as u64);
    assert_eq!(size % 512, 0);
    bytes
}

fn source(bytes: Vec<u8>) -> Arc<dyn ReadAt> {
    Arc::new(bytes)
}

/// Frozen: other bytes mean that images made from an old lock are no longer reproduced. Change the number only
/// with a line in the change log.
#[test]
fn bytes_are_frozen() {
    assert_eq!(crc32fast::hash(&archive(&sample())), 1_537_000_717);
}

#[test]
fn same_tree_same_bytes() {
    assert_eq!(archive(&sample()), archive(&sample()));
}

#[test]
fn reader_gives_the_tree_back() {
    let read = cpio::read(&source(archive(&sample()))).unwrap();
    assert_eq!((read.count, read.end), (1, archive(&sample()).len() as u64));
    let mut wanted = sample();
    // Names of one file are equals on disk: the first in path order is the file.
    let script = wanted.get("dir/script").unwrap().clone();
    for (path, kind) in [
        ("dir/0-link", script.kind.clone()),
        ("dir/script", Kind::HardLink(b"dir/0-link".as_slice().into())),
        ("long/zlink", Kind::HardLink(b"dir/0-link".as_slice().into())),
    ] {
        wanted.insert(path, Entry { meta: script.meta.clone(), kind });
    }
    for (_, entry) in wanted.iter_mut() {
        entry.meta.mtime.nanos = 0;
    }
    assert_eq!(differences(&wanted, &read.tree), Vec::<String>::new());
}

/// GNU cpio lists every entry with the mode, owner, size, device numbers and link count that was asked for.
#[test]
fn gnu_cpio_lists_it() {
    let listing = Tool::new("cpio", "cpio")
        .args(["-itvn", "--quiet"])
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .input(&archive(&sample()));
    let mut lines: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.sort();
    let has =
        |wanted: &str| assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{listing}");
    assert_eq!(lines.len(), sample().len());
    has("-rwsr-xr-x 3 12 70000 10 Nov 14 2023 long/zlink");
    has("-rwsr-xr-x 3 12 70000 0 Nov 14 2023 dir/script");
    has("-rwsr-xr-x 3 12 70000 0 Nov 14 2023 dir/0-link");
    has("crw------- 1 0 0 5, 1 Jan 1 1970 dev/console");
    has("brw-rw---- 1 0 0 254, 262144 Jan 1 1970 dev/vda");
    has("prw--w--w- 1 0 0 0 Jan 1 1970 dev/pipe");
    has("srw-rw-rw- 1 0 0 0 Jan 1 1970 dev/sock");
    has("lrwxrwxrwx 1 0 0 6 Jan 1 1970 dir/sym -> ../dev");
    has("-rw-r--r-- 1 0 0 1000003 Jan 1 1970 dir/big");
    has("drwxr-xr-x 2 0 0 0 Jan 1 1970 .");
}

/// GNU cpio unpacks it into the very files; devices and owners only as root.
#[test]
fn gnu_cpio_unpacks_it() {
    if !is_root() {
        return say_skipped("gnu_cpio_unpacks_it: making device nodes wants root");
    }
    let dir = tempfile::tempdir().unwrap();
    Tool::new("cpio", "cpio")
        .args(["-idm", "--quiet", "--no-absolute-filenames"])
        .dir(dir.path())
        .input(&archive(&sample()));
    let at = |path: &str| fs::symlink_metadata(dir.path().join(path)).unwrap();
    for path in ["dir/0-link", "dir/script", "long/zlink"] {
        let found = at(path);
        assert_eq!((found.ino(), found.nlink()), (at("dir/script").ino(), 3), "{path}");
        assert_eq!((found.mode(), found.uid(), found.gid()), (0o104_755, 12, 70_000), "{path}");
        assert_eq!(found.mtime(), 1_700_000_001);
        assert_eq!(fs::read(dir.path().join(path)).unwrap(), b"#!/bin/sh\n", "{path}");
    }
    assert_eq!(fs::read(dir.path().join("dir/big")).unwrap(), vec![7; 1_000_003]);
    assert_eq!(fs::read(dir.path().join("dir/grüße ☃")).unwrap(), b"utf");
    assert_eq!(fs::read_link(dir.path().join("dir/sym")).unwrap().to_str(), Some("../dev"));
    assert_eq!(at("dir/nothing").len(), 0);
    assert!(at("dir/empty").is_dir());
    assert!(at("dev/console").file_type().is_char_device());
    assert_eq!(at("dev/console").rdev(), 5 << 8 | 1);
    assert!(at("dev/vda").file_type().is_block_device());
    assert!(at("dev/pipe").file_type().is_fifo());
    assert!(at("dev/sock").file_type().is_socket());
}

/// Early microcode, then the main archive, then something compressed: the form of a real initramfs.
#[test]
fn archives_follow_each_other() {
    let mut early = Tree::new();
    early.make_parents("kernel/x86/microcode/GenuineIntel.bin", &Entry::directory());
    early.insert("kernel/x86/microcode/GenuineIntel.bin", Entry::file(*b"code"));
    early.insert("dir", Entry::file(*b"replaced by the second archive"));
    let mut bytes = Vec::new();
    assert_eq!(cpio::write_aligned(&early, 4096, &mut bytes).unwrap(), 4096);
    let main = cpio::write_aligned(&sample(), 1, &mut bytes).unwrap();
    assert!(main.is_multiple_of(4));
    let plain = bytes.len() as u64;
    bytes.extend(b"\x28\xb5\x2f\xfdcompressed");
    let read = cpio::read(&source(bytes)).unwrap();
    assert_eq!((read.count, read.end), (2, plain));
    assert!(matches!(read.tree.get("dir").unwrap().kind, Kind::Directory));
    assert!(read.tree.contains("kernel/x86/microcode/GenuineIntel.bin"));
    assert!(read.tree.contains("dir/script"));
}

#[test]
fn reads_what_gnu_cpio_writes() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/a"), b"linked").unwrap();
    fs::hard_link(dir.path().join("sub/a"), dir.path().join("b")).unwrap();
    std::os::unix::fs::symlink("sub/a", dir.path().join("s")).unwrap();
    let bytes = Tool::new("cpio", "cpio")
        .args(["-o", "-H", "newc", "--quiet"])
        .dir(dir.path())
        .output(b".\n./sub\n./sub/a\nb\n./s\n");
    let tree = cpio::read(&source(bytes)).unwrap().tree;
    let paths: Vec<_> = tree.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(paths, ["", "b", "s", "sub", "sub/a"]);
    assert!(matches!(&tree.get("b").unwrap().kind, Kind::File(bytes) if bytes.read().unwrap() == b"linked"));
    assert!(matches!(&tree.get("sub/a").unwrap().kind, Kind::HardLink(path) if **path == *b"b"));
}

#[test]
fn times_outside_of_32_bits_are_clamped() {
    for (secs, kept) in [(-1, 0), (0, 0), (4_294_967_295, 4_294_967_295), (4_294_967_296, 4_294_967_295)] {
        let mut tree = Tree::new();
        let mut file = Entry::file(*b"");
        file.meta.mtime.secs = secs;
        tree.insert("f", file);
        let read = cpio::read(&source(archive(&tree))).unwrap();
        assert_eq!(read.tree.get("f").unwrap().meta.mtime.secs, kept);
    }
}

/// A source that has a size and no bytes to speak of.
#[derive(Debug)]
struct Zeros;

impl ReadAt for Zeros {
    fn read_exact_at(&self, buf: &mut [u8], _: u64) -> std::io::Result<()> {
        buf.fill(0);
        Ok(())
    }
    fn size(&self) -> std::io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[test]
fn what_the_format_cannot_hold_is_refused() {
    let refuse = |path: &[u8], entry: Entry| {
        let mut tree = Tree::new();
        tree.insert(path, entry);
        cpio::write(&tree, &mut std::io::sink()).unwrap_err()
    };
    let large = Content::Extern { source: Arc::new(Zeros), offset: 0, len: 1 << 32 };
    let error = refuse(b"large", Entry::new(Kind::File(large), 0o644));
    assert_eq!(
        error.to_string(),
        "large has 4294967296 bytes; a cpio archive holds files up to 4294967295 bytes"
    );
    assert!(matches!(refuse(b"TRAILER!!!", Entry::directory()), WriteError::BadName { .. }));
    assert!(matches!(refuse(b"nul\0", Entry::directory()), WriteError::BadName { .. }));
    assert!(matches!(refuse(b"..", Entry::directory()), WriteError::BadName { .. }));
    assert!(matches!(refuse(&[b'x'; 4096], Entry::directory()), WriteError::NameTooLong { .. }));
    assert!(matches!(refuse(b"s", Entry::symlink(&[b'x'; 4096])), WriteError::NameTooLong { .. }));
    assert!(matches!(refuse(b"a/b", Entry::directory()), WriteError::NoParent { .. }));
    let link = Entry::new(Kind::HardLink(b"gone".as_slice().into()), 0o644);
    assert!(matches!(refuse(b"l", link), WriteError::DanglingLink { .. }));
}

#[test]
fn damage_is_named_with_its_place() {
    let bytes = archive(&sample());
    let reads = |bytes: &[u8]| cpio::read(&source(bytes.to_vec())).unwrap_err();
    assert!(matches!(reads(b""), ReadError::NotAnArchive { offset: 0 }));
    assert!(matches!(reads(b"MZ no archive"), ReadError::NotAnArchive { offset: 0 }));
    let cut = reads(&bytes[..bytes.len() / 2]);
    assert!(matches!(cut, ReadError::Damaged { offset: 1.., .. }), "{cut}");
    let mut escaping = Vec::new();
    let mut tree = Tree::new();
    tree.insert("xx", Entry::file(*b"out"));
    cpio::write(&tree, &mut escaping).unwrap();
    escaping[110..112].copy_from_slice(b"..");
    assert!(matches!(reads(&escaping), ReadError::Damaged { offset: 0, .. }));
}

/// An archive with some bytes changed, or cut.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let mut small = sample();
    small.remove("dir/big");
    let bytes = archive(&small);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20);
    (Just(bytes), edits, any::<prop::sample::Index>()).prop_map(|(mut bytes, edits, end)| {
        for (at, byte) in edits {
            let len = bytes.len();
            bytes[at.index(len)] = byte;
        }
        if end.index(3) == 0 {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

proptest! {
    #![proptest_config(tools::cases(500))]

    #[test]
    fn reader_survives_random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), magic in any::<bool>()) {
        if magic && bytes.len() > 6 {
            bytes[..6].copy_from_slice(b"070701");
        }
        let _ = cpio::read(&source(bytes));
    }

    #[test]
    fn reader_survives_mutated_archives(bytes in mutated()) {
        if let Ok(read) = cpio::read(&source(bytes)) {
            for (_, entry) in read.tree.iter() {
                if let Kind::File(content) = &entry.kind {
                    content.read().unwrap();
                }
            }
        }
    }
}
