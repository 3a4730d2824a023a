//! `kiln-firstboot target`: under systemd, before the target starts: what it serves is made where it is absent, and its
//! configuration written. Nothing is ever shrunk or removed.

mod config;
mod group;
mod pool;
mod store;

use crate::console::announce;
use crate::handed::{self, Handed};
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
    let Handed { mut handoff, missing } = match handed::read() {
        Ok(handed) => handed,
        Err(error) => {
            eprintln!("kiln-firstboot target: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(mut target) = handoff.iscsi.take().and_then(|iscsi| iscsi.target) else {
        return ExitCode::SUCCESS;
    };
    let mut problems = Vec::new();
    if let Some(missing) = missing.filter(|_| keep_out(&mut target)) {
        problems.push(missing.to_string());
    }
    let mut served = Target { luns: Vec::new(), ..target.clone() };
    let mut made = Vec::new();
    match store::open(&target, &handoff.disks) {
        Err(error) => problems.push(error.to_string()),
        Ok(store) => {
            store.namesakes().iter().for_each(|words| tell(words));
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

/// Takes those off the lists who must prove who they are, which nothing is there to compare with; true when there were any.
fn keep_out(target: &mut Target) -> bool {
    let mut kept_out = 0;
    for initiators in target.luns.iter_mut().map(|lun| &mut lun.initiators) {
        let before = initiators.len();
        initiators.retain(|initiator| initiator.chap.is_none());
        kept_out += before - initiators.len();
    }
    kept_out > 0
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

#[cfg(test)]
mod tests {
    use super::keep_out;
    use kiln_contract::iscsi::Target;

    /// Nobody gets in with an empty password, and who needs none is served.
    #[test]
    fn who_must_prove_who_he_is_is_kept_out() {
        let initiator = |name: &str, chap: &str| format!(r#"{{"name": "iqn.2025-01.home:{name}"{chap}}}"#);
        let chap = r#", "chap": {"initiator": {"user": "", "password": ""}}"#;
        let text = format!(
            r#"{{"name": "iqn.2025-01.home:y", "listen": "0.0.0.0", "port": 3260, "store": {{"folder": "/srv/luns"}}, "luns": [
                {{"name": "one", "lun": 0, "bytes": 1048576, "serial": "00000000-0000-0000-0000-000000000001",
                  "initiators": [{}, {}]}}]}}"#,
            initiator("a", chap),
            initiator("b", "")
        );
        let mut target: Target = serde_json::from_str(&text).unwrap();
        assert!(keep_out(&mut target));
        let left: Vec<&str> = target.luns[0].initiators.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(left, ["iqn.2025-01.home:b"]);
        assert!(!keep_out(&mut target));
    }
}
