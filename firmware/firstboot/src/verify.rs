//! `kiln-firstboot disks`: under systemd, what the first boot could not do becomes a unit that has failed, so that
//! the node is degraded and its report carries the reasons.

use crate::{DEV, SYSFS, booted, identity, record};
use std::path::Path;
use std::process::ExitCode;

/// The unit that runs this.
pub(crate) const UNIT: &str = "kiln-disks.service";

/// Says every problem of this boot; fails when there is one.
pub(crate) fn run() -> ExitCode {
    let mut problems = problems(Path::new("/"), Path::new("/proc"));
    problems.extend(copies());
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Copies of the booted disk that are there by now.
pub(crate) fn copies() -> Vec<String> {
    let devices = (Path::new(SYSFS), Path::new(DEV));
    identity::handoff(Path::new("/"))
        .map_or_else(|_| Vec::new(), |handoff| identity::copies(devices, Path::new(booted::PATH), &handoff))
}

/// The problems of this boot by its record; a record that is missing is one.
pub(crate) fn problems(root: &Path, proc: &Path) -> Vec<String> {
    match record::of_this_boot(root, proc) {
        Ok(record) => record.problems,
        Err(error) => {
            vec![format!("what became of the disks in this boot is not known: {error}; boot the node again")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::problems;
    use crate::record::tests::{BOOT, proc_of, record};
    use crate::record::write;
    use kiln_contract::event::BOOT_RECORD;

    #[test]
    fn a_record_of_this_boot_speaks_for_it() {
        let root = tempfile::tempdir().unwrap();
        proc_of(root.path(), BOOT);
        write(root.path(), BOOT_RECORD, &record(&[])).unwrap();
        assert!(problems(root.path(), root.path()).is_empty());
        write(root.path(), BOOT_RECORD, &record(&["slot sdf-1 is empty", "slot sdf-2 is empty"])).unwrap();
        assert_eq!(problems(root.path(), root.path()), ["slot sdf-1 is empty", "slot sdf-2 is empty"]);
    }

    #[test]
    fn a_record_of_no_boot_or_of_another_is_a_problem() {
        let root = tempfile::tempdir().unwrap();
        proc_of(root.path(), BOOT);
        let said = || {
            let problems = problems(root.path(), root.path());
            assert_eq!(problems.len(), 1);
            problems[0].replace(&root.path().display().to_string(), "")
        };
        assert_eq!(
            said(),
            "what became of the disks in this boot is not known: /run/kiln/boot.json: \
             No such file or directory (os error 2); boot the node again"
        );
        write(root.path(), BOOT_RECORD, &record(&[])).unwrap();
        proc_of(root.path(), "the-next-boot");
        assert_eq!(
            said(),
            format!(
                "what became of the disks in this boot is not known: /run/kiln/boot.json is of \
                 another boot: {BOOT}, while this one is the-next-boot; boot the node again"
            )
        );
    }

    /// Even a kernel that names no boot can't make an old record pass.
    #[test]
    fn a_boot_without_a_name_has_no_record() {
        let root = tempfile::tempdir().unwrap();
        let mut record = record(&[]);
        record.boot_id.clear();
        write(root.path(), BOOT_RECORD, &record).unwrap();
        assert_eq!(problems(root.path(), root.path()).len(), 1);
    }
}
