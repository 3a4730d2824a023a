//! How long the first boot's helper takes, from `/init` to the hand-over to systemd, beside the kernel's own time
//! before it: of a node's first boot with three blank disks of 500 GB, which its rules take, and of its next one on the same
//! disks.
//!
//! `cargo run --release -p kiln-tests --example first_boot_time -- dist/NODE`; two lines come out, each
//! `first|later KERNEL HELPER` in seconds. The image stays as it is.

use kiln_qemu::{Disk, Firmware, Machine, Running, Source, Wanted};
use kiln_tests::{die, shared};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the port that the node reports on.
const PORT: &str = "org.kiln.report";
/// Bytes of the disk that the image is on.
const SYSTEM: u64 = 16 << 30;
/// Bytes of each blank disk, and how many there are.
const DATA: (u64, usize) = (500_000_000_000, 3);
/// Under translation, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a node may take to turn itself off.
const POWER_OFF: Duration = Duration::from_secs(120);

fn main() {
    let Some(node) = std::env::args_os().nth(1).map(PathBuf::from) else {
        die("name the folder of a built node, such as dist/k3s1");
    };
    let folder = tempfile::tempdir().unwrap_or_else(|e| die(&e.to_string()));
    let machine = machine(&node.join("disk.img"), folder.path());
    for boot in ["first", "later"] {
        let mut running = machine.start().unwrap_or_else(|e| die(&e.to_string()));
        let report = report(&mut running);
        let time = |name: &str| report["record"][name].as_f64();
        let taken = report["record"]["default_disks_config"].as_str().unwrap_or_default();
        let taken = taken.matches("/mnt/longhorn/").count();
        if taken != DATA.1 {
            die(&format!("the node has taken {taken} of {} disks: {report:#}", DATA.1));
        }
        match (time("began"), time("ended")) {
            (Some(began), Some(ended)) => println!("{boot} {began:.2} {:.2}", ended - began),
            _ => die(&format!("the node's report has no record: {report:#}")),
        }
        // As a node is turned off: the next boot must not find journals to replay.
        running.execute("system_powerdown", &json!({})).unwrap_or_else(|e| die(&e.to_string()));
        if running.wait_until(Instant::now() + POWER_OFF).is_err() {
            die("the node does not turn itself off");
        }
    }
}

/// The node's image on a disk of its own, with blank disks beside it; all of them stay from boot to boot.
fn machine(image: &Path, folder: &Path) -> Machine {
    let system = folder.join("system");
    fs::copy(image, &system).unwrap_or_else(|e| die(&format!("{}: {e}", image.display())));
    let mut disks = vec![disk(&system, SYSTEM, "system")];
    for number in 1..=DATA.1 {
        disks.push(disk(&folder.join(format!("data{number}")), DATA.0, &format!("kiln-disk-{number}")));
    }
    let accelerator = kiln_qemu::probe(&shared().join("accelerator")).unwrap_or_else(|e| die(&e.to_string()));
    let firmware = Firmware::find().unwrap_or_else(|e| die(&e.to_string()));
    Machine { disks, ports: vec![PORT.to_owned()], control: true, ..Machine::new(firmware, accelerator) }
}

fn disk(path: &Path, bytes: u64, serial: &str) -> Disk {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    file.and_then(|file| file.set_len(bytes)).unwrap_or_else(|e| die(&format!("{}: {e}", path.display())));
    Disk { serial: Some(serial.to_owned()), ..Disk::virtio(Source::file(path)) }
}

fn report(running: &mut Running) -> Value {
    let wanted = [Wanted::Port(PORT), Wanted::Console("this machine can't start")];
    let seen = running.wait_for(&wanted, Instant::now() + PATIENCE).unwrap_or_else(|e| die(&e.to_string()));
    if seen.which > 0 {
        let _ = running.expect("Press Enter to reboot", Instant::now() + Duration::from_secs(5));
        die(&format!("the node did not come up:\n{}", running.console()));
    }
    serde_json::from_str(&seen.line).unwrap_or_else(|e| die(&format!("{e}: {}", seen.line)))
}
