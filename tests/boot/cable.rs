//! Nodes on a cable, each with a side door for the test.

use crate::disks::copy_to;
use crate::nodes::{PORT, accelerator, patience, report};
use crate::seed;
use crate::ssh::{With, ask};
use kiln_qemu::{Card, Disk, Firmware, Forward, Link, Machine, Network, Running, Source, free_port};
use kiln_tests::{die, said};
use std::fs;
use std::path::{Path, PathBuf};

/// Size of the disks that machines boot from.
const DISK: u64 = 6 << 30;

/// An overlay in this folder that gives a second card an address: it leads to the test, and to no name
/// server.
pub(crate) fn side_door(overlay: &Path) {
    let networks = overlay.join("files/etc/systemd/network");
    fs::create_dir_all(&networks).unwrap();
    let Network { mac, .. } = Network::default();
    write(&overlay.join("overlay.yaml"), "packages: []\n");
    write(
        &networks.join("05-test.network"),
        &format!(
            "[Match]\nMACAddress={mac}\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\n[DHCPv4]\nUseDNS=no\nUseNTP=no\n"
        ),
    );
}

/// An unchanged file is left alone: `kiln build` then has nothing to do.
pub(crate) fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).unwrap();
    }
}

/// A machine with a disk that stays, on its end of the cable.
pub(crate) struct Node {
    pub(crate) machine: Machine,
    /// Its own disk.
    pub(crate) disk: PathBuf,
    ssh: u16,
    key: PathBuf,
}

impl Node {
    /// The node of that name, from what was built into `output`, with its disk in a folder.
    pub(crate) fn new((output, name): (&Path, &str), key: &Path, (folder, link): (&Path, Link)) -> Self {
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        let disk = copy_to(&output.join(name).join("disk.img"), &folder, DISK);
        let ssh = free_port().unwrap();
        let network =
            Network { forwards: vec![Forward { host: ssh, address: None, guest: 22 }], ..Network::default() };
        let firmware = Firmware::find().unwrap_or_else(|e| die(&e.to_string()));
        let machine = Machine {
            disks: vec![Disk::virtio(Source::file(&disk))],
            cards: vec![Card::Link(link), Card::User(network)],
            ports: vec![PORT.to_owned()],
            reboot: true,
            ..Machine::new(firmware, accelerator())
        };
        Self { machine, disk, ssh, key: key.to_owned() }
    }

    /// With one more disk.
    pub(crate) fn with(mut self, disk: Disk) -> Self {
        self.machine.disks.push(disk);
        self
    }

    /// Writes an image of a built node, in its folder of the output, over its disk.
    pub(crate) fn flash(&self, built: &Path) {
        copy_to(&built.join("disk.img"), self.disk.parent().unwrap(), DISK);
    }

    /// What a command says, if the node answers and the command succeeds.
    pub(crate) fn try_ask(&self, command: &str) -> Option<String> {
        let answer = ask(self.ssh, &With::Key(&self.key), command);
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    /// What a command says; it must succeed.
    pub(crate) fn ask(&self, command: &str) -> String {
        let answer = ask(self.ssh, &With::Key(&self.key), command);
        assert!(answer.status.success(), "{command}: {}", said(&answer));
        String::from_utf8(answer.stdout).unwrap()
    }
}

impl Node {
    /// Turns it off as its user would, and waits until it is. The order is given a moment after the answer to it, which
    /// would not come through any more.
    pub(crate) fn power_off(&self, running: &mut Running) {
        self.ask(
            "sudo systemd-run --quiet --on-active=2 --timer-property=AccuracySec=100ms systemctl poweroff",
        );
        let status = running.wait_until(patience());
        let status = status.unwrap_or_else(|e| die(&format!("{e}\n{}", running.console())));
        assert!(status.success(), "{status}");
    }
}

/// Waits on a node outside the cluster for the end of its setting up, and says how that went.
pub(crate) const SETTLED: &str = "for i in $(seq 150); do sudo test -s /var/lib/kiln/settle-report.json && break; sleep 2; done; \
     sudo journalctl -b -o cat -u kiln-settle.service; sudo test -s /var/lib/kiln/settle-report.json";

/// Waits until a node outside the cluster has taken the secrets off its seed, sees that each of these was in what was built and
/// is nowhere on the seed's partition any more, and gives what the node said of it.
pub(crate) fn settled(node: &Node, built: &Path, secrets: &[&str]) -> String {
    let found = node.ask(SETTLED);
    let (before, after) = (seed::bytes(&built.join("disk.img")), seed::bytes(&node.disk));
    assert!(seed::holds(&after, "local-hostname"), "is this the seed?");
    for (number, secret) in secrets.iter().enumerate() {
        assert!(seed::holds(&before, secret), "secret {number} was never in the seed");
        assert!(!seed::holds(&after, secret), "the seed still has secret {number}: {found}");
    }
    found
}

/// Waits for words on a node's console.
pub(crate) fn expect(running: &mut Running, words: &str) -> String {
    let seen = running.expect(words, patience());
    seen.unwrap_or_else(|e| die(&format!("{e}\n{}", running.console())))
}

/// Waits for a node to report that all is well.
pub(crate) fn healthy(running: &mut Running) {
    let report = report(running);
    assert_eq!(report["state"], "running", "{report:#}\n{}", running.console());
}
