//! Encrypted disks and swap: keys in a TPM, keys without one, and what stays closed.

use crate::direct::kernel_of;
use crate::disks::{content, copy_to, data, folder, partitions, signature};
use crate::early::{Boot, run, screen, until_system_of};
use crate::nodes::{encrypted, machine, report};
use crate::own::part;
use crate::seed::{copy, handoff, names, remove, write_handoff};
use crate::ssh::{With, ask};
use kiln_qemu::{Bus, Disk, Kernel, Machine, Source, Tpm, free_port};
use kiln_tests::{said, shared, succeed, tool};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A node's two disks, and what it is started with.
struct Node {
    folder: TempDir,
    system: PathBuf,
    vault: PathBuf,
}

impl Node {
    /// A node that was never booted, its handoff document changed by `edit`.
    fn new(edit: impl FnOnce(&mut Value)) -> Self {
        let folder = folder();
        let system = copy_to(&encrypted().image("k3s1"), folder.path(), 6 << 30);
        let mut told = handoff(&system);
        edit(&mut told);
        write_handoff(&system, told.to_string().as_bytes());
        let (vault, _) = data(folder.path(), "vault.img", 1 << 30, Bus::Virtio);
        Self { folder, system, vault }
    }

    fn disks(&self) -> Vec<Disk> {
        let vault = Disk { serial: Some("vault".to_owned()), ..Disk::virtio(Source::file(&self.vault)) };
        vec![Disk::virtio(Source::file(&self.system)), vault]
    }

    fn tpm(&self, name: &str) -> Tpm {
        Tpm { state: self.folder.path().join(name) }
    }

    /// The machine, to be turned off where the system would begin.
    fn early(&self, tpm: Option<Tpm>) -> Machine {
        static KERNEL: OnceLock<Kernel> = OnceLock::new();
        let kernel = KERNEL.get_or_init(|| {
            let folder = shared().join("boot-encrypted-kernel");
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            kernel_of(encrypted(), "k3s1", &folder)
        });
        Machine { tpm, ..until_system_of(kernel, &self.disks()) }
    }

    fn boot(&self, tpm: Option<Tpm>) -> Boot {
        run(&self.early(tpm))
    }

    fn stopped(&self, tpm: Option<Tpm>) -> String {
        screen(&self.early(tpm), "kiln: this machine can't start")
    }

    /// The start of a partition, as a file: a LUKS2 header with its key slots takes 16 MiB.
    fn header(&self, disk: &Path, partition: &str) -> PathBuf {
        let to = self.folder.path().join(format!("{partition}.header"));
        let mut bytes = vec![0; 17 << 20];
        File::open(disk).unwrap().read_exact_at(&mut bytes, part(disk, partition).start).unwrap();
        fs::write(&to, bytes).unwrap();
        to
    }

    /// What cryptsetup reads in a partition's header: its UUID, and its metadata.
    fn luks(&self, disk: &Path, partition: &str) -> (String, Value) {
        let header = self.header(disk, partition);
        let ask = |words: &[&str]| succeed(tool("cryptsetup", "cryptsetup-bin").args(words).arg(&header));
        let metadata = serde_json::from_str(&ask(&["luksDump", "--dump-json-metadata"])).unwrap();
        (ask(&["luksUUID"]).trim().to_owned(), metadata)
    }
}

fn kind(disk: &Path, partition: &str) -> Option<String> {
    signature(disk, Some(part(disk, partition))).remove("TYPE")
}

/// Both disks are encrypted, each under the identifier that the seed names, and opened by a TPM that asks for no state
/// of the machine; no key is anywhere else.
fn only_a_tpm_opens(node: &Node) {
    let told = handoff(&node.system);
    let volumes = [
        (&node.system, "state", &told["disks"]["system"]["encrypt"]["luks"]),
        (&node.vault, "kiln-vault", &told["disks"]["data"][0]["slots"][0]["luks"]),
    ];
    for (disk, partition, uuid) in volumes {
        assert_eq!(kind(disk, partition).as_deref(), Some("crypto_LUKS"));
        let (found, metadata) = node.luks(disk, partition);
        assert_eq!(uuid, &found[..]);
        let slots: Vec<&String> = metadata["keyslots"].as_object().unwrap().keys().collect();
        let tokens = metadata["tokens"].as_object().unwrap();
        let [token] = &tokens.values().collect::<Vec<_>>()[..] else { panic!("{metadata:#}") };
        assert_eq!((&token["type"], &token["tpm2-pcrs"]), (&json!("systemd-tpm2"), &json!([])), "{token:#}");
        assert_eq!(token["keyslots"], json!(slots), "{metadata:#}");
    }
    assert_eq!(names(&node.system, "kiln/keys"), [""; 0]);
    assert_eq!(names(&node.system, "kiln"), ["::/kiln/addresses.json", "::/kiln/handoff.json"]);
}

#[test]
fn a_tpm_keeps_the_keys_and_no_other_opens_the_disks() {
    let node = Node::new(|_| {});
    let first = node.boot(Some(node.tpm("own")));
    assert_eq!(first.failed(), [""; 0], "{}", first.console);
    for step in ["encrypt state", "encrypt vault"] {
        assert!(first.found(step).unwrap().ends_with("key in the TPM"), "{:?}", first.told);
    }
    only_a_tpm_opens(&node);

    // The next boot opens it, and makes nothing anew.
    let before = content(&node.vault, &[]);
    let second = node.boot(Some(node.tpm("own")));
    assert_eq!(second.failed(), [""; 0], "{}", second.console);
    assert!(second.found("unlock state").unwrap().starts_with("by the TPM"), "{:?}", second.told);
    let again =
        second.done().into_iter().filter(|step| step.starts_with("encrypt") || step.starts_with("format"));
    assert_eq!(again.collect::<Vec<_>>(), [""; 0]);
    assert_eq!(content(&node.vault, &[]), before);

    // The same disks in another machine, and in one whose TPM is off.
    let held = content(&node.system, &[]);
    let other = node.stopped(Some(node.tpm("other")));
    assert!(
        other.contains("is encrypted and can't be opened: this machine's TPM does not open it"),
        "{other}"
    );
    assert!(other.contains("back into that machine"), "{other}");
    let none = node.stopped(None);
    assert!(none.contains("its key is neither in the seed nor in a TPM"), "{none}");
    assert_eq!(content(&node.system, &[]), held);
    assert_eq!(node.boot(Some(node.tpm("own"))).failed(), [""; 0]);
}

#[test]
fn without_a_tpm_the_seed_keeps_the_key_of_the_state() {
    let node = Node::new(|_| {});
    let first = node.boot(None);
    assert_eq!(first.failed(), [""; 0], "{}", first.console);
    assert!(first.found("encrypt state").unwrap().ends_with("key in the seed"), "{:?}", first.told);
    assert!(first.found("encrypt vault").unwrap().ends_with("key in /var/lib/kiln/keys"), "{:?}", first.told);

    // It is the key, and the seed holds no other.
    assert_eq!(names(&node.system, "kiln/keys"), ["::/kiln/keys/state"]);
    let key = node.folder.path().join("key");
    copy(&node.system, "kiln/keys/state", &key);
    assert_eq!(fs::metadata(&key).unwrap().len(), 64);
    let mut open = tool("cryptsetup", "cryptsetup-bin");
    succeed(
        open.args(["open", "--test-passphrase", "--key-file"])
            .arg(&key)
            .arg(node.header(&node.system, "state")),
    );
    // Nothing that was said or told has it.
    let mut bytes = Vec::new();
    File::open(&key).unwrap().read_to_end(&mut bytes).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!first.console.contains(&hex[..16]) && !format!("{:?}", first.told).contains(&hex[..16]));

    let second = node.boot(None);
    assert_eq!(second.failed(), [""; 0], "{}", second.console);
    assert!(second.found("unlock state").unwrap().starts_with("by the key in the seed"), "{:?}", second.told);

    // A disk whose seed was wiped is closed for good.
    remove(&node.system, "kiln/keys/state");
    let none = node.stopped(None);
    assert!(none.contains("its key is neither in the seed nor in a TPM"), "{none}");
}

#[test]
fn a_key_that_must_be_in_a_tpm_is_nowhere_else() {
    let node = Node::new(|told| told["disks"]["system"]["encrypt"]["key"] = json!("tpm2"));
    let screen = node.stopped(None);
    assert!(
        screen
            .contains("can't be encrypted: its key is to be kept in a TPM 2.0, and this machine shows none"),
        "{screen}"
    );
    assert_eq!(kind(&node.system, "state"), None);
    assert_eq!(names(&node.system, "kiln/keys"), [""; 0]);

    // A data disk alone is a problem, and the node starts.
    let node = Node::new(|told| {
        told["disks"]["system"]["encrypt"] = Value::Null;
        told["disks"]["data"][0]["encrypt"] = json!("tpm2");
    });
    let boot = node.boot(None);
    let problems = boot.failed();
    assert!(
        problems.len() == 1 && problems[0].contains("for vault: its key is to be kept in a TPM 2.0"),
        "{problems:?}"
    );
    assert!(signature(&node.vault, None).is_empty() && partitions_of(&node.vault).is_empty());
    // With its TPM on, it is made ready.
    assert_eq!(node.boot(Some(node.tpm("own"))).failed(), [""; 0]);
    assert_eq!(kind(&node.vault, "kiln-vault").as_deref(), Some("crypto_LUKS"));
}

/// The names of a disk's partitions; of a disk without a table none.
fn partitions_of(disk: &Path) -> Vec<String> {
    if signature(disk, None).is_empty() {
        return Vec::new();
    }
    partitions(disk).into_iter().map(|partition| partition.name).collect()
}

#[test]
fn swap_is_made_once_and_not_where_there_is_no_room_left_for_it() {
    let plain = |told: &mut Value| told["disks"]["system"]["encrypt"] = Value::Null;
    let node = Node::new(plain);
    let first = node.boot(None);
    assert_eq!(first.failed(), [""; 0], "{}", first.console);
    assert_eq!(first.found("format swap"), Some("swap area of 256.0 MiB"));
    let found = signature(&node.system, Some(part(&node.system, "swap")));
    assert_eq!(found["TYPE"], "swap");
    assert_eq!(handoff(&node.system)["disks"]["system"]["swap"]["filesystem"], found["UUID"][..]);
    let second = node.boot(None);
    assert_eq!((second.failed(), second.found("format swap")), (vec![], None));

    // The words for it, and for encryption, come when the state is there already.
    let node = Node::new(|told| {
        told["disks"]["system"] = json!({});
        told["disks"]["data"] = json!([]);
    });
    assert_eq!(node.boot(None).failed(), [""; 0]);
    let mut told = handoff(&encrypted().image("k3s1"));
    told["disks"]["data"] = json!([]);
    write_handoff(&node.system, told.to_string().as_bytes());
    let late = node.boot(None);
    let problems = late.failed();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("no swap: the cluster file asks for 256.0 MiB of it"), "{problems:?}");
    assert!(problems[1].starts_with("the state partition is not encrypted"), "{problems:?}");
    assert_eq!(kind(&node.system, "state").as_deref(), Some("ext4"));
}

/// From UEFI to `running`, twice: /var, a data disk and the swap partition are open, zram is on, and data stays.
#[test]
fn an_encrypted_node_lives() {
    for tpm in [true, false] {
        let node = Node::new(|_| {});
        for round in 0..2 {
            let port = free_port().unwrap();
            let mut machine = machine(&node.system, Ipv4Addr::new(192, 168, 86, 71), port);
            machine.disks = node.disks();
            machine.tpm = tpm.then(|| node.tpm("own"));
            machine.control = true;
            let mut running = machine.start().unwrap();
            let report = report(&mut running);
            assert_eq!(report["state"], "running", "{report:#}\n{}", running.console());
            let asked = "findmnt -no SOURCE /var; findmnt -no SOURCE --target /srv/vault; \
                sudo swapon --show=NAME,TYPE --noheadings --raw | sort; cat /srv/vault/note 2>/dev/null; \
                echo kept | sudo tee /srv/vault/note; sudo sync";
            let answer = ask(port, &With::Key(&encrypted().key), asked);
            assert!(answer.status.success(), "{}", said(&answer));
            let answer = String::from_utf8(answer.stdout).unwrap();
            let lines: Vec<&str> = answer.lines().collect();
            assert_eq!(lines[..2], ["/dev/mapper/kiln.state", "/dev/mapper/kiln-vault"], "{answer}");
            let swap: Vec<&str> = lines.iter().copied().filter(|line| line.ends_with(" partition")).collect();
            assert_eq!(swap.len(), 2, "{answer}");
            assert!(swap[0].starts_with("/dev/dm-") && swap[1].starts_with("/dev/zram0"), "{answer}");
            assert_eq!(lines.iter().filter(|line| **line == "kept").count(), 1 + round, "{answer}");
            running.execute("system_powerdown", &json!({})).unwrap();
            let status = running.wait_until(Instant::now() + Duration::from_secs(120));
            assert!(status.is_ok_and(|status| status.success()), "{}", running.console());
        }
        if tpm {
            only_a_tpm_opens(&node);
        }
        // The area of a key that is gone says nothing.
        assert_eq!(kind(&node.system, "swap"), None);
    }
}
