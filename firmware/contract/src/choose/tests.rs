//! What a plan is made of, case by case, and what holds for every machine under every policy.

use super::{choose, to_probe};
use crate::handoff::{Cluster, Handoff, Node, Partitions, VERSION};
use crate::machine::{self, Content, Disk, Machine, Partition, Signature, Table, Transport, UNSIGNED};
use crate::partition::{TYPE_DATA, TYPE_ESP, TYPE_UNFINISHED, data_disk_guid};
use crate::plan::{Action, Obstacle, Place, Plan, Problem};
use crate::policy::{FileSystem, Match, Policy, Rule, Slot, Use};
use uuid::Uuid;

mod properties;

const CLUSTER: Uuid = Uuid::from_u128(0xc1);
const GIB: u64 = 1 << 30;

pub(crate) fn disk(name: &str) -> Disk {
    Disk {
        name: name.to_owned(),
        size: 500 * GIB,
        sector_size: 512,
        booted: false,
        read_only: false,
        removable: false,
        rotational: Some(false),
        transport: Transport::Sata,
        model: "Samsung SSD 870 EVO 500GB".to_owned(),
        vendor: "ATA".to_owned(),
        serial: format!("S62ANJ0N{}", name.to_uppercase()),
        wwn: String::new(),
        by_id: vec![format!("ata-Samsung_SSD_870_EVO_500GB_S62ANJ0N{}", name.to_uppercase())],
        path: format!("pci-0000:00:1f.2-ata-{name}"),
        other_paths: Vec::new(),
        content: Content::Blank,
        table: None,
    }
}

pub(crate) fn machine(disks: &[Disk]) -> Machine {
    Machine { version: machine::VERSION, product: String::new(), disks: disks.to_vec() }
}

pub(crate) fn slot(name: &str, number: u128) -> Slot {
    let uuid = |kind: u128| Uuid::from_u128(number << 8 | kind);
    let (partition, filesystem, luks, longhorn) = (uuid(1), uuid(2), uuid(3), uuid(4));
    Slot { name: name.to_owned(), partition, filesystem, luks, longhorn, mount_point: None }
}

pub(crate) fn rule(name: &str, usage: Use, count: u128) -> Rule {
    let first = name.bytes().fold(1, |hash: u128, byte| hash << 8 | u128::from(byte)) << 8;
    Rule {
        name: name.to_owned(),
        matching: Match::default(),
        exclude: Vec::new(),
        usage,
        slots: (1..=count).map(|number| slot(&format!("{name}-{number}"), first | number)).collect(),
        filesystem: FileSystem::Ext4,
        mount_options: Vec::new(),
        tags: Vec::new(),
        reserved: 0,
        encrypt: None,
        removable: false,
    }
}

pub(crate) fn handoff(data: &[Rule], erase: &[&str]) -> Handoff {
    let id = Uuid::from_u128;
    Handoff {
        version: VERSION,
        credentials: None,
        cluster: Cluster { id: CLUSTER, name: "demo".to_owned() },
        node: Node { name: "k3s1".to_owned(), machine_id: "0123456789abcdef0123456789abcdef".to_owned() },
        partitions: Partitions {
            esp: id(2),
            cidata: id(3),
            root_a: id(4),
            root_b: id(5),
            state: id(6),
            state_filesystem: id(7),
        },
        disks: Policy {
            data: data.to_vec(),
            erase: erase.iter().map(|serial| (*serial).to_owned()).collect(),
            ..Policy::default()
        },
        memory: crate::memory::Memory::default(),
        iscsi: None,
    }
}

pub(crate) fn table(disk_guid: Uuid, partitions: &[(Uuid, Uuid)]) -> Table {
    let partition = |(number, (kind, guid)): (u32, &(Uuid, Uuid))| Partition {
        number,
        kind: *kind,
        guid: *guid,
        label: format!("data-{number}"),
        start: 1 << 20,
        size: 1 << 30,
    };
    Table { disk_guid, partitions: (1..).zip(partitions).map(partition).collect(), sector_size: None }
}

/// The table that a provisioned disk has.
pub(crate) fn provisioned(cluster: Uuid, slot: &Slot, kind: Uuid) -> Table {
    table(data_disk_guid(cluster, slot.partition), &[(kind, slot.partition)])
}

pub(crate) fn signature(kind: &str, label: &str) -> Signature {
    Signature { kind: kind.to_owned(), label: label.to_owned(), uuid: String::new(), partition: None }
}

fn with(disk: &Disk, change: impl FnOnce(&mut Disk)) -> Disk {
    let mut disk = disk.clone();
    change(&mut disk);
    disk
}

fn place(rule: &str, slot: &str) -> Place {
    Place { rule: rule.to_owned(), slot: slot.to_owned(), usage: Use::Longhorn }
}

fn actions(plan: &Plan) -> Vec<&Action> {
    plan.disks.iter().map(|decision| &decision.action).collect()
}

fn longhorn(count: u128) -> Rule {
    rule("data", Use::Longhorn, count)
}

#[test]
fn as_many_blank_disks_as_wanted_are_taken_in_the_order_of_their_paths() {
    let booted = with(&disk("sda"), |disk| disk.booted = true);
    let (late, early) =
        (disk("sdb"), with(&disk("sdc"), |disk| disk.path = "pci-0000:00:1f.2-ata-1".to_owned()));
    let plan = choose(&machine(&[late, booted, early]), &handoff(&[longhorn(2)], &[]));
    let [first, second] = [place("data", "data-1"), place("data", "data-2")];
    assert_eq!(actions(&plan), [&Action::Provision(second), &Action::Provision(first)]);
    assert_eq!(plan.problems, []);
}

/// Each guard with the smallest change that brings it down.
#[test]
fn every_guard_refuses_and_its_absence_passes() {
    let data = disk("sdb");
    let signed = with(&data, |disk| disk.content = Content::Signatures(vec![signature("ext4", "old")]));
    let backup_only =
        with(&data, |disk| disk.table = Some(table(Uuid::from_u128(9), &[(TYPE_ESP, CLUSTER)])));
    let other_cluster = with(&data, |disk| {
        disk.table = Some(provisioned(Uuid::from_u128(8), &slot("x", 77), TYPE_DATA));
    });
    let other_node = with(&data, |disk| disk.table = Some(provisioned(CLUSTER, &slot("x", 77), TYPE_DATA)));
    let small = with(&data, |disk| disk.size = (64 << 20) - 512);
    let xfs = |rule: &mut Rule| rule.filesystem = FileSystem::Xfs;
    let removable = with(&data, |disk| disk.removable = true);
    let anyway = |_: &mut Rule| ();
    type Change = fn(&mut Rule);
    let refused: [(Disk, Change, &[&str], Obstacle); 12] = [
        (with(&data, |disk| disk.read_only = true), anyway, &[], Obstacle::ReadOnly),
        (removable.clone(), anyway, &[], Obstacle::Removable),
        (
            with(&data, |disk| disk.content = Content::Unreadable("EIO".to_owned())),
            anyway,
            &["S62ANJ0NSDB"],
            Obstacle::Unreadable("EIO".to_owned()),
        ),
        (other_cluster.clone(), anyway, &["S62ANJ0NSDB"], Obstacle::ForeignCluster),
        (other_node, anyway, &["S62ANJ0NSDB"], Obstacle::ForeignNode("data-1".to_owned())),
        (signed.clone(), anyway, &[], Obstacle::Signatures(vec![signature("ext4", "old")])),
        (signed.clone(), anyway, &["S62ANJ0NSD"], Obstacle::Signatures(vec![signature("ext4", "old")])),
        (
            with(&signed, |disk| disk.serial.clear()),
            anyway,
            &[""],
            Obstacle::Signatures(vec![signature("ext4", "old")]),
        ),
        (
            backup_only,
            anyway,
            &[],
            Obstacle::Signatures(vec![Signature {
                uuid: Uuid::from_u128(9).to_string(),
                ..signature("gpt", "")
            }]),
        ),
        (small.clone(), anyway, &[], Obstacle::TooSmall(64 << 20)),
        (with(&data, |disk| disk.size = 300 << 20), xfs, &[], Obstacle::TooSmall(304 << 20)),
        (with(&small, |disk| disk.read_only = true), anyway, &[], Obstacle::ReadOnly),
    ];
    for (disk, change, erase, obstacle) in refused {
        let mut rule = longhorn(1);
        change(&mut rule);
        let plan = choose(&machine(&[disk]), &handoff(&[rule], erase));
        let in_the_way = vec![("sdb".to_owned(), obstacle.clone())];
        let slots = vec!["data-1".to_owned()];
        assert_eq!(actions(&plan), [&Action::Ignore(obstacle)]);
        assert_eq!(plan.problems, [Problem::Guarded { rule: "data".to_owned(), slots, disks: in_the_way }]);
    }
    let named = |rule: &mut Rule| rule.removable = true;
    let taken: [(Disk, Change, &[&str]); 5] = [
        (data.clone(), anyway, &[]),
        (removable, named, &[]),
        (signed, anyway, &["S62ANJ0NSDB"]),
        (with(&data, |disk| disk.size = 64 << 20), anyway, &[]),
        (with(&data, |disk| disk.size = 304 << 20), xfs, &[]),
    ];
    for (disk, change, erase) in taken {
        let mut rule = longhorn(1);
        change(&mut rule);
        let plan = choose(&machine(std::slice::from_ref(&disk)), &handoff(&[rule], erase));
        let place = place("data", "data-1");
        let want = match disk.content {
            Content::Signatures(lost) => Action::Erase(place, lost),
            _ => Action::Provision(place),
        };
        assert_eq!(actions(&plan), [&want]);
        assert_eq!(plan.problems, []);
    }
}

/// A disk that is encrypted as a whole, one whose table is for sectors of another size: neither is blank.
#[test]
fn what_nobody_knows_is_lost_like_what_has_a_name() {
    let unsigned = signature(UNSIGNED, "from 0 B on");
    let noise = with(&disk("sdb"), |disk| disk.content = Content::Signatures(vec![unsigned.clone()]));
    let divided = with(&noise, |disk| {
        let table = table(Uuid::from_u128(9), &[(TYPE_ESP, CLUSTER)]);
        disk.table = Some(Table { sector_size: Some(4096), ..table });
    });
    let uuid = Uuid::from_u128(9).to_string();
    let gpt = Signature { uuid, ..signature("gpt", "for sectors of 4096 bytes") };
    for (disk, lost) in [(noise, unsigned), (divided, gpt)] {
        let plan = |erase| choose(&machine(std::slice::from_ref(&disk)), &handoff(&[longhorn(1)], erase));
        let obstacle = Obstacle::Signatures(vec![lost.clone()]);
        assert_eq!(actions(&plan(&[])), [&Action::Ignore(obstacle)]);
        assert!(plan(&[]).is_refused());
        let erase = plan(&["S62ANJ0NSDB"]);
        assert_eq!(actions(&erase), [&Action::Erase(place("data", "data-1"), vec![lost])]);
    }
}

/// A data disk that was divided behind a bridge with other sectors: it is kept, nobody gets its slot, and `erase` does not
/// cover it.
#[test]
fn a_disk_of_ours_with_other_sectors_is_not_written_to() {
    let rule = longhorn(1);
    for kind in [TYPE_DATA, TYPE_UNFINISHED] {
        let moved = with(&disk("sdb"), |disk| {
            let table = provisioned(CLUSTER, &rule.slots[0], kind);
            disk.table = Some(Table { sector_size: Some(512), ..table });
            (disk.sector_size, disk.content) = (4096, Content::Signatures(vec![signature("PMBR", "")]));
        });
        let seen = machine(&[moved, disk("sdc")]);
        let plan = choose(&seen, &handoff(std::slice::from_ref(&rule), &["S62ANJ0NSDB"]));
        let want = [&Action::Ignore(Obstacle::Sectors(512)), &Action::Ignore(Obstacle::Spare)];
        assert_eq!(actions(&plan), want);
        let (disks, slots) = (vec![("sdb".to_owned(), Obstacle::Sectors(512))], vec!["data-1".to_owned()]);
        assert_eq!(plan.problems, [Problem::Guarded { rule: "data".to_owned(), slots, disks }]);
    }
}

#[test]
fn one_identifier_on_two_disks_guards_both() {
    let serial = |name: &str| with(&disk(name), |disk| disk.serial = "0123456789ABCDEF".to_owned());
    let wwn = |name: &str| with(&disk(name), |disk| disk.wwn = "0x5000000000000001".to_owned());
    for disks in [[serial("sdb"), serial("sdc")], [wwn("sdb"), wwn("sdc")]] {
        let plan = choose(&machine(&disks), &handoff(&[longhorn(2)], &[]));
        let duplicate = |name: &str| Action::Ignore(Obstacle::Duplicate(vec![name.to_owned()]));
        assert_eq!(actions(&plan), [&duplicate("sdc"), &duplicate("sdb")]);
        assert!(plan.is_refused());
    }
    let blank = |name: &str| with(&disk(name), |disk| disk.serial.clear());
    let plan = choose(&machine(&[blank("sdb"), blank("sdc")]), &handoff(&[longhorn(2)], &[]));
    assert!(!plan.is_refused() && plan.writes());
}

#[test]
fn ours_are_known_wherever_they_are_and_whatever_the_rules_say() {
    let mut rule = longhorn(2);
    rule.matching.model = Some("another*".to_owned());
    let kept = with(&disk("sdb"), |disk| {
        disk.table = Some(provisioned(CLUSTER, &rule.slots[1], TYPE_DATA));
        disk.content = Content::Unreadable("not asked".to_owned());
        (disk.removable, disk.read_only) = (true, true);
    });
    let cut = with(&disk("sdc"), |disk| {
        disk.table = Some(provisioned(CLUSTER, &rule.slots[0], TYPE_UNFINISHED));
        disk.content = Content::Signatures(vec![signature("ext4", "half")]);
    });
    let plan = choose(&machine(&[kept.clone(), cut.clone()]), &handoff(std::slice::from_ref(&rule), &[]));
    let [first, second] = [place("data", "data-1"), place("data", "data-2")];
    assert_eq!(actions(&plan), [&Action::Keep(second.clone()), &Action::Resume(first.clone())]);
    assert_eq!(plan.problems, []);

    // One that was cut short and can't be written to now keeps its slot, which nobody else gets.
    let stuck = with(&cut, |disk| disk.read_only = true);
    let model = with(&disk("sdd"), |disk| disk.model = "another disk".to_owned());
    let plan = choose(&machine(&[kept, stuck, model]), &handoff(&[rule], &[]));
    let want = [&Action::Keep(second), &Action::Ignore(Obstacle::ReadOnly), &Action::Ignore(Obstacle::Spare)];
    assert_eq!(actions(&plan), want);
    let disks = vec![("sdc".to_owned(), Obstacle::ReadOnly)];
    let slots = vec!["data-1".to_owned()];
    assert_eq!(plan.problems, [Problem::Guarded { rule: "data".to_owned(), slots, disks }]);
}

#[test]
fn a_disk_of_ours_that_somebody_changed_is_nobodys() {
    let rule = longhorn(1);
    let partition = rule.slots[0].partition;
    let guid = data_disk_guid(CLUSTER, partition);
    let more = table(guid, &[(TYPE_DATA, partition), (TYPE_ESP, Uuid::from_u128(1))]);
    let retyped = table(guid, &[(TYPE_ESP, partition)]);
    for table in [more, retyped] {
        let changed = with(&disk("sdb"), |disk| {
            disk.content = Content::Signatures(vec![signature("gpt", "")]);
            disk.table = Some(table);
        });
        let plan = choose(&machine(&[changed]), &handoff(std::slice::from_ref(&rule), &["S62ANJ0NSDB"]));
        assert_eq!(actions(&plan), [&Action::Ignore(Obstacle::ForeignNode("data-1".to_owned()))]);
    }
}

#[test]
fn twins_are_both_left() {
    let rule = longhorn(1);
    let twin =
        |name| with(&disk(name), |disk| disk.table = Some(provisioned(CLUSTER, &rule.slots[0], TYPE_DATA)));
    let plan = choose(
        &machine(&[twin("sdb"), twin("sdc"), disk("sdd")]),
        &handoff(std::slice::from_ref(&rule), &[]),
    );
    let duplicate = |name: &str| Action::Ignore(Obstacle::Duplicate(vec![name.to_owned()]));
    let want = [&duplicate("sdc"), &duplicate("sdb"), &Action::Ignore(Obstacle::Spare)];
    assert_eq!(actions(&plan), want);
    let disks = vec!["sdb".to_owned(), "sdc".to_owned()];
    assert_eq!(plan.problems, [Problem::Twins { slot: "data-1".to_owned(), disks }]);
}

#[test]
fn more_disks_than_wanted_are_no_choice_to_make() {
    let mut other = rule("other", Use::Longhorn, 1);
    other.matching.model = Some("WDC*".to_owned());
    let mut data = longhorn(1);
    data.matching.model = Some("Samsung*".to_owned());
    let wdc = with(&disk("sdd"), |disk| disk.model = "WDC WD40".to_owned());
    let plan = choose(
        &machine(&[disk("sdb"), disk("sdc"), wdc.clone()]),
        &handoff(&[data.clone(), other.clone()], &[]),
    );
    assert!(actions(&plan).iter().all(|action| **action == Action::Ignore(Obstacle::Refused)), "{plan:?}");
    let disks = vec!["sdb".to_owned(), "sdc".to_owned()];
    assert_eq!(plan.problems, [Problem::Ambiguous { rule: "data".to_owned(), wanted: 1, disks }]);

    // Named out of the way, the rest goes on.
    data.exclude.push(Match { serial: Some("*SDC".to_owned()), ..Match::default() });
    let plan = choose(&machine(&[disk("sdb"), disk("sdc"), wdc]), &handoff(&[data, other], &[]));
    let want = [
        &Action::Provision(place("data", "data-1")),
        &Action::Ignore(Obstacle::Excluded("data".to_owned())),
        &Action::Provision(place("other", "other-1")),
    ];
    assert_eq!(actions(&plan), want);
}

#[test]
fn absent_disks_do_not_keep_the_others_waiting() {
    let plan = choose(&machine(&[disk("sdb")]), &handoff(&[longhorn(3)], &[]));
    assert_eq!(actions(&plan), [&Action::Provision(place("data", "data-1"))]);
    let slots = vec!["data-2".to_owned(), "data-3".to_owned()];
    assert_eq!(plan.problems, [Problem::Missing { rule: "data".to_owned(), slots }]);
    assert!(!plan.is_refused());
}

#[test]
fn a_disk_that_fits_two_rules_is_given_to_none() {
    let rules = [longhorn(1), rule("ceph", Use::Raw, 1)];
    let plan = choose(&machine(&[disk("sdb")]), &handoff(&rules, &[]));
    assert_eq!(actions(&plan), [&Action::Ignore(Obstacle::Refused)]);
    let names = vec!["data".to_owned(), "ceph".to_owned()];
    assert_eq!(plan.problems, [Problem::Overlap { disk: "sdb".to_owned(), rules: names }]);
    // Ours is ours, whatever else fits it now.
    let kept = with(&disk("sdb"), |disk| {
        disk.table = Some(provisioned(CLUSTER, &rules[0].slots[0], TYPE_DATA));
    });
    let plan = choose(&machine(&[kept]), &handoff(&rules, &[]));
    assert_eq!(actions(&plan), [&Action::Keep(place("data", "data-1"))]);
    assert!(!plan.is_refused());
}

#[test]
fn raw_disks_are_left_whatever_is_on_them() {
    let mut ceph = rule("ceph", Use::Raw, 2);
    ceph.matching.transport = Some(Transport::Sata);
    let osd =
        with(&disk("sdb"), |disk| disk.content = Content::Signatures(vec![signature("ceph_bluestore", "")]));
    let stick = with(&disk("sdc"), |disk| disk.removable = true);
    let foreign = with(&disk("sdd"), |disk| {
        disk.table = Some(provisioned(Uuid::from_u128(8), &slot("x", 77), TYPE_DATA));
    });
    let plan =
        choose(&machine(&[osd, stick, foreign]), &handoff(std::slice::from_ref(&ceph), &["S62ANJ0NSDB"]));
    let want = [
        &Action::Leave("ceph".to_owned()),
        &Action::Ignore(Obstacle::Removable),
        &Action::Ignore(Obstacle::ForeignCluster),
    ];
    assert_eq!(actions(&plan), want);
    let slots = vec!["ceph-2".to_owned()];
    assert_eq!(plan.problems, [Problem::Missing { rule: "ceph".to_owned(), slots }]);
    let plan = choose(&machine(&[disk("sdb"), disk("sdc"), disk("sdd")]), &handoff(&[ceph], &[]));
    assert!(matches!(&plan.problems[..], [Problem::Ambiguous { wanted: 2, .. }]), "{plan:?}");
}

#[test]
fn a_serial_to_erase_means_one_disk_and_not_the_booted_one() {
    let signed = with(&disk("sdb"), |disk| disk.content = Content::Signatures(vec![signature("ntfs", "")]));
    let booted = with(&disk("sda"), |disk| {
        disk.booted = true;
        disk.serial = "S62ANJ0NSDA".to_owned();
    });
    let plan = choose(
        &machine(&[booted.clone(), signed.clone()]),
        &handoff(&[longhorn(1)], &["S62ANJ0NSDA", "S62ANJ0NSDB", "ABSENT"]),
    );
    let disks = vec!["sda".to_owned()];
    assert_eq!(plan.problems, [Problem::Erase { serial: "S62ANJ0NSDA".to_owned(), disks }]);
    assert_eq!(actions(&plan), [&Action::Ignore(Obstacle::Refused)]);
    let twin = with(&booted, |disk| disk.serial.clone_from(&signed.serial));
    let plan = choose(&machine(&[twin, signed]), &handoff(&[longhorn(1)], &["S62ANJ0NSDB"]));
    assert_eq!(actions(&plan), [&Action::Ignore(Obstacle::Duplicate(vec!["sda".to_owned()]))]);
    assert!(plan.problems.iter().any(|problem| matches!(problem, Problem::Erase { .. })), "{plan:?}");
}

/// A later boot with everything in its place has nothing to ask blkid.
#[test]
fn only_disks_that_may_be_taken_are_probed() {
    let mut rule = longhorn(2);
    rule.matching.transport = Some(Transport::Sata);
    let kept = with(&disk("sdb"), |disk| {
        disk.table = Some(provisioned(CLUSTER, &rule.slots[0], TYPE_DATA));
    });
    let stick = with(&disk("sdc"), |disk| disk.transport = Transport::Usb);
    let booted = with(&disk("sda"), |disk| disk.booted = true);
    let before = machine(&[booted.clone(), kept.clone(), stick.clone(), disk("sdd")]);
    assert_eq!(to_probe(&before, &handoff(std::slice::from_ref(&rule), &[])), ["sdd"]);
    let both = with(&disk("sdd"), |disk| {
        disk.table = Some(provisioned(CLUSTER, &rule.slots[1], TYPE_DATA));
    });
    let after = machine(&[booted, kept, stick, both, disk("sde")]);
    assert!(to_probe(&after, &handoff(&[rule], &[])).is_empty());
}
