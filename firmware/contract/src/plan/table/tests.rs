//! What a user reads, golden.

use super::{human, table};
use crate::choose::choose;
use crate::choose::tests::{disk, handoff, machine, provisioned, rule, signature, slot};
use crate::machine::{Content, Disk, Table, Transport, UNSIGNED};
use crate::partition::TYPE_DATA;
use crate::policy::{Rule, Use};
use uuid::Uuid;

fn nvme() -> Disk {
    let mut disk = disk("nvme0n1");
    disk.transport = Transport::Nvme;
    (disk.model, disk.serial) = ("KINGSTON SNV2S1000G".to_owned(), "50026B7686A1F0C2".to_owned());
    (disk.size, disk.booted) = (1_000_204_886_016, true);
    disk
}

fn stick() -> Disk {
    let mut disk = disk("sdz");
    (disk.transport, disk.removable) = (Transport::Usb, true);
    (disk.model, disk.serial) = ("Ultra Fit".to_owned(), "4C530001230815115123".to_owned());
    disk.size = 30_765_219_840;
    disk.content = Content::Signatures(vec![signature("vfat", "WINDOWS\u{1b}[2J")]);
    disk
}

fn samsungs(count: u128) -> Rule {
    let mut rule = rule("fast", Use::Longhorn, count);
    rule.matching.model = Some("Samsung*".to_owned());
    rule
}

fn signed(name: &str, kind: &str, label: &str) -> Disk {
    let mut disk = disk(name);
    disk.content = Content::Signatures(vec![signature(kind, label)]);
    disk
}

#[test]
fn a_first_boot_and_the_next() {
    let rules = [samsungs(2)];
    let mut first = disk("sda");
    let fresh = machine(&[nvme(), first.clone(), disk("sdb"), stick()]);
    insta::assert_snapshot!(table(&fresh, &choose(&fresh, &handoff(&rules, &[]))));
    first.table = Some(provisioned(Uuid::from_u128(0xc1), &rules[0].slots[0], TYPE_DATA));
    let later = machine(&[nvme(), first, stick()]);
    insta::assert_snapshot!(table(&later, &choose(&later, &handoff(&rules, &[]))));
}

#[test]
fn data_that_is_lost_is_said() {
    let seen = machine(&[nvme(), signed("sda", "LVM2_member", ""), disk("sdb")]);
    insta::assert_snapshot!(table(&seen, &choose(&seen, &handoff(&[samsungs(2)], &["S62ANJ0NSDA"]))));
}

#[test]
fn a_machine_full_of_trouble() {
    let mut foreign = disk("sde");
    foreign.table = Some(provisioned(Uuid::from_u128(8), &slot("x", 77), TYPE_DATA));
    let mut hanging = disk("sdf");
    hanging.content = Content::Unreadable("Input/output error (os error 5) at byte 0".to_owned());
    let mut bridge = disk("sdg");
    bridge.serial = "000000000033".to_owned();
    let mut other_bridge = bridge.clone();
    other_bridge.name = "sdh".to_owned();
    let mut nameless = signed("sdi", "ext4", "srv");
    nameless.serial.clear();
    let mut plain = disk("sdj");
    plain.removable = true;
    let mut small = disk("sdk");
    small.size = 8 << 20;
    let mut locked = disk("sdl");
    locked.read_only = true;
    let noise = signed("sdm", UNSIGNED, "from 0 B on");
    let mut moved = disk("sdn");
    let table_of_ours = provisioned(Uuid::from_u128(0xc1), &samsungs(4).slots[0], TYPE_DATA);
    moved.table = Some(Table { sector_size: Some(512), ..table_of_ours });
    let disks = [
        noise,
        moved,
        nvme(),
        signed("sdd", "ntfs", "Photos"),
        foreign,
        hanging,
        bridge,
        other_bridge,
        nameless,
        plain,
        small,
        locked,
    ];
    let seen = machine(&disks);
    insta::assert_snapshot!(table(&seen, &choose(&seen, &handoff(&[samsungs(4)], &[]))));
}

#[test]
fn rules_that_do_not_tell() {
    let mut ceph = rule("ceph", Use::Raw, 1);
    ceph.matching.serial = Some("*SDC".to_owned());
    let twin = |name: &str| {
        let mut disk = stick();
        disk.name = name.to_owned();
        disk.serial = "OTHER".to_owned() + name;
        disk.table = Some(provisioned(Uuid::from_u128(0xc1), &samsungs(1).slots[0], TYPE_DATA));
        disk
    };
    let seen =
        machine(&[nvme(), disk("sda"), disk("sdb"), disk("sdc"), disk("sdd"), twin("sdx"), twin("sdy")]);
    let rules = [samsungs(2), ceph];
    insta::assert_snapshot!(table(&seen, &choose(&seen, &handoff(&rules, &["50026B7686A1F0C2"]))));
}

#[test]
fn no_disk_at_all() {
    let seen = machine(&[]);
    insta::assert_snapshot!(table(&seen, &choose(&seen, &handoff(&[], &[]))));
}

#[test]
fn sizes_read_as_people_say_them() {
    for (bytes, text) in
        [(512, "512 B"), (64 << 20, "64.0 MiB"), (500_107_862_016, "465.7 GiB"), (3 << 40, "3.0 TiB")]
    {
        assert_eq!(human(bytes), text);
    }
}
