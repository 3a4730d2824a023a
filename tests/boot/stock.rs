//! A Debian that is not Kiln's becomes a node: cloud-init of a stock image reads the seed that `kiln seed --for stock` wrote,
//! from volumes and from an address. And whatever people type arrives as they typed it, there and on a Kiln image.

mod hostile;
mod root;
mod web;

use crate::cable::{SETTLED, write};
use crate::disks::{content, copy_to, data, folder, partitions};
use crate::early::BUSY;
use crate::foreign::Foreign;
use crate::nodes::{machine, patience, report};
use crate::ssh::{With, ask};
use crate::user::{self, identity, kiln_in};
use kiln_qemu::{Bus, Card, Disk, Kernel, Machine, Network, Running, Source, Wanted, free_port};
use kiln_tests::{die, said, shared, succeed, tool};
use root::{Root, root};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use web::Web;

/// Debian 13.
const TRIXIE: &str = "trixie";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 86, 71);
/// That of the node with several interfaces.
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 86, 72);
/// Cards of the node with several interfaces.
const CARDS: [&str; 2] = ["52:54:00:6b:69:6c", "52:54:00:6b:69:6d"];
/// What is on a data disk (bytes).
const BYTES: u64 = 512 << 20;
/// Where the artefacts' folder has what k3s is published as.
const RELEASE: &str = "artefacts/k3s-io/k3s/releases/download/v1.36.2+k3s1";
/// What the cluster file and the overlay k3s have installed, beside sudo, which a stock image has.
const PACKAGES: [&str; 6] = ["apparmor", "conntrack", "htop", "ipset", "iptables", "socat"];
/// Written to a data disk by the node's user.
const MINE: &str = "/mnt/longhorn/sdf-1/replicas/mine";

/// The cluster, its seeds, and what serves them.
struct Lab {
    top: PathBuf,
    key: PathBuf,
    web: Web,
}

impl Lab {
    fn seed(&self, node: &str, file: &str) -> PathBuf {
        self.top.join("seeds").join(node).join("seed").join(file)
    }

    /// A volume as a disk that can't be written to.
    fn volume(&self, node: &str, file: &str) -> Disk {
        Disk { read_only: true, ..Disk::virtio(Source::image(self.seed(node, file))) }
    }
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let top = shared().join("stock");
        let release = top.join(RELEASE);
        fs::create_dir_all(&release).unwrap();
        let web = Web::serve(&top);
        let key = identity(&top);
        hostile::write_files(&top, web.port);
        artefacts(&top);
        let cluster = json!({
            "apiVersion": "kiln/v1",
            "cluster": {"name": "stock", "endpoint": ADDRESS, "time_zone": "Europe/Berlin", "directories": ["/data/app"], "k3s": {"version": "v1.36.2+k3s1"}},
            "artefacts": ["./artefacts"],
            "user_data": "own.yaml",
            "users": [
                {"name": "ops", "groups": ["adm"], "ssh_keys": [hostile::public_key(&key)]},
                {"name": "hashed", "sudo": false, "password_hash": hostile::password_hash()},
            ],
            "overlays": [hostile::settings()],
            "nodes": [
                {
                    "name": "k1", "role": "server", "user_data": "own.sh",
                    "network": {"address": format!("{ADDRESS}/24"), "gateway": "192.168.86.1"},
                    "packages": ["htop"],
                    "disks": {"data": [{"name": "sdf", "match": {"max_size": "1GiB"}, "count": 2, "use": "longhorn"}]},
                },
                {
                    "name": "k2", "user_data": "own.sh",
                    "network": {"interfaces": {
                        "lan": {"mac": CARDS[0], "addresses": [format!("{SECOND}/24")], "gateway": "192.168.86.1", "search": ["home.arpa"]},
                        "bond0": {"bond": {"interfaces": ["two"]}, "dhcp": true},
                        "two": {"mac": CARDS[1]},
                        "bond0.7": {"vlan": {"link": "bond0", "id": 7}},
                        "br0": {"bridge": {"interfaces": ["bond0.7"]}, "addresses": ["10.7.0.2/24"], "mtu": 1400},
                    }},
                },
            ],
        });
        write(&top.join("cluster.yaml"), &cluster.to_string());
        let done_by = |words: &[&str], input: &str| user::done(kiln_in(&top).args(words), input);
        done_by(&["secrets", "init"], "");
        done_by(&["secrets", "set", "hostile"], &hostile::secret());
        done_by(&["lock"], "");
        done_by(&["seed", "--for", "stock", "-o", "seeds"], "");
        archive(&top);
        Lab { top, key, web }
    })
}

/// What overlays fetch, in the folder that `kiln lock` takes it from; the web server has the same.
fn artefacts(top: &Path) {
    let sums = |file: &Path| {
        let digest = Sha256::digest(fs::read(file).unwrap());
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let k3s = top.join(RELEASE).join("k3s");
    write(&k3s, "#!/bin/sh\nexec sleep infinity\n");
    write(&k3s.with_file_name("sha256sum-amd64.txt"), &format!("{}  k3s\n", sums(&k3s)));
    fs::create_dir_all(top.join("artefacts/bin")).unwrap();
    hostile::program(&top.join("artefacts/bin/probe"), "#!/bin/sh\necho ran > /run/probe\n");
    let archive = top.join("artefacts/probe.tar");
    let mut tar = tool("tar", "tar");
    tar.args(["--mtime=@0", "--owner=0", "--group=0", "-cf"]).arg(&archive);
    succeed(tar.arg("-C").arg(top.join("artefacts")).arg("bin/probe"));
    write(&top.join("artefacts/sums"), &format!("{}  probe.tar\n", sums(&archive)));
}

/// An archive of packages with the names that the seeds ask for: empty ones, which are quick to install.
fn archive(top: &Path) {
    let archive = top.join("archive");
    fs::create_dir_all(&archive).unwrap();
    for name in PACKAGES {
        let made = tempfile::tempdir_in(top).unwrap();
        fs::create_dir(made.path().join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {name}\nVersion: 99\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: nothing\n"
        );
        fs::write(made.path().join("DEBIAN/control"), control).unwrap();
        let mut build = tool("dpkg-deb", "dpkg");
        succeed(
            build
                .args(["--root-owner-group", "-b"])
                .arg(made.path())
                .arg(archive.join(format!("{name}.deb"))),
        );
    }
    let index = succeed(tool("dpkg-scanpackages", "dpkg-dev").arg(".").current_dir(&archive));
    fs::write(archive.join("Packages"), index).unwrap();
}

/// A stock machine with these disks behind its root, and what its kernel is told beside what it needs.
fn stock((root, address): (&Root, Ipv4Addr), disks: Vec<Disk>, words: &str) -> (Machine, u16) {
    let ssh = free_port().unwrap();
    let kernel = Kernel {
        image: root.kernel.clone(),
        initrd: root.initrd.clone(),
        command_line: format!("root=LABEL=stock-root rw console=ttyS0 {BUSY} {words}"),
    };
    let machine = Machine {
        kernel: Some(kernel),
        disks,
        ports: Vec::new(),
        control: true,
        ..machine(&root.image, address, ssh)
    };
    (machine, ssh)
}

/// Boots until cloud-init has done everything, and sees to it that it complains of nothing.
fn done(machine: &Machine, (ssh, key): (u16, &Path)) -> Running {
    let mut running = machine.start().unwrap();
    let wanted = ["finished at", "Kernel panic"].map(Wanted::Console);
    let seen = running.wait_for(&wanted, patience());
    let seen = seen.unwrap_or_else(|e| die(&format!("{e}\n{}", running.console())));
    assert_eq!(seen.which, 0, "{}", running.console());
    // It says so before its last program ends.
    let status = answer((ssh, key), "cloud-init status --wait >/dev/null; cloud-init status --format json");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["status"], &status["errors"]), (&json!("done"), &json!([])), "{}", running.console());
    // They are told since 23.4, which says how that ended in a word of its own, too.
    let recoverable = if status.get("extended_status").is_some() { json!({}) } else { Value::Null };
    assert_eq!(status["recoverable_errors"], recoverable, "{}", running.console());
    let failed = answer((ssh, key), "systemctl --failed --plain --no-legend");
    assert_eq!(failed, "", "{}", running.console());
    running
}

fn answer((port, key): (u16, &Path), command: &str) -> String {
    let output = ask(port, &With::Key(key), command);
    assert!(output.status.success(), "{command}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Presses the power button.
fn turn_off(mut running: Running) {
    running.execute("system_powerdown", &json!({})).unwrap();
    let status = running.wait_until(Instant::now() + Duration::from_secs(300));
    assert!(status.is_ok_and(|status| status.success()), "{}", running.console());
}

/// What the cluster file says of `k1`, line by line.
fn is_the_node(at: (u16, &Path), lab: &Lab) {
    let asked = "hostname; timedatectl show -p Timezone --value; id -nG; \
        ip -4 -o addr show scope global | awk '{print $4}' | xargs; ip -4 route show default | awk '{print $3}' | xargs; \
        resolvectl dns | grep -o '192[0-9.]*' | xargs; \
        systemctl is-active kiln-stock.service probe.service kiln-join.service | xargs; \
        systemctl is-enabled kiln-stock.service probe.service kiln-join.service | xargs; \
        cat /run/probe; test -d /sys/module/dummy && echo dummy; dpkg-query -W -f '${Version}\\n' htop; \
        sudo -n true && echo may; ls /etc/ssh/ssh_host_*_key; sudo -n cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub; \
        sudo -n stat -c '%a %U' /etc/rancher/k3s/token /var/lib/rancher/k3s/server/tls/server-ca.key /etc/rancher/node/password | uniq; \
        sudo -n stat -c '%a' /var/lib/rancher/k3s/server /var/lib/rancher/k3s/server/tls | xargs; stat -c '%a %F' /data/app";
    let said = answer(at, asked);
    let place = kiln::secrets::Place::beside(&lab.top, Vec::new());
    let text = fs::read_to_string(lab.top.join("identity")).unwrap();
    let identities = kiln::secrets::Identities::parse(&text, "identity").unwrap();
    let secrets = kiln::secrets::Secrets::open(&place, &identities).unwrap();
    let host_key = secrets.node("k1").unwrap().ssh_host_key_public().to_owned();
    let host_key = host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let wanted = [
        "k1",
        "Europe/Berlin",
        "ops adm",
        "192.168.86.71/24",
        "192.168.86.1",
        "192.168.86.1",
        "active active active",
        "enabled enabled enabled",
        "ran",
        "dummy",
        "99",
        "may",
        "/etc/ssh/ssh_host_ed25519_key",
        &host_key,
        "600 root",
        "700 700",
        "755 directory",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
}

/// Two blank disks and one that is somebody else's.
fn disks(folder: &Path) -> (Vec<PathBuf>, Vec<Disk>) {
    let (paths, disks): (Vec<_>, Vec<_>) = ["one", "two", "theirs"]
        .map(|name| {
            let (path, disk) = data(folder, name, BYTES, Bus::Virtio);
            (path, Disk { serial: Some(name.to_owned()), ..disk })
        })
        .into_iter()
        .unzip();
    assert!(Foreign::Xfs.make(&paths[2]));
    (paths, disks)
}

/// What keeps a data disk's place: everything outside of its partition, and the partition's GUIDs.
fn outside(path: &Path) -> String {
    let partitions = partitions(path);
    let [one] = &partitions[..] else { panic!("{partitions:?} on {}", path.display()) };
    format!("{one:?} {}", content(path, std::slice::from_ref(&one.bytes)))
}

/// From a volume with FAT: the node comes up, its data disks are made and mounted, a stranger's disk is left alone; the second
/// boot, with the same seed on a disc, changes nothing.
#[test]
fn a_stock_debian_becomes_the_node() {
    becomes_the_node(TRIXIE);
}

#[test]
#[ignore = "three minutes under translation: `--ignored` runs it"]
fn the_debian_before_becomes_the_node() {
    becomes_the_node("bookworm");
}

fn becomes_the_node(suite: &str) {
    let Some(root) = &root(suite) else { return };
    let (lab, folder) = (lab(), folder());
    let system = copy_to(&root.image, folder.path(), fs::metadata(&root.image).unwrap().len());
    let (paths, data) = disks(folder.path());
    let theirs = content(&paths[2], &[]);
    let with = |volume: &str| {
        [&[Disk::virtio(Source::file(&system))], &data[..], &[lab.volume("k1", volume)]].concat()
    };
    let mounts = "for name in sdf-1 sdf-2; do findmnt -rno FSTYPE,OPTIONS,PARTLABEL /mnt/longhorn/$name; done; \
        sudo -n sh -c 'cat /mnt/longhorn/sdf-?/longhorn-disk.cfg'; sudo -n cat /var/lib/kiln/first-boot.json";

    let (machine, ssh) = stock((root, ADDRESS), with("cidata.img"), "");
    let at = (ssh, &*lab.key);
    let running = done(&machine, at);
    is_the_node(at, lab);
    hostile::unchanged(ssh, &lab.key);
    let made = answer(at, mounts);
    let lines: Vec<&str> = made.lines().collect();
    for (line, name) in lines.iter().zip(["kiln-sdf-1", "kiln-sdf-2"]) {
        let facts: Vec<&str> = line.split(' ').collect();
        assert!(facts[0] == "ext4" && facts[1].contains("nosuid,nodev") && facts[2] == name, "{made}");
    }
    assert_eq!(made.matches("\"diskUUID\"").count(), 2, "{made}");
    answer(at, &format!("echo mine | sudo -n tee {MINE}"));
    turn_off(running);
    assert_eq!(content(&paths[2], &[]), theirs, "a disk with an XFS of somebody's was written to");
    let before = [&paths[0], &paths[1]].map(|path| outside(path));

    // Another node's seed, with the same label, is no matter any more.
    let disks = [with("cidata.iso"), vec![lab.volume("k2", "cidata.img")]].concat();
    let (machine, ssh) = stock((root, ADDRESS), disks, "");
    let at = (ssh, &*lab.key);
    let running = done(&machine, at);
    is_the_node(at, lab);
    assert_eq!(answer(at, mounts), made);
    assert_eq!(answer(at, &format!("sudo -n cat {MINE}")), "mine\n");
    let seed = answer(
        at,
        "cloud-init query subplatform; sudo -n stat -c %a /var/lib/kiln/seed /var/lib/kiln/seed/user-data",
    );
    assert!(seed.contains("file:///var/lib/kiln/seed/") && seed.ends_with("700\n600\n"), "{seed}");
    let boot: Value = serde_json::from_str(&answer(at, "sudo -n cat /run/kiln/boot.json")).unwrap();
    assert_eq!(boot["problems"], json!([]), "{boot:#}");
    let steps = boot["steps"].as_array().unwrap().iter().map(|event| event["step"].as_str().unwrap());
    let writes: Vec<_> =
        steps.filter(|step| ["erase", "format", "partition", "repair"].contains(step)).collect();
    assert_eq!(writes, [""; 0], "{boot:#}");
    turn_off(running);
    assert_eq!([&paths[0], &paths[1]].map(|path| outside(path)), before);
    assert_eq!(content(&paths[2], &[]), theirs);
}

/// From an address that the kernel's command line names, over the network that the machine finds for itself: the same
/// node, without data disks to make.
#[test]
fn the_seed_comes_over_http() {
    let Some(root) = &root(TRIXIE) else { return };
    let (lab, folder) = (lab(), folder());
    let (_, data) = disks(folder.path());
    let disks = [&[Disk::virtio(Source::image(&root.image))], &data[..]].concat();
    lab.web.asked();
    let words = format!("ds=nocloud;s=http://192.168.86.2:{}/seeds/k1/seed/", lab.web.port);
    let (machine, ssh) = stock((root, ADDRESS), disks, &words);
    let _running = done(&machine, (ssh, &lab.key));
    is_the_node((ssh, &lab.key), lab);
    let asked = lab.web.asked();
    for file in ["meta-data", "user-data", "network-config", "kiln/kiln-firstboot"] {
        assert!(asked.contains(&format!("seeds/k1/seed/{file}")), "{file} was not asked for: {asked:?}");
    }
}

/// What a file of a volume with FAT holds.
fn file_of(volume: &Path, path: &str) -> Vec<u8> {
    let mut mtype = tool("mtype", "mtools");
    let output = mtype.arg("-i").arg(volume).arg(format!("::{path}")).output().unwrap();
    assert!(output.status.success(), "{path}: {}", said(&output));
    output.stdout
}

/// Bonds, VLANs and bridges are netplan's. And a node outside the cluster takes the secrets off its seed when all is well.
#[test]
fn several_interfaces_come_up() {
    let Some(root) = &root(TRIXIE) else { return };
    let (lab, folder) = (lab(), folder());
    let seed = folder.path().join("cidata.img");
    fs::copy(lab.seed("k2", "cidata.img"), &seed).unwrap();
    let [told, kept] = ["user-data", "kiln/after/user-data"].map(|path| file_of(&seed, path));
    assert!(told.len() > kept.len(), "the seed has no secret to lose");
    let disks = vec![Disk::virtio(Source::image(&root.image)), Disk::virtio(Source::file(&seed))];
    let (mut machine, ssh) = stock((root, SECOND), disks, "");
    machine.cards.push(Card::User(Network { mac: CARDS[1].to_owned(), ..Network::default() }));
    let _running = done(&machine, (ssh, &lab.key));
    let said = answer(
        (ssh, &lab.key),
        "hostname; ip -o -4 addr show scope global | awk '{print $4}' | sort | xargs; cat /sys/class/net/br0/mtu; \
         ip -d -o link show bond0.7 | grep -o 'protocol 802.1Q id [0-9]*'; cat /sys/class/net/bond0/bonding/mode; \
         resolvectl domain | grep -o home.arpa | head -n 1; ls /etc/ssh/ssh_host_*_key",
    );
    let wanted = [
        "k2",
        "10.0.2.15/24 10.7.0.2/24 192.168.86.72/24",
        "1400",
        "protocol 802.1Q id 7",
        "active-backup 1",
        "home.arpa",
        "/etc/ssh/ssh_host_ed25519_key",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);

    let waited = answer((ssh, &lab.key), SETTLED);
    assert_eq!(file_of(&seed, "user-data"), kept, "{waited}");
    let line = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>();
    let (volume, kept) = (fs::read(&seed).unwrap(), line(&kept));
    let mut lost = line(&told);
    lost.retain(|line| line.len() > 60 && !kept.contains(line));
    assert!(!lost.is_empty());
    for line in lost {
        assert!(!crate::seed::holds(&volume, &line), "the seed still has {line}: {waited}");
    }
}

/// The same values on a Kiln image.
#[test]
fn hostile_values_reach_a_kiln_image() {
    let lab = lab();
    user::done(kiln_in(&lab.top).args(["build", "-o", "dist", "k1"]), "");
    let ssh = free_port().unwrap();
    let mut running = machine(&lab.top.join("dist/k1/disk.img"), ADDRESS, ssh).start().unwrap();
    report(&mut running);
    hostile::unchanged(ssh, &lab.key);
}
