//! Parsers of images and archives.

use crate::engine::Target;
use kiln_formats::io::ReadAt;
use kiln_formats::tree::{Entry, Kind, Timestamp, Tree};
use kiln_formats::{cpio, deb, elf, ext4, fat, gpt, qcow2, uki};
use std::io::Write as _;
use std::sync::Arc;
use uuid::Uuid;

const TIME: Timestamp = Timestamp { secs: 1_700_000_000, nanos: 0 };
/// Of each file so much is read, as `kiln inspect` would.
const SHOWN: u64 = 1 << 20;

fn nothing(_: &mut Vec<u8>) {}

fn source(bytes: &[u8]) -> Arc<dyn ReadAt> {
    Arc::new(bytes.to_vec())
}

fn sample() -> Tree {
    let mut tree = Tree::new();
    tree.insert("", Entry::directory());
    for (path, len) in
        [("etc/hostname", 5), ("usr/lib/sysimage/dpkg/status", 9000), ("a file with a long name.txt", 70_000)]
    {
        tree.make_parents(path, &Entry::directory());
        tree.insert(path, Entry::file(vec![b'x'; len]));
    }
    tree.insert("EFI", Entry::directory());
    tree.iter_mut().for_each(|(_, entry)| entry.meta.mtime = TIME);
    tree
}

/// With what only Unix has.
fn unix() -> Tree {
    let mut tree = sample();
    tree.insert("link", Entry::symlink("etc/hostname"));
    tree.insert("long", Entry::symlink(&"x/".repeat(200)));
    tree.insert("null", Entry::new(Kind::CharDevice { major: 1, minor: 3 }, 0o666));
    tree.insert("name", Entry::new(Kind::HardLink(b"etc/hostname"[..].into()), 0o644));
    let mut capable = Entry::file(&b"x"[..]);
    capable.meta.xattrs.insert(b"user.x"[..].into(), b"y"[..].into());
    tree.insert("capable", capable);
    tree.iter_mut().for_each(|(_, entry)| entry.meta.mtime = TIME);
    tree
}

fn look(tree: &Tree) {
    for (_, entry) in tree.iter() {
        if let Kind::File(content) = &entry.kind {
            let _ = content.read_at_most(SHOWN);
        }
    }
}

fn ext4_image() -> Vec<u8> {
    let mut options = ext4::Options::new(5 << 20, [1; 16], [2; 16], TIME);
    options.journal_blocks = Some(1024);
    let mut bytes = Vec::new();
    ext4::write(&unix(), &options, &mut bytes).unwrap();
    bytes
}

fn ext4(bytes: &[u8]) {
    // With checksums as they are, and with the bytes behind them.
    for checksums in [ext4::read::Checksums::Verify, ext4::read::Checksums::Ignore] {
        let Ok(system) = ext4::read::FileSystem::open_with(source(bytes), checksums) else { continue };
        let _ = system.facts();
        let _ = system.tree().map(|tree| look(&tree));
        let _ = system.read_file("etc/hostname", SHOWN);
    }
}

fn fat_image() -> Vec<u8> {
    let options = fat::Options {
        size: 5 << 20,
        sector_size: 512,
        sectors_per_cluster: None,
        volume_id: 7,
        label: "KILN",
        created: TIME,
    };
    let mut bytes = Vec::new();
    fat::write(&sample(), &options, &mut bytes).unwrap();
    bytes
}

fn fat(bytes: &[u8]) {
    let _ = fat::read(&source(bytes)).map(|volume| look(&volume.tree));
}

fn gpt_image(sector_size: u32) -> Vec<u8> {
    let wanted = |number, name: &str, size| gpt::Wanted {
        number,
        type_guid: Uuid::from_u128(1),
        guid: Uuid::from_u128(100 + u128::from(number)),
        name: name.to_owned(),
        size,
        attributes: 0,
    };
    let table = gpt::Table::plan(
        Uuid::from_u128(3),
        sector_size,
        &[wanted(1, "a", 1 << 20), wanted(2, "b", 1 << 20)],
    )
    .unwrap();
    let mut bytes = Vec::new();
    gpt::write(&table, &mut bytes).unwrap();
    bytes
}

/// The sums of both headers and of the entries (UEFI 2.10, 5.3.2).
fn gpt_sums(bytes: &mut [u8]) {
    for at in [512, 4096] {
        let number = |bytes: &[u8], from: usize, len: usize| {
            let mut value = [0; 8];
            value[..len].copy_from_slice(&bytes[from..from + len]);
            usize::try_from(u64::from_le_bytes(value)).unwrap_or(usize::MAX)
        };
        if bytes.len() < at + 92 || !bytes[at..].starts_with(b"EFI PART") {
            continue;
        }
        let array = number(bytes, at + 72, 8).saturating_mul(at);
        let len = number(bytes, at + 80, 4).saturating_mul(number(bytes, at + 84, 4));
        if let Some(entries) = bytes.get(array..array.saturating_add(len)) {
            let sum = crc32fast::hash(entries);
            bytes[at + 88..at + 92].copy_from_slice(&sum.to_le_bytes());
        }
        bytes[at + 16..at + 20].fill(0);
        if let Some(header) = bytes.get(at..at.saturating_add(number(bytes, at + 12, 4))) {
            let sum = crc32fast::hash(header);
            bytes[at + 16..at + 20].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

fn gpt(bytes: &[u8]) {
    let _ = gpt::detect(&bytes.to_vec());
}

fn cpio(bytes: &[u8]) {
    let _ = cpio::read(&source(bytes));
}

fn qcow2(bytes: &[u8]) {
    let Ok(disk) = qcow2::Disk::open(source(bytes)) else { return };
    let mut piece = vec![0; 70_000];
    for at in [0, 65_536, disk.size().unwrap_or_default().saturating_sub(70_000)] {
        let _ = disk.read_exact_at(&mut piece, at);
    }
}

/// The head of a PE image with two sections.
fn pe() -> Vec<u8> {
    let mut image = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x78_u32.to_le_bytes());
    put(0x78, b"PE\0\0\x64\x86\x02\0");
    put(0x78 + 20, &240_u16.to_le_bytes());
    put(0x90, &[0x0b, 0x02]);
    put(0x90 + 32, &0x1000_u32.to_le_bytes());
    put(0x90 + 36, &0x200_u32.to_le_bytes());
    put(0x90 + 108, &16_u32.to_le_bytes());
    for (at, name) in [(0x180, b".cmdline"), (0x1a8, b".osrel\0\0")] {
        put(at, name);
        put(at + 8, &16_u32.to_le_bytes());
        put(at + 12, &0x1000_u32.to_le_bytes());
        put(at + 16, &0x200_u32.to_le_bytes());
        put(at + 20, &0x400_u32.to_le_bytes());
    }
    image
}

fn uki(bytes: &[u8]) {
    let source = source(bytes);
    let Ok(image) = uki::parse(source.as_ref()) else { return };
    for section in &image.sections {
        let _ = section.content(&source).read_at_most(SHOWN);
    }
}

fn tarball() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for path in ["./control", "./usr/bin/tool", &format!("./{}", "long/".repeat(50))] {
        let mut header = tar::Header::new_gnu();
        header.set_size(12);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, &b"Package: a\n\n"[..]).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive.append_link(&mut header, "./link", "usr/bin/tool").unwrap();
    archive.into_inner().unwrap()
}

fn package() -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in
        [("debian-binary", b"2.0\n".to_vec()), ("control.tar", tarball()), ("data.tar", tarball())]
    {
        writeln!(bytes, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, content.len()).unwrap();
        bytes.extend(&content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

/// Header sums of tar archives (pax, ustar interchange format): else no changed header is looked into.
fn tar_sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn deb(bytes: &[u8]) {
    let limits = deb::Limits { control: 1 << 20, data: 4 << 20, threads: 1 };
    let _ = deb::read(&mut &bytes[..], &mut Vec::new(), &limits);
    let _ = deb::read_control(&mut &bytes[..], &limits);
}

fn deb_index(bytes: &[u8]) {
    let _ = deb::index(source(bytes)).map(|tree| look(&tree));
}

fn elf(bytes: &[u8]) {
    let _ = elf::read(&kiln_formats::tree::Content::bytes(bytes));
}

/// All of them.
pub(crate) fn targets() -> Vec<Target> {
    let mut archive = Vec::new();
    cpio::write(&unix(), &mut archive).unwrap();
    let mut disk = Vec::new();
    qcow2::write(&vec![7; 200 << 10], qcow2::Options { zstd_level: None }, &mut disk).unwrap();
    let own = std::fs::read("/proc/self/exe").unwrap();
    let target = |name, seeds, mend, feed| Target { name, seeds, mend, feed };
    vec![
        target("ext4", vec![ext4_image()], nothing, ext4),
        target("fat", vec![fat_image()], nothing, fat),
        target("gpt", vec![gpt_image(512), gpt_image(4096)], |bytes| gpt_sums(bytes), gpt),
        target("cpio", vec![archive], nothing, cpio),
        target("qcow2", vec![disk], nothing, qcow2),
        target("uki", vec![pe()], nothing, uki),
        target("deb", vec![package()], nothing, deb),
        target("deb-files", vec![tarball()], |bytes| tar_sums(bytes), deb_index),
        target("elf", vec![own[..own.len().min(64 << 10)].to_vec()], nothing, elf),
    ]
}
