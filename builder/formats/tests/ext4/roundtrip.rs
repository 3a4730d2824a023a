//! Any tree, written and read, is that tree; and images that others made can be read.

use crate::oracle::{Image, assert_same, options, pattern, rooted, tool};
use kiln_formats::ext4::read::FileSystem;
use kiln_formats::ext4::{minimum_size, write};
use kiln_formats::tree::{Entry, Kind, Meta, Timestamp, Tree};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use std::fs::File;
use std::process::Command;
use std::sync::Arc;

fn meta() -> impl Strategy<Value = Meta> {
    let name = (
        prop_oneof![Just("user."), Just("trusted."), Just("security.")],
        prop::collection::vec(1u8..=255, 1..40),
    );
    let name = name.prop_map(|(prefix, rest)| [prefix.as_bytes(), &rest].concat().into_boxed_slice());
    let value = prop::collection::vec(any::<u8>(), 0..120).prop_map(Vec::into_boxed_slice);
    (
        0u16..0o10000,
        any::<u32>(),
        any::<u32>(),
        -(1i64 << 31)..(1i64 << 33),
        0u32..1_000_000_000,
        prop::collection::btree_map(name, value, 0..6),
    )
        .prop_map(|(mode, uid, gid, secs, nanos, xattrs)| Meta {
            mode,
            uid,
            gid,
            mtime: Timestamp { secs, nanos },
            xattrs,
        })
}

fn kind() -> impl Strategy<Value = Kind> {
    let numbers = || (0u32..4096, 0u32..1 << 20);
    prop_oneof![
        4 => Just(Kind::Directory),
        4 => (0usize..20_000).prop_map(|len| Entry::file(pattern(len)).kind),
        1 => prop::collection::vec(1u8..=255, 1..100).prop_map(|target| Kind::Symlink(target.into())),
        1 => numbers().prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => numbers().prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Socket),
    ]
}

/// Entries below directories that were drawn before, and hard links to files drawn before.
fn tree() -> impl Strategy<Value = Tree> {
    let name = prop::collection::vec(any::<u8>(), 1..30);
    let entry = (
        any::<prop::sample::Index>(),
        name,
        meta(),
        kind(),
        prop::option::weighted(0.1, any::<prop::sample::Index>()),
    );
    prop::collection::vec(entry, 0..120).prop_map(|drawn| {
        let mut tree = rooted();
        let (mut directories, mut files) = (vec![Vec::new()], Vec::new());
        for (parent, name, meta, kind, link) in drawn {
            let name: Vec<u8> = name.into_iter().filter(|byte| !matches!(byte, 0 | b'/' | b'.')).collect();
            let mut path: Vec<u8> = directories[parent.index(directories.len())].clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&name);
            if name.is_empty() || tree.contains(&path) {
                continue;
            }
            let kind = match link {
                Some(at) if !files.is_empty() => {
                    Kind::HardLink(files.get(at.index(files.len())).cloned().unwrap())
                }
                _ => kind,
            };
            match kind {
                Kind::Directory => directories.push(path.clone()),
                Kind::File(_) => files.push(path.clone().into()),
                _ => {}
            }
            tree.insert(&path, Entry { meta, kind });
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(tree in tree(), spare in 0u64..3) {
        Image::new(&tree, spare * (130 << 20)).prove(&tree);
    }

    #[test]
    fn the_least_size_suffices_for_any_seed(seed in any::<[u8; 16]>(), names in 0usize..3000) {
        let mut tree = rooted();
        for n in 0..names {
            tree.insert(&format!("a-name-{n}"), Entry::new(Kind::Fifo, 0o600));
        }
        let mut options = options(minimum_size(&tree).unwrap());
        options.hash_seed = seed;
        let mut target = Vec::new();
        write(&tree, &options, &mut target).unwrap();
        assert_same(&FileSystem::open(Arc::new(target)).unwrap().tree().unwrap(), &tree);
    }
}

#[test]
fn an_image_that_mke2fs_made() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("root");
    let mut tree = Tree::new();
    std::fs::create_dir_all(source.join("deep/er")).unwrap();
    for (name, len) in [("deep/er/file", 10_000), ("small", 10), ("empty", 0)] {
        std::fs::write(source.join(name), pattern(len)).unwrap();
        tree.insert(name, Entry::file(pattern(len)));
    }
    for n in 0..1000 {
        std::fs::write(source.join(format!("deep/{n}")), b"").unwrap();
    }
    for features in ["", "^metadata_csum,^64bit,^flex_bg", "meta_bg,^resize_inode"] {
        for block in ["1024", "4096"] {
            let path = folder.path().join("image");
            let (code, text) = tool(
                "e2fsprogs",
                Command::new("mke2fs")
                    .args(["-q", "-F", "-t", "ext4", "-b", block, "-O", features, "-d"])
                    .arg(&source)
                    .arg(&path)
                    .arg("300M"),
            );
            assert_eq!(code, 0, "{text}");
            let fs = FileSystem::open(Arc::new(File::open(&path).unwrap())).unwrap();
            let read = fs.tree().unwrap();
            assert_eq!(read.len(), 1007, "{features} {block}");
            for (name, entry) in tree.iter() {
                let (Kind::File(ours), Kind::File(theirs)) = (&entry.kind, &read.get(name).unwrap().kind)
                else {
                    panic!("no file");
                };
                assert_eq!(ours.read().unwrap(), theirs.read().unwrap());
            }
            std::fs::remove_file(&path).unwrap();
        }
    }
}
