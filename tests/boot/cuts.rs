//! Power cuts: QEMU is killed at many moments of a node's first boot, in every one of its steps, and whatever was cut
//! must end, after the next boot, as if nothing had happened.
//!
//! All of it takes half an hour on two free cores: `KILN_CUTS=100 cargo test --workspace --test boot -- --ignored
//! many_power_cuts --nocapture`. A sample runs with all other tests. `KILN_CUTS_SEED` moves the moments, and
//! `KILN_CUTS_ONLY` takes those with these numbers alone, with commas between.
//!
//! What this shows and what not: after a cut the node boots once more to where the system would begin, all its disks are
//! compared with those of a node that nobody cut, and every tenth is then booted from UEFI to `running`. What the guest
//! had written and not flushed is on the disks all the same, in the guest's order, or was still in the guest's memory and
//! is lost; a real disk may also lose some of the former. That the writes of a partition table can be cut anywhere is shown
//! write by write, without a machine, by the tests of `firmware/firstboot/src/own`.

use crate::disks::{content, copy_to, data, folder, partitions, signature};
use crate::early::{self, EVENTS, Told, until_system};
use crate::ext4;
use crate::foreign::Foreign;
use crate::nodes::{longhorn, machine as uefi, patience, report, site};
use crate::own::{finished, is_finished, part, table_is_sound};
use kiln_qemu::{Bus, Disk, Source, Wanted, free_port};
use kiln_tests::{succeed, tool};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Sizes of the disks (bytes): the node's own, those for Longhorn, and one that is somebody else's.
const OWN: u64 = 4 << 30;
const DATA: u64 = 1 << 30;
const FOREIGN: u64 = 400 << 20;
/// A node that needs more boots than this after a cut does not heal.
const BOOTS: usize = 3;
/// One of so many is booted up to `running`.
const WHOLE: usize = 10;

/// The disks of a node before its first boot.
struct Bed {
    _folder: TempDir,
    own: PathBuf,
    data: Vec<PathBuf>,
    foreign: PathBuf,
    /// What is on that.
    untouched: String,
}

impl Bed {
    fn new() -> Self {
        let folder = folder();
        let own = copy_to(&longhorn().image("k3s1"), folder.path(), OWN);
        let blank = |name: &str, bytes| data(folder.path(), name, bytes, Bus::Virtio).0;
        let disks = ["one.img", "two.img", "three.img"].map(|name| blank(name, DATA)).to_vec();
        // It fits the rule, and nobody gave it away.
        let foreign = blank("foreign.img", FOREIGN);
        assert!(Foreign::Ext4.make(&foreign));
        let untouched = content(&foreign, &[]);
        Self { _folder: folder, own, data: disks, foreign, untouched }
    }

    fn disks(&self) -> Vec<Disk> {
        let paths = [&self.own].into_iter().chain(&self.data).chain([&self.foreign]);
        let disk = |(at, path): (usize, &PathBuf)| Disk {
            serial: Some(format!("disk-{at}")),
            ..Disk::virtio(Source::file(path))
        };
        paths.enumerate().map(disk).collect()
    }
}

/// What is on a node's disks, but for what must differ from boot to boot: names of facts and the facts.
type End = BTreeMap<String, String>;

/// The end of a node that was turned off: sound by all the tools, and then compared with another's.
fn end(bed: &Bed) -> End {
    is_finished(&bed.own);
    assert_eq!(content(&bed.foreign, &[]), bed.untouched, "somebody else's disk has changed");
    let mut end = End::new();
    for disk in [&bed.own].into_iter().chain(&bed.data) {
        let name = disk.file_stem().unwrap().display();
        table_is_sound(disk);
        let printed = succeed(tool("sgdisk", "gdisk").arg("-p").arg(disk));
        let lines = printed.lines().filter(|line| !line.starts_with("Disk /"));
        end.extend(lines.enumerate().map(|(at, line)| (format!("{name} table {at}"), line.to_owned())));
        for partition in partitions(disk) {
            let name = format!("{name} {}", partition.name);
            let found = signature(disk, Some(partition.bytes.clone()));
            let found = found.into_iter().filter(|(key, _)| key != "DEVNAME");
            end.extend(found.map(|(key, value)| (format!("{name} {key}"), value)));
            if partition.name == "state" || partition.name.starts_with("kiln-") {
                let files = files_of(disk, &partition);
                end.extend(files.into_iter().map(|(path, facts)| (format!("{name} {path}"), facts)));
            }
        }
    }
    end
}

/// What one end has and the other has not, or has otherwise.
fn differences(one: &End, other: &End) -> Vec<String> {
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let differing = keys.into_iter().filter(|key| one.get(*key) != other.get(*key));
    differing.map(|key| format!("{key}: {:?}, not {:?}", one.get(key), other.get(key))).collect()
}

fn files_of(disk: &Path, partition: &crate::disks::Partition) -> BTreeMap<String, String> {
    ext4::is_clean(disk, &partition.bytes);
    let mut files = ext4::tree(disk, &partition.bytes);
    if partition.name == "state" {
        // It tells times; that there is one, and of which node, is what stays.
        let record = ext4::text(disk, &partition.bytes, "/lib/kiln/first-boot.json");
        let record: Value = serde_json::from_str(&record).unwrap();
        assert_eq!(record["node"], "k3s1");
        assert!(files.remove("/lib/kiln/first-boot.json").is_some());
    } else {
        let config = ext4::text(disk, &partition.bytes, "/longhorn-disk.cfg");
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["state"], "ready");
        assert!(files.contains_key("/replicas"), "{files:#?}");
    }
    files
}

/// A stretch of the first boot between two events.
#[derive(Debug, Clone)]
struct Stretch {
    /// The event that it begins with, as step and state; nothing for the start of the machine.
    after: Option<(String, String)>,
    length: Duration,
}

impl Stretch {
    fn name(&self) -> String {
        place(self.after.as_ref().map(|(step, state)| (step.as_str(), state.as_str())))
    }
}

/// Words for where a boot is after an event.
fn place(after: Option<(&str, &str)>) -> String {
    match after {
        None => "kernel".to_owned(),
        Some((step, "begun")) => step.to_owned(),
        Some((step, _)) => format!("after {step}"),
    }
}

/// A whole first boot, and its stretches.
fn uncut() -> (End, Vec<Stretch>) {
    let bed = Bed::new();
    let start = Instant::now();
    let boot = early::boot(&bed.disks());
    assert_eq!(boot.failed(), [""; 0], "{}", boot.console);
    let stop = Instant::now();
    let key = |told: &Told| (told.step(), told.state().to_owned());
    let begins: Vec<_> = std::iter::once((None, start))
        .chain(boot.told.iter().map(|told| (Some(key(told)), told.at)))
        .collect();
    let ends = begins.iter().skip(1).map(|(_, at)| *at).chain([stop]);
    let stretches = begins.iter().zip(ends);
    let stretches = stretches.map(|((after, at), end)| Stretch { after: after.clone(), length: end - *at });
    (end(&bed), stretches.collect())
}

/// Where the power goes.
#[derive(Debug, Clone)]
struct Moment {
    number: usize,
    stretch: Stretch,
    /// Into the stretch.
    wait: Duration,
}

/// So many moments, spread over all stretches, and in each of them over its length. When there are more stretches than
/// moments, they are in the longest of those that begin after the first partition is made.
fn moments(stretches: &[Stretch], count: usize, seed: u32) -> Vec<Moment> {
    // Multiples of the golden ratio lie apart from one another, however many there are.
    let fraction = |number: usize| {
        let number = u32::try_from(number).unwrap();
        (f64::from(number.wrapping_add(seed) % 1000) * 0.618_033_988_749).fract()
    };
    let mut taken = stretches.to_vec();
    if count < taken.len() {
        let first = taken.iter().position(|stretch| stretch.name().starts_with("partition "));
        taken.drain(..first.unwrap());
        taken.sort_by_key(|stretch| std::cmp::Reverse(stretch.length));
    }
    let moment = |number: usize| {
        let stretch = taken[number % taken.len()].clone();
        let wait = stretch.length.mul_f64(fraction(number));
        Moment { number, stretch, wait }
    };
    (0..count).map(moment).collect()
}

/// Boots until the moment, cuts the power, and says where the boot was.
fn cut(bed: &Bed, moment: &Moment) -> String {
    let mut running = until_system(&bed.disks()).start().unwrap();
    let mut last = None;
    while moment.stretch.after.is_some() && last != moment.stretch.after {
        let Some(told) = early::next(&mut running) else { return "too late".to_owned() };
        last = Some((told.step(), told.state().to_owned()));
    }
    std::thread::sleep(moment.wait);
    running.kill().unwrap();
    // What was said before the cut may be read after it.
    while let Ok(seen) = running.wait_for(&[Wanted::Port(EVENTS)], Instant::now() + Duration::from_secs(5)) {
        let event: Value = serde_json::from_str(&seen.line).unwrap_or_default();
        let told = Told { event, at: seen.at };
        last = Some((told.step(), told.state().to_owned()));
    }
    place(last.as_ref().map(|(step, state)| (step.as_str(), state.as_str())))
}

/// Boots until a boot has nothing to complain of; how many that took.
fn heal(bed: &Bed) -> usize {
    for boots in 1..=BOOTS {
        let Some(boot) = early::boot_unless_aborted(&bed.disks()) else {
            println!("QEMU stopped itself in the boot after a cut: one more cut, at a moment of its own");
            continue;
        };
        if boot.failed().is_empty() {
            return boots;
        }
        assert!(boots < BOOTS, "{}", boot.console);
    }
    BOOTS
}

/// Boots from UEFI up to `running`.
fn runs(bed: &Bed) {
    let mut machine = uefi(&bed.own, Ipv4Addr::new(192, 168, 86, 71), free_port().unwrap());
    machine.disks = bed.disks();
    let mut running = machine.start().unwrap();
    let report = report(&mut running);
    assert_eq!(report["state"], "running", "{report:#}\n{}", running.console());
}

/// A row of the table.
#[derive(Debug, Default)]
struct Row {
    cuts: usize,
    most_boots: usize,
    whole: usize,
    bad: Vec<String>,
}

/// Cuts `count` first boots and compares what comes of them.
fn power_cuts(count: usize) {
    let seed: u32 = std::env::var("KILN_CUTS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    // Two at a time, as the boots that are cut; and two that nobody cut must end alike.
    let ((want, stretches), (twin, _)) = std::thread::scope(|scope| {
        let twin = scope.spawn(uncut);
        (uncut(), twin.join().unwrap())
    });
    assert_eq!(differences(&twin, &want), [""; 0], "two first boots that nobody cut differ");
    let steps: Vec<_> = stretches.iter().map(Stretch::name).collect();
    println!("{count} cuts, KILN_CUTS_SEED={seed}, in {} stretches: {}", steps.len(), steps.join(", "));

    let mut moments = moments(&stretches, count, seed);
    if let Ok(only) = std::env::var("KILN_CUTS_ONLY") {
        moments.retain(|moment| only.split(',').any(|number| number.parse() == Ok(moment.number)));
    }
    let moments = Mutex::new(moments);
    let table = Mutex::new(BTreeMap::<String, Row>::new());
    let work = || {
        loop {
            let next = moments.lock().unwrap().pop();
            let Some(moment) = next else { break };
            let bed = Bed::new();
            let was = cut(&bed, &moment);
            let whole = moment.number % WHOLE == WHOLE / 2;
            let healed = catch_unwind(AssertUnwindSafe(|| {
                let boots = heal(&bed);
                assert_eq!(differences(&end(&bed), &want), [""; 0], "{moment:?}, cut in {was:?}");
                if whole {
                    runs(&bed);
                }
                boots
            }));
            println!(
                "cut {} in {was:?}: {}",
                moment.number,
                if healed.is_ok() { "healed" } else { "NOT HEALED" }
            );
            let mut table = table.lock().unwrap();
            let row = table.entry(was.clone()).or_default();
            row.cuts += 1;
            row.whole += usize::from(whole);
            match healed {
                Ok(boots) => row.most_boots = row.most_boots.max(boots),
                Err(_) => row.bad.push(format!("{moment:?}")),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let table = table.into_inner().unwrap();
    println!("\n{:<28} {:>5} {:>6} {:>8}  result", "cut in", "cuts", "boots", "to the end");
    for (step, Row { cuts, most_boots, whole, bad }) in &table {
        let result = if bad.is_empty() { "as if uncut".to_owned() } else { format!("{} DIFFER", bad.len()) };
        println!("{step:<28} {cuts:>5} {most_boots:>6} {whole:>8}  {result}");
    }
    let bad: Vec<_> = table.values().flat_map(|row| &row.bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(!table.contains_key("too late"), "a moment came only after the end of the boot");
}

/// The power goes as soon as the system begins, seconds before the kernel would have written on its own what the first
/// boot copied to /var: it is all there.
#[test]
fn a_full_var_outlives_a_power_cut() {
    let folder = folder();
    let want = finished(folder.path(), OWN);
    let want = ext4::tree(&want, &part(&want, "state"));
    std::fs::create_dir(folder.path().join("cut")).unwrap();
    let cut = copy_to(&site().image("k3s1"), &folder.path().join("cut"), OWN);
    let disks = [Disk::virtio(Source::file(&cut))];
    let mut running = early::machine(&disks, "").start().unwrap();
    running.expect("Welcome to ", patience()).unwrap();
    running.kill().unwrap();
    let next = early::boot(&disks);
    assert_eq!(next.failed(), [""; 0], "{}", next.console);
    is_finished(&cut);
    let mut found = ext4::tree(&cut, &part(&cut, "state"));
    // It tells times.
    let record = "/lib/kiln/first-boot.json".to_owned();
    assert!(found.insert(record.clone(), want[&record].clone()).is_some());
    assert_eq!(differences(&found, &want), [""; 0]);
}

#[test]
fn a_sample_of_power_cuts_heals() {
    power_cuts(6);
}

#[test]
#[ignore = "half an hour: KILN_CUTS=100 cargo test --workspace --test boot -- --ignored many_power_cuts --nocapture"]
fn many_power_cuts_heal() {
    power_cuts(std::env::var("KILN_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100));
}
