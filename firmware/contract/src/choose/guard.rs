//! What keeps a disk that fits a rule from being written to.

use super::lost;
use crate::handoff::Handoff;
use crate::machine::{Content, Disk, Machine};
use crate::plan::Obstacle;
use crate::policy::Rule;

/// What forbids to write to any disk, ours included.
pub(super) fn unwritable(disk: &Disk, rule: &Rule) -> Option<Obstacle> {
    if disk.read_only {
        return Some(Obstacle::ReadOnly);
    }
    if disk.removable && !rule.removable {
        return Some(Obstacle::Removable);
    }
    match &disk.content {
        Content::Unreadable(reason) => Some(Obstacle::Unreadable(reason.clone())),
        Content::Blank | Content::Signatures(_) => None,
    }
}

/// What forbids to take a disk that nobody of Kiln's owns. Disks that are not written to are only asked whether they
/// can be taken out: what is on them is their owner's.
pub(super) fn obstacle(disk: &Disk, rule: &Rule, node: (&Machine, &Handoff)) -> Option<Obstacle> {
    let (machine, handoff) = node;
    if !rule.writes() {
        return (disk.removable && !rule.removable).then_some(Obstacle::Removable);
    }
    if let Some(obstacle) = unwritable(disk, rule) {
        return Some(obstacle);
    }
    let twins = twins(disk, machine);
    if !twins.is_empty() {
        return Some(Obstacle::Duplicate(twins));
    }
    // That no other disk has this serial number was seen just now.
    let may_be_erased = !disk.serial.is_empty() && handoff.disks.erase.contains(&disk.serial);
    if let Some(signatures) = lost(disk)
        && !may_be_erased
    {
        return Some(Obstacle::Signatures(signatures));
    }
    let least = rule.least_size();
    (disk.size < least).then_some(Obstacle::TooSmall(least))
}

/// Other disks, the booted one included, with the same serial number or WWN. Some bridges give one to all they make.
fn twins(disk: &Disk, machine: &Machine) -> Vec<String> {
    let same = |one: &str, other: &str| !one.is_empty() && one == other;
    let is_twin = |other: &&Disk| {
        !std::ptr::eq(*other, disk) && (same(&disk.serial, &other.serial) || same(&disk.wwn, &other.wwn))
    };
    let mut names: Vec<String> =
        machine.disks.iter().filter(is_twin).map(|other| other.name.clone()).collect();
    names.sort();
    names
}
