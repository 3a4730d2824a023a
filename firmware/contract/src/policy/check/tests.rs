//! Policies that no device may carry out.

use super::{Fault, is_option, is_place};
use crate::policy::{FileSystem, Match, Policy, Rule, Slot, Swap, System, Use};
use uuid::Uuid;

fn slot(number: u128) -> Slot {
    Slot {
        name: format!("sdf-{number}"),
        partition: Uuid::from_u128(0x100 + number),
        filesystem: Uuid::from_u128(0x200 + number),
        luks: Uuid::from_u128(0x300 + number),
        longhorn: Uuid::from_u128(0x400 + number),
        mount_point: Some(format!("/mnt/longhorn/sdf-{number}")),
    }
}

fn policy() -> Policy {
    let rule = Rule {
        name: "sdf".to_owned(),
        matching: Match::default(),
        exclude: Vec::new(),
        usage: Use::Longhorn,
        slots: vec![slot(1), slot(2)],
        filesystem: FileSystem::Ext4,
        mount_options: vec!["noatime".to_owned()],
        tags: Vec::new(),
        reserved: 0,
        encrypt: None,
        removable: false,
    };
    Policy { system: System::default(), data: vec![rule], erase: Vec::new() }
}

fn field(change: impl FnOnce(&mut Policy)) -> Result<(), &'static str> {
    let mut policy = policy();
    change(&mut policy);
    policy.check().map_err(|(field, _, _): Fault| field)
}

#[test]
fn every_field_is_looked_at() {
    assert_eq!(field(|_| {}), Ok(()));
    let rule = |change: fn(&mut Rule)| field(move |policy| change(&mut policy.data[0]));
    for name in ["", "a/b", "A", "a\nb", "-a", "a."] {
        assert_eq!(field(|policy| policy.data[0].name = name.to_owned()), Err("disks.data.name"), "{name:?}");
    }
    let names = "disks.data.slots.name";
    assert_eq!(rule(|rule| rule.slots[0].name = "x".repeat(40)), Err(names));
    assert_eq!(rule(|rule| rule.slots[0].name = "sdf-2".to_owned()), Err(names));
    assert_eq!(rule(|rule| rule.slots[1].partition = rule.slots[0].partition), Err("disks.data.slots"));
    assert_eq!(rule(|rule| rule.slots[1].longhorn = Uuid::nil()), Err("disks.data.slots"));
    let places = "disks.data.slots.mount_point";
    assert_eq!(rule(|rule| rule.slots[0].mount_point = None), Err(places));
    assert_eq!(rule(|rule| rule.usage = Use::Raw), Err(places));
    assert_eq!(rule(|rule| rule.slots[0].mount_point = rule.slots[1].mount_point.clone()), Err(places));
    assert_eq!(rule(|rule| rule.slots[0].mount_point = Some("/etc".to_owned())), Err(places));
    assert_eq!(rule(|rule| rule.mount_options.push("a,b".to_owned())), Err("disks.data.mount_options"));
    assert_eq!(rule(|rule| rule.tags.push("a\nb".to_owned())), Err("disks.data.tags"));
    assert_eq!(field(|policy| policy.data.push(policy.data[0].clone())), Err("disks.data.name"));
    assert_eq!(field(|policy| policy.erase = vec!["S".to_owned(); 300]), Err("disks.erase"));
    let swap = |bytes| Some(Swap { bytes, partition: Uuid::from_u128(8), filesystem: Uuid::from_u128(9) });
    assert_eq!(field(|policy| policy.system.swap = swap(1)), Ok(()));
    assert_eq!(field(|policy| policy.system.swap = swap(0)), Err("disks.system.swap.bytes"));
}

#[test]
fn places_and_options() {
    for good in ["/mnt/longhorn/sdf-1", "/storage", "/srv", "/var/lib/longhorn", "/home/a", "/data/ü"] {
        assert!(is_place(good), "{good}");
    }
    for bad in [
        "",
        "/",
        "mnt",
        "/mnt/../etc",
        "/mnt//a",
        "/mnt/./a",
        "/mnt/a/",
        "/usr",
        "/usr/local",
        "/etc/x",
        "/var",
        "/var/lib/kiln/etc",
        "/run/x",
        "/a\nb",
        "/a\\b",
        "/lib/x",
    ] {
        assert!(!is_place(bad), "{bad:?}");
    }
    assert!(!is_place(&format!("/{}", "x".repeat(300))));
    for bad in ["", "a b", "a,b", "a\nWhat=/dev/sda", "ä"] {
        assert!(!is_option(bad), "{bad:?}");
    }
    assert!(is_option("x-systemd.device-timeout=5"));
}
