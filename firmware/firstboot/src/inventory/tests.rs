//! Recorded machines (`tests/machines/*.tree`, made by `tests/record-machine` as root on any Linux, or by hand): what
//! is seen of each, and what the rules make of it.

use super::machine;
use kiln_contract::choose::{choose, to_probe};
use kiln_contract::handoff::{Cluster, Handoff, Node, Partitions};
use kiln_contract::machine::{Content, Disk, Machine, Partition, Signature, Table, Transport};
use kiln_contract::memory::Memory;
use kiln_contract::partition::{TYPE_DATA, TYPE_UNFINISHED, data_disk_guid};
use kiln_contract::plan::{Action, Problem};
use kiln_contract::policy::{Match, Policy, Rule, Slot, Use};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(0xc1);

fn tree(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/machines/{name}.tree"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lays a recorded tree out as files and links.
fn unpack(text: &str, root: &Path) {
    let at = |path: &str| -> PathBuf {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("udev ")) {
        let (path, value) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        if let Some(target) = value.strip_prefix("-> ") {
            symlink(target, at(path)).unwrap();
        } else if let Some(hex) = value.strip_prefix("= ") {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            fs::write(at(path), (0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>()).unwrap();
        } else {
            let path = path.strip_suffix(':').unwrap_or_else(|| panic!("{line:?}"));
            fs::write(at(path), format!("{value}\n")).unwrap();
        }
    }
}

/// The machine of a recorded tree, with nothing on its disks.
fn recorded(name: &str) -> Machine {
    let sysfs = tempfile::tempdir().unwrap();
    unpack(&tree(name), sysfs.path());
    let mut machine = machine(sysfs.path(), &sysfs.path().join("dev"), None);
    machine.disks.iter_mut().for_each(|disk| disk.content = Content::Blank);
    machine
}

fn find<'a>(machine: &'a mut Machine, name: &str) -> &'a mut Disk {
    machine.disks.iter_mut().find(|disk| disk.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Kernel name, transport, GiB, what else is set, model, serial number, WWN, path.
fn facts(disk: &Disk) -> String {
    let flags = [
        (disk.removable, "removable"),
        (disk.read_only, "read-only"),
        (disk.rotational == Some(true), "spins"),
        (disk.rotational == Some(false), "still"),
    ];
    let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    let Disk { name, transport, size, model, serial, wwn, path, .. } = disk;
    let transport = transport.as_str();
    format!("{name} {transport} {} [{}] {model}|{serial}|{wwn}|{path}", size >> 30, flags.join(" "))
}

#[test]
fn what_is_seen_of_each_machine() {
    let machines: [(&str, &str, &[&str]); 13] = [
        (
            "dell-r640-perc",
            "Dell Inc. PowerEdge R640",
            &[
                "sda scsi 222 [] PERC H740P Mini|0071605f4e3d2c1b2a00563412604609|0x6d094660123456002a1b2c3d4e5f6071|pci-0000:3b:00.0-scsi-0:2:0:0",
                "sdb scsi 3725 [] PERC H740P Mini|00ad9c8b7a3d2c1b2a00563412604609|0x6d094660123456002a1b2c3d7a8b9cad|pci-0000:3b:00.0-scsi-0:2:1:0",
                "sdc scsi 3725 [] PERC H740P Mini|00d3c2b1a03d2c1b2a00563412604609|0x6d094660123456002a1b2c3da0b1c2d3|pci-0000:3b:00.0-scsi-0:2:2:0",
            ],
        ),
        (
            "emmc-thin-client",
            "Dell Inc. Wyse 3040 Thin Client",
            &[
                "mmcblk0 mmc 14 [still] DF4016|0x2a4f11c8||",
                "mmcblk1 mmc 59 [removable read-only still] SD64G|0x0badcafe||",
            ],
        ),
        (
            "intel-nuc-10",
            "Intel(R) Client Systems NUC10i5FNH",
            &[
                "nvme0n1 nvme 465 [still] Samsung SSD 970 EVO Plus 500GB|S4EVNX0N912345B|eui.0025385991b0f2ae|pci-0000:3a:00.0-nvme-1",
                "sda sata 931 [still] Samsung SSD 870 EVO 1TB|S626NF0R123456A|0x5002538f31223344|pci-0000:00:17.0-ata-3.0",
                "sdb usb 28 [removable] Ultra Fit|4C530001230815115123||pci-0000:00:14.0-usb-0:3:1.0-scsi-0:0:0:0",
            ],
        ),
        (
            "pc-lsi-ide",
            "QEMU Standard PC (i440FX + PIIX, 1996)",
            &[
                "sda scsi 1 [] QEMU HARDDISK|a||pci-0000:00:02.0-scsi-0:0:2:0",
                "sdb sata 1 [spins] QEMU HARDDISK|IDE0001||pci-0000:00:01.1-ata-1.1",
            ],
        ),
        (
            "q35-megasas",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "sda scsi 1 [] QEMU HARDDISK|VD0001|0x5000c50015ea7201|pci-0000:00:01.0-scsi-0:2:0:0",
                "sdb scsi 1 [] QEMU HARDDISK|VD0002||pci-0000:00:01.0-scsi-0:2:1:0",
            ],
        ),
        (
            "q35-mptsas",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &["sda sas 1 [] QEMU HARDDISK|SAS0001|0x5000c50015ea7301|pci-0000:00:01.0-sas-phy0-lun-0"],
        ),
        (
            "q35-nvme-ahci-virtio",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "nvme0n1 nvme 1 [still] QEMU NVMe Ctrl|NVME0001|nvme.1b36-4e564d4530303031-51454d55204e564d65204374726c-00000001|pci-0000:00:01.0-nvme-1",
                "sda sata 1 [spins] QEMU HARDDISK|QM00005|0x5000c50015ea71ad|pci-0000:00:02.0-ata-1.0",
                "sdb sata 1 [still] QEMU HARDDISK|QM00007||pci-0000:00:02.0-ata-3.0",
                "vda virtio 1 [] |VBLK0001||pci-0000:00:03.0",
                "vdb virtio 1 [] |||pci-0000:00:04.0",
            ],
        ),
        (
            "q35-nvme-namespaces",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "nvme1n1 nvme 1 [still] QEMU NVMe Ctrl|NVMESUB1|nvme.1b36-4e564d4553554231-51454d55204e564d65204374726c-00000001|pci-0000:00:02.0-nvme-1",
                "nvme1n2 nvme 1 [still] QEMU NVMe Ctrl|NVMESUB1|nvme.1b36-4e564d4553554231-51454d55204e564d65204374726c-00000002|pci-0000:00:02.0-nvme-2",
            ],
        ),
        (
            "q35-usb-sd",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "mmcblk0 mmc 1 [removable still] QEMU!|0xdeadbeef||",
                "sda usb 1 [removable] QEMU HARDDISK|27842-0000:00:01.0-2||pci-0000:00:01.0-usb-0:2:1.0-scsi-0:0:0:0",
                "sdb usb 1 [removable] QEMU HARDDISK|USBSTICK1||pci-0000:00:01.0-usb-0:1:1.0-scsi-0:0:0:0",
            ],
        ),
        (
            "q35-virtio-scsi",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "sda scsi 1 [] QEMU HARDDISK|LUN0001|0x5000c50015ea7101|pci-0000:00:01.0-scsi-0:0:0:0",
                "sdb scsi 1 [spins] QEMU HARDDISK|LUN0002||pci-0000:00:01.0-scsi-0:0:0:1",
                "sdc scsi 1 [] QEMU HARDDISK|LUN0003||pci-0000:00:01.0-scsi-0:0:5:16684",
            ],
        ),
        (
            "raspberry-pi-4",
            "Raspberry Pi 4 Model B Rev 1.4",
            &[
                "mmcblk0 mmc 29 [removable still] SC32G|0x5a3c1f02||platform-fe340000.mmc",
                "sda usb 465 [removable still] Portable SSD T5|1234567A1B2C||platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1:1.0-scsi-0:0:0:0",
            ],
        ),
        (
            "supermicro-sas-expander",
            "Supermicro X9DRi-LN4+",
            &[
                "sda sas 3726 [spins] ST4000NM0023|Z1Z0ABCD0000C4361234|0x5000c50057a1b2c3|pci-0000:02:00.0-sas-exp0x500304800012bbff-phy4-lun-0",
                "sdb sas 3726 [spins] ST4000NM0023|Z1Z0ABCE0000C4365678|0x5000c50057a1b2d7|pci-0000:02:00.0-sas-exp0x500304800012bbff-phy5-lun-0",
            ],
        ),
        (
            "two-usb-bridges",
            "AZW SER",
            &[
                "nvme0n1 nvme 476 [still] KINGSTON OM8PGP4512Q-A0|50026B7282B1C2D3|eui.0026b7282b1c2d35|pci-0000:04:00.0-nvme-1",
                "sda usb 931 [removable still] Tech|DD564198838E3||pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0",
                "sdb usb 931 [removable still] Tech|DD564198838E3||pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0",
            ],
        ),
    ];
    for (name, product, disks) in machines {
        let machine = recorded(name);
        assert_eq!(machine.product, product, "{name}");
        assert_eq!(machine.disks.iter().map(facts).collect::<Vec<_>>(), disks, "{name}");
    }
}

/// udev was asked on the machines that were recorded. What it makes of the same disks is what users see and write down.
#[test]
fn names_are_those_that_udev_gave() {
    let mut judged = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = tree(&name);
        let links: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("udev ")?.split_once(' ')).collect();
        if links.is_empty() {
            continue;
        }
        for disk in recorded(&name).disks {
            let given = |below: &str| -> BTreeSet<String> {
                let own = links.iter().filter(|(of, _)| *of == disk.name);
                // A second name that udev calls deprecated: virtio-pci-… for pci-….
                own.filter_map(|(_, link)| link.strip_prefix(below))
                    .filter(|link| !link.starts_with("virtio-pci-"))
                    .map(str::to_owned)
                    .collect()
            };
            let by_id: BTreeSet<String> = disk.by_id.iter().cloned().collect();
            assert_eq!(by_id, given("disk/by-id/"), "{name}: {}", disk.name);
            let paths = std::iter::once(&disk.path).chain(&disk.other_paths).filter(|path| !path.is_empty());
            assert_eq!(
                paths.cloned().collect::<BTreeSet<_>>(),
                given("disk/by-path/"),
                "{name}: {}",
                disk.name
            );
            judged += 1;
        }
    }
    assert!(judged >= 15, "only {judged} disks were judged: where are the recorded machines?");
}

fn rule(matching: Match, count: u128) -> Rule {
    let slot = |number: u128| Slot {
        name: format!("data-{number}"),
        partition: Uuid::from_u128(number),
        filesystem: Uuid::from_u128(0x100 + number),
        luks: Uuid::from_u128(0x200 + number),
        longhorn: Uuid::from_u128(0x300 + number),
        mount_point: None,
    };
    Rule {
        name: "data".to_owned(),
        matching,
        exclude: Vec::new(),
        usage: Use::Longhorn,
        slots: (1..=count).map(slot).collect(),
        filesystem: kiln_contract::policy::FileSystem::Ext4,
        mount_options: Vec::new(),
        tags: Vec::new(),
        reserved: 0,
        encrypt: None,
        removable: false,
    }
}

fn handoff(rules: &[Rule], erase: &[&str]) -> Handoff {
    let id = Uuid::from_u128;
    let erase = erase.iter().map(|serial| (*serial).to_owned()).collect();
    Handoff {
        version: kiln_contract::handoff::VERSION,
        credentials: None,
        cluster: Cluster { id: CLUSTER, name: "demo".to_owned() },
        node: Node { name: "k3s1".to_owned(), machine_id: "0123456789abcdef0123456789abcdef".to_owned() },
        partitions: Partitions {
            esp: id(12),
            cidata: id(13),
            root_a: id(14),
            root_b: id(15),
            state: id(16),
            state_filesystem: id(17),
        },
        disks: Policy { data: rules.to_vec(), erase, ..Policy::default() },
        memory: Memory::default(),
        iscsi: None,
    }
}

fn matching(change: impl FnOnce(&mut Match)) -> Match {
    let mut matching = Match::default();
    change(&mut matching);
    matching
}

fn sata() -> Match {
    matching(|words| words.transport = Some(Transport::Sata))
}

fn by_model(model: &str) -> Match {
    matching(|words| words.model = Some(model.to_owned()))
}

fn by_path(path: &str) -> Match {
    matching(|words| words.path = Some(path.to_owned()))
}

fn owned(cluster: Uuid, slot: u128, kind: Uuid) -> Option<Table> {
    let guid = Uuid::from_u128(slot);
    let label = format!("data-{slot}");
    let partition = Partition { number: 1, kind, guid, label, start: 1 << 20, size: 1 << 30 };
    Some(Table { disk_guid: data_disk_guid(cluster, guid), partitions: vec![partition] })
}

fn ext4(disk: &mut Disk) {
    let (label, uuid) = (String::new(), String::new());
    disk.content =
        Content::Signatures(vec![Signature { kind: "ext4".to_owned(), label, uuid, partition: None }]);
}

/// What happens to each disk, in words that a table can hold.
fn outcome(machine: &Machine, handoff: &Handoff) -> Vec<String> {
    let plan = choose(machine, handoff);
    let mut words: Vec<String> = plan
        .disks
        .iter()
        .map(|decision| {
            let what = match &decision.action {
                Action::Keep(place) => format!("keep {}", place.slot),
                Action::Resume(place) => format!("resume {}", place.slot),
                Action::Provision(place) => format!("format {}", place.slot),
                Action::Erase(place, _) => format!("erase {}", place.slot),
                Action::Leave(_) => "leave".to_owned(),
                Action::Ignore(obstacle) => {
                    let word = format!("{obstacle:?}");
                    word.split(['(', ' ']).next().unwrap_or_default().to_owned()
                }
            };
            format!("{}: {what}", decision.disk)
        })
        .collect();
    words.extend(plan.problems.iter().map(|problem| {
        match problem {
            Problem::Missing { .. } => "missing",
            Problem::Guarded { .. } => "guarded",
            Problem::Ambiguous { .. } => "ambiguous",
            Problem::Overlap { .. } => "overlap",
            Problem::Twins { .. } => "twins",
            Problem::Erase { .. } => "erase list",
        }
        .to_owned()
    }));
    words
}

struct Case {
    machine: &'static str,
    /// What is different from the record.
    change: fn(&mut Machine),
    rules: Vec<Rule>,
    erase: &'static [&'static str],
    want: &'static [&'static str],
}

fn as_recorded(_: &mut Machine) {}

fn case(
    machine: &'static str,
    change: fn(&mut Machine),
    rules: Vec<Rule>,
    want: &'static [&'static str],
) -> Case {
    Case { machine, change, rules, erase: &[], want }
}

const AHCI: &str = "q35-nvme-ahci-virtio";
const EVO: &str = "S626NF0R123456A";

fn one(matching: Match) -> Vec<Rule> {
    vec![rule(matching, 1)]
}

fn named(matching: Match) -> Vec<Rule> {
    vec![Rule { removable: true, ..rule(matching, 1) }]
}

/// The NUC is booted from its NVMe disk, and something else is different.
macro_rules! nuc {
    ($change:expr) => {
        |machine| {
            find(machine, "nvme0n1").booted = true;
            let change: fn(&mut Machine) = $change;
            change(machine);
        }
    };
}

/// Every guard with a case that it refuses and one that passes.
#[test]
fn what_the_rules_make_of_each_machine() {
    let evo = || one(by_model("Samsung SSD 870*"));
    let erase = |erase, case| Case { erase, ..case };
    let nuc = "intel-nuc-10";
    let cases = [
        // The booted disk is no part of any plan.
        case(nuc, nuc!(as_recorded), one(by_model("Samsung*")), &["sda: format data-1", "sdb: Unmatched"]),
        case(
            nuc,
            as_recorded,
            one(by_model("Samsung*")),
            &["nvme0n1: Refused", "sda: Refused", "sdb: Unmatched", "ambiguous"],
        ),
        // Read-only.
        case(
            nuc,
            nuc!(|machine| find(machine, "sda").read_only = true),
            evo(),
            &["sda: ReadOnly", "sdb: Unmatched", "guarded"],
        ),
        case(
            "emmc-thin-client",
            as_recorded,
            named(by_model("SD64G")),
            &["mmcblk0: Unmatched", "mmcblk1: ReadOnly", "guarded"],
        ),
        // Removable: USB, cards; not eMMC, and not a disk in a bay.
        case(
            nuc,
            nuc!(as_recorded),
            one(by_model("Ultra Fit")),
            &["sda: Unmatched", "sdb: Removable", "guarded"],
        ),
        case(nuc, nuc!(as_recorded), named(by_model("Ultra Fit")), &["sda: Unmatched", "sdb: format data-1"]),
        case(
            "emmc-thin-client",
            as_recorded,
            one(by_model("DF4016")),
            &["mmcblk0: format data-1", "mmcblk1: Unmatched"],
        ),
        case(
            "raspberry-pi-4",
            |machine| find(machine, "mmcblk0").booted = true,
            one(by_model("Portable*")),
            &["sda: Removable", "guarded"],
        ),
        case(
            "raspberry-pi-4",
            |machine| find(machine, "mmcblk0").booted = true,
            named(by_model("Portable*")),
            &["sda: format data-1"],
        ),
        // Unreadable, which erase does not help.
        erase(
            &[EVO],
            case(
                nuc,
                nuc!(|machine| find(machine, "sda").content = Content::Unreadable("EIO".to_owned())),
                evo(),
                &["sda: Unreadable", "sdb: Unmatched", "guarded"],
            ),
        ),
        // One serial number on two disks.
        case(
            "two-usb-bridges",
            as_recorded,
            named(by_model("Tech")),
            &["nvme0n1: Unmatched", "sda: Duplicate", "sdb: Duplicate", "guarded"],
        ),
        case(
            "two-usb-bridges",
            |machine| find(machine, "sdb").serial = "OTHER".to_owned(),
            vec![Rule { removable: true, ..rule(by_model("Tech"), 2) }],
            &["nvme0n1: Unmatched", "sda: format data-1", "sdb: format data-2"],
        ),
        // Two namespaces of one controller have its serial number, too: only their WWNs differ.
        case(
            "q35-nvme-namespaces",
            as_recorded,
            vec![rule(by_model("QEMU*"), 2)],
            &["nvme1n1: Duplicate", "nvme1n2: Duplicate", "guarded"],
        ),
        // Foreign cluster, foreign node, which erase does not help; and our own.
        erase(
            &[EVO],
            case(
                nuc,
                nuc!(|machine| find(machine, "sda").table = owned(Uuid::from_u128(9), 1, TYPE_DATA)),
                evo(),
                &["sda: ForeignCluster", "sdb: Unmatched", "guarded"],
            ),
        ),
        erase(
            &[EVO],
            case(
                nuc,
                nuc!(|machine| find(machine, "sda").table = owned(CLUSTER, 7, TYPE_DATA)),
                evo(),
                &["sda: ForeignNode", "sdb: Unmatched", "guarded"],
            ),
        ),
        case(
            nuc,
            nuc!(|machine| find(machine, "sdb").table = owned(CLUSTER, 1, TYPE_DATA)),
            evo(),
            &["sda: Spare", "sdb: keep data-1"],
        ),
        case(
            nuc,
            nuc!(|machine| find(machine, "sda").table = owned(CLUSTER, 1, TYPE_UNFINISHED)),
            evo(),
            &["sda: resume data-1", "sdb: Unmatched"],
        ),
        // A signature, and the only thing that helps.
        case(
            nuc,
            nuc!(|machine| ext4(find(machine, "sda"))),
            evo(),
            &["sda: Signatures", "sdb: Unmatched", "guarded"],
        ),
        erase(
            &[EVO],
            case(
                nuc,
                nuc!(|machine| ext4(find(machine, "sda"))),
                evo(),
                &["sda: erase data-1", "sdb: Unmatched"],
            ),
        ),
        erase(
            &["50026B", "S4EVNX0N912345B"],
            case(
                nuc,
                nuc!(|machine| ext4(find(machine, "sda"))),
                evo(),
                &["sda: Signatures", "sdb: Unmatched", "guarded", "erase list"],
            ),
        ),
        // Size.
        case(
            nuc,
            nuc!(|machine| find(machine, "sda").size = 32 << 20),
            evo(),
            &["sda: TooSmall", "sdb: Unmatched", "guarded"],
        ),
        // More or fewer than wanted.
        case(
            "dell-r640-perc",
            |machine| find(machine, "sda").booted = true,
            one(by_model("PERC*")),
            &["sdb: Refused", "sdc: Refused", "ambiguous"],
        ),
        case(
            "dell-r640-perc",
            |machine| find(machine, "sda").booted = true,
            one(by_path("pci-0000:3b:00.0-scsi-0:2:2:0")),
            &["sdb: Unmatched", "sdc: format data-1"],
        ),
        case(
            "dell-r640-perc",
            |machine| find(machine, "sda").booted = true,
            vec![rule(by_model("PERC*"), 3)],
            &["sdb: format data-1", "sdc: format data-2", "missing"],
        ),
        // Two rules for one disk.
        case(
            AHCI,
            as_recorded,
            vec![
                rule(sata(), 2),
                Rule {
                    name: "ceph".to_owned(),
                    usage: Use::Raw,
                    ..rule(by_path("pci-0000:00:02.0-ata-3"), 1)
                },
            ],
            &[
                "nvme0n1: Unmatched",
                "sda: Refused",
                "sdb: Refused",
                "vda: Unmatched",
                "vdb: Unmatched",
                "overlap",
            ],
        ),
        case(
            AHCI,
            as_recorded,
            one(by_path("*-ata-3.0")),
            &[
                "nvme0n1: Unmatched",
                "sda: Unmatched",
                "sdb: format data-1",
                "vda: Unmatched",
                "vdb: Unmatched",
            ],
        ),
        // Two disks for one slot.
        case(
            AHCI,
            |machine| {
                find(machine, "sda").table = owned(CLUSTER, 1, TYPE_DATA);
                find(machine, "sdb").table = owned(CLUSTER, 1, TYPE_DATA);
            },
            one(sata()),
            &[
                "nvme0n1: Unmatched",
                "sda: Duplicate",
                "sdb: Duplicate",
                "vda: Unmatched",
                "vdb: Unmatched",
                "twins",
            ],
        ),
        case(
            "supermicro-sas-expander",
            as_recorded,
            vec![rule(matching(|words| words.rotational = Some(true)), 2)],
            &["sda: format data-1", "sdb: format data-2"],
        ),
        case(
            "q35-virtio-scsi",
            as_recorded,
            one(matching(|words| words.wwn = Some("0x5000c50015ea71*".to_owned()))),
            &["sda: format data-1", "sdb: Unmatched", "sdc: Unmatched"],
        ),
    ];
    for case in cases {
        let mut machine = recorded(case.machine);
        (case.change)(&mut machine);
        let handoff = handoff(&case.rules, case.erase);
        assert_eq!(outcome(&machine, &handoff), case.want, "{} with {:?}", case.machine, case.rules);
        for name in to_probe(&machine, &handoff) {
            assert!(!find(&mut machine, &name).booted, "{name}");
        }
    }
}
