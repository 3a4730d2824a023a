//! How long a lone server takes to be a cluster, on a network without a time server and with k3s' images in its own image: from
//! the kernel's start to the node being Ready at its first boot, and to k3s being started at its next one.
//!
//! `cargo run --release -p kiln-tests --example join_time -- dist/NODE`; two lines come out, `first SECONDS` and
//! `second SECONDS`, by the node's own clock since the kernel's start. The image stays as it is.

use kiln_qemu::{Card, Disk, Firmware, Machine, Network, Running, Source, Wanted};
use kiln_tests::{die, shared};
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of the disk that the image is on.
const SYSTEM: u64 = 8 << 30;
/// Under translation, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// How long a node may take to turn itself off.
const POWER_OFF: Duration = Duration::from_secs(180);
/// What is waited for in each boot.
const BOOTS: [(&str, &str, &str); 2] = [
    ("first", "join: ready: node ", " has joined cluster "),
    ("second", "join: start: k3s.service is started", "join: start: k3s.service is started"),
];

fn main() {
    let Some(node) = std::env::args_os().nth(1).map(PathBuf::from) else {
        die("name the folder of a built server, such as dist/s1");
    };
    let folder = tempfile::tempdir().unwrap_or_else(|e| die(&e.to_string()));
    let machine = machine(&node.join("disk.img"), folder.path());
    for (boot, words, last) in BOOTS {
        let mut running = machine.start().unwrap_or_else(|e| die(&e.to_string()));
        println!("{boot} {:.2}", when(&mut running, words));
        if last != words {
            when(&mut running, last);
        }
        // As a node is turned off: the next boot must not find journals to replay.
        running.execute("system_powerdown", &json!({})).unwrap_or_else(|e| die(&e.to_string()));
        if running.wait_until(Instant::now() + POWER_OFF).is_err() {
            die("the node does not turn itself off");
        }
    }
}

/// The node's image on a disk of its own that stays from boot to boot, on a network that leads nowhere.
fn machine(image: &Path, folder: &Path) -> Machine {
    let system = folder.join("system");
    let grown =
        fs::copy(image, &system).and_then(|_| File::options().write(true).open(&system)?.set_len(SYSTEM));
    grown.unwrap_or_else(|e| die(&format!("{}: {e}", image.display())));
    let accelerator = kiln_qemu::probe(&shared().join("accelerator")).unwrap_or_else(|e| die(&e.to_string()));
    let firmware = Firmware::find().unwrap_or_else(|e| die(&e.to_string()));
    Machine {
        disks: vec![Disk::virtio(Source::file(&system))],
        cards: vec![Card::User(Network { restricted: true, ..Network::default() })],
        control: true,
        ..Machine::new(firmware, accelerator)
    }
}

/// Waits for words on the console, and gives the seconds that stand ahead of them: `kiln:  136.82 join: …`.
fn when(running: &mut Running, words: &str) -> f64 {
    let wanted = [Wanted::Console(words), Wanted::Console("this machine can't start")];
    let seen = running
        .wait_for(&wanted, Instant::now() + PATIENCE)
        .unwrap_or_else(|e| die(&format!("{e}\n{}", running.console())));
    if seen.which > 0 {
        die(&format!("the node did not come up:\n{}", running.console()));
    }
    let ahead = seen.line.split("kiln:").nth(1).and_then(|rest| rest.split_whitespace().next());
    let seconds = ahead.and_then(|word| word.parse().ok());
    seconds.unwrap_or_else(|| die(&format!("no seconds in {:?}", seen.line)))
}
