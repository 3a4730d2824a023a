//! Data disks on every bus, well and failing.

use super::{COUNTDOWN, boot, fresh, is_ready, kernel, site};
use crate::disks::{content, data, folder};
use crate::early::{machine_of, to_the_end, until_system_with};
use crate::nodes::patience;
use kiln_qemu::{Bus, Disk, Fault, Operation, Wanted};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Slots of the node `buses` that are made ready, and what each hangs on.
const SLOTS: [(&str, Bus); 4] =
    [("fast", Bus::Nvme), ("archive", Bus::Ahci), ("stick", Bus::Usb), ("cloud", Bus::Scsi)];
/// Size of each disk (bytes). Making file systems on them takes a moment.
const LARGE: u64 = 64 << 30;

/// A blank disk for each slot.
fn disks(folder: &Path) -> (Vec<PathBuf>, Vec<Disk>) {
    SLOTS.iter().map(|(name, bus)| data(folder, &format!("{name}.img"), LARGE, *bus)).unzip()
}

/// Whoever says its transport is found, made ready, and mounted; one that is left to somebody else keeps every byte.
#[test]
fn every_bus_has_disks() {
    let _images = site();
    let folder = folder();
    let (paths, mut disks) = disks(folder.path());
    let (raw, ceph) = data(folder.path(), "ceph.img", 1 << 30, Bus::Virtio);
    disks.push(ceph);
    let before = content(&raw, &[]);
    let first = boot("buses", &disks);
    assert_eq!(first.failed(), [""; 0], "{}", first.console);
    assert!(!first.console.contains(COUNTDOWN), "{}", first.console);
    for ((name, _), path) in SLOTS.iter().zip(&paths) {
        is_ready(path, "buses", name);
    }

    // What systemd is left with mounts them, udev with it; /srv is a link to /var/srv.
    let disks = [&[fresh(&site(), "buses")], &disks[..]].concat();
    let machine =
        machine_of(kernel(&site(), "buses"), &disks, "systemd.unit=sysinit.target systemd.show_status=1");
    let mut running = machine.start().unwrap();
    for point in ["var-srv-archive.mount", "var-srv-stick.mount", "fast.mount", "cloud.mount"] {
        let mounted = [Wanted::Console("Mounted"), Wanted::Console("Failed to mount")];
        let is_mounted =
            |console: String| console.lines().any(|line| line.contains("Mounted") && line.contains(point));
        // Units are mounted in any order: this one may have been while another was waited for.
        while !is_mounted(running.console()) {
            let seen = running.wait_for(&mounted, patience()).unwrap_or_else(|e| panic!("{point}: {e}"));
            assert_eq!(seen.which, 0, "{}", running.console());
        }
    }
    running.kill().unwrap();
    assert_eq!(content(&raw, &[]), before);
}

/// One disk answers with errors from some write on, another is pulled while it is formatted. The others are made ready,
/// the boot goes on, and says what is missing; without the faults the next boot does the rest.
#[test]
fn disks_that_fail_midway_stop_no_other() {
    let _images = site();
    let folder = folder();
    let (paths, whole) = disks(folder.path());
    let (_, ceph) = data(folder.path(), "ceph.img", 1 << 30, Bus::Virtio);
    let mut failing = [&[fresh(&site(), "buses")], &whole[..], std::slice::from_ref(&ceph)].concat();
    let (fast, cloud) = (1, 4);
    failing[fast].faults = vec![Fault { after: 12, ..Fault::every(Operation::Write) }];
    failing[cloud].hot_plug = true;
    let mut machine = until_system_with(&kernel(&site(), "buses"), &failing, "");
    machine.control = true;
    let mut running = machine.start().unwrap();
    // Slow enough to be pulled in the middle.
    let slow = json!({
        "device": format!("disk{cloud}"), "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 20,
    });
    running.execute("block_set_io_throttle", &slow).unwrap();
    let mut pulled = false;
    let first = to_the_end(running, |running, told| {
        if told.step() == "format cloud" && told.state() == "begun" {
            running.unplug(cloud, Instant::now() + Duration::from_secs(60)).unwrap();
            pulled = true;
        }
    });
    assert!(pulled, "{}", first.console);
    let problems = first.failed();
    for slot in ["fast", "cloud"] {
        assert!(
            problems.iter().any(|problem| problem.contains(&format!("for {slot}: "))),
            "{slot}: {problems:#?}\n{}",
            first.console
        );
        assert!(!first.done().contains(&format!("format {slot}")), "{:?}", first.done());
    }
    for slot in [1, 2] {
        is_ready(&paths[slot], "buses", SLOTS[slot].0);
    }

    let kept = [content(&paths[1], &[]), content(&paths[2], &[])];
    let again = boot("buses", &[&whole[..], &[ceph]].concat());
    assert_eq!(again.failed(), [""; 0], "{}", again.console);
    for ((name, _), path) in SLOTS.iter().zip(&paths) {
        is_ready(path, "buses", name);
    }
    assert_eq!([content(&paths[1], &[]), content(&paths[2], &[])], kept, "{}", again.console);
}
