//! What the rules make of each recorded machine.

use super::{CLUSTER, find, recorded};
use kiln_contract::choose::{choose, to_probe};
use kiln_contract::handoff::{Cluster, Handoff, Node, Partitions};
use kiln_contract::machine::{Content, Disk, Machine, Partition, Signature, Table, Transport};
use kiln_contract::memory::Memory;
use kiln_contract::partition::{TYPE_DATA, TYPE_UNFINISHED, data_disk_guid};
use kiln_contract::plan::{Action, Problem};
use kiln_contract::policy::{Match, Policy, Rule, Slot, Use};
use uuid::Uuid;

pub(super) fn rule(matching: Match, count: u128) -> Rule {
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

pub(super) fn handoff(rules: &[Rule], erase: &[&str]) -> Handoff {
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

pub(super) fn matching(change: impl FnOnce(&mut Match)) -> Match {
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
    Some(Table { disk_guid: data_disk_guid(cluster, guid), partitions: vec![partition], sector_size: None })
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
