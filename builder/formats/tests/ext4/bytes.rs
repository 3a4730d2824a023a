//! Equal input, equal bytes; another UUID; what the superblock says.

use crate::oracle::{CREATED, Image, assert_same, options, pattern, rooted};
use kiln_formats::ext4::read::{Checksums, FileSystem, ReadError};
use kiln_formats::ext4::{Error, set_uuid, uuid_patches, write};
use kiln_formats::io::{ReadAt, Shifted, Window};
use kiln_formats::tree::{Entry, Kind, Tree};
use std::fs::File;
use std::sync::Arc;

/// A bit of everything.
pub(crate) fn small() -> Tree {
    let mut tree = rooted();
    tree.insert("etc", Entry::directory());
    tree.insert("etc/hostname", Entry::file(b"kiln\n".as_slice()));
    tree.insert("etc/name", Entry::new(Kind::HardLink(b"etc/hostname".as_slice().into()), 0));
    tree.insert("etc/link", Entry::symlink("hostname"));
    tree.insert("etc/far", Entry::symlink(&"far/".repeat(30)));
    tree.insert("null", Entry::new(Kind::CharDevice { major: 1, minor: 3 }, 0o666));
    tree.insert("data", Entry::file(pattern(20_000)));
    let mut entry = Entry::file(b"x".as_slice());
    entry.meta.xattrs.insert(b"security.capability".as_slice().into(), [1, 0, 0, 2].repeat(5).into());
    entry.meta.xattrs.insert(b"user.large".as_slice().into(), pattern(300).into());
    tree.insert("ping", entry);
    tree.insert("many", Entry::directory());
    for n in 0..400 {
        tree.insert(&format!("many/{n:06}"), Entry::new(Kind::Fifo, 0o600));
    }
    tree
}

#[test]
fn the_same_bytes_twice_and_for_ever() {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    write(&small(), &options(16 << 20), &mut one).unwrap();
    write(&small(), &options(16 << 20), &mut other).unwrap();
    assert!(one == other);
    // Changes only with a deliberate change of the format; say so in the changelog.
    assert_eq!(format!("{:08x}", crc32c::crc32c(&one)), "a618dd97");
}

#[test]
fn another_uuid_touches_superblocks_only() {
    let uuid = *b"ANOTHER-UUID-001";
    // Copies of the superblock in groups 1, 3, 5 and 7.
    let image = Image::with(&small(), &options(1 << 30));
    let source = File::open(&image.path).unwrap();
    let patches = uuid_patches(&source, uuid).unwrap();
    let group = 128 << 20;
    assert_eq!(
        patches.iter().map(|patch| patch.offset).collect::<Vec<_>>(),
        [1024, group, 3 * group, 5 * group, 7 * group]
    );
    set_uuid(&source, &mut File::options().write(true).open(&image.path).unwrap(), uuid).unwrap();
    image.prove(&small());
    assert_eq!(image.open().facts().uuid, uuid);
    // Every copy must do, too.
    let text = image.debugfs("show_super_stats -h");
    assert!(text.contains("414e4f54-4845-522d-5555-49442d303031"), "{text}");

    // Written anew with that UUID, the bytes are the same.
    let again = Image::with(&small(), &kiln_formats::ext4::Options { uuid, ..options(1 << 30) });
    let read = |image: &Image, offset| {
        let mut bytes = vec![0; 1 << 20];
        File::open(&image.path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };
    for offset in [0, group, 3 * group] {
        assert!(read(&image, offset) == read(&again, offset), "{offset}");
    }

    let mut broken = vec![0; 16 << 20];
    assert!(matches!(uuid_patches(&broken, uuid), Err(Error::Patch(ReadError::Corrupt { .. }))));
    write(&small(), &options(16 << 20), &mut broken).unwrap();
    broken[1100] ^= 1;
    assert!(matches!(uuid_patches(&broken, uuid), Err(Error::Patch(ReadError::Corrupt { .. }))));
}

#[test]
fn inside_a_disk_image() {
    let mut disk = vec![0; 1 << 20];
    write(&small(), &options(16 << 20), &mut Shifted::new(&mut disk, 1 << 20)).unwrap();
    let window = Window::new(Arc::new(disk), 1 << 20, 16 << 20);
    assert_same(&FileSystem::open(Arc::new(window)).unwrap().tree().unwrap(), &small());
}

#[test]
fn what_the_superblock_says() {
    let image = Image::with(&small(), &options(64 << 20));
    let facts = image.open().facts();
    assert_eq!((facts.uuid, facts.label.as_str()), (*b"0123456789abcdef", "root-a"));
    assert_eq!((facts.size, facts.block_size, facts.created), (64 << 20, 4096, CREATED));
    assert_eq!(
        (facts.free_blocks, facts.free_inodes),
        (image.summary.free_blocks, image.summary.free_inodes)
    );
    assert!(!facts.needs_recovery);
    let text = image.debugfs("show_super_stats -h");
    let line = text.lines().find(|line| line.starts_with("Filesystem features")).unwrap();
    let mut theirs: Vec<_> = line.split_whitespace().skip(2).collect();
    let mut ours = facts.features.clone();
    theirs.sort_unstable();
    ours.sort_unstable();
    assert_eq!(ours, theirs);
}

#[test]
fn damage_is_seen_by_checksums() {
    let mut image = Vec::new();
    write(&small(), &options(16 << 20), &mut image).unwrap();
    let at = image.windows(5).rposition(|bytes| bytes == b"00017").unwrap();
    image[at] ^= 0x01;
    let open = |checksums| FileSystem::open_with(Arc::new(image.clone()), checksums).unwrap().tree();
    assert!(matches!(open(Checksums::Verify), Err(ReadError::Corrupt { what: "directory with inode", .. })));
    assert!(open(Checksums::Ignore).is_ok());
    let source = Arc::new(image[..15 << 20].to_vec());
    assert!(matches!(FileSystem::open(source), Err(ReadError::CutOff { .. })));
    assert!(matches!(FileSystem::open(Arc::new(vec![0; 4096])), Err(ReadError::NotExt4)));
}
