//! Which disk the machine was booted from, and which root is its own. Pure: disks in, a choice or a reason out.

use crate::disks::{Disk, Partition};
use crate::failure::Failure;
use kiln_contract::handoff::Handoff;
use kiln_contract::partition as types;
use uuid::Uuid;

/// The disk, and the partition that says what the machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Booted {
    /// The disk.
    pub(crate) disk: Disk,
    /// Its ESP.
    pub(crate) esp: Partition,
    /// Its seed.
    pub(crate) seed: Partition,
}

/// Why there is no choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No disk fits yet; one may still come.
    None,
    /// More than one fits; names of the disks.
    Several(Vec<String>),
    /// The disk has not exactly one partition of this kind: disk, kind, how many.
    Partition(String, &'static str, usize),
}

/// The disk with the ESP that the firmware booted, or, when EFI variables don't tell, the only disk of Kiln's shape.
pub(crate) fn booted(disks: &[Disk], esp: Option<Uuid>) -> Result<Booted, Reason> {
    let is_booted = |disk: &&Disk| match esp {
        Some(guid) => disk.of_kind(types::TYPE_ESP).any(|partition| partition.guid == guid),
        None => disk.is_kiln(),
    };
    let candidates: Vec<&Disk> = disks.iter().filter(is_booted).collect();
    let disk = match candidates[..] {
        [] => return Err(Reason::None),
        [disk] => disk,
        _ => return Err(Reason::Several(candidates.iter().map(|disk| disk.name.clone()).collect())),
    };
    let wanted_esp = |partition: &&Partition| esp.is_none_or(|guid| partition.guid == guid);
    let esps: Vec<_> = disk.of_kind(types::TYPE_ESP).filter(wanted_esp).collect();
    let [esp] = esps[..] else {
        return Err(Reason::Partition(disk.name.clone(), "ESP", esps.len()));
    };
    let seeds: Vec<_> = disk.of_kind(types::TYPE_CIDATA).collect();
    let [seed] = seeds[..] else {
        return Err(Reason::Partition(disk.name.clone(), "CIDATA", seeds.len()));
    };
    Ok(Booted { disk: disk.clone(), esp: esp.clone(), seed: seed.clone() })
}

/// Copies of partitions of the booted disk on other disks, as `sdb2 (CIDATA)`: what is looked for by such a GUID may be
/// either. `own` is the booted disk's name.
pub(crate) fn copies(disks: &[Disk], own: &str, handoff: &Handoff) -> Vec<String> {
    let ours = &handoff.partitions;
    let ours = [
        (ours.esp, types::LABEL_ESP),
        (ours.cidata, types::LABEL_CIDATA),
        (ours.root_a, types::LABEL_ROOT_A),
        (ours.root_b, types::LABEL_ROOT_B),
        (ours.state, types::LABEL_STATE),
    ];
    let others = disks.iter().filter(|disk| disk.name != own).flat_map(|disk| &disk.partitions);
    let what = |guid: Uuid| ours.iter().find(|(our, _)| *our == guid).map(|(_, label)| *label);
    others.filter_map(|other| Some(format!("{} ({})", other.name, what(other.guid)?))).collect()
}

/// The root that the seed names, on the booted disk and nowhere else.
pub(crate) fn root(booted: &Booted, handoff: &Handoff) -> Result<Partition, Failure> {
    let disk = &booted.disk;
    for (what, says, is) in [
        ("ESP", handoff.partitions.esp, booted.esp.guid),
        ("CIDATA", handoff.partitions.cidata, booted.seed.guid),
    ] {
        if says != is {
            return Err(Failure::OtherSeed { disk: Box::new(disk.clone()), what, says, is });
        }
    }
    let wanted = handoff.partitions.root_a;
    let mut roots = disk.partitions.iter().filter(|partition| partition.guid == wanted);
    match (roots.next(), roots.next()) {
        (Some(root), None) if root.kind == types::TYPE_ROOT => Ok(root.clone()),
        _ => Err(Failure::NoRoot { disk: Box::new(disk.clone()), guid: wanted }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, booted, copies, root};
    use crate::disks::tests::{handoff, kiln_disk, plain_disk};
    use crate::failure::Failure;
    use kiln_contract::partition as types;

    #[test]
    fn the_loaders_word_decides() {
        let disks = [kiln_disk("sda", 1), kiln_disk("sdb", 2), plain_disk("sdc")];
        let esp = disks[1].partitions[0].guid;
        assert_eq!(booted(&disks, Some(esp)).unwrap().disk.name, "sdb");
    }

    #[test]
    fn a_disk_that_is_not_there_yet_is_waited_for() {
        let disks = [kiln_disk("sda", 1)];
        let other = kiln_disk("sdb", 2).partitions[0].guid;
        assert_eq!(booted(&disks, Some(other)), Err(Reason::None));
        assert_eq!(booted(&[plain_disk("sdc")], None), Err(Reason::None));
    }

    #[test]
    fn twins_are_refused_by_name() {
        let disks = [kiln_disk("sda", 1), kiln_disk("sdb", 1)];
        let twins = Reason::Several(vec!["sda".to_owned(), "sdb".to_owned()]);
        assert_eq!(booted(&disks, Some(disks[0].partitions[0].guid)), Err(twins));
    }

    #[test]
    fn copies_of_any_of_its_partitions_are_seen() {
        let mut disks =
            [kiln_disk("nvme0n1", 1), kiln_disk("sda", 2), plain_disk("sdc"), kiln_disk("sdb", 1)];
        assert_eq!(copies(&disks[..3], "nvme0n1", &handoff(1)), [""; 0]);
        let all = copies(&disks, "nvme0n1", &handoff(1));
        assert_eq!(all, ["sdb1 (ESP)", "sdb2 (CIDATA)", "sdb3 (root-a)"]);
        // One partition alone was copied.
        disks[3].partitions.drain(..2);
        assert_eq!(copies(&disks, "nvme0n1", &handoff(1)), ["sdb3 (root-a)"]);
    }

    #[test]
    fn without_the_loaders_word_only_a_single_disk_will_do() {
        assert_eq!(booted(&[kiln_disk("vda", 1), plain_disk("vdb")], None).unwrap().disk.name, "vda");
        let two = [kiln_disk("sda", 1), kiln_disk("sdb", 2)];
        assert!(matches!(booted(&two, None), Err(Reason::Several(names)) if names.len() == 2));
    }

    #[test]
    fn a_seed_is_looked_for_on_the_booted_disk_only() {
        let mut disks = [kiln_disk("sda", 1), kiln_disk("sdb", 2)];
        disks[0].partitions.retain(|partition| partition.kind != types::TYPE_CIDATA);
        let esp = disks[0].partitions[0].guid;
        assert_eq!(booted(&disks, Some(esp)), Err(Reason::Partition("sda".to_owned(), "CIDATA", 0)));
    }

    /// Labels are what any stick can carry; only types and GUIDs count.
    #[test]
    fn labels_decide_nothing() {
        let mut disk = kiln_disk("sda", 1);
        for partition in &mut disk.partitions {
            partition.label = "root-a".to_owned();
        }
        let found = booted(&[disk], None).unwrap();
        assert_eq!(root(&found, &handoff(1)).unwrap().name, "sda3");
    }

    #[test]
    fn a_root_elsewhere_or_of_another_type_is_no_root() {
        let mut disk = kiln_disk("sda", 1);
        let found = booted(std::slice::from_ref(&disk), None).unwrap();
        assert!(matches!(root(&found, &handoff(2)), Err(Failure::OtherSeed { what: "ESP", .. })));
        disk.partitions[2].guid = kiln_disk("sdb", 2).partitions[2].guid;
        let found = booted(std::slice::from_ref(&disk), None).unwrap();
        assert!(matches!(root(&found, &handoff(1)), Err(Failure::NoRoot { .. })));
    }
}
