//! `kiln-firstboot target`: under systemd, before the target starts: what it serves is made where it is absent, and its
//! configuration written. Nothing is ever shrunk or removed.

mod config;
mod pool;
mod store;

use crate::console::announce;
use crate::handed;
use kiln_contract::iscsi::Target;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Where Debian's python3-rtslib-fb keeps what targetctl restores.
const CONFIG: &str = "/etc/rtslib-fb-target/saveconfig.json";

/// Makes and writes; fails when something could not be made. What could be is served nevertheless.
pub(crate) fn run() -> ExitCode {
    let handoff = match handed::read() {
        Ok(handoff) => handoff,
        Err(error) => {
            eprintln!("kiln-firstboot target: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(target) = handoff.iscsi.as_ref().and_then(|iscsi| iscsi.target.clone()) else {
        return ExitCode::SUCCESS;
    };
    let mut problems = Vec::new();
    let mut served = Target { luns: Vec::new(), ..target.clone() };
    let mut made = Vec::new();
    match store::open(&target, &handoff.disks) {
        Err(error) => problems.push(error.to_string()),
        Ok(store) => {
            match store.pool() {
                Ok(remark) => remark.into_iter().for_each(|remark| tell(&remark)),
                Err(error) => problems.push(error.to_string()),
            }
            for lun in &target.luns {
                match store.make(&lun.name, lun.bytes) {
                    Ok(new) => {
                        let remark = new.remark.as_ref().map(|remark| format!("LUN {}: {remark}", lun.name));
                        remark.into_iter().for_each(|remark| tell(&remark));
                        served.luns.push(lun.clone());
                        made.push(new);
                    }
                    Err(error) => problems.push(format!("LUN {}: {error}", lun.name)),
                }
            }
        }
    }
    if let Err(error) = write(Path::new(CONFIG), config::text(&served, &made).as_bytes()) {
        problems.push(format!("{CONFIG}: {error}"));
    }
    for problem in &problems {
        tell(problem);
    }
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(what: &str) {
    announce(&format!("iSCSI target: {what}"));
}

/// A whole file or the old one. It holds passwords: nobody but root reads it.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("kiln");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
