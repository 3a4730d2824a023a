//! What udev puts together by itself, of members that it finds by name or UUID on any disk: volume groups, arrays, caches,
//! pools. Only members on disks that the rules took count. An array that is started or a volume that is activated writes to
//! its disks, and a group of the same name as the node's own would be taken for it.

use crate::failure::Failure;
use kiln_contract::handoff::Handoff;
use kiln_contract::plan::{Action, Plan};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Where rules of one boot go (udev(7)).
const FOLDER: &str = "/run/udev/rules.d";
/// Behind 60-persistent-storage.rules, which finds out what is on a device, and before the rules of LVM (69), mdadm (63, 64),
/// btrfs (64), bcache (69) and ZFS, all of which go by what was found (`ID_FS_TYPE`).
const NAME: &str = "62-kiln-foreign.rules";
/// Devices that are made of others, which were looked at, or of what a person named.
const MADE: &str = "dm-*|md*|loop*|ram*|zram*|nbd*|rbd*|drbd*|bcache*|zd*";
/// libblkid's names of what belongs to something that may have more members.
const MEMBERS: &str =
    "LVM*_member|*_raid_member|bcache*|btrfs|zfs_member|mpath_member|DM_snapshot_cow|stratis|VxVM*|drbd*";

/// Writes the rules. A node without rules for disks has left none out, and its system does as Debian does.
pub(crate) fn keep_out(handoff: &Handoff, plan: &Plan, booted: &str) -> Result<(), Failure> {
    if handoff.disks.data.is_empty() {
        return Ok(());
    }
    let folder = Path::new(FOLDER);
    let write = || {
        fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(NAME), text(handoff, plan, booted)))
    };
    write().map_err(|error| Failure::Root { what: format!("write {FOLDER}/{NAME}"), error })
}

/// Kernel names stay for as long as a disk is there; where one is ours by its partition, that is asked for as well.
fn text(handoff: &Handoff, plan: &Plan, booted: &str) -> String {
    let mut text = format!(
        "# Made by Kiln at each boot: members of volume groups, arrays and the like count only on disks that the rules\n\
         # took. To have this system use others, give them a rule with `use: raw`.\n\
         SUBSYSTEM!=\"block\", GOTO=\"kiln_end\"\nACTION==\"remove\", GOTO=\"kiln_end\"\nKERNEL==\"{MADE}\", GOTO=\"kiln_end\"\n"
    );
    let mut allow = |disk: &str, also: &str| {
        let infix = if disk.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
        // sysfs' names; udev has a slash where they have `!`.
        let disk = disk.replace('!', "/");
        let _ = writeln!(text, "KERNEL==\"{disk}|{disk}{infix}[0-9]*\",{also} GOTO=\"kiln_end\"");
    };
    allow(booted, "");
    for decision in &plan.disks {
        let place = match &decision.action {
            Action::Leave(_) => {
                allow(&decision.disk, "");
                continue;
            }
            Action::Keep(place)
            | Action::Provision(place)
            | Action::Resume(place)
            | Action::Erase(place, _) => place,
            Action::Ignore(_) => continue,
        };
        let slots = handoff.disks.data.iter().flat_map(|rule| &rule.slots);
        for slot in slots.filter(|slot| slot.name == place.slot) {
            allow(&decision.disk, &format!(" ENV{{ID_PART_ENTRY_UUID}}==\"{}\",", slot.partition));
        }
    }
    // Names that two disks claim (by-uuid, by-label) are given to the node's own.
    text.push_str("OPTIONS+=\"link_priority=-100\"\n");
    let _ = writeln!(
        text,
        "ENV{{ID_FS_TYPE}}==\"{MEMBERS}\", ENV{{ID_FS_TYPE}}=\"foreign_$env{{ID_FS_TYPE}}\"\nLABEL=\"kiln_end\""
    );
    text
}

#[cfg(test)]
mod tests {
    use super::{MADE, MEMBERS, text};
    use crate::data::tests::rule;
    use crate::stock::tests::document;
    use kiln_contract::plan::{Action, Decision, Obstacle, Place, Plan};
    use kiln_contract::policy::{Policy, Use};

    #[test]
    fn only_disks_of_the_plan_are_let_through() {
        let rule = rule("sdf", 1);
        let place = Place { rule: "sdf".to_owned(), slot: rule.slots[0].name.clone(), usage: Use::Lvm };
        let decide = |disk: &str, action| Decision { disk: disk.to_owned(), action };
        let plan = Plan {
            disks: vec![
                decide("nvme1n1", Action::Keep(place)),
                decide("sdb", Action::Ignore(Obstacle::Unmatched)),
                decide("sdc", Action::Leave("ceph".to_owned())),
            ],
            problems: Vec::new(),
        };
        let handoff = document(Policy { data: vec![rule], ..Policy::default() });
        let text = text(&handoff, &plan, "sda");
        let partition = &handoff.disks.data[0].slots[0].partition;
        let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            rules,
            [
                "SUBSYSTEM!=\"block\", GOTO=\"kiln_end\"",
                "ACTION==\"remove\", GOTO=\"kiln_end\"",
                &format!("KERNEL==\"{MADE}\", GOTO=\"kiln_end\""),
                "KERNEL==\"sda|sda[0-9]*\", GOTO=\"kiln_end\"",
                &format!(
                    "KERNEL==\"nvme1n1|nvme1n1p[0-9]*\", ENV{{ID_PART_ENTRY_UUID}}==\"{partition}\", GOTO=\"kiln_end\""
                ),
                "KERNEL==\"sdc|sdc[0-9]*\", GOTO=\"kiln_end\"",
                "OPTIONS+=\"link_priority=-100\"",
                &format!(
                    "ENV{{ID_FS_TYPE}}==\"{MEMBERS}\", ENV{{ID_FS_TYPE}}=\"foreign_$env{{ID_FS_TYPE}}\""
                ),
                "LABEL=\"kiln_end\"",
            ]
        );
    }
}
