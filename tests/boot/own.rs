//! The node's own disk: the first boot takes all of it, and no boot after it changes what needs no change.

use crate::disks::{content, copy_to, folder, installed, partitions, signature};
use crate::early::{boot, machine, refused, screen};
use crate::ext4;
use crate::nodes::{machine as uefi, report, site};
use crate::seed::handoff;
use kiln_qemu::{Bus, Disk, Running, Source, free_port};
use kiln_tests::{shared, succeed, tool};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Partition types by their published numbers: root of x86-64 and variable data (UAPI Group, Discoverable Partitions
/// Specification).
const ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
const VARIABLE: &str = "4d21b016-b534-45c2-a9fb-5c16e091fd2d";

/// Bytes of a group of an ext4 with blocks of 4096 bytes: as many blocks as a bitmap of one block has bits.
const GROUP: usize = 8 * 4096 * 4096;

/// Where a partition of this name is (bytes).
pub(crate) fn part(disk: &Path, name: &str) -> Range<u64> {
    let found = partitions(disk).into_iter().find(|partition| partition.name == name);
    found.unwrap_or_else(|| panic!("no {name} on {}", disk.display())).bytes
}

/// What sgdisk finds wrong with a disk's table: nothing.
pub(crate) fn table_is_sound(disk: &Path) {
    let said = succeed(tool("sgdisk", "gdisk").arg("-v").arg(disk));
    assert!(said.contains("No problems found"), "{said}");
}

/// The disk is as the first boot must leave it, by the tools that everybody has.
pub(crate) fn is_finished(disk: &Path) {
    table_is_sound(disk);
    let found = partitions(disk);
    let names: Vec<_> = found.iter().map(|partition| partition.name.as_str()).collect();
    assert_eq!(names, ["ESP", "CIDATA", "root-a", "root-b", "state"]);
    let told = handoff(disk);
    let [.., root_a, root_b, state] = &found[..] else { panic!("{found:?}") };
    for (partition, kind, key) in
        [(root_a, ROOT, "root_a"), (root_b, ROOT, "root_b"), (state, VARIABLE, "state")]
    {
        assert_eq!(partition.type_guid, kind, "{partition:?}");
        assert_eq!(told["partitions"][key], partition.guid[..], "{partition:?}");
    }
    let size = |bytes: &Range<u64>| bytes.end - bytes.start;
    assert_eq!(size(&root_b.bytes), size(&root_a.bytes));
    // The table's copy takes 17 KiB, and partitions end at whole MiB.
    let end = fs::metadata(disk).unwrap().len();
    assert!(end - state.bytes.end < 2 << 20, "state ends {} bytes before the disk", end - state.bytes.end);
    is_state(disk, &state.bytes, &told);
}

/// The file system of the state partition is sound, reaches to its end, and is who it must be.
fn is_state(disk: &Path, state: &Range<u64>, told: &Value) {
    ext4::is_clean(disk, state);
    let found = signature(disk, Some(state.clone()));
    assert_eq!((&found["TYPE"][..], &found["LABEL"][..]), ("ext4", "state"), "{found:?}");
    assert_eq!(told["partitions"]["state_filesystem"], found["UUID"][..], "{found:?}");
    // mke2fs leaves out a last group that would have no room for more than its own tables.
    let (whole, used) = (state.end - state.start, ext4::size(disk, state));
    assert!(used <= whole && whole - used < 128 << 20, "{used} of {whole} bytes");
    let machine_id = ext4::text(disk, state, "/lib/kiln/etc/upper/machine-id");
    assert_eq!(told["node"]["machine_id"], machine_id.trim_end());
}

/// A disk of this size that was booted once and turned off: made once a run, for tests to copy. It is one step of the
/// life of `k3s1` in all of them.
pub(crate) fn finished(folder: &Path, bytes: u64) -> PathBuf {
    static FINISHED: OnceLock<PathBuf> = OnceLock::new();
    /// The image needs 2.7 GB of it.
    const SMALL: u64 = 4 << 30;
    let finished = FINISHED.get_or_init(|| {
        let place = shared().join("boot-finished");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        let disk = installed("k3s1", &place, SMALL);
        let first = boot(&[Disk::virtio(Source::file(&disk))]);
        assert_eq!(first.failed(), [""; 0], "{}", first.console);
        is_finished(&disk);
        disk
    });
    copy_to(finished, folder, bytes)
}

/// Presses the power button, and waits for the machine's end.
fn turn_off(mut running: Running) {
    running.execute("system_powerdown", &json!({})).unwrap();
    let status = running.wait_until(Instant::now() + Duration::from_secs(120));
    assert!(status.is_ok_and(|status| status.success()), "{}", running.console());
}

/// From UEFI to the node's report, and off.
fn live(disk: &Path) -> Value {
    let mut machine = uefi(disk, Ipv4Addr::new(192, 168, 86, 71), free_port().unwrap());
    machine.disks = vec![Disk::virtio(Source::file(disk))];
    machine.control = true;
    let mut running = machine.start().unwrap();
    let report = report(&mut running);
    assert_eq!(report["state"], "running", "{report:#}\n{}", running.console());
    turn_off(running);
    report
}

/// A node on a disk of 20 GB, which is no whole number of GiB: the first boot takes it to its end; the second, to
/// `running` like the first, changes nothing outside of /var; the node stays itself.
#[test]
fn a_node_takes_its_whole_disk_and_stays_as_it_is() {
    let folder = folder();
    let disk = installed("k3s1", folder.path(), 20_000_000_000);
    let image = partitions(&disk);
    let first = live(&disk);
    is_finished(&disk);
    let table = partitions(&disk);
    assert_eq!(table[..3], image[..], "the first boot has changed what the image brought");
    let state = part(&disk, "state");
    let outside = content(&disk, std::slice::from_ref(&state));

    let second = live(&disk);
    is_finished(&disk);
    assert_eq!(partitions(&disk), table);
    // That holds for the ESP, too: the first boot, once healthy, took the counter off the name of what it booted.
    assert_eq!(content(&disk, &[state]), outside, "the second boot has written outside of /var");
    assert_eq!((&first["host_keys"], &first["machine_id"]), (&second["host_keys"], &second["machine_id"]));
    assert!(first["host_keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{first:#}");
}

/// The steps of a later boot have nothing to make.
#[test]
fn a_later_boot_has_nothing_to_make() {
    let folder = folder();
    let disk = finished(folder.path(), 4 << 30);
    let state = part(&disk, "state");
    let (outside, tree) = (content(&disk, std::slice::from_ref(&state)), ext4::tree(&disk, &state));
    let later = boot(&[Disk::virtio(Source::file(&disk))]);
    for step in later.done() {
        let verb = step.split(' ').next().unwrap_or_default();
        assert!(!["partition", "format", "repair", "grow"].contains(&verb), "{step}: {}", later.console);
    }
    assert_eq!(content(&disk, std::slice::from_ref(&state)), outside);
    assert_eq!(ext4::tree(&disk, &state), tree, "a boot that made nothing has changed /var");
}

/// A disk that was made larger since, as a volume of a cloud is: /var grows with it and keeps its files.
#[test]
fn state_grows_with_its_disk() {
    let folder = folder();
    let disk = finished(folder.path(), 20 << 30);
    let before = part(&disk, "state");
    let mine = folder.path().join("mine");
    fs::write(&mine, vec![0xa5; 3_000_001]).unwrap();
    ext4::change(&disk, &before, &format!("write {} mine", mine.display()));
    let tree = ext4::tree(&disk, &before);
    assert!(tree.contains_key("/mine"), "{tree:#?}");

    let grown = boot(&[Disk::virtio(Source::file(&disk))]);
    assert!(grown.done().iter().any(|step| step.starts_with("grow ")), "{}", grown.console);
    assert!(!grown.done().iter().any(|step| step.starts_with("format ")), "{}", grown.console);
    is_finished(&disk);
    let after = part(&disk, "state");
    assert!(after.start == before.start && after.end - before.end > 15 << 30, "{before:?} {after:?}");
    let mut now = ext4::tree(&disk, &after);
    // The record tells of the last boot that changed the disk, and the room that is kept back is a part of /var.
    for path in ["/lib/kiln/first-boot.json", "/lib/kiln/reserve"].map(str::to_owned) {
        assert_ne!(now.get(&path), tree.get(&path), "{path}");
        now.insert(path.clone(), tree[&path].clone());
    }
    assert_eq!(now, tree);
}

#[test]
fn a_disk_that_is_too_small_is_refused_untouched() {
    let folder = folder();
    let bytes = (fs::metadata(site().image("k3s1")).unwrap().len() + (1 << 30)).next_multiple_of(1 << 20);
    let disk = installed("k3s1", folder.path(), bytes);
    let before = content(&disk, &[]);
    let screen = refused(&[Disk::virtio(Source::file(&disk))]);
    for words in ["the booted disk is too small: it has ", ", and this node needs ", "Nothing was written."] {
        assert!(screen.contains(words), "{words:?} is not in\n{screen}");
    }
    assert_eq!(content(&disk, &[]), before);
}

fn write(disk: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(disk).unwrap().write_all_at(bytes, at).unwrap();
}

/// The first table is gone, by somebody's `dd` perhaps: the boot goes by the second, and makes the first anew.
#[test]
fn a_lost_table_is_made_from_its_copy() {
    let folder = folder();
    let disk = finished(folder.path(), 4 << 30);
    let before = content(&disk, &[part(&disk, "state")]);
    let state = part(&disk, "state");
    // Header and entries; what stands before them is the MBR.
    write(&disk, 512, &[0; 33 * 512]);
    let repaired = boot(&[Disk::virtio(Source::file(&disk))]);
    assert!(repaired.found("partition vda").is_some(), "{}", repaired.console);
    is_finished(&disk);
    assert_eq!(content(&disk, &[state]), before);
}

/// The description of the first group of /var is not what its checksum says: the kernel mounts no such file system.
#[test]
fn a_damaged_state_is_repaired_with_its_files() {
    let folder = folder();
    let disk = finished(folder.path(), 4 << 30);
    let state = part(&disk, "state");
    let tree = ext4::tree(&disk, &state);
    // Count of folders and flags of the first descriptor, in the block behind the superblock's (kernel documentation,
    // ext4, "Block Group Descriptors").
    write(&disk, state.start + 4096 + 16, &[0xff; 4]);
    let repaired = boot(&[Disk::virtio(Source::file(&disk))]);
    assert!(repaired.done().iter().any(|step| step.starts_with("repair ")), "{}", repaired.console);
    assert!(!repaired.done().iter().any(|step| step.starts_with("format ")), "{}", repaired.console);
    is_finished(&disk);
    assert_eq!(ext4::tree(&disk, &state), tree);
}

/// Nothing is left of /var's own description: the boot stops with words, and takes nothing of what may still be saved.
#[test]
fn a_state_beyond_repair_is_left_as_it_is() {
    let folder = folder();
    let disk = finished(folder.path(), 4 << 30);
    let state = part(&disk, "state");
    // The superblock, and in every later group where a copy of it may be.
    for at in (state.start..state.end).step_by(GROUP) {
        write(&disk, at, &[0; 4096]);
    }
    let before = content(&disk, &[]);
    let screen = refused(&[Disk::virtio(Source::file(&disk))]);
    let words =
        ["the state partition /dev/vda5 can't be mounted", "e2fsck -f /dev/vda5", "keep a copy first"];
    for words in words {
        assert!(screen.contains(words), "{words:?} is not in\n{screen}");
    }
    assert_eq!(content(&disk, &[]), before);
}

/// `kiln.report` shows the plan, writes nothing, and lets Enter reboot.
#[test]
fn a_report_changes_nothing() {
    let folder = folder();
    let disk = installed("k3s1", folder.path(), 20 << 30);
    let blank = folder.path().join("blank.img");
    kiln_qemu::create_sparse(&blank, 1 << 30).unwrap();
    let before = [content(&disk, &[]), content(&blank, &[])];
    let disks = [&disk, &blank].map(|path| Disk::virtio(Source::file(path)));
    let screen =
        screen(&machine(&disks, "kiln.report"), "what this boot would do with the disks (kiln.report)");
    for words in ["root-b", "state", "Nothing was written."] {
        assert!(screen.contains(words), "{words:?} is not in\n{screen}");
    }
    assert_eq!([content(&disk, &[]), content(&blank, &[])], before);
}

/// The first boot on this bus leaves what it leaves on virtio. A card has 2ⁿ bytes in QEMU.
fn finishes_on(bus: Bus) {
    let folder = folder();
    let disk = installed("k3s1", folder.path(), 4 << 30);
    let disks = [Disk::new(Source::file(&disk), bus)];
    let first = boot(&disks);
    assert_eq!(first.failed(), [""; 0], "{}", first.console);
    is_finished(&disk);
}

#[test]
fn the_disk_is_finished_on_nvme() {
    finishes_on(Bus::Nvme);
}

#[test]
#[ignore = "half a minute each under translation: `--ignored` runs them"]
fn the_disk_is_finished_on_ahci() {
    finishes_on(Bus::Ahci);
}

#[test]
fn the_disk_is_finished_on_usb() {
    finishes_on(Bus::Usb);
}

#[test]
#[ignore = "half a minute each under translation: `--ignored` runs them"]
fn the_disk_is_finished_on_sd() {
    finishes_on(Bus::Sd);
}

#[test]
#[ignore = "half a minute each under translation: `--ignored` runs them"]
fn the_disk_is_finished_on_scsi() {
    finishes_on(Bus::Scsi);
}
