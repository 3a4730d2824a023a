//! Disks that machines write to: copies of a node's image, empty data disks, and what can be read off them afterwards.

use crate::nodes::site;
use kiln_qemu::{Bus, Disk, Source, create_sparse};
use kiln_tests::{succeed, tool};
use rustix::fs::{SeekFrom, seek};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What a digest looks at at once; file systems hold less in a hole as seldom as they write less.
const BLOCK: u64 = 4096;

/// A folder for disks beside the built images, so that no file system but theirs must hold large sparse files.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(kiln_tests::shared()).unwrap()
}

/// A sparse, writable copy of an image in `folder`, as it is on a disk of `bytes`.
pub(crate) fn copy_to(image: &Path, folder: &Path, bytes: u64) -> PathBuf {
    let copy = folder.join("boot.img");
    succeed(tool("cp", "coreutils").args(["--sparse=always"]).arg(image).arg(&copy));
    let file = OpenOptions::new().write(true).open(&copy).unwrap();
    assert!(file.metadata().unwrap().len() <= bytes, "{} does not fit into {bytes} bytes", image.display());
    file.set_len(bytes).unwrap();
    copy
}

/// A copy of a node's image on a disk of `bytes`.
pub(crate) fn installed(node: &str, folder: &Path, bytes: u64) -> PathBuf {
    copy_to(&site().image(node), folder, bytes)
}

/// An empty disk of `bytes` in `folder` that stays.
pub(crate) fn data(folder: &Path, name: &str, bytes: u64, bus: Bus) -> (PathBuf, Disk) {
    let path = folder.join(name);
    create_sparse(&path, bytes).unwrap();
    (path.clone(), Disk::new(Source::file(path), bus))
}

/// A partition as sfdisk sees it; places in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    /// GUIDs in lower case.
    pub(crate) type_guid: String,
    pub(crate) guid: String,
    pub(crate) bytes: Range<u64>,
}

/// The partitions of a GPT with sectors of 512 bytes, in the order of their entries.
pub(crate) fn partitions(path: &Path) -> Vec<Partition> {
    let table: Value =
        serde_json::from_str(&succeed(tool("sfdisk", "fdisk").arg("--json").arg(path))).unwrap();
    let table = &table["partitiontable"];
    assert_eq!((&table["label"], &table["unit"]), (&"gpt".into(), &"sectors".into()), "{table:#}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(entries) = table["partitions"].as_array() else { return Vec::new() };
    entries
        .iter()
        .map(|entry| {
            let start = entry["start"].as_u64().unwrap() * 512;
            Partition {
                name: text(&entry["name"]),
                type_guid: text(&entry["type"]).to_lowercase(),
                guid: text(&entry["uuid"]).to_lowercase(),
                bytes: start..start + entry["size"].as_u64().unwrap() * 512,
            }
        })
        .collect()
}

/// What blkid finds in a disk, or in a part of it, by low-level probing; empty when it finds nothing. It ends in
/// failure when it finds two things at once.
pub(crate) fn signature(path: &Path, part: Option<Range<u64>>) -> BTreeMap<String, String> {
    let mut blkid = tool("blkid", "util-linux");
    blkid.args(["-p", "-o", "export"]);
    if let Some(part) = part {
        blkid.args(["-O", &part.start.to_string(), "-S", &(part.end - part.start).to_string()]);
    }
    let output = blkid.arg(path).output().unwrap();
    // 2 is for nothing found (blkid(8)).
    assert!(matches!(output.status.code(), Some(0 | 2)), "{}", kiln_tests::said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// SHA-256 of what a disk holds outside of some places: of its size and of each block of 4096 bytes that is not all
/// zeros, with its offset before it, bytes in `except` counting as zeros. Holes are skipped unread, and a hole is the
/// same as zeros.
pub(crate) fn content(path: &Path, except: &[Range<u64>]) -> String {
    let file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    // ENXIO: only a hole is left.
    while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
        let end = seek(&file, SeekFrom::Hole(data)).unwrap().next_multiple_of(BLOCK).min(size);
        at = data / BLOCK * BLOCK;
        while at < end {
            let length = (end - at).min(buffer.len() as u64);
            let bytes = &mut buffer[..usize::try_from(length).unwrap()];
            file.read_exact_at(bytes, at).unwrap();
            for range in except {
                let (from, to) = (range.start.max(at), range.end.min(at + length));
                if from < to {
                    let index = |place: u64| usize::try_from(place - at).unwrap();
                    bytes[index(from)..index(to)].fill(0);
                }
            }
            for block in bytes.chunks(usize::try_from(BLOCK).unwrap()) {
                if block.iter().any(|byte| *byte != 0) {
                    hash.update(at.to_le_bytes());
                    hash.update(block);
                }
                at += block.len() as u64;
            }
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_digest_is_of_content_not_of_holes() {
    let folder = folder();
    let (one, _) = data(folder.path(), "one", 20 << 30, Bus::Virtio);
    let (two, _) = data(folder.path(), "two", 20 << 30, Bus::Virtio);
    let write = |path: &Path, at: u64, bytes: &[u8]| {
        OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
    };
    let empty = content(&one, &[]);
    // Written zeros are zeros.
    write(&one, 1 << 30, &[0; 100_000]);
    assert_eq!(content(&one, &[]), empty);
    for path in [&one, &two] {
        write(path, (10 << 30) + 5, b"abc");
        write(path, (20 << 30) - 1, b"z");
    }
    let same = content(&one, &[]);
    assert!(same == content(&two, &[]) && same != empty);
    // The same bytes at another place are another content.
    let (three, _) = data(folder.path(), "three", 20 << 30, Bus::Virtio);
    write(&three, (10 << 30) + 5 + 4096, b"abc");
    write(&three, (20 << 30) - 1, b"z");
    assert_ne!(same, content(&three, &[]));
    // What is excepted does not count, its neighbours do.
    let place = (10 << 30) + 6..(10 << 30) + 7;
    write(&two, place.start, b"B");
    assert_ne!(same, content(&two, &[]));
    assert_eq!(content(&one, std::slice::from_ref(&place)), content(&two, std::slice::from_ref(&place)));
    write(&two, place.end, b"C");
    assert_ne!(content(&one, std::slice::from_ref(&place)), content(&two, &[place]));
    assert!(fs::metadata(&two).unwrap().len() == 20 << 30);
}

#[test]
fn the_installed_image_is_read_as_described() {
    let folder = folder();
    let path = installed("k3s1", folder.path(), 20 << 30);
    let described = site().described("k3s1");
    let described = described["disk"]["partitions"].as_array().unwrap().clone();
    let found = partitions(&path);
    assert_eq!(found.len(), described.len());
    for (found, described) in found.iter().zip(&described) {
        assert_eq!(
            (&found.name[..], &found.guid[..]),
            (described["name"].as_str().unwrap(), described["guid"].as_str().unwrap())
        );
        assert_eq!(found.type_guid, described["type_guid"].as_str().unwrap());
        assert_eq!(found.bytes.start, described["start"].as_u64().unwrap());
        assert_eq!(found.bytes.end - found.bytes.start, described["size"].as_u64().unwrap());
        assert_eq!(
            signature(&path, Some(found.bytes.clone()))["TYPE"],
            described["filesystem"].as_str().unwrap()
        );
    }
    assert_eq!(signature(&path, None)["PTTYPE"], "gpt");
}
