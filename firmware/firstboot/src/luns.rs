//! `kiln-firstboot luns`: under systemd, the node's iSCSI LUNs. It logs in, formats what is blank, mounts, and looks
//! after all of it for as long as the node runs. Nothing waits for it: a target that is absent delays no boot.

mod content;
mod login;
mod mount;
mod session;

#[cfg(test)]
pub(crate) use content::tests::lun;

use crate::console::announce;
use crate::handed::{self, Handed};
use crate::{DEV, SYSFS};
use kiln_contract::iscsi::{Iscsi, Lun};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use uuid::Uuid;

/// Time between two looks when all is well.
const CALM: Duration = Duration::from_secs(10);
/// First and longest wait after a failure.
const WAITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// What keeps a LUN from being used.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// No password to log in with.
    #[error("{0}")]
    Missing(String),
    /// No session.
    #[error(transparent)]
    Login(#[from] login::Refusal),
    /// The session is there, the target is not.
    #[error(
        "{portal} does not answer: what reads and writes the LUN waits, for a day at most, until it does"
    )]
    Silent { portal: String },
    /// The target has no such LUN for this initiator.
    #[error("{target} has no LUN {lun} for {initiator}, which is this node's name as an initiator")]
    NoLun { target: String, lun: u16, initiator: String },
    /// The kernel would give up too early.
    #[error("{disk} can't be told to wait for its target: {error}")]
    Patience { disk: String, error: io::Error },
    /// What is on it can't be used.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// It can't be mounted.
    #[error(transparent)]
    Mount(#[from] mount::Error),
}

/// What all LUNs of a node share.
struct Around {
    cluster: Uuid,
    initiator: String,
    /// Why there are no CHAP names and passwords.
    missing: Option<String>,
}

fn say(lun: &str, what: &str) {
    announce(&format!("iSCSI LUN {lun}: {what}"));
}

/// Looks after the LUNs until systemd ends it; a node without LUNs is done at once.
pub(crate) fn run() -> ExitCode {
    let Handed { handoff, missing } = match handed::read() {
        Ok(handed) => handed,
        Err(error) => {
            eprintln!("kiln-firstboot luns: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(Iscsi { initiator, luns, .. }) = handoff.iscsi.filter(|iscsi| !iscsi.luns.is_empty()) else {
        return ExitCode::SUCCESS;
    };
    let missing = missing.map(|missing| missing.to_string());
    let around = Around { cluster: handoff.cluster.id, initiator, missing };
    std::thread::scope(|scope| {
        for luns in by_target(&luns).into_values() {
            let around = &around;
            scope.spawn(move || attend(&luns, around));
        }
    });
    ExitCode::SUCCESS
}

/// `kiln-firstboot luns-stop`: logs out of targets of which nothing is mounted any more, so that the shutdown does not
/// wait for a network that is gone.
pub(crate) fn stop() -> ExitCode {
    let luns = handed::read()
        .ok()
        .and_then(|handed| handed.handoff.iscsi)
        .map(|iscsi| iscsi.luns)
        .unwrap_or_default();
    for (target, luns) in by_target(&luns) {
        if luns.iter().all(|lun| mount::mounted(lun).is_none())
            && session::find(Path::new(SYSFS), target).is_some()
        {
            login::log_out(target);
        }
    }
    ExitCode::SUCCESS
}

/// One session serves all LUNs of a target.
fn by_target(luns: &[Lun]) -> BTreeMap<&str, Vec<&Lun>> {
    let mut targets: BTreeMap<&str, Vec<&Lun>> = BTreeMap::new();
    for lun in luns {
        targets.entry(&lun.target).or_default().push(lun);
    }
    targets
}

/// Looks after the LUNs of one target, for ever.
fn attend(luns: &[&Lun], around: &Around) {
    let mut told: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut wait = WAITS.0;
    loop {
        let mut calm = true;
        for lun in luns {
            let trouble = look_after(lun, around).err().map(|trouble| trouble.to_string());
            calm &= trouble.is_none();
            // Said once, and again when it changes: a target may be away for days.
            if told.get(lun.name.as_str()) != Some(&trouble) {
                match &trouble {
                    Some(trouble) => say(&lun.name, &format!("{trouble}; trying again")),
                    None => say(&lun.name, &format!("mounted on {}", lun.mount_point)),
                }
                told.insert(&lun.name, trouble);
            }
        }
        wait = if calm { WAITS.0 } else { (wait * 2).min(WAITS.1) };
        std::thread::sleep(if calm { CALM } else { wait });
    }
}

/// Brings a LUN one or more steps on its way, until it is mounted. What is done already is not done again.
fn look_after(lun: &Lun, around: &Around) -> Result<(), Trouble> {
    let sysfs = Path::new(SYSFS);
    let session = match session::find(sysfs, &lun.target) {
        Some(session) => session,
        None => {
            // A mount whose device went with its session gives errors only: it must go before the LUN comes back.
            if mount::mounted(lun).is_some() {
                mount::stop(lun);
            }
            if let Some(missing) = around.missing.as_ref().filter(|_| lun.chap.is_some()) {
                return Err(Trouble::Missing(missing.clone()));
            }
            login::log_in(lun, &around.initiator)?;
            session::appears(sysfs, &lun.target)
                .ok_or_else(|| login::Refusal::of_silence(lun, "no session came of the login"))?
        }
    };
    if !session.is_logged_in(sysfs) {
        return Err(Trouble::Silent { portal: login::portal(lun) });
    }
    let Some(disk) = session.disk(sysfs, lun.lun) else {
        let (target, initiator) = (lun.target.clone(), around.initiator.clone());
        return Err(Trouble::NoLun { target, lun: lun.lun, initiator });
    };
    session::be_patient(sysfs, &disk).map_err(|error| Trouble::Patience { disk: disk.clone(), error })?;
    match mount::mounted(lun) {
        Some(device) if session::is_of(sysfs, &disk, &device) => return Ok(()),
        Some(_) => mount::stop(lun),
        None => {}
    }
    let source = content::prepare(Path::new(DEV), &disk, (lun, around.cluster))?;
    if source.formatted {
        say(&lun.name, &format!("was blank, has {} now", lun.filesystem.as_str()));
    }
    mount::start(lun, &source.device)?;
    Ok(())
}
