//! The record of a boot as a file: written by PID 1, read by `kiln-firstboot disks` under systemd.

use kiln_contract::event::{BOOT_RECORD, Record, VERSION};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No honest record is larger.
const MAX_BYTES: u64 = 4 << 20;

/// Why there is no record to go by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It can't be read.
    #[error("{path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },
    /// It is no record.
    #[error("{path} is no record of a boot: {error}", path = path.display())]
    Parse { path: PathBuf, error: serde_json::Error },
    /// It is too large to be one.
    #[error("{path} has {bytes} bytes, more than any record of a boot", path = path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    /// Another helper wrote it.
    #[error("{path} has version {version}, this kiln-firstboot reads version {VERSION}", path = path.display())]
    Version { path: PathBuf, version: u32 },
    /// An earlier boot wrote it.
    #[error("{path} is of another boot: {record}, while this one is {running}", path = path.display())]
    OtherBoot { path: PathBuf, record: String, running: String },
}

/// The random id that the kernel gave this boot; empty when it does not say.
pub(crate) fn boot_id(proc: &Path) -> String {
    fs::read_to_string(proc.join("sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned()
}

/// The record as bytes: JSON for people, too.
pub(crate) fn to_bytes(record: &Record) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(record)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Writes it to `path` below `root` so that a power cut leaves the old one or the new one, whole.
pub(crate) fn write(root: &Path, path: &str, record: &Record) -> io::Result<()> {
    let path = below(root, path);
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("json.new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o644).open(&beside)?;
    file.write_all(&to_bytes(record)?)?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    File::open(folder)?.sync_all()
}

/// The record of the boot that goes on, below `root`.
pub(crate) fn of_this_boot(root: &Path, proc: &Path) -> Result<Record, Error> {
    let path = below(root, BOOT_RECORD);
    let read = |error| Error::Read { path: path.clone(), error };
    let bytes = fs::metadata(&path).map_err(read)?.len();
    if bytes > MAX_BYTES {
        return Err(Error::TooLarge { path, bytes });
    }
    let text = fs::read(&path).map_err(read)?;
    let record: Record =
        serde_json::from_slice(&text).map_err(|error| Error::Parse { path: path.clone(), error })?;
    if record.version != VERSION {
        return Err(Error::Version { path, version: record.version });
    }
    let running = boot_id(proc);
    if running.is_empty() || record.boot_id != running {
        return Err(Error::OtherBoot { path, record: record.boot_id, running });
    }
    Ok(record)
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Error, of_this_boot, write};
    use kiln_contract::event::{BOOT_RECORD, Record, VERSION};
    use kiln_contract::plan::Plan;
    use std::fs;
    use std::path::Path;

    pub(crate) const BOOT: &str = "6b0bbf4d-9ab0-4d5a-8a8f-4e0a6f4d2a10";

    pub(crate) fn record(problems: &[&str]) -> Record {
        Record {
            version: VERSION,
            kiln: "0.1.0".to_owned(),
            cluster: "lab".to_owned(),
            node: "n1".to_owned(),
            boot_id: BOOT.to_owned(),
            began: 1.5,
            ended: 2.25,
            steps: Vec::new(),
            plan: Plan::default(),
            problems: problems.iter().map(|text| (*text).to_owned()).collect(),
            default_disks_config: None,
        }
    }

    /// A /proc that names a boot.
    pub(crate) fn proc_of(root: &Path, boot: &str) {
        fs::create_dir_all(root.join("sys/kernel/random")).unwrap();
        fs::write(root.join("sys/kernel/random/boot_id"), format!("{boot}\n")).unwrap();
    }

    #[test]
    fn what_is_written_is_read_and_nothing_lies_beside_it() {
        let root = tempfile::tempdir().unwrap();
        proc_of(root.path(), BOOT);
        for problems in [&["one"][..], &[]] {
            write(root.path(), BOOT_RECORD, &record(problems)).unwrap();
            assert_eq!(of_this_boot(root.path(), root.path()).unwrap(), record(problems));
        }
        let folder = root.path().join("run/kiln");
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["boot.json"]);
        let text = fs::read_to_string(folder.join("boot.json")).unwrap();
        assert!(text.starts_with("{\n  \"version\": 1,\n  \"kiln\": \"0.1.0\",\n") && text.ends_with("}\n"));
    }

    #[test]
    fn every_record_that_is_not_this_boots_is_told_apart() {
        let root = tempfile::tempdir().unwrap();
        proc_of(root.path(), BOOT);
        let said = || {
            let error = of_this_boot(root.path(), root.path()).unwrap_err();
            error.to_string().replace(&root.path().display().to_string(), "")
        };
        assert_eq!(said(), "/run/kiln/boot.json: No such file or directory (os error 2)");

        let path = root.path().join(BOOT_RECORD.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(matches!(of_this_boot(root.path(), root.path()), Err(Error::Parse { .. })));

        write(root.path(), BOOT_RECORD, &Record { version: 2, ..record(&[]) }).unwrap();
        assert_eq!(said(), "/run/kiln/boot.json has version 2, this kiln-firstboot reads version 1");

        write(root.path(), BOOT_RECORD, &Record { boot_id: "earlier".to_owned(), ..record(&[]) }).unwrap();
        assert_eq!(
            said(),
            format!("/run/kiln/boot.json is of another boot: earlier, while this one is {BOOT}")
        );

        fs::File::create(&path).unwrap().set_len(super::MAX_BYTES + 1).unwrap();
        assert!(matches!(of_this_boot(root.path(), root.path()), Err(Error::TooLarge { .. })));
    }
}
