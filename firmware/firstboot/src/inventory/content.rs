//! What is on a disk, as blkid sees it. Nothing that went wrong may look like a blank disk: blkid ends with the same
//! code (2) when it found nothing and when it could not read, so reading is tried first, and every word on its
//! standard error counts as a failure.

use crate::block::Block;
use kiln_contract::machine::{Content, Signature};
use kiln_formats::io::ReadAt;
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
/// Every signature that libblkid knows lies within this of the start (bytes): the second header of LUKS2 may be 4 MiB
/// in. What lies at the end (GPT, mdraid, ZFS, firmware RAIDs) is within [`TAIL`].
const HEAD: u64 = (4 << 20) + (64 << 10);
/// See [`HEAD`].
const TAIL: u64 = 1 << 20;
/// Bytes a read.
const CHUNK: usize = 1 << 20;
/// Exit codes of `blkid -p` (blkid(8)).
const FOUND: i32 = 0;
const NOTHING: i32 = 2;
const AMBIVALENT: i32 = 8;

/// What is on `device`, which has `size` bytes and, by its own table, partitions of these numbers.
pub(super) fn of(device: &Path, size: u64, partitions: &[u32]) -> Content {
    if let Err(error) = read_ends(device, size) {
        return Content::Unreadable(error.to_string());
    }
    let mut found = match on_device(device, None) {
        Ok(found) => found,
        Err(reason) => return Content::Unreadable(reason),
    };
    if found.is_empty() {
        return Content::Blank;
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

/// Reads all that blkid is going to look at.
fn read_ends(device: &Path, size: u64) -> io::Result<()> {
    let disk = Block::open(device, size)?;
    let mut buffer = vec![0; CHUNK];
    for (start, end) in [(0, size.min(HEAD)), (size.saturating_sub(TAIL), size)] {
        let mut at = start;
        while at < end {
            let step = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            disk.read_exact_at(&mut buffer[..step], at)
                .map_err(|error| io::Error::new(error.kind(), format!("{error} at byte {at}")))?;
            at += step as u64;
        }
    }
    Ok(())
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
