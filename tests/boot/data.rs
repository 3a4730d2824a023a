//! Data disks: the first boot takes those that the cluster file asks for, makes them ready, and keeps them from then on.
//! One cluster for all of it: its nodes share a root, and differ in what their disks are for.

mod erase;
mod faults;
mod guards;
mod life;

use crate::direct::kernel_of;
use crate::disks::{data, partitions, signature};
use crate::early::{Boot, run, until_system_with};
use crate::ext4;
use crate::nodes::{Shared, Site, built};
use crate::own::table_is_sound;
use crate::seed::handoff;
use kiln_qemu::{Bus, Disk, Kernel, Source};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Kiln's own type of a data disk's one partition, from its documented numbers.
const DATA: &str = "2f1a5b0c-7d3e-5f60-9a41-6b696c6e0002";
/// Size of a node's own disk (bytes).
const SYSTEM: u64 = 4 << 30;
/// Size of a data disk (bytes).
const BYTES: u64 = 2 << 30;
/// The serial number that may be emptied.
const OLD: &str = "KILN-OLD-1";
/// The serial number of the stick that is named.
const STICK: &str = "KILN-STICK-1";
/// What is said while a countdown goes on.
const COUNTDOWN: &str = "any key stops it";

/// `sdf` wants three disks for Longhorn; `buses` one by each way to a disk; `sized` whatever has the size; `named` one stick
/// by its serial number; `old` one disk, which may be emptied.
const NODES: &str = "nodes:
  - name: sdf
    role: server
    network: { address: 192.168.86.71/24, gateway: 192.168.86.1 }
    disks:
      data:
        - name: sdf
          match: { transport: virtio, max_size: 600GB }
          count: 3
          use: longhorn
          mount_options: [noatime]
          tags: [ssd, fast]
          reserved: 1GiB
  - name: buses
    role: agent
    network: { address: 192.168.86.72/24, gateway: 192.168.86.1 }
    disks:
      data:
        - { name: fast, match: { transport: nvme }, use: longhorn }
        - { name: archive, match: { transport: sata }, use: mount, filesystem: xfs, mount_point: /srv/archive }
        - { name: stick, match: { transport: usb }, use: mount, mount_point: /srv/stick }
        - { name: cloud, match: { transport: scsi }, use: longhorn }
        - { name: ceph, match: { transport: virtio }, use: raw }
  - name: sized
    role: agent
    network: { address: 192.168.86.73/24, gateway: 192.168.86.1 }
    disks:
      data:
        - { name: store, match: { min_size: 1GiB, max_size: 600GB }, use: longhorn }
  - name: named
    role: agent
    network: { address: 192.168.86.74/24, gateway: 192.168.86.1 }
    disks:
      data:
        - { name: stick, match: { serial: KILN-STICK-1 }, use: mount, filesystem: xfs, mount_point: /srv/stick }
  - name: old
    role: agent
    network: { address: 192.168.86.75/24, gateway: 192.168.86.1 }
    disks:
      data:
        - { name: old, match: { transport: virtio }, use: mount, mount_point: /srv/old }
      erase: [KILN-OLD-1]
";

/// The same node as the first of the others, in a cluster that is another one.
const OTHER: &str = "nodes:
  - name: sdf
    role: server
    network: { address: 192.168.86.71/24, gateway: 192.168.86.1 }
    disks:
      data:
        - { name: sdf, match: { transport: virtio }, use: longhorn }
";

/// The example under another name and with other nodes.
fn cluster(example: &str, name: &str, nodes: &str) -> String {
    let (head, _) = example.split_once("nodes:\n").unwrap();
    let renamed = head.replace("  name: example\n", &format!("  name: {name}\n"));
    assert_ne!(renamed, head, "the example is no longer called so:\n{head}");
    renamed + nodes
}

/// The images of these tests. A test holds them from its start to its end; what it calls takes them from here, too.
fn site() -> Arc<Site> {
    static SITE: Shared<Site> = Shared::new();
    SITE.hold(|| built("boot-data", &[], |example| cluster(&example, "data", NODES)))
}

fn other() -> Site {
    built("boot-data-other", &[], |example| cluster(&example, "other", OTHER))
}

/// What starts a node, taken out of its image once a run: nodes that format disks in other ways have other roots.
fn kernel(site: &Site, node: &str) -> Kernel {
    static KERNELS: Mutex<BTreeMap<PathBuf, Kernel>> = Mutex::new(BTreeMap::new());
    let image = site.image(node);
    let mut kernels = KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
    let kernel = kernels.entry(image.clone()).or_insert_with(|| {
        let folder = site.output.with_file_name("kernels").join(node);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        kernel_of(site, node, &folder)
    });
    kernel.clone()
}

/// A node's own disk, fresh: what is written to it is gone with the machine.
fn fresh(site: &Site, node: &str) -> Disk {
    Disk::virtio(Source::Larger { path: site.image(node), bytes: SYSTEM })
}

/// The first boot of a node with these disks beside its own.
fn boot(node: &str, disks: &[Disk]) -> Boot {
    boot_with(node, disks, "")
}

/// The same with more words on the kernel's command line.
fn boot_with(node: &str, disks: &[Disk], words: &str) -> Boot {
    let disks = [&[fresh(&site(), node)], disks].concat();
    run(&until_system_with(&kernel(&site(), node), &disks, words))
}

/// Blank virtio disks of [`BYTES`].
fn blanks(folder: &Path, count: usize) -> (Vec<PathBuf>, Vec<Disk>) {
    (1..=count)
        .map(|number| data(folder, &format!("blank-{number}.img"), BYTES, Bus::Virtio))
        .map(|(path, disk)| (path, Disk { serial: Some(serial_of(&disk)), ..disk }))
        .unzip()
}

/// A serial number from the name of a disk's file.
fn serial_of(disk: &Disk) -> String {
    let Source::File { path, .. } = &disk.source else { panic!("{disk:?} does not stay") };
    path.file_stem().unwrap().to_string_lossy().to_uppercase()
}

/// What the seed says of a slot: its rule and itself.
fn slot(node: &str, name: &str) -> (Value, Value) {
    let told = handoff(&site().image(node));
    for rule in told["disks"]["data"].as_array().unwrap() {
        let slots = rule["slots"].as_array().unwrap();
        if let Some(slot) = slots.iter().find(|slot| slot["name"] == name) {
            return (rule.clone(), slot.clone());
        }
    }
    panic!("{node} has no {name}: {told:#}")
}

/// The one partition of a data disk.
fn partition(path: &Path) -> Range<u64> {
    let found = partitions(path);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].bytes.clone()
}

/// A disk is what the node's slot of this name must be, by the tools that everybody has.
fn is_ready(path: &Path, node: &str, name: &str) {
    let (rule, slot) = slot(node, name);
    table_is_sound(path);
    let found = partitions(path);
    let [only] = &found[..] else { panic!("{name}: {found:?}") };
    assert_eq!((&only.name[..], &only.type_guid[..]), (&format!("kiln-{name}")[..], DATA));
    assert_eq!(slot["partition"], only.guid[..]);
    let end = fs::metadata(path).unwrap().len();
    assert!(only.bytes.start == 1 << 20 && end - only.bytes.end < 2 << 20, "{only:?} of {end}");
    let signature = signature(path, Some(only.bytes.clone()));
    let kind = rule["filesystem"].as_str().unwrap();
    assert_eq!((&signature["TYPE"][..], &signature["LABEL"][..]), (kind, name), "{signature:?}");
    assert_eq!(slot["filesystem"], signature["UUID"][..]);
    if kind == "ext4" {
        ext4::is_clean(path, &only.bytes);
        let facts = ext4::facts(path, &only.bytes);
        assert_eq!(facts["Reserved block count"], "0");
    }
    if rule["use"] == "longhorn" {
        let config = ext4::text(path, &only.bytes, "/longhorn-disk.cfg");
        let config: Value = serde_json::from_str(&config).unwrap_or_else(|e| panic!("{e}: {config}"));
        let text = |key: &str| config[key].as_str().unwrap_or_else(|| panic!("no {key} in {config}"));
        assert_eq!(slot["longhorn"], text("diskUUID"));
        assert_eq!((text("diskName"), text("diskDriver"), text("state")), (name, "", "ready"));
        assert!(ext4::tree(path, &only.bytes)["/replicas"].starts_with("04"));
    }
}

/// A boot took nothing and said why: one problem, which holds all of these words.
fn says(boot: &Boot, words: &[&str]) {
    let problems = boot.failed().join("\n");
    // A table on a console breaks lines where words end.
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let console = flat(&boot.console);
    for words in words {
        assert!(problems.contains(words), "{words:?} is not in\n{problems}\n\n{}", boot.console);
        assert!(console.contains(&flat(words)), "the console does not say {words:?}:\n{}", boot.console);
    }
}

/// Nothing was written but to the node's own disk.
fn wrote_nothing(boot: &Boot) {
    let own = ["format state", "partition vda"];
    let writes = ["partition", "format", "erase", "repair"];
    let written: Vec<String> = boot.done();
    let written = written.iter().filter(|step| !own.contains(&&step[..]));
    let written: Vec<_> =
        written.filter(|step| writes.contains(&step.split(' ').next().unwrap_or_default())).collect();
    assert!(written.is_empty(), "{written:?}\n{}", boot.console);
}
