//! What holds for every machine under every policy. The words of the machines and policies are few, so that they
//! meet.

use super::{CLUSTER, choose, disk, handoff, machine, provisioned, rule, signature, slot, table, to_probe};
use crate::handoff::Handoff;
use crate::machine::{Content, Disk, Machine, Transport};
use crate::partition::{TYPE_DATA, TYPE_ESP, TYPE_UNFINISHED, data_disk_guid};
use crate::plan::{self, Action, Place};
use crate::policy::{FileSystem, Key, Match, Rule, Slot, Use};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::{option, sample};
use std::collections::BTreeSet;
use uuid::Uuid;

const NAMES: [&str; 3] = ["one", "two", "three"];
const SERIALS: [&str; 6] = ["", "A", "B", "C", "D", "E"];

#[derive(Debug, Clone)]
enum Tabled {
    None,
    Slot { rule: usize, slot: u128, finished: bool, cluster: bool, extra: bool },
    Other,
}

fn tabled() -> impl Strategy<Value = Tabled> {
    let slot = (0..3_usize, 1..4_u128, any::<bool>(), prop::bool::weighted(0.8), prop::bool::weighted(0.1));
    prop_oneof![
        5 => Just(Tabled::None),
        4 => slot.prop_map(|(rule, slot, finished, cluster, extra)| Tabled::Slot {
            rule, slot, finished, cluster, extra
        }),
        1 => Just(Tabled::Other),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        4 => Just(Content::Blank),
        2 => Just(Content::Signatures(vec![signature("ext4", "old")])),
        1 => Just(Content::Signatures(Vec::new())),
        1 => Just(Content::Unreadable("EIO".to_owned())),
    ]
}

fn any_disk() -> impl Strategy<Value = Disk> {
    let flags = [0.1, 0.15, 0.2].map(prop::bool::weighted);
    let texts = (
        sample::select(&SERIALS),
        sample::select(vec!["", "", "0x1", "0x2"]),
        sample::select(vec!["p1", "p2"]),
    );
    let sizes = sample::select(vec![32_u64 << 20, 100 << 20, 1 << 30, 1 << 40]);
    let transports = sample::select(vec![Transport::Sata, Transport::Nvme, Transport::Usb]);
    (flags, texts, (sizes, transports), content(), tabled()).prop_map(
        |(flags, texts, hardware, content, tabled)| {
            let mut disk = disk("");
            [disk.booted, disk.read_only, disk.removable] = flags;
            (disk.serial, disk.wwn, disk.path) = (texts.0.to_owned(), texts.1.to_owned(), texts.2.to_owned());
            (disk.size, disk.transport) = hardware;
            disk.content = content;
            disk.table = match tabled {
                Tabled::None => None,
                Tabled::Other => Some(table(Uuid::from_u128(5), &[(TYPE_ESP, Uuid::from_u128(6))])),
                Tabled::Slot { rule: at, slot: number, finished, cluster, extra } => {
                    let usage = Use::Longhorn;
                    let cluster = if cluster { CLUSTER } else { Uuid::from_u128(0xbad) };
                    let slots = rule(NAMES[at], usage, 3).slots;
                    let slot = slots.into_iter().nth(number as usize - 1).unwrap_or(slot("", 1));
                    let kind = if finished { TYPE_DATA } else { TYPE_UNFINISHED };
                    let mut table = provisioned(cluster, &slot, kind);
                    if extra {
                        table
                            .partitions
                            .push(crate::machine::Partition { number: 2, ..table.partitions[0].clone() });
                    }
                    Some(table)
                }
            };
            disk
        },
    )
}

fn any_machine() -> impl Strategy<Value = Machine> {
    prop::collection::vec(any_disk(), 0..7).prop_map(|mut disks| {
        for (disk, letter) in disks.iter_mut().zip('a'..) {
            disk.name = format!("sd{letter}");
        }
        machine(&disks)
    })
}

fn any_match() -> impl Strategy<Value = Match> {
    let texts =
        (option::of(sample::select(vec!["A", "*", "[BC]"])), option::of(sample::select(vec!["p1", "p*"])));
    let transport = option::of(sample::select(vec![Transport::Sata, Transport::Usb]));
    let size = option::of(sample::select(vec![1_u64 << 20, 1 << 30]));
    (texts, transport, size).prop_map(|((serial, path), transport, min_size)| Match {
        serial: serial.map(str::to_owned),
        path: path.map(str::to_owned),
        transport,
        min_size,
        ..Match::default()
    })
}

fn any_handoff() -> impl Strategy<Value = Handoff> {
    let usage = sample::select(Use::ALL.map(|(usage, _)| usage).to_vec());
    let drawn = (any_match(), prop::collection::vec(any_match(), 0..2), usage, 0..4_u128, any::<[bool; 3]>());
    let rules = prop::collection::vec(drawn, 0..4);
    (rules, sample::subsequence(SERIALS.to_vec(), 0..4)).prop_map(|(rules, erase)| {
        let rules = rules.into_iter().zip(NAMES).map(|((matching, exclude, usage, count, flags), name)| {
            let mut rule = rule(name, usage, count);
            (rule.matching, rule.removable) = (matching, flags[0]);
            // Most rules exclude nothing.
            rule.exclude = if flags[1] { Vec::new() } else { exclude };
            rule.filesystem = if flags[2] { FileSystem::Xfs } else { FileSystem::Ext4 };
            rule.encrypt = (!flags[2]).then_some(Key::Auto);
            rule
        });
        handoff(&rules.collect::<Vec<_>>(), &erase)
    })
}

/// The slot that a disk says it is, as the contract puts it: not by the code under test.
fn claimed<'a>(disk: &Disk, handoff: &'a Handoff) -> Option<(&'a Rule, &'a Slot)> {
    let [partition] = &disk.table.as_ref()?.partitions[..] else { return None };
    let fits = disk.table.as_ref()?.disk_guid == data_disk_guid(handoff.cluster.id, partition.guid);
    let rules = handoff.disks.data.iter().filter(|rule| fits && rule.usage != Use::Raw);
    let mut slots = rules.flat_map(|rule| rule.slots.iter().map(move |slot| (rule, slot)));
    slots.find(|(_, slot)| slot.partition == partition.guid)
}

fn has_kind(disk: &Disk, kind: Uuid) -> bool {
    disk.table.as_ref().is_some_and(|table| table.partitions.iter().any(|partition| partition.kind == kind))
}

fn find<'a>(machine: &'a Machine, name: &str) -> &'a Disk {
    machine.disks.iter().find(|disk| disk.name == name).unwrap()
}

fn rule_of<'a>(handoff: &'a Handoff, place: &Place) -> &'a Rule {
    handoff.disks.data.iter().find(|rule| rule.name == place.rule).unwrap()
}

/// What the machine looks like once the plan has been carried out.
fn committed(machine: &Machine, handoff: &Handoff) -> Machine {
    let plan = choose(machine, handoff);
    let mut after = machine.clone();
    for decision in &plan.disks {
        if let Action::Provision(place) | Action::Resume(place) | Action::Erase(place, _) = &decision.action {
            let slot = rule_of(handoff, place).slots.iter().find(|slot| slot.name == place.slot).unwrap();
            let disk = after.disks.iter_mut().find(|disk| disk.name == decision.disk).unwrap();
            disk.table = Some(provisioned(CLUSTER, slot, TYPE_DATA));
            disk.content = Content::Signatures(vec![signature("gpt", "")]);
        }
    }
    after
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(4096))]

    #[test]
    fn no_plan_writes_to_a_guarded_disk(machine in any_machine(), handoff in any_handoff()) {
        let plan = choose(&machine, &handoff);
        for decision in &plan.disks {
            let disk = find(&machine, &decision.disk);
            let (Action::Resume(place) | Action::Provision(place) | Action::Erase(place, _)) = &decision.action else {
                continue;
            };
            let rule = rule_of(&handoff, place);
            assert!(rule.usage != Use::Raw);
            assert!(!disk.booted && !disk.read_only && (!disk.removable || rule.removable), "{decision:?}");
            assert!(!matches!(disk.content, Content::Unreadable(_)), "{decision:?}");
            if let Action::Resume(_) = decision.action {
                let (_, slot) = claimed(disk, &handoff).unwrap();
                assert!(slot.name == place.slot && has_kind(disk, TYPE_UNFINISHED));
                continue;
            }
            assert!(!plan.is_refused(), "{plan:?}");
            assert!(!has_kind(disk, TYPE_DATA) && !has_kind(disk, TYPE_UNFINISHED), "{decision:?}");
            let one = |text: fn(&Disk) -> &str| {
                text(disk).is_empty() || machine.disks.iter().filter(|other| text(other) == text(disk)).count() == 1
            };
            assert!(one(|disk| &disk.serial) && one(|disk| &disk.wwn), "{decision:?}");
            let fits: Vec<_> = handoff.disks.data.iter().filter(|rule| {
                rule.matching.fits(disk) && !rule.exclude.iter().any(|exclude| exclude.fits(disk))
            }).collect();
            assert_eq!(fits, [rule]);
            let listed = !disk.serial.is_empty() && handoff.disks.erase.contains(&disk.serial);
            let is_blank = disk.content == Content::Blank && disk.table.is_none();
            assert!(is_blank || listed, "{decision:?}");
            assert_eq!(is_blank, matches!(decision.action, Action::Provision(_)), "loss is said: {decision:?}");
            assert!(disk.size >= 64 << 20);
        }
    }

    #[test]
    fn slots_are_given_away_once_and_every_disk_is_decided(machine in any_machine(), handoff in any_handoff()) {
        let plan = choose(&machine, &handoff);
        let others = machine.disks.iter().filter(|disk| !disk.booted).map(|disk| &disk.name);
        assert!(plan.disks.iter().map(|decision| &decision.disk).eq(others));
        let mut slots = BTreeSet::new();
        for decision in &plan.disks {
            if let Action::Keep(place) | Action::Resume(place) | Action::Provision(place) | Action::Erase(place, _) =
                &decision.action
            {
                assert!(slots.insert(&place.slot), "{plan:?}");
            }
        }
    }

    #[test]
    fn what_is_ours_is_kept(machine in any_machine(), handoff in any_handoff()) {
        let plan = choose(&machine, &handoff);
        for disk in machine.disks.iter().filter(|disk| !disk.booted && has_kind(disk, TYPE_DATA)) {
            let Some((_, slot)) = claimed(disk, &handoff) else { continue };
            let twins = machine.disks.iter().filter(|other| !other.booted).filter(|other| {
                claimed(other, &handoff).is_some_and(|(_, other)| other.partition == slot.partition)
            });
            let alone = twins.count() == 1;
            let decision = plan.disks.iter().find(|decision| decision.disk == disk.name).unwrap();
            let kept = matches!(&decision.action, Action::Keep(place) if place.slot == slot.name);
            assert_eq!(kept, alone, "{decision:?}");
        }
    }

    #[test]
    fn the_next_boot_only_keeps(machine in any_machine(), handoff in any_handoff()) {
        let (before, after) = (choose(&machine, &handoff), choose(&committed(&machine, &handoff), &handoff));
        assert!(!after.writes(), "{before:?}\n{after:?}");
        assert_eq!(before.problems, after.problems);
        for (before, after) in before.disks.iter().zip(&after.disks) {
            match &before.action {
                Action::Keep(place) | Action::Resume(place) | Action::Provision(place) | Action::Erase(place, _) => {
                    assert_eq!(after.action, Action::Keep(place.clone()));
                }
                Action::Leave(_) | Action::Ignore(_) => assert!(!matches!(after.action, Action::Keep(_))),
            }
        }
    }

    #[test]
    fn the_order_of_the_record_does_not_matter(
        machine in any_machine().prop_flat_map(|machine| {
            (Just(machine.clone()), Just(machine.disks).prop_shuffle())
        }),
        handoff in any_handoff(),
    ) {
        let (machine, disks) = machine;
        let shuffled = Machine { disks, ..machine.clone() };
        assert_eq!(choose(&machine, &handoff), choose(&shuffled, &handoff));
        let probe = |machine| to_probe(machine, &handoff);
        assert_eq!(probe(&machine), probe(&shuffled));
    }

    #[test]
    fn disks_that_are_not_probed_do_not_change_the_plan(machine in any_machine(), handoff in any_handoff()) {
        let probed = to_probe(&machine, &handoff);
        let mut unprobed = machine.clone();
        for disk in unprobed.disks.iter_mut().filter(|disk| !probed.contains(&disk.name)) {
            disk.content = Content::Unreadable("not asked".to_owned());
        }
        assert_eq!(choose(&machine, &handoff), choose(&unprobed, &handoff));
    }

    #[test]
    fn tables_fit_a_console(machine in any_machine(), handoff in any_handoff(), model in ".{0,60}") {
        let mut machine = machine;
        machine.disks.iter_mut().for_each(|disk| disk.model.clone_from(&model));
        let text = plan::table(&machine, &choose(&machine, &handoff));
        for line in text.lines() {
            assert!(line.len() <= 80 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
            assert_eq!(line.trim_end(), line);
        }
        assert!(machine.disks.iter().all(|disk| text.lines().any(|line| line.starts_with(&disk.name))));
    }
}
