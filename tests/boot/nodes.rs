//! The example with a key that this run holds: built once, booted by every test.

use kiln_qemu::{
    Accelerator, Card, Disk, Firmware, Forward, Machine, Network, Running, Source, Subnet, Wanted,
};
use kiln_tests::{build, die, kiln, shared, succeed, tool, top};
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// The port that a node reports on; a test says it in its own words, as a user's tool would have to.
pub(crate) const PORT: &str = "org.kiln.report";

/// Size of the disk that an image is booted on (bytes).
pub(crate) const DISK: u64 = 16 << 30;

/// Under translation a boot takes a minute on two free cores.
pub(crate) fn patience() -> Instant {
    Instant::now() + Duration::from_secs(400)
}

/// What tests of one room share, for as long as one of them holds it: images are half a gigabyte each, and built again from
/// the cache in seconds.
pub(crate) struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    /// What another test holds, else a new one.
    pub(crate) fn hold(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade().unwrap_or_else(|| {
            let made = Arc::new(make());
            *held = Arc::downgrade(&made);
            made
        })
    }
}

/// Removes what `kiln build` wrote, so that disks of CI last. A failing test leaves it to be looked at.
pub(crate) fn remove_images(output: &Path) {
    if !std::thread::panicking() {
        let _ = fs::remove_dir_all(output);
    }
}

/// The built example and the key pair that it lets in.
pub(crate) struct Site {
    /// Where `kiln build` wrote.
    pub(crate) output: PathBuf,
    /// The private key that is let in.
    pub(crate) key: PathBuf,
    /// A private key that nobody knows.
    pub(crate) stranger: PathBuf,
}

impl Drop for Site {
    fn drop(&mut self) {
        remove_images(&self.output);
    }
}

impl Site {
    /// A node's image.
    pub(crate) fn image(&self, node: &str) -> PathBuf {
        self.output.join(node).join("disk.img")
    }

    /// A node's image.json.
    pub(crate) fn described(&self, node: &str) -> Value {
        json(&self.output.join(node).join("image.json"))
    }
}

/// The example, with this run's key in place of its own, built.
pub(crate) fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| built("boot", &[], |cluster| cluster))
}

/// The same for disks with sectors of 4096 bytes.
pub(crate) fn large_sectors() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        built("boot-large-sectors", &["k3s1"], |cluster| {
            let large =
                cluster.replace("    network:", "    disks: { system: { sector_size: 4096 } }\n    network:");
            assert_ne!(large, cluster, "the example no longer has nodes with networks:\n{cluster}");
            large
        })
    })
}

/// The same with three disks for Longhorn in its first node, recognised by their size alone.
pub(crate) fn longhorn() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        built("boot-longhorn", &["k3s1"], |cluster| {
            let rule = "{ name: sdf, match: { max_size: 2GiB }, count: 3, use: longhorn, tags: [ssd] }";
            let network = "    network: { address: 192.168.86.71/24";
            let with = cluster.replace(network, &format!("    disks: {{ data: [{rule}] }}\n{network}"));
            assert_ne!(with, cluster, "the example no longer has its first node:\n{cluster}");
            with
        })
    })
}

/// The same with everything encrypted that can be, and with swap of both kinds.
pub(crate) fn encrypted() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        built("boot-encrypted", &["k3s1"], |cluster| {
            format!(
                "{cluster}\nmemory: {{ zram: 25% }}\ndisks:\n  system: {{ swap: 256MiB, encrypt: auto }}\n  data:\n    \
                 - {{ name: vault, match: {{ serial: vault }}, use: mount, mount_point: /srv/vault, encrypt: auto }}\n"
            )
        })
    })
}

/// Builds the example, changed by `edit`, in a folder of this name: these nodes of it, all when none is named.
pub(crate) fn built(name: &str, nodes: &[&str], edit: impl FnOnce(String) -> String) -> Site {
    let folder = shared().join(name);
    fs::create_dir_all(&folder).unwrap();
    let key = key_pair(&folder, "key");
    let stranger = key_pair(&folder, "stranger");
    let example = fs::read_to_string(top().join("templates/example/cluster.yaml")).unwrap();
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let cluster = edit(with_key(&example, public.trim()));
    let path = folder.join("cluster.yaml");
    // An unchanged file is left alone: `kiln build` then has nothing to do.
    if fs::read_to_string(&path).ok().as_ref() != Some(&cluster) {
        fs::write(&path, cluster).unwrap();
    }
    build(&folder, [&["-f", "cluster.yaml", "-o", "dist"], nodes].concat());
    Site { output: folder.join("dist"), key, stranger }
}

/// The cluster file with one key in place of all others.
fn with_key(example: &str, public: &str) -> String {
    let mut replaced = 0;
    let lines = example.lines().map(|line| match line.find("ssh_keys:") {
        Some(at) => {
            replaced += 1;
            format!("{}ssh_keys: [{public}]\n", &line[..at])
        }
        None => format!("{line}\n"),
    });
    let text: String = lines.collect();
    assert_eq!(replaced, 1, "the example no longer has its one ssh_keys line:\n{example}");
    text
}

/// A key pair, made once and kept, so that the image need not be built again for the next run.
pub(crate) fn key_pair(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    if !path.is_file() || !path.with_extension("pub").is_file() {
        let _ = fs::remove_file(&path);
        let mut command = tool("ssh-keygen", "openssh-client");
        succeed(command.args(["-q", "-t", "ed25519", "-N", "", "-C", "kiln-test", "-f"]).arg(&path));
    }
    path
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|e| die(&format!("{}: {e}", path.display())));
    serde_json::from_slice(&text).unwrap_or_else(|e| die(&format!("{}: {e}", path.display())))
}

/// What runs guests on this host, asked once a run.
pub(crate) fn accelerator() -> Accelerator {
    static KNOWN: OnceLock<Accelerator> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        tool(kiln_qemu::PROGRAM, "qemu-system-x86");
        kiln_qemu::probe(&shared().join("accelerator")).unwrap_or_else(|e| die(&e.to_string()))
    })
}

/// A machine that boots `image` with the example's network; `ssh` of 127.0.0.1 leads to port 22 of `address`.
pub(crate) fn machine(image: &Path, address: Ipv4Addr, ssh: u16) -> Machine {
    let subnet = Subnet {
        network: Ipv4Addr::new(192, 168, 86, 0),
        prefix: 24,
        host: Ipv4Addr::new(192, 168, 86, 2),
        // The example's router answers names, too.
        dns: Ipv4Addr::new(192, 168, 86, 1),
        dhcp: Ipv4Addr::new(192, 168, 86, 200),
    };
    Machine {
        disks: vec![Disk::virtio(Source::Larger { path: image.to_owned(), bytes: DISK })],
        cards: vec![Card::User(Network {
            subnet: Some(subnet),
            forwards: vec![Forward { host: ssh, address: Some(address), guest: 22 }],
            ..Network::default()
        })],
        ports: vec![PORT.to_owned()],
        ..Machine::new(Firmware::find().unwrap_or_else(|e| die(&e.to_string())), accelerator())
    }
}

/// Boots until the node reports; its failure screen and a panic end the test at once.
pub(crate) fn report(running: &mut Running) -> Value {
    let wanted =
        [Wanted::Port(PORT), Wanted::Console("this machine can't start"), Wanted::Console("Kernel panic")];
    let seen = running.wait_for(&wanted, patience()).unwrap_or_else(|e| die(&e.to_string()));
    if seen.which > 0 {
        let _ = running.expect("Press Enter to reboot", Instant::now() + Duration::from_secs(5));
        die(&format!("the node did not come up:\n{}", running.console()));
    }
    serde_json::from_str(&seen.line).unwrap_or_else(|e| die(&format!("{e}: {}", seen.line)))
}

/// `kiln boot` with QEMU in its path and what this host is known to run guests on.
pub(crate) fn kiln_boot() -> Command {
    let mut command = kiln();
    command.arg("boot").env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("KILN_ACCEL", accelerator().name());
    for name in ["KILN_OVMF_CODE", "KILN_OVMF_VARS"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// SHA-256 of a file, by another's hand.
pub(crate) fn digest(path: &Path) -> String {
    let said = succeed(tool("sha256sum", "coreutils").arg(path));
    said.split_whitespace().next().unwrap_or_default().to_owned()
}
