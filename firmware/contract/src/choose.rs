//! Which disk becomes what. Pure: the machine as it was seen and the node's rules in, the decision out.
//!
//! A disk is recognised as ours by two GUIDs that nobody else has, wherever it is attached and whatever the rules
//! say by now: the words of `match` are for finding new disks. Whatever is new has to pass the guards, and must be
//! the only way to read the rules: in doubt nothing new is written at all.

mod guard;
mod owner;

use crate::handoff::Handoff;
use crate::machine::{Content, Disk, Machine, Signature, UNSIGNED};
use crate::plan::{Action, Decision, Obstacle, Place, Plan, Problem};
use crate::policy::{Rule, Slot};
use owner::Owner;
use std::collections::BTreeMap;
use uuid::Uuid;

/// libblkid's name of a GUID partition table.
const GPT: &str = "gpt";

/// The decision about a machine's data disks.
///
/// - Ours and formatted: kept, whatever else is wrong with the machine.
/// - Ours and cut short while it was formatted: formatted again. That goes for a refused plan, too: the decision to
///   take the disk was made when nothing spoke against it, and nothing of value can be on it.
/// - Everything else that would be written to must pass the guards, and only as many disks as a rule still wants may
///   be left. Which of them gets which slot is decided by their path, then serial number, then name.
pub fn choose(machine: &Machine, handoff: &Handoff) -> Plan {
    let mut view = View::new(machine, handoff);
    view.recognise();
    let wanted = view.wanted();
    let mut candidates = view.candidates(&wanted);
    for (rule, wanted) in handoff.disks.data.iter().zip(&wanted) {
        let found = candidates.remove(&rule.name).unwrap_or_default();
        if rule.writes() { view.assign(rule, wanted, found) } else { view.leave(rule, found) }
    }
    view.erase_list();
    view.into_plan()
}

/// Names of the disks whose [`Content`] the decision depends on; that of all others may as well be unknown. On a node
/// that has all its disks there are none.
pub fn to_probe(machine: &Machine, handoff: &Handoff) -> Vec<String> {
    let mut view = View::new(machine, handoff);
    view.recognise();
    let wanted = view.wanted();
    let wants = |disk: &Disk| {
        let rules = handoff.disks.data.iter().zip(&wanted);
        rules.into_iter().any(|(rule, wanted)| rule.writes() && !wanted.is_empty() && rule.fits(disk))
    };
    let unfinished = |disk: &Disk| matches!(Owner::of(disk, handoff), Owner::Ours { finished: false, .. });
    let decides = |seen: &Seen<'_>| match seen.action {
        None => wants(seen.disk),
        Some(_) => unfinished(seen.disk),
    };
    view.seen.iter().filter(|seen| decides(seen)).map(|seen| seen.disk.name.clone()).collect()
}

/// A disk, and what is decided about it so far.
struct Seen<'a> {
    disk: &'a Disk,
    action: Option<Action>,
}

/// What came of looking for a rule's new disks; indexes into [`View::seen`].
#[derive(Default)]
struct Found {
    /// Nothing speaks against them.
    free: Vec<usize>,
    /// They fit, but may not be touched.
    guarded: Vec<usize>,
    /// They fit another rule, too.
    contested: usize,
}

struct View<'a> {
    machine: &'a Machine,
    handoff: &'a Handoff,
    /// All disks but the booted one, in the order of their names.
    seen: Vec<Seen<'a>>,
    /// Slots that have a disk, or that a disk says it is: not to be given away.
    taken: Vec<Uuid>,
    /// Disks of ours that were cut short and may not be written to: index, slot.
    blocked: Vec<(usize, &'a Slot)>,
    problems: Vec<Problem>,
}

impl<'a> View<'a> {
    fn new(machine: &'a Machine, handoff: &'a Handoff) -> Self {
        let others = machine.disks.iter().filter(|disk| !disk.booted);
        let mut seen: Vec<Seen<'a>> = others.map(|disk| Seen { disk, action: None }).collect();
        seen.sort_by(|one, other| one.disk.name.cmp(&other.disk.name));
        Self { machine, handoff, seen, taken: Vec::new(), blocked: Vec::new(), problems: Vec::new() }
    }

    /// Decides about all disks that belong to somebody of Kiln's.
    fn recognise(&mut self) {
        let mut claims: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for index in 0..self.seen.len() {
            match Owner::of(self.seen[index].disk, self.handoff) {
                Owner::Ours { slot, .. } => claims.entry(slot.partition).or_default().push(index),
                Owner::Foreign(obstacle) => self.seen[index].action = Some(Action::Ignore(obstacle)),
                Owner::Nobody => {}
            }
        }
        for (partition, claimants) in claims {
            self.taken.push(partition);
            match claimants[..] {
                [index] => self.take_back(index),
                _ => self.refuse_twins(&claimants),
            }
        }
    }

    /// A disk of ours that nobody else claims to be.
    fn take_back(&mut self, index: usize) {
        let disk = self.seen[index].disk;
        let Owner::Ours { rule, slot, finished } = Owner::of(disk, self.handoff) else { return };
        let other_sectors = disk.table.as_ref().and_then(|table| table.sector_size).map(Obstacle::Sectors);
        let action = match other_sectors.clone().or_else(|| guard::unwritable(disk, rule)) {
            _ if finished && other_sectors.is_none() => Action::Keep(place(rule, slot)),
            None => Action::Resume(place(rule, slot)),
            Some(obstacle) => {
                self.blocked.push((index, slot));
                Action::Ignore(obstacle)
            }
        };
        self.seen[index].action = Some(action);
    }

    fn refuse_twins(&mut self, claimants: &[usize]) {
        let names: Vec<String> = claimants.iter().map(|index| self.name(*index)).collect();
        for index in claimants {
            let others = names.iter().filter(|name| **name != self.seen[*index].disk.name).cloned().collect();
            self.seen[*index].action = Some(Action::Ignore(Obstacle::Duplicate(others)));
        }
        let owner = claimants.first().map(|index| Owner::of(self.seen[*index].disk, self.handoff));
        if let Some(Owner::Ours { slot, .. }) = owner {
            self.problems.push(Problem::Twins { slot: slot.name.clone(), disks: names });
        }
    }

    /// The slots of each rule that no disk has yet.
    fn wanted(&self) -> Vec<Vec<&'a Slot>> {
        let is_free = |slot: &&Slot| !self.taken.contains(&slot.partition);
        self.handoff.disks.data.iter().map(|rule| rule.slots.iter().filter(is_free).collect()).collect()
    }

    /// Decides about all disks that no rule can take, and tells which ones each rule could.
    fn candidates(&mut self, wanted: &[Vec<&Slot>]) -> BTreeMap<String, Found> {
        let rules = &self.handoff.disks.data;
        let mut candidates: BTreeMap<String, Found> = BTreeMap::new();
        for index in 0..self.seen.len() {
            let disk = self.seen[index].disk;
            // A rule that has all its disks looks for none; one that leaves its disks alone always looks.
            let looks = |rule: &Rule, wanted: &Vec<&Slot>| !rule.writes() || !wanted.is_empty();
            let fits: Vec<_> = rules.iter().zip(wanted).filter(|(rule, _)| rule.fits(disk)).collect();
            let mut found = |rule: &Rule, add: &dyn Fn(&mut Found)| {
                add(candidates.entry(rule.name.clone()).or_default());
            };
            if let Some(action) = &self.seen[index].action {
                if let Action::Ignore(Obstacle::ForeignCluster | Obstacle::ForeignNode(_)) = action {
                    fits.iter().for_each(|(rule, _)| found(rule, &|found| found.guarded.push(index)));
                }
                continue;
            }
            let obstacle = if fits.is_empty() {
                let leaves_out = |rule: &&Rule| rule.matching.fits(disk);
                let rule = rules.iter().find(leaves_out);
                Some(rule.map_or(Obstacle::Unmatched, |rule| Obstacle::Excluded(rule.name.clone())))
            } else if !fits.iter().any(|(rule, wanted)| looks(rule, wanted)) {
                Some(Obstacle::Spare)
            } else if disk.removable && !fits.iter().any(|(rule, _)| rule.removable) {
                fits.iter().for_each(|(rule, _)| found(rule, &|found| found.guarded.push(index)));
                Some(Obstacle::Removable)
            } else if let [(rule, _)] = fits[..] {
                let obstacle = guard::obstacle(disk, rule, (self.machine, self.handoff));
                match obstacle {
                    Some(_) => found(rule, &|found| found.guarded.push(index)),
                    None => found(rule, &|found| found.free.push(index)),
                }
                obstacle
            } else {
                let rules = fits.iter().map(|(rule, _)| rule.name.clone()).collect();
                self.problems.push(Problem::Overlap { disk: disk.name.clone(), rules });
                fits.iter().for_each(|(rule, _)| found(rule, &|found| found.contested += 1));
                Some(Obstacle::Refused)
            };
            self.seen[index].action = obstacle.map(Action::Ignore);
        }
        candidates
    }

    /// Gives a rule's empty slots away.
    fn assign(&mut self, rule: &Rule, wanted: &[&Slot], mut found: Found) {
        found.free.sort_by(|one, other| self.key(*one).cmp(&self.key(*other)));
        if found.free.len() > wanted.len() {
            let disks = found.free.iter().map(|index| self.name(*index)).collect();
            self.problems.push(Problem::Ambiguous { rule: rule.name.clone(), wanted: wanted.len(), disks });
            found.free.iter().for_each(|index| {
                self.seen[*index].action = Some(Action::Ignore(Obstacle::Refused));
            });
            return;
        }
        for (index, slot) in found.free.iter().zip(wanted) {
            let place = place(rule, slot);
            self.seen[*index].action = Some(match lost(self.seen[*index].disk) {
                None => Action::Provision(place),
                Some(signatures) => Action::Erase(place, signatures),
            });
        }
        let filled = found.free.len() + found.contested;
        let mut slots: Vec<String> = wanted.iter().skip(filled).map(|slot| slot.name.clone()).collect();
        let mut in_the_way = if slots.is_empty() { Vec::new() } else { found.guarded };
        for (index, slot) in self.blocked.iter().filter(|(_, slot)| rule.slots.contains(slot)) {
            slots.push(slot.name.clone());
            in_the_way.push(*index);
        }
        let rule = rule.name.clone();
        let disks: Vec<_> = in_the_way.into_iter().filter_map(|index| self.obstacle(index)).collect();
        if !disks.is_empty() {
            self.problems.push(Problem::Guarded { rule, slots, disks });
        } else if !slots.is_empty() {
            self.problems.push(Problem::Missing { rule, slots });
        }
    }

    /// Leaves a rule's disks to somebody else. Without slots it leaves as many as there are.
    fn leave(&mut self, rule: &Rule, found: Found) {
        for index in &found.free {
            self.seen[*index].action = Some(Action::Leave(rule.name.clone()));
        }
        let (wanted, name) = (rule.slots.len(), rule.name.clone());
        let filled = found.free.len() + found.contested;
        if wanted != 0 && found.free.len() > wanted {
            let disks = found.free.iter().map(|index| self.name(*index)).collect();
            self.problems.push(Problem::Ambiguous { rule: name, wanted, disks });
        } else if filled < wanted {
            let slots = rule.slots.iter().skip(filled).map(|slot| slot.name.clone()).collect();
            self.problems.push(Problem::Missing { rule: name, slots });
        }
    }

    /// A serial number under `erase` has to mean one disk, and never the booted one.
    fn erase_list(&mut self) {
        let mut serials: Vec<&String> = self.handoff.disks.erase.iter().collect();
        serials.sort();
        serials.dedup();
        for serial in serials.into_iter().filter(|serial| !serial.is_empty()) {
            let disks: Vec<&Disk> = self.machine.disks.iter().filter(|disk| disk.serial == *serial).collect();
            if disks.len() > 1 || disks.iter().any(|disk| disk.booted) {
                let mut disks: Vec<String> = disks.iter().map(|disk| disk.name.clone()).collect();
                disks.sort();
                self.problems.push(Problem::Erase { serial: serial.clone(), disks });
            }
        }
    }

    fn into_plan(self) -> Plan {
        let is_refused = self.problems.iter().any(Problem::refuses);
        let decide = |seen: Seen<'_>| {
            let action = match seen.action.unwrap_or(Action::Ignore(Obstacle::Unmatched)) {
                Action::Provision(_) | Action::Erase(..) if is_refused => Action::Ignore(Obstacle::Refused),
                action => action,
            };
            Decision { disk: seen.disk.name.clone(), action }
        };
        Plan { disks: self.seen.into_iter().map(decide).collect(), problems: self.problems }
    }

    fn name(&self, index: usize) -> String {
        self.seen[index].disk.name.clone()
    }

    /// What slots are given away by: stays the same when kernel names change.
    fn key(&self, index: usize) -> (&'a str, &'a str, &'a str) {
        let Disk { path, serial, name, .. } = self.seen[index].disk;
        (path, serial, name)
    }

    fn obstacle(&self, index: usize) -> Option<(String, Obstacle)> {
        let Some(Action::Ignore(obstacle)) = &self.seen[index].action else { return None };
        Some((self.name(index), obstacle.clone()))
    }
}

fn place(rule: &Rule, slot: &Slot) -> Place {
    Place { rule: rule.name.clone(), slot: slot.name.clone(), usage: rule.usage }
}

/// What is on a disk that writing would destroy; nothing when it is blank. A partition table that only we could read is
/// something: blkid passes over a backup copy whose primary is gone, and over tables for sectors of another size.
fn lost(disk: &Disk) -> Option<Vec<Signature>> {
    let mut found = match &disk.content {
        Content::Blank => Vec::new(),
        Content::Signatures(signatures) => signatures.clone(),
        Content::Unreadable(_) => return Some(Vec::new()),
    };
    let is_signed = !matches!(disk.content, Content::Blank);
    let Some(table) = &disk.table else { return is_signed.then_some(found) };
    let is_told = |signature: &Signature| signature.kind == GPT && signature.partition.is_none();
    if !found.iter().any(is_told) {
        // Bytes that no probe knows are those of the table.
        found.retain(|signature| signature.kind != UNSIGNED);
        let (kind, uuid) = (GPT.to_owned(), table.disk_guid.to_string());
        found.insert(0, Signature { kind, label: String::new(), uuid, partition: None });
    }
    if let Some(size) = table.sector_size {
        let tables = found.iter_mut().filter(|signature| is_told(signature));
        tables.for_each(|signature| signature.label = format!("for sectors of {size} bytes"));
    }
    Some(found)
}

#[cfg(test)]
pub(crate) mod tests;
