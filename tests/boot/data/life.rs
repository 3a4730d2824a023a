//! Longhorn's disks through a node's life: made once, kept from then on, missed without harm.

use super::{COUNTDOWN, SYSTEM, blanks, boot, is_ready, kernel, partition, site, slot, wrote_nothing};
use crate::disks::{content, copy_to, folder, partitions};
use crate::early::BUSY;
use crate::ext4;
use crate::nodes::{PORT, machine, report};
use crate::ssh::{With, ask};
use kiln_qemu::{Disk, Machine, Running, Source, free_port};
use kiln_tests::{kiln, said, shared, succeed, tool};
use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["sdf-1", "sdf-2", "sdf-3"];

/// The node `sdf` with a system, on its network.
struct Node {
    running: Running,
    ssh: u16,
}

impl Node {
    fn start(disks: Vec<Disk>) -> Self {
        let ssh = free_port().unwrap();
        let image = site().image("sdf");
        let mut kernel = kernel(&site(), "sdf");
        kernel.command_line = format!("{} {BUSY}", kernel.command_line);
        let machine = Machine {
            kernel: Some(kernel),
            disks,
            control: true,
            ports: vec![PORT.to_owned()],
            ..machine(&image, Ipv4Addr::new(192, 168, 86, 71), ssh)
        };
        Self { running: machine.start().unwrap(), ssh }
    }

    /// What the node says to a command that goes well.
    fn answer(&self, command: &str) -> String {
        let output = ask(self.ssh, &With::Key(&site().key), command);
        assert!(output.status.success(), "{command}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, command: &str) -> Value {
        let text = self.answer(command);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{command}: {e}: {text}"))
    }

    /// Presses the power button, and waits for the machine's end.
    fn turn_off(mut self) {
        self.running.execute("system_powerdown", &json!({})).unwrap();
        let status = self.running.wait_until(Instant::now() + Duration::from_secs(300));
        assert!(status.is_ok_and(|status| status.success()), "{}", self.running.console());
    }

    /// The disks are mounted by the GUIDs of their partitions.
    fn has_mounted(&self, names: &[&str]) {
        for name in names {
            let facts = self.answer(&format!("findmnt -rno PARTUUID,FSTYPE,OPTIONS /mnt/longhorn/{name}"));
            let fields: Vec<&str> = facts.split_whitespace().collect();
            let [guid, kind, options] = fields[..] else { panic!("{facts}") };
            assert_eq!(slot("sdf", name).1["partition"], guid);
            assert_eq!(kind, "ext4");
            for option in ["rw", "nosuid", "nodev", "noatime"] {
                assert!(options.split(',').any(|word| word == option), "no {option} in {options}");
            }
        }
    }
}

fn disk(path: &Path) -> Disk {
    let serial = path.file_stem().unwrap().to_string_lossy().to_uppercase();
    Disk { serial: Some(serial), ..Disk::virtio(Source::file(path)) }
}

/// Three disks that `sdf` has made ready in a first boot: made once a run, for tests to copy.
fn ready(folder: &Path) -> Vec<PathBuf> {
    static READY: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let made = READY.get_or_init(|| {
        let place = shared().join("boot-data-ready");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        let (paths, disks) = blanks(&place, 3);
        let first = boot("sdf", &disks);
        assert_eq!(first.failed(), [""; 0], "{}", first.console);
        for (path, name) in paths.iter().zip(NAMES) {
            is_ready(path, "sdf", name);
        }
        paths
    });
    let copy = |path: &PathBuf| {
        let copy = folder.join(path.file_name().unwrap());
        succeed(tool("cp", "coreutils").arg("--sparse=always").arg(path).arg(&copy));
        copy
    };
    made.iter().map(copy).collect()
}

/// `kiln-firstboot probe` on the node and `kiln plan` with what it prints come to the decision that the boot came to.
fn probes_as_booted(node: &Node, (record, plan): (&Path, &Value)) {
    let probed = node.answer("sudo -n /usr/lib/kiln/kiln-firstboot probe");
    fs::write(record, &probed).unwrap();
    let mut kiln = kiln();
    kiln.args(["plan", "--json", "--disks"]).arg(record).arg("-f");
    kiln.arg(site().output.with_file_name("cluster.yaml")).arg("sdf");
    let told: Value = serde_json::from_str(&succeed(&mut kiln)).unwrap();
    assert_eq!(told["nodes"][0]["refused"], false, "{told:#}");
    assert_eq!(&told["nodes"][0]["plan"], plan, "{probed}");
    let probed: Value = serde_json::from_str(&probed).unwrap();
    let disks = probed["disks"].as_array().unwrap();
    let booted: Vec<_> =
        disks.iter().filter(|disk| disk["booted"] == true).map(|disk| &disk["name"]).collect();
    assert_eq!(booted, ["vda"], "{probed:#}");
}

/// From blank disks to a node that writes on them, and to the same node after its reboot.
#[test]
fn three_disks_appear_and_stay() {
    let _images = site();
    let folder = folder();
    let system = copy_to(&site().image("sdf"), folder.path(), SYSTEM);
    let (paths, blank) = blanks(folder.path(), 3);
    let disks = [&[Disk::virtio(Source::file(&system))], &blank[..]].concat();

    let mut node = Node::start(disks.clone());
    let first = report(&mut node.running);
    assert_eq!(first["state"], "running", "{first:#}\n{}", node.running.console());
    assert!(!node.running.console().contains(COUNTDOWN), "{}", node.running.console());
    node.has_mounted(&NAMES);
    for name in NAMES {
        node.answer(&format!("echo {name} | sudo -n tee /mnt/longhorn/{name}/replicas/mine && sync"));
    }
    let record = node.json("sudo -n cat /var/lib/kiln/first-boot.json");
    assert_eq!(record, first["record"]);
    assert_eq!(record["problems"], json!([]));
    let steps = record["steps"].as_array().unwrap();
    let mut beginnings = Vec::new();
    for (name, kernel) in NAMES.iter().zip(["vdb", "vdc", "vdd"]) {
        for (step, subject) in [("partition", kernel), ("format", name)] {
            let step = steps.iter().find(|event| event["step"] == step && event["subject"] == subject);
            let step = step.unwrap_or_else(|| panic!("no {subject} in {record:#}"));
            assert!(step["state"] == "done" && step["seconds"].is_number(), "{step}");
        }
        let uuid = slot("sdf", name).1["longhorn"].as_str().unwrap().to_owned();
        beginnings.push(uuid[..4].to_owned());
    }
    beginnings.sort();
    beginnings.dedup();
    assert_eq!(beginnings.len(), 3, "{beginnings:?}");
    let told: Value = serde_json::from_str(record["default_disks_config"].as_str().unwrap()).unwrap();
    let wanted: Vec<Value> = NAMES
        .iter()
        .map(|name| {
            json!({
                "name": name, "path": format!("/mnt/longhorn/{name}"), "allowScheduling": true,
                "storageReserved": 1 << 30, "tags": ["ssd", "fast"],
            })
        })
        .collect();
    assert_eq!(told, Value::Array(wanted));
    node.turn_off();

    for (path, name) in paths.iter().zip(NAMES) {
        is_ready(path, "sdf", name);
    }
    let outside = |path: &PathBuf| content(path, &[partition(path)]);
    let before: Vec<String> = paths.iter().map(outside).collect();
    let table = partitions(&system);

    let mut node = Node::start(disks);
    let later = report(&mut node.running);
    assert_eq!(later["state"], "running", "{later:#}\n{}", node.running.console());
    node.has_mounted(&NAMES);
    for name in NAMES {
        let mine = node.answer(&format!("cat /mnt/longhorn/{name}/replicas/mine"));
        assert_eq!(mine.trim_end(), name);
    }
    // The record is still that of the boot that made them.
    assert_eq!(node.json("sudo -n cat /var/lib/kiln/first-boot.json"), record);
    assert_eq!(later["record"]["default_disks_config"], record["default_disks_config"]);
    probes_as_booted(&node, (&folder.path().join("record.json"), &later["record"]["plan"]));
    node.turn_off();
    assert_eq!(
        paths.iter().map(outside).collect::<Vec<_>>(),
        before,
        "the second boot wrote outside of them"
    );
    assert_eq!(partitions(&system), table);
    for (path, name) in paths.iter().zip(NAMES) {
        is_ready(path, "sdf", name);
    }
}

/// A fresh image on the node's own disk finds the data of the old one.
#[test]
fn a_new_image_keeps_what_is_on_the_disks() {
    let _images = site();
    let folder = folder();
    let paths = ready(folder.path());
    let mine = folder.path().join("mine");
    fs::write(&mine, vec![0xa5; 1_000_003]).unwrap();
    for path in &paths {
        ext4::change(path, &partition(path), &format!("write {} replicas/mine", mine.display()));
    }
    let before: Vec<_> = paths.iter().map(|path| content(path, &[])).collect();
    let disks: Vec<Disk> = paths.iter().map(|path| disk(path)).collect();
    // In another order than they were made ready in.
    let again = boot("sdf", &[disks[2].clone(), disks[0].clone(), disks[1].clone()]);
    assert_eq!(again.failed(), [""; 0], "{}", again.console);
    assert!(again.done().contains(&"format state".to_owned()), "the image was not a fresh one");
    wrote_nothing(&again);
    assert!(!again.console.contains(COUNTDOWN), "{}", again.console);
    let after: Vec<_> = paths.iter().map(|path| content(path, &[])).collect();
    assert_eq!(after, before, "{}", again.console);
}

/// One of three is not there: the node comes up, is degraded and says why; nothing can be written in the disk's place.
#[test]
fn a_missing_disk_leaves_a_place_that_takes_nothing() {
    let _images = site();
    let folder = folder();
    let paths = ready(folder.path());
    let system = Disk::virtio(Source::Larger { path: site().image("sdf"), bytes: SYSTEM });
    let mut node = Node::start(vec![system, disk(&paths[0]), disk(&paths[2])]);
    let report = report(&mut node.running);
    assert_eq!(report["state"], "degraded", "{report:#}\n{}", node.running.console());
    assert_eq!(report["failed_units"], json!(["kiln-disks.service"]), "{report:#}");
    let reasons = report["reasons"].to_string();
    for words in ["kiln-disks.service: ", "Rule sdf: no disk for sdf-2."] {
        assert!(reasons.contains(words), "{words:?} is not in {reasons}");
    }
    node.has_mounted(&["sdf-1", "sdf-3"]);
    let place = "/mnt/longhorn/sdf-2";
    assert_eq!(node.answer(&format!("stat -c %F {place}; ls -A {place}")), "directory\n");
    let attributes = node.answer(&format!("lsattr -d {place}"));
    let (attributes, _) = attributes.split_once(' ').unwrap();
    assert!(attributes.contains('i'), "{attributes}");
    let touched = ask(node.ssh, &With::Key(&site().key), &format!("sudo -n touch {place}/x"));
    assert!(!touched.status.success() && said(&touched).contains("not permitted"), "{}", said(&touched));
    let told = report["record"]["default_disks_config"].as_str().unwrap();
    assert!(told.contains("sdf-1") && !told.contains("sdf-2") && told.contains("sdf-3"), "{told}");
}
