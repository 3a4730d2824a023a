//! Whose node a machine is: that of the disk that was booted, whatever else is in it or comes to it. And a first boot that was
//! cut begins anew.

use crate::disks::{content, copy_to, folder, installed};
use crate::early;
use crate::nodes::{DISK, PORT, Site, machine, patience, report, site};
use crate::own::part;
use crate::seed;
use crate::ssh::{With, ask};
use kiln_qemu::{Bus, Disk, Running, Source, Wanted, free_port};
use kiln_tests::{kiln, said, succeed};
use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The node of these tests, and one whose seeds are in the machine, too.
const OWN: (&str, &str) = ("k3s1", "192.168.86.71");
const OTHER: &str = "k3s2";
/// cloud-init's second stage is over: its files are written, none of them on the disk for certain.
const WRITTEN: &str = "cloud-init-network.service";

/// What else is in the machine: an old system disk, a stick and a disc of another node, each with its seed, and a stick with
/// a seed of this node's own that somebody changed.
struct Others {
    old: PathBuf,
    stick: PathBuf,
    disc: PathBuf,
    own: PathBuf,
}

impl Others {
    fn new(site: &Site, folder: &Path) -> Self {
        let top = site.output.parent().unwrap();
        succeed(kiln().args(["seed", "-f", "cluster.yaml", "-o", "seeds"]).current_dir(top));
        let of = |node: &str, name: &str| top.join("seeds").join(node).join("seed").join(name);
        let copy = |from: PathBuf, name: &str| {
            let to = folder.join(name);
            fs::copy(from, &to).unwrap();
            to
        };
        let old = folder.join("old");
        fs::create_dir(&old).unwrap();
        let bytes = fs::metadata(site.image(OTHER)).unwrap().len();
        let own = copy(of(OWN.0, "cidata.img"), "own-stick.img");
        seed::change(&own, "user-data", "#cloud-config\nhostname: thief\n");
        Self {
            old: copy_to(&site.image(OTHER), &old, bytes),
            stick: copy(of(OTHER, "cidata.img"), "stick.img"),
            disc: of(OTHER, "cidata.iso"),
            own,
        }
    }

    /// Names of devices that NoCloud would prefer: it takes the last of all.
    fn disks(&self) -> Vec<Disk> {
        vec![
            Disk::virtio(Source::file(&self.old)),
            Disk::new(Source::file(&self.stick), Bus::Usb),
            Disk::new(Source::file(&self.own), Bus::Usb),
            Disk::new(Source::file(&self.disc), Bus::Disc),
        ]
    }

    fn contents(&self) -> Vec<String> {
        [&self.old, &self.stick, &self.own].map(|path| content(path, &[])).to_vec()
    }
}

/// Boots to a report, which must be a healthy one of the node; the way in.
fn healthy(running: &mut Running) -> Value {
    let report = report(running);
    assert_eq!(report["state"], "running", "{report:#}\n{}", running.console());
    assert_eq!(report["failed_units"], json!([]), "{report:#}");
    assert_eq!(report["node"], OWN.0);
    let addresses = report["addresses"].to_string();
    assert!(addresses.contains(&format!(" {}/24", OWN.1)), "{addresses}");
    report
}

fn answer(port: u16, command: &str) -> String {
    let answer = ask(port, &With::Key(&site().key), command);
    assert!(answer.status.success(), "{command}: {}", said(&answer));
    String::from_utf8(answer.stdout).unwrap()
}

/// What is so on every boot of the node, whatever its first one went through.
fn is_itself(port: u16) {
    let asked = "hostname; sudo cat /var/lib/cloud/data/instance-id; cloud-init query subplatform; \
        grep -c ^ops: /etc/passwd; stat -c %s ~/.bashrc | sed 's/^[1-9].*/filled/'; \
        sudo sh -c 'cat /var/lib/kiln/seeded; grep -l thief -r /etc/hostname /etc/hosts || echo honest; \
          find /etc -xdev \\( -name \"*.network\" -o -name initiatorname.iscsi \\) -size 0; \
          stat -c \"%a %U\" /run/kiln/seed /run/kiln/seed/user-data; grep -c \"Using data from /dev\" /var/log/cloud-init.log'; true";
    let said = answer(port, asked);
    let lines: Vec<&str> = said.lines().collect();
    let [name, instance, platform, users, home, mark, honest, folder, file, volumes] = lines[..] else {
        panic!("{said}")
    };
    assert_eq!((name, users, home, mark, honest), (OWN.0, "1", "filled", "1", "honest"), "{said}");
    assert!(instance.starts_with("kiln-"), "{said}");
    assert!(platform.contains("file:///run/kiln/seed/"), "{said}");
    assert_eq!((folder, file, volumes), ("700 root", "600 root", "0"), "{said}");
}

/// Power goes as soon as cloud-init has marked its files as written, with four other seeds in the machine. The second boot does
/// all of it again, as the node whose disk was booted; a seed that comes while it runs changes nothing, nor does the third.
#[test]
fn a_cut_first_boot_among_other_seeds_is_its_own_node_in_the_end() {
    let (site, folder) = (site(), folder());
    let disk = installed(OWN.0, folder.path(), DISK);
    let others = Others::new(site, folder.path());
    let untouched = others.contents();
    let port = free_port().unwrap();
    let mut machine = machine(&disk, OWN.1.parse::<Ipv4Addr>().unwrap(), port);
    machine.disks = vec![Disk::virtio(Source::file(&disk))];
    machine.disks.extend(others.disks());
    machine.control = true;

    let mut running = machine.start().unwrap();
    loop {
        let wanted = [Wanted::Console(WRITTEN), Wanted::Port(PORT), Wanted::Console("Kernel panic")];
        let seen = running.wait_for(&wanted, patience()).unwrap();
        assert_eq!(seen.which, 0, "{}", running.console());
        if seen.line.contains("Finished") {
            break;
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    running.kill().unwrap();

    let mut running = machine.start().unwrap();
    let second = healthy(&mut running);
    assert!(running.console().contains("the first boot was cut short"), "{}", running.console());
    is_itself(port);
    // A stick that comes now.
    let late = folder.path().join("late.img");
    fs::copy(&others.stick, &late).unwrap();
    let node = json!({"driver": "raw", "node-name": "late", "file": {"driver": "file", "filename": late}});
    running.execute("blockdev-add", &node).unwrap();
    let stick =
        json!({"driver": "usb-storage", "id": "late", "drive": "late", "bus": "usb2.0", "removable": true});
    running.execute("device_add", &stick).unwrap();
    let waiting = "for i in $(seq 60); do [ $(lsblk -rno LABEL | grep -c CIDATA) -ge 6 ] && break; sleep 1; done; \
        lsblk -rno LABEL | grep -c CIDATA; hostname; systemctl is-system-running";
    assert_eq!(answer(port, waiting), "6\nk3s1\nrunning\n");
    // And a copy of the node's own disk, which is told: the next boot could not tell the two apart.
    let file = json!({"driver": "file", "filename": site.image(OWN.0), "read-only": true});
    let node = json!({"driver": "raw", "node-name": "twin", "read-only": true, "file": file});
    running.execute("blockdev-add", &node).unwrap();
    running
        .execute(
            "device_add",
            &json!({"driver": "usb-storage", "id": "twin", "drive": "twin", "bus": "usb3.0"}),
        )
        .unwrap();
    answer(
        port,
        "for i in $(seq 60); do [ $(lsblk -rno PARTLABEL | grep -c root-a) -ge 3 ] && break; sleep 1; done",
    );
    answer(port, "sudo systemctl restart kiln-report.service");
    let told = report(&mut running);
    assert_eq!(
        (&told["state"], &told["failed_units"]),
        (&json!("degraded"), &json!(["kiln-report.service"]))
    );
    assert!(
        told["reasons"].to_string().contains("(root-a) is a copy of what is on the booted disk vda"),
        "{told:#}"
    );
    running.execute("system_powerdown", &json!({})).unwrap();
    let status = running.wait_until(Instant::now() + Duration::from_secs(120));
    assert!(status.is_ok_and(|status| status.success()), "{}", running.console());

    machine.disks.push(Disk::new(Source::file(&late), Bus::Usb));
    let mut running = machine.start().unwrap();
    let third = healthy(&mut running);
    assert!(!running.console().contains("the first boot was cut short"), "{}", running.console());
    assert_eq!((&second["host_keys"], &second["machine_id"]), (&third["host_keys"], &third["machine_id"]));
    is_itself(port);
    drop(running);
    assert_eq!(others.contents(), untouched, "another disk was written to");
}

/// A copy of the system disk on a stick shows itself seconds after the disk. The firmware may have booted either.
#[test]
fn a_twin_on_a_stick_is_waited_for_and_refused() {
    let folder = folder();
    let disk = installed(OWN.0, folder.path(), 4 << 30);
    let twins = folder.path().join("twin");
    fs::create_dir(&twins).unwrap();
    let twin = installed(OWN.0, &twins, 4 << 30);
    // The loader counts its tries in the ESP.
    let contents = || [&disk, &twin].map(|disk| content(disk, &[part(disk, "ESP")]));
    let before = contents();
    for buses in [[Bus::Nvme, Bus::Usb], [Bus::Usb, Bus::Nvme]] {
        let mut machine = machine(&disk, OWN.1.parse::<Ipv4Addr>().unwrap(), free_port().unwrap());
        machine.disks = [&disk, &twin]
            .into_iter()
            .zip(buses)
            .map(|(path, bus)| Disk::new(Source::file(path), bus))
            .collect();
        let screen = early::screen(&machine, "kiln: this machine can't start");
        for words in ["carry one and the same ESP", "nvme0n1", "sda", "Take all but one of them out"] {
            assert!(screen.contains(words), "{words:?} is not in\n{screen}");
        }
    }
    assert_eq!(contents(), before);
}

/// Cuts of the first boot from where the system begins up to the node's report, each of them followed by a boot to `healthy`.
#[test]
#[ignore = "three minutes a cut: KILN_LATE_CUTS=20 cargo test --workspace --test boot -- --ignored late_power_cuts --nocapture"]
fn late_power_cuts_heal() {
    let count = std::env::var("KILN_LATE_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = folder();
    let port = free_port().unwrap();
    let begin = |disk: &Path| {
        let mut machine = machine(disk, OWN.1.parse::<Ipv4Addr>().unwrap(), port);
        machine.disks = vec![Disk::virtio(Source::file(disk))];
        machine
    };
    let fresh = |number: u32| {
        let folder = folder.path().join(number.to_string());
        fs::create_dir(&folder).unwrap();
        installed(OWN.0, &folder, DISK)
    };
    let mut running = begin(&fresh(0)).start().unwrap();
    running.expect("Welcome to ", patience()).unwrap();
    let start = Instant::now();
    healthy(&mut running);
    let whole = start.elapsed();
    drop(running);
    for number in 1..=count {
        // Multiples of the golden ratio lie apart from one another.
        let wait = whole.mul_f64((f64::from(number) * 0.618_033_988_749).fract());
        let machine = begin(&fresh(number));
        let mut running = machine.start().unwrap();
        running.expect("Welcome to ", patience()).unwrap();
        std::thread::sleep(wait);
        running.kill().unwrap();
        let mut running = machine.start().unwrap();
        healthy(&mut running);
        is_itself(port);
        let anew = running.console().contains("the first boot was cut short");
        println!(
            "cut {number}, {:.0} of {:.0} s: healed{}",
            wait.as_secs_f64(),
            whole.as_secs_f64(),
            if anew { ", anew" } else { "" }
        );
        drop(running);
        let _ = fs::remove_dir_all(folder.path().join(number.to_string()));
    }
}
