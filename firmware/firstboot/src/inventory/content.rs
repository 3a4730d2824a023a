//! What is on a disk, as blkid sees it. Nothing that went wrong may look like a blank disk: blkid ends with the same
//! code (2) when it found nothing and when it could not read, so reading is tried first, and every word on its
//! standard error counts as a failure. And what blkid does not know is looked at: only what is empty is blank.

mod blank;

use crate::block::Block;
use kiln_contract::machine::{Content, Signature, UNSIGNED};
use kiln_contract::plan::human;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program in the initramfs and on every Debian.
pub(crate) const BLKID: &str = "/usr/sbin/blkid";
/// blkid reads a few MiB; longer than this the disk hangs, and with it the process, which then nothing ends.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a running blkid is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Exit codes of `blkid -p` (blkid(8)).
const FOUND: i32 = 0;
const NOTHING: i32 = 2;
const AMBIVALENT: i32 = 8;

/// What is on `device`, which has `size` bytes and, by its own table, partitions of these numbers.
pub(super) fn of(device: &Path, size: u64, partitions: &[u32]) -> Content {
    let unreadable = |error: io::Error| Content::Unreadable(error.to_string());
    let block = match Block::open(device, size) {
        Ok(block) => block,
        Err(error) => return unreadable(error),
    };
    let at_an_end = match blank::ends(&block, size) {
        Ok(found) => found,
        Err(error) => return unreadable(error),
    };
    let mut found = match on_device(device, None) {
        Ok(found) => found,
        Err(reason) => return Content::Unreadable(reason),
    };
    if found.is_empty() {
        return match at_an_end.map_or_else(|| blank::middle(&block, size), |at| Ok(Some(at))) {
            Ok(None) => Content::Blank,
            Ok(Some(at)) => Content::Signatures(vec![unsigned(at)]),
            Err(error) => unreadable(error),
        };
    }
    // The disk is not blank as it is; what is on its partitions is for people to read.
    for number in partitions {
        let partition = partition_device(device, *number);
        if partition.exists() {
            found.extend(on_device(&partition, Some(*number)).unwrap_or_default());
        }
    }
    Content::Signatures(found)
}

/// `sda1`, and `nvme0n1p1` where the disk's own name ends with a digit.
fn partition_device(device: &Path, number: u32) -> std::path::PathBuf {
    let mut name: OsString = device.into();
    let infix = if device.to_string_lossy().ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    name.push(format!("{infix}{number}"));
    name.into()
}

/// The first bytes of a partition at both ends, when they are not blank: where its first one is. For a partition that was
/// made just now on a disk that was blank, or of which the ends were wiped.
pub(crate) fn written(device: &Path, size: u64) -> io::Result<Option<u64>> {
    blank::edges(&Block::open(device, size)?, size)
}

/// Something that no program knows.
fn unsigned(at: u64) -> Signature {
    Signature { label: format!("from {} on", human(at)), ..named(UNSIGNED, None) }
}

/// All signatures on a device. Where several lie over each other blkid names none: then it is asked for each sort.
fn on_device(device: &Path, partition: Option<u32>) -> Result<Vec<Signature>, String> {
    let (code, text) = blkid(device, &[])?;
    match code {
        FOUND => {
            let found = signatures(&text, partition);
            // Something was found and not told: certainly not blank.
            Ok(if found.is_empty() { vec![named("unknown", partition)] } else { found })
        }
        NOTHING => Ok(Vec::new()),
        AMBIVALENT => {
            let mut found = Vec::new();
            for sort in ["filesystem", "raid", "crypto", "other"] {
                match blkid(device, &["-u", sort])? {
                    (FOUND, text) => found.extend(signatures(&text, partition)),
                    (AMBIVALENT, _) => found.push(named(&format!("more than one {sort}"), partition)),
                    _ => {}
                }
            }
            let mut kept: Vec<Signature> = Vec::new();
            for signature in found {
                if !kept.contains(&signature) {
                    kept.push(signature);
                }
            }
            Ok(if kept.is_empty() { vec![named("unknown", partition)] } else { kept })
        }
        code => Err(format!("blkid ended with code {code}")),
    }
}

fn named(kind: &str, partition: Option<u32>) -> Signature {
    Signature { kind: kind.to_owned(), label: String::new(), uuid: String::new(), partition }
}

/// From `-o export`: KEY=VALUE lines. A superblock has TYPE, a partition table PTTYPE.
fn signatures(text: &str, partition: Option<u32>) -> Vec<Signature> {
    let value = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.filter(|(name, _)| *name == key).map(|(_, value)| value).next();
        super::sysfs::printable(found.unwrap_or_default().as_bytes())
    };
    let superblock = Signature { kind: value("TYPE"), label: value("LABEL"), uuid: value("UUID"), partition };
    let table = Signature { kind: value("PTTYPE"), label: String::new(), uuid: value("PTUUID"), partition };
    [superblock, table].into_iter().filter(|signature| !signature.kind.is_empty()).collect()
}

/// Exit code and standard output of a low-level probe.
fn blkid(device: &Path, sort: &[&str]) -> Result<(i32, String), String> {
    let mut command = Command::new(BLKID);
    command.args(["-p", "-o", "export"]).args(sort).arg("--").arg(device);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{BLKID}: {error}"))?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(POLL),
            Ok(None) => {
                // Not waited for: a process that the disk holds in the kernel ends when the disk lets go.
                let _ = child.kill();
                return Err(format!("blkid did not end within {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(format!("blkid: {error}")),
        }
    };
    // A page of text at most: it fits the pipe, and blkid has ended.
    let text = |pipe: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            pipe.read_to_end(&mut bytes).map_err(|error| format!("blkid: {error}"))?;
        }
        Ok::<_, String>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let output = text(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read))?;
    let complaint = text(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read))?;
    match status.code() {
        Some(code) if complaint.trim().is_empty() || code == AMBIVALENT => Ok((code, output)),
        Some(_) => Err(complaint.trim().to_owned()),
        None => Err(format!("blkid was ended: {status}")),
    }
}

#[cfg(test)]
mod tests;
