//! Disks that fit a rule and must not be taken: they keep every byte, and the node says what is in the way.

use super::{
    BYTES, STICK, blanks, boot, fresh, is_ready, kernel, other, partition, says, serial_of, site,
    wrote_nothing,
};
use crate::disks::{content, data, folder};
use crate::early::{run, until_system_with};
use crate::foreign::Foreign;
use kiln_qemu::{Bus, Disk};
use std::path::{Path, PathBuf};

/// A virtio disk that is some guard's business.
fn disk(folder: &Path, name: &str, bytes: u64) -> (PathBuf, Disk) {
    let (path, disk) = data(folder, &format!("{name}.img"), bytes, Bus::Virtio);
    let serial = Some(serial_of(&disk));
    (path, Disk { serial, ..disk })
}

fn contents(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| content(path, &[])).collect()
}

/// Disks with everything that may be on a disk, and two blank ones for a rule that wants three: in doubt none is taken.
#[test]
fn foreign_disks_are_named_and_keep_every_byte() {
    let _images = site();
    let folder = folder();
    let (mut paths, mut disks) = blanks(folder.path(), 2);
    let mut claims = Vec::new();
    for foreign in Foreign::ALL {
        let (path, disk) = disk(folder.path(), &format!("{foreign:?}"), 400 << 20);
        if foreign.make(&path) {
            claims.push((serial_of(&disk), foreign.claim().1));
            paths.push(path);
            disks.push(disk);
        }
    }
    assert!(claims.len() >= 12, "{claims:?}");
    let before = contents(&paths);
    let boot = boot("sdf", &disks);
    assert_eq!(contents(&paths), before, "{}", boot.console);
    wrote_nothing(&boot);
    says(&boot, &["Rule sdf: no disk for sdf-3."]);
    for (serial, claim) in &claims {
        let found = format!("it carries {claim}");
        says(&boot, &[&found, &format!("list its serial number under `erase:`: {serial}")]);
    }
    assert!(boot.console.contains("REFUSED: nothing is written to any data disk."), "{}", boot.console);
}

/// One machine with a disk for each guard beside blank ones: too few are left, so that none is taken.
#[test]
fn guarded_disks_are_named_and_keep_every_byte() {
    let _images = site();
    let folder = folder();
    let place = folder.path();
    // A disk of the other cluster's, and one of another node's of this cluster.
    let (theirs, their_disk) = disk(place, "theirs", BYTES);
    let other = other();
    let machine = until_system_with(&kernel(&other, "sdf"), &[fresh(&other, "sdf"), their_disk.clone()], "");
    let made = run(&machine);
    assert_eq!(made.failed(), [""; 0], "{}", made.console);
    let (neighbours, neighbour) = disk(place, "old", BYTES);
    let made = boot("old", std::slice::from_ref(&neighbour));
    assert_eq!(made.failed(), [""; 0], "{}", made.console);
    is_ready(&neighbours, "old", "old");

    let (mut paths, mut disks) = blanks(place, 2);
    let (locked, lock) = disk(place, "locked", BYTES);
    let (small, tiny) = disk(place, "small", 32 << 20);
    let twins = [disk(place, "twin-1", BYTES), disk(place, "twin-2", BYTES)];
    paths.extend([theirs, neighbours, locked, small]);
    disks.extend([their_disk, neighbour, Disk { read_only: true, ..lock }, tiny]);
    for (path, twin) in twins {
        paths.push(path);
        disks.push(Disk { serial: Some("TWINS".to_owned()), ..twin });
    }
    let before = contents(&paths);
    let boot = boot("sdf", &disks);
    assert_eq!(contents(&paths), before, "{}", boot.console);
    wrote_nothing(&boot);
    says(
        &boot,
        &[
            "Rule sdf: no disk for sdf-3. These fit, and may not be taken:",
            "vdd: a data disk of another cluster. `erase:` alone does not cover disks of Kiln: if nothing on it is needed any more, take \
             its table off by hand (`wipefs --all`) and list its serial number there: ",
            "vde: a data disk of this cluster, but none that this node has a rule for: kiln-old.",
            "vdf: it is read-only. Make it writable",
            "vdg: smaller than 64.0 MiB.",
            "vdh: it can't be told from vdi.",
            "vdi: it can't be told from vdh.",
        ],
    );
}

/// Four disks fit, three are wanted.
#[test]
fn too_many_disks_are_a_question() {
    let _images = site();
    let folder = folder();
    let (paths, disks) = blanks(folder.path(), 4);
    let before = contents(&paths);
    let boot = boot("sdf", &disks);
    assert_eq!(contents(&paths), before, "{}", boot.console);
    wrote_nothing(&boot);
    says(&boot, &["Rule sdf: 3 wanted, and 4 disks fit: vdb, vdc, vdd, vde.", "vde: `serial: BLANK-4`"]);
    assert!(boot.console.contains("REFUSED: nothing is written to any data disk."), "{}", boot.console);
}

/// A stick is taken by the node that names it, and by no other.
#[test]
fn a_stick_has_to_be_named() {
    let _images = site();
    let folder = folder();
    let (path, stick) = data(folder.path(), "stick.img", BYTES, Bus::Usb);
    let stick = Disk { serial: Some(STICK.to_owned()), ..stick };
    let before = content(&path, &[]);
    let refused = boot("sized", std::slice::from_ref(&stick));
    assert_eq!(content(&path, &[]), before, "{}", refused.console);
    wrote_nothing(&refused);
    says(&refused, &["sda: it is removable. If it is meant, name it in `match:`, by `serial: KILN-STICK-1`"]);

    let taken = boot("named", &[stick]);
    assert_eq!(taken.failed(), [""; 0], "{}", taken.console);
    is_ready(&path, "named", "stick");
    assert!(partition(&path).start == 1 << 20);
}
