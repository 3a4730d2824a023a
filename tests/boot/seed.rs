//! The seed partition of an image, looked into and changed with mtools.

use crate::disks::partitions;
use crate::nodes::json;
use kiln_tests::{succeed, tool};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Where the handoff document is on the volume.
const HANDOFF: &str = "::kiln/handoff.json";

/// The volume as mtools names it.
fn volume(image: &Path) -> String {
    let cidata = partitions(image).into_iter().find(|partition| partition.name == "CIDATA").unwrap();
    format!("{}@@{}", image.display(), cidata.bytes.start)
}

/// The handoff document of an image.
pub(crate) fn handoff(image: &Path) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("handoff.json");
    succeed(tool("mcopy", "mtools").args(["-n", "-i", &volume(image), HANDOFF]).arg(&copy));
    json(&copy)
}

/// What a folder of the volume holds, one name a line; nothing when there is no such folder.
pub(crate) fn names(image: &Path, folder: &str) -> Vec<String> {
    let mut mdir = tool("mdir", "mtools");
    let output = mdir.args(["-b", "-i", &volume(image), &format!("::{folder}")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Copies a file of the volume to `to`.
pub(crate) fn copy(image: &Path, path: &str, to: &Path) {
    succeed(tool("mcopy", "mtools").args(["-n", "-i", &volume(image), &format!("::{path}")]).arg(to));
}

/// Removes a file of the volume.
pub(crate) fn remove(image: &Path, path: &str) {
    succeed(tool("mdel", "mtools").args(["-i", &volume(image), &format!("::{path}")]));
}

/// Puts this text in the place of a file of a volume that is no partition.
pub(crate) fn change(volume: &Path, path: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, text).unwrap();
    succeed(tool("mcopy", "mtools").args(["-o", "-i"]).arg(volume).arg(&file).arg(format!("::{path}")));
}

/// Removes the handoff document.
pub(crate) fn remove_handoff(image: &Path) {
    succeed(tool("mdel", "mtools").args(["-i", &volume(image), HANDOFF]));
}

/// Puts these bytes in the place of the handoff document.
pub(crate) fn write_handoff(image: &Path, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handoff.json");
    fs::write(&file, bytes).unwrap();
    // One that is there is overwritten without a question.
    succeed(tool("mcopy", "mtools").args(["-o", "-i", &volume(image)]).arg(&file).arg(HANDOFF));
}

/// The bytes of a disk's seed partition.
pub(crate) fn bytes(disk: &Path) -> Vec<u8> {
    let partition = partitions(disk).into_iter().find(|partition| partition.name == "CIDATA").unwrap();
    let mut file = fs::File::open(disk).unwrap();
    file.seek(SeekFrom::Start(partition.bytes.start)).unwrap();
    let mut bytes = Vec::new();
    file.take(partition.bytes.end - partition.bytes.start).read_to_end(&mut bytes).unwrap();
    bytes
}

/// True when these words are somewhere in the bytes.
pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    let first = text[0];
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == first) {
        at += next;
        if bytes[at..].starts_with(text) {
            return true;
        }
        at += 1;
    }
    false
}
