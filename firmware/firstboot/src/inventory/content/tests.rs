//! Real file systems, made and judged by foreign tools. Files stand in for disks: blkid takes both.

use super::{BLKID, of};
use kiln_contract::machine::Content;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const SIZE: u64 = 32 << 20;

fn kinds(content: &Content) -> Vec<String> {
    match content {
        Content::Signatures(found) => found.iter().map(|one| format!("{} {}", one.kind, one.label)).collect(),
        other => panic!("{other:?}"),
    }
}

fn blank(path: &Path) {
    fs::File::create(path).unwrap().set_len(SIZE).unwrap();
}

fn write(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

fn mke2fs(path: &Path) {
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-L", "old"]).arg(path).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// The magic of a LUKS header (LUKS1 on-disk format, figure 1) with version 1.
const LUKS: &[u8] = b"LUKS\xba\xbe\x00\x01";

#[test]
fn blank_signed_and_unreadable_are_told_apart() {
    assert!(Path::new(BLKID).exists(), "install util-linux");
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    blank(&disk);
    assert_eq!(of(&disk, SIZE, &[]), Content::Blank);
    mke2fs(&disk);
    assert_eq!(kinds(&of(&disk, SIZE, &[])), ["ext4 old"]);
    // blkid names nothing and ends with 8: several signatures lie over each other.
    write(&disk, 4086, b"SWAPSPACE2");
    write(&disk, 1024, &[1, 0, 0, 0, 0xff, 0x1f, 0, 0]);
    let several = of(&disk, SIZE, &[]);
    assert!(matches!(&several, Content::Signatures(found) if !found.is_empty()), "{several:?}");
    blank(&disk);
    write(&disk, 0, LUKS);
    assert_eq!(kinds(&of(&disk, SIZE, &[])), ["crypto_LUKS "]);
    // A disk that is shorter than it says: its end can't be read, though nothing was found before.
    blank(&disk);
    assert!(matches!(of(&disk, SIZE + 512, &[]), Content::Unreadable(_)));
    assert!(matches!(of(&folder.path().join("absent"), SIZE, &[]), Content::Unreadable(_)));
}
