//! Every boundary of the format that a tree can touch.

use crate::oracle::{CREATED, Image, options, pattern, rooted};
use kiln_formats::ext4::{Error, Options, XattrFault, minimum_size, write};
use kiln_formats::io::ReadAt;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use std::fmt::Write;
use std::sync::Arc;

fn refusal(tree: &Tree) -> Error {
    let mut target = Vec::new();
    let error = write(tree, &options(64 << 20), &mut target).unwrap_err();
    assert!(target.is_empty(), "nothing may be written before everything is judged");
    error
}

#[test]
fn an_empty_tree_has_a_root_and_lost_found() {
    let image = Image::new(&Tree::new(), 0);
    image.check();
    let tree = image.open().tree().unwrap();
    assert_eq!(tree.get("").unwrap().meta.mode, 0o755);
    assert_eq!(tree.get("lost+found").unwrap().meta.mode, 0o700);
    assert_eq!(tree.get("lost+found").unwrap().meta.mtime, CREATED);
    assert_eq!(tree.len(), 2);
}

#[test]
fn lost_found_of_the_tree_is_kept() {
    let mut tree = rooted();
    let mut entry = Entry::directory();
    entry.meta.uid = 7;
    tree.insert("lost+found", entry);
    tree.insert("lost+found/#12", Entry::file(b"found".as_slice()));
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    assert_eq!(image.open().lookup("lost+found").unwrap().unwrap().meta.uid, 7);
    tree.insert("lost+found", Entry::symlink("elsewhere"));
    assert!(matches!(refusal(&tree), Error::NotADirectory { path } if path == "lost+found"));
}

#[test]
fn symbolic_links_around_the_inode_and_the_block() {
    let mut tree = rooted();
    for len in [1, 2, 58, 59, 60, 61, 255, 4094, 4095] {
        let mut entry = Entry::symlink(&"x".repeat(len));
        tree.insert(&format!("link-{len}"), entry.clone());
        entry.meta.xattrs.insert(b"trusted.t".as_slice().into(), vec![1; 200].into());
        tree.insert(&format!("link-{len}-with-block"), entry);
    }
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    assert!(image.debugfs("stat link-59").contains("Fast link dest"));
    assert!(!image.debugfs("stat link-60").contains("Fast link dest"));
    for len in [0, 4096] {
        tree.insert("bad", Entry::symlink(&"x".repeat(len)));
        assert!(matches!(refusal(&tree), Error::BadSymlink { len: found, .. } if found == len));
    }
    tree.insert("bad", Entry::symlink("a\0b"));
    assert!(matches!(refusal(&tree), Error::BadSymlink { .. }));
}

#[test]
fn directories_from_one_block_to_a_two_level_index() {
    let mut tree = rooted();
    // 4060 bytes are left for names in one block: 12 each.
    for (directory, names) in [("full", 338), ("over", 339), ("one", 1), ("none", 0)] {
        tree.insert(directory, Entry::directory());
        for n in 0..names {
            tree.insert(&format!("{directory}/{n:04}"), Entry::new(Kind::Fifo, 0o600));
        }
    }
    tree.insert("many", Entry::directory());
    for n in 0..50_000 {
        tree.insert(&format!("many/name-{n}"), Entry::new(Kind::Fifo, 0o600));
    }
    tree.insert("long", Entry::directory());
    for n in 0..10_000 {
        let name = format!("{n:05}{}", "é".repeat(125));
        assert_eq!(name.len(), 255);
        tree.insert(&format!("long/{name}"), Entry::new(Kind::Socket, 0o600));
    }
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    let dump = |name| image.debugfs(&format!("htree_dump {name}"));
    assert!(dump("full").contains("Not a hash-indexed directory"), "{}", dump("full"));
    assert!(dump("over").contains("Indirect levels: 0"), "{}", dump("over"));
    assert!(dump("many").contains("Indirect levels: 0"));
    assert!(dump("long").contains("Indirect levels: 1"));
    assert!(dump("long").contains("Hash Version: 1"));
}

#[test]
fn names_that_are_no_text_and_names_that_are_refused() {
    let mut tree = rooted();
    let names: [&[u8]; 6] = [b"\xff\xfe", b"caf\xc3\xa9", "日本".as_bytes(), b"a b\nc", b"-", &[0xE9; 255]];
    for name in names {
        tree.insert(name, Entry::file(name));
    }
    // Siblings that sort between a directory and what it holds.
    tree.insert("a", Entry::directory());
    tree.insert("a/x", Entry::file(b"1".as_slice()));
    tree.insert("a!", Entry::file(b"2".as_slice()));
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    assert_eq!(image.open().read_file(b"caf\xc3\xa9", 100).unwrap().unwrap(), b"caf\xc3\xa9");
    let refused = |path: &[u8]| {
        let mut tree = rooted();
        tree.insert(path, Entry::directory());
        refusal(&tree)
    };
    assert!(matches!(refused(&[b'n'; 256]), Error::NameTooLong { .. }));
    for path in [&b"."[..], b"..", b"/a", b"a\0", b"a/"] {
        assert!(matches!(refused(path), Error::InvalidName { .. }), "{path:?}");
    }
    for path in [&b"a/b"[..], b"a//b"] {
        assert!(matches!(refused(path), Error::MissingParent { .. }), "{path:?}");
    }
    tree.insert("a!/below", Entry::directory());
    assert!(matches!(refusal(&tree), Error::NotADirectory { path } if path == "a!"));
}

#[test]
fn deep_paths() {
    let mut tree = rooted();
    let mut path = String::new();
    for depth in 0..2000 {
        write!(path, "{}d{depth}", if depth == 0 { "" } else { "/" }).unwrap();
        tree.insert(&path, Entry::directory());
    }
    tree.insert(&format!("{path}/file"), Entry::file(b"deep".as_slice()));
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    assert_eq!(image.open().read_file(&format!("{path}/file"), 4).unwrap().unwrap(), b"deep");
}

#[test]
fn hard_links_up_to_the_limit() {
    let mut tree = rooted();
    tree.insert("m", Entry::file(b"shared".as_slice()));
    tree.insert("links", Entry::directory());
    for n in 0..64_999 {
        tree.insert(&format!("links/{n}"), Entry::new(Kind::HardLink(b"m".as_slice().into()), 0));
    }
    tree.insert("tube", Entry::new(Kind::Fifo, 0o600));
    tree.insert("tube-too", Entry::new(Kind::HardLink(b"tube".as_slice().into()), 0));
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    assert!(image.debugfs("stat m").contains("Links: 65000"));
    tree.insert("one-more", Entry::new(Kind::HardLink(b"m".as_slice().into()), 0));
    assert!(matches!(refusal(&tree), Error::TooManyLinks { links: 65_001, .. }));
    for target in ["links", "nothing", "tube-too", "lost+found", ""] {
        let mut tree = tree.clone();
        tree.insert("one-more", Entry::new(Kind::HardLink(target.as_bytes().into()), 0));
        assert!(matches!(refusal(&tree), Error::DanglingHardLink { .. }), "{target}");
    }
}

#[test]
fn more_subdirectories_than_a_link_count_holds() {
    let mut tree = rooted();
    for (name, count) in [("at", 64_998), ("above", 64_999)] {
        tree.insert(name, Entry::directory());
        for n in 0..count {
            tree.insert(&format!("{name}/{n}"), Entry::directory());
        }
    }
    let image = Image::new(&tree, 0);
    image.check();
    assert!(image.debugfs("stat at").contains("Links: 65000"));
    assert!(image.debugfs("stat above").contains("Links: 1 "));
}

#[test]
fn file_sizes_around_blocks_and_buffers() {
    let mut tree = rooted();
    let buffer = 256 * 1024;
    for size in [0, 1, 4095, 4096, 4097, 8192, buffer - 1, buffer, buffer + 1, 3 * buffer + 5] {
        tree.insert(&format!("file-{size}"), Entry::file(pattern(size)));
    }
    // Zeros in the middle, at both ends, and nothing else.
    for (name, from, to) in
        [("middle", 100_000, 300_000), ("front", 0, 200_000), ("back", 200_000, 400_000), ("all", 0, 400_000)]
    {
        let mut bytes = pattern(400_000);
        bytes[from..to].fill(0);
        tree.insert(name, Entry::file(bytes));
    }
    Image::new(&tree, 0).prove(&tree);
    Image::new(&tree, 1 << 30).prove(&tree);
}

/// Zeros with a mark at the start of every 64 MiB.
#[derive(Debug)]
struct Marked(u64);

impl ReadAt for Marked {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        buf.fill(0);
        let step = 64 << 20;
        let mark = offset.next_multiple_of(step);
        if mark < offset + buf.len() as u64 {
            let at = usize::try_from(mark - offset).unwrap();
            let bytes = (mark / step + 1).to_le_bytes();
            let len = bytes.len().min(buf.len() - at);
            buf[at..at + len].copy_from_slice(&bytes[..len]);
        }
        Ok(())
    }
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.0)
    }
}

#[test]
fn a_file_of_five_gigabytes() {
    let len = (5 << 30) + 12_345;
    let mut tree = rooted();
    let content = Content::Extern { source: Arc::new(Marked(len)), offset: 0, len };
    tree.insert("large", Entry::new(Kind::File(content), 0o600));
    tree.insert("after", Entry::file(b"after".as_slice()));
    let image = Image::new(&tree, 0);
    image.check();
    let stat = image.debugfs("stat large");
    assert!(stat.contains(&format!("Size: {len}")) && stat.contains("(ETB0)"), "{stat}");
    let Kind::File(content) = image.open().lookup("large").unwrap().unwrap().kind else { panic!("no file") };
    for step in 0..80 {
        let mut mark = [0; 9];
        content.read_exact_at(&mut mark, step * (64 << 20)).unwrap();
        assert_eq!(u64::from_le_bytes(*mark.first_chunk().unwrap()), step + 1);
    }
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&image.path).unwrap());
    assert!(blocks * 512 < 64 << 20, "the image must be sparse, and takes {} bytes", blocks * 512);
}

#[test]
fn attributes_of_many_sizes() {
    let mut tree = rooted();
    for size in [0usize, 1, 3, 4, 40, 60, 64, 65, 68, 69, 1000, 4036, 4040] {
        let mut entry = Entry::file(b"x".as_slice());
        entry.meta.xattrs.insert(b"user.a".as_slice().into(), pattern(size).into());
        tree.insert(&format!("one-{size}"), entry);
    }
    let mut entry = Entry::directory();
    for n in 0..60u8 {
        let name = format!(
            "{}.{}",
            ["user", "trusted", "security"][usize::from(n % 3)],
            "n".repeat(usize::from(n) + 1)
        );
        entry.meta.xattrs.insert(name.into_bytes().into(), vec![n; usize::from(n % 20)].into());
    }
    tree.insert("many", entry);
    let mut entry = Entry::file(b"x".as_slice());
    entry.meta.xattrs.insert(b"user.\xff\xc3\xa9".as_slice().into(), b"no text".as_slice().into());
    entry.meta.xattrs.insert(b"user.large".as_slice().into(), vec![9; 500].into());
    entry
        .meta
        .xattrs
        .insert([b"user.".as_slice(), &[0x80; 255]].concat().into(), b"long name".as_slice().into());
    tree.insert("bytes", entry);
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    assert!(image.debugfs("ea_list one-4040").contains("user.a (4040)"));
    let refused = |name: &[u8], value: &[u8]| {
        let mut tree = rooted();
        let mut entry = Entry::directory();
        entry.meta.xattrs.insert(name.into(), value.into());
        tree.insert("d", entry);
        match refusal(&tree) {
            Error::Xattr { fault, .. } => fault,
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(b"user.a", &[1; 4045]), XattrFault::Space);
    assert_eq!(refused(b"user.", b""), XattrFault::Name);
    assert_eq!(refused(&[b"user.".as_slice(), &[b'n'; 256]].concat(), b""), XattrFault::Name);
    assert_eq!(refused(b"btrfs.x", b""), XattrFault::NameSpace);
    assert_eq!(refused(b"system.posix_acl_access", b"12345"), XattrFault::Acl);
}

#[test]
fn devices_times_and_owners() {
    let mut tree = rooted();
    for (major, minor) in
        [(0, 0), (1, 3), (8, 255), (255, 255), (256, 0), (8, 256), (259, 70_000), (4095, 1_048_575)]
    {
        tree.insert(&format!("c-{major}-{minor}"), Entry::new(Kind::CharDevice { major, minor }, 0o600));
        tree.insert(&format!("b-{major}-{minor}"), Entry::new(Kind::BlockDevice { major, minor }, 0o660));
    }
    for secs in [-(1i64 << 31), -1, 0, (1 << 31) - 1, 1 << 31, (1 << 32) + 5, (1 << 34) - (1 << 31) - 1] {
        for nanos in [0, 1, 999_999_999] {
            let mut entry = Entry::file(b"".as_slice());
            entry.meta.mtime = Timestamp { secs, nanos };
            tree.insert(&format!("time{secs}.{nanos}"), entry);
        }
    }
    for (uid, gid) in [(0, 65_535), (65_536, 1), (u32::MAX - 1, u32::MAX - 1)] {
        let mut entry = Entry::new(Kind::Directory, 0o7777);
        (entry.meta.uid, entry.meta.gid) = (uid, gid);
        tree.insert(&format!("owner-{uid}-{gid}"), entry);
    }
    let image = Image::new(&tree, 0);
    image.prove(&tree);
    assert!(image.debugfs("stat b-8-255").contains("Device major/minor number: 08:255"));
    tree.insert("bad", Entry::new(Kind::CharDevice { major: 4096, minor: 0 }, 0));
    assert!(matches!(refusal(&tree), Error::BadDevice { .. }));
    let mut entry = Entry::directory();
    entry.meta.mtime.secs = 1 << 34;
    tree.insert("bad", entry);
    assert!(matches!(refusal(&tree), Error::BadTime { .. }));
    tree.insert("bad", Entry::new(Kind::Directory, 0o17777));
    assert!(matches!(refusal(&tree), Error::BadMode { .. }));
}

#[test]
fn sizes_from_the_least_to_terabytes() {
    let mut tree = rooted();
    tree.insert("file", Entry::file(pattern(100_000)));
    let least = minimum_size(&tree).unwrap();
    let given = least / 2 / 4096 * 4096;
    match write(&tree, &options(given), &mut Vec::new()).unwrap_err() {
        Error::TooSmall { needed, given: told } => assert_eq!((needed, told), (least, given)),
        other => panic!("{other}"),
    }
    let group = 128 << 20;
    for size in [
        least,
        least + 4096,
        group - 4096,
        group,
        group + 4096,
        group + (5 << 20),
        16 * group,
        17 * group + (200 << 12),
        26 * group,
        (100 << 30) + 4096,
        1 << 40,
    ] {
        let image = Image::with(&tree, &options(size));
        image.prove(&tree);
        assert!(
            image.summary.size <= size && size - image.summary.size < 16 << 20,
            "{size} {:?}",
            image.summary
        );
    }
}

#[test]
fn options_that_cannot_be() {
    let tree = rooted();
    let refused = |options: Options| write(&tree, &options, &mut Vec::new()).unwrap_err();
    assert!(matches!(refused(options(4097)), Error::BadSize { given: 4097 }));
    assert!(matches!(refused(options((16 << 40) + 4096)), Error::BadSize { .. }));
    assert!(matches!(
        refused(Options { label: "x".repeat(17), ..options(64 << 20) }),
        Error::BadLabel { .. }
    ));
    assert!(matches!(
        refused(Options { journal_blocks: Some(1023), ..options(64 << 20) }),
        Error::BadJournal { given: 1023 }
    ));
    assert!(matches!(
        refused(Options { inodes: Some(10), ..options(64 << 20) }),
        Error::TooFewInodes { needed: 11, given: 10 }
    ));
    assert!(matches!(
        refused(Options { inodes: Some(u32::MAX), ..options(64 << 20) }),
        Error::TooManyInodes { given: u32::MAX }
    ));
    let image = Image::with(
        &tree,
        &Options { inodes: Some(100_000), journal_blocks: Some(40_000), ..options(1 << 30) },
    );
    image.check();
    assert!(image.summary.inodes >= 100_000);
    assert_eq!(image.summary.journal_blocks, 40_000);
}
