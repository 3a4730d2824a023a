//! `kiln-firstboot data-disks DOCUMENT`: the data disks of a node whose system Kiln did not build, such as a stock cloud
//! image. The decision and the work are those of `/init`; the disk that is booted is left as it is.

use crate::console::Console;
use crate::data::{self, Present};
use crate::steps::Steps;
use crate::{DEV, SYSFS, bounded, consent, format, inventory, leave, places, probe, record, units};
use kiln_contract::choose::{choose, to_probe};
use kiln_contract::event::{BOOT_RECORD, RECORD};
use kiln_contract::handoff::{self, Handoff, MAX_BYTES};
use kiln_contract::machine::Machine;
use kiln_contract::plan::{Plan, table};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long disks that are absent are waited for: udev has found what was there when the system started.
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(500);
/// Time to stop a plan that loses data.
const COUNTDOWN: Duration = Duration::from_secs(30);

/// What keeps the disks from being looked at.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// The command line.
    #[error("usage: kiln-firstboot data-disks DOCUMENT, the seed's kiln/handoff.json")]
    Usage,
    /// The document can't be read.
    #[error("{path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    /// It is not good.
    #[error("{path}: {error}", path = path.display())]
    Document { path: PathBuf, error: handoff::Error },
    /// Keys have no place that is safe.
    #[error(
        "the rule {0} asks for encryption, which this system was not built for: take `encrypt` off it, or build the node an image"
    )]
    Encrypted(String),
    /// No guard would know the system's own disk.
    #[error(
        "which disk this system was booted from can't be told, so none is touched: is / mounted from a disk?"
    )]
    Booted,
    /// Nothing tells what is on a disk.
    #[error("{} is missing, so what is on the disks is not known: install util-linux", inventory::BLKID)]
    NoBlkid,
    /// What was done can't be kept.
    #[error("cannot {what}: {error}")]
    Leave { what: &'static str, error: io::Error },
}

/// Makes the data disks ready and mounts them; fails when a disk that the document asks for is not there at the end.
pub(crate) fn run(words: &[String]) -> ExitCode {
    match work(words) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kiln-firstboot data-disks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(words: &[String]) -> Result<Vec<String>, Error> {
    let [path] = words else { return Err(Error::Usage) };
    let handoff = read(Path::new(path))?;
    if let Some(rule) = handoff.disks.data.iter().find(|rule| rule.encrypt.is_some()) {
        return Err(Error::Encrypted(rule.name.clone()));
    }
    let booted = probe::booted().ok_or(Error::Booted)?;
    if !inventory::can_probe() {
        return Err(Error::NoBlkid);
    }
    let mut steps = Steps::begin(Console::early());
    steps.console().open_all(Path::new(SYSFS), false);
    let (machine, plan) = survey(&handoff, &booted);
    let shown = table(&machine, &plan);
    let plan = consent::decide(&mut steps, (&machine, plan), &shown, COUNTDOWN);
    let again = |name: &str| inventory::look(Path::new(SYSFS), Path::new(DEV), name);
    let mut present = data::commit(&mut steps, (&handoff, &plan), &machine, &again);
    // Older udevs have no such links to partitions (systemd 252, 60-persistent-storage.rules).
    present.iter_mut().for_each(|disk| disk.sequence = None);
    let leave = |what| move |error| Error::Leave { what, error };
    mount(&handoff, &present).map_err(leave("mount the data disks"))?;
    leave::hand_on(&handoff).map_err(leave("keep the handoff document in /run"))?;
    let wrote = plan.writes();
    let record = steps.finish(leave::outcome(&handoff, plan, &present));
    record::write(Path::new("/"), BOOT_RECORD, &record).map_err(leave("write the record of this boot"))?;
    if wrote || !Path::new(RECORD).exists() {
        record::write(Path::new("/"), RECORD, &record)
            .map_err(leave("write the record of the first boot"))?;
    }
    record.problems.iter().for_each(|problem| eprintln!("{problem}"));
    Ok(record.problems)
}

fn read(path: &Path) -> Result<Handoff, Error> {
    let failed = |error| Error::Read { path: path.to_owned(), error };
    let bytes = bounded::read(path, MAX_BYTES).map_err(failed)?;
    Handoff::parse(&bytes).map_err(|error| Error::Document { path: path.to_owned(), error })
}

/// The disks and the plan, when all that are asked for are there or patience is at its end.
fn survey(handoff: &Handoff, booted: &str) -> (Machine, Plan) {
    let start = Instant::now();
    loop {
        let mut machine = inventory::machine(Path::new(SYSFS), Path::new(DEV), Some(booted));
        let names = to_probe(&machine, handoff);
        inventory::probe(&mut machine, Path::new(DEV), &names);
        let plan = choose(&machine, handoff);
        if plan.problems.is_empty() || start.elapsed() >= PATIENCE {
            return (machine, plan);
        }
        std::thread::sleep(POLL);
    }
}

/// Makes the mount points and mounts what is there, by units of this boot: what is absent is not waited for.
fn mount(handoff: &Handoff, present: &[Present<'_>]) -> io::Result<()> {
    let root = Path::new("/");
    let slots = handoff.disks.data.iter().flat_map(|rule| &rule.slots);
    for point in slots.filter_map(|slot| slot.mount_point.as_deref()) {
        let folder = PathBuf::from(places::resolve(root, point));
        if !is_mounted(&folder)? {
            places::place(&folder)?;
        }
    }
    let mounts: Vec<_> = present.iter().filter_map(|found| found.mount(root)).collect();
    units::write_mounts(Path::new(units::FOLDER), &mounts)?;
    let names: Vec<String> =
        mounts.iter().map(|mount| format!("{}.mount", units::escape_path(&mount.target))).collect();
    if names.is_empty() {
        return Ok(());
    }
    let run = |words: &[&str]| format::run("/usr/bin/systemctl", words).map_err(io::Error::other);
    run(&["daemon-reload"])?;
    // What was written is looked at by udev now, which may take partitions away for a moment. When it is late, the
    // units say so.
    let _ = format::run("/usr/bin/udevadm", ["settle", "--timeout=60"]);
    let names: Vec<&str> = ["start", "--"].into_iter().chain(names.iter().map(String::as_str)).collect();
    run(&names).map(drop)
}

/// Whether a file system is mounted on that folder.
fn is_mounted(folder: &Path) -> io::Result<bool> {
    let parent = folder.parent().unwrap_or(folder);
    Ok(folder.exists() && fs::metadata(folder)?.dev() != fs::metadata(parent)?.dev())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::work;
    use kiln_contract::handoff::{Cluster, Handoff, Node, Partitions, VERSION};
    use kiln_contract::policy::{Key, Policy};
    use uuid::Uuid;

    pub(crate) fn document(policy: Policy) -> Handoff {
        let id = Uuid::from_u128;
        Handoff {
            version: VERSION,
            credentials: None,
            cluster: Cluster { id: id(1), name: "demo".to_owned() },
            node: Node { name: "k3s1".to_owned(), machine_id: "0123456789abcdef0123456789abcdef".to_owned() },
            partitions: Partitions {
                esp: id(2),
                cidata: id(3),
                root_a: id(4),
                root_b: id(5),
                state: id(6),
                state_filesystem: id(7),
            },
            disks: policy,
            memory: kiln_contract::memory::Memory::default(),
            iscsi: None,
        }
    }

    fn said(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        work(&words).expect_err("refused").to_string()
    }

    #[test]
    fn what_it_cannot_do_is_said_before_any_disk_is_looked_at() {
        assert!(said(&[]).starts_with("usage: kiln-firstboot data-disks DOCUMENT"));
        assert_eq!(said(&["/no/such"]), "/no/such: No such file or directory (os error 2)");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handoff.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(said(&[path.to_str().unwrap()]).contains("the handoff document is damaged"));
        let mut rule = crate::data::tests::rule("sdf", 1);
        rule.encrypt = Some(Key::Auto);
        let policy = Policy { data: vec![rule], ..Policy::default() };
        std::fs::write(&path, document(policy).to_bytes()).unwrap();
        assert!(said(&[path.to_str().unwrap()]).starts_with("the rule sdf asks for encryption"));
    }
}
