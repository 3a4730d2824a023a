//! Taking the counter off the boot entry once a boot has proved good (systemd, Automatic Boot Assessment): until then
//! the loader counts tries in the file's name, `kiln+3.efi`, `kiln+2-1.efi`, and after the last prefers another entry.

use crate::booted::{self, Chosen};
use crate::{DEV, SYSFS, efi, sys};
use std::fs;
use std::io;
use std::path::Path;

const MOUNT_POINT: &str = "/run/kiln/esp";

/// Renames the booted entry to its name without a counter. Nothing to do when the loader does not count.
pub(crate) fn keep_booted_entry() -> io::Result<()> {
    let variables = Path::new(efi::VARIABLES);
    let Some(counted) = efi::counted_entry(variables) else { return Ok(()) };
    let Some(plain) = without_counter(&counted) else { return Ok(()) };
    let gone = || io::Error::other("the disk that was booted is not there");
    let chosen = Chosen::read(Path::new(booted::PATH)).ok_or_else(gone)?;
    let device = chosen.device((Path::new(SYSFS), Path::new(DEV)), chosen.esp).ok_or_else(gone)?;
    fs::create_dir_all(MOUNT_POINT)?;
    sys::mount(&device.to_string_lossy(), MOUNT_POINT, "vfat", (sys::quiet(), "umask=0077"))?;
    let renamed = rename(Path::new(MOUNT_POINT), &counted, &plain);
    sys::unmount(MOUNT_POINT)?;
    renamed
}

/// An entry that has its plain name already (the service was started twice in a boot) is fine.
fn rename(esp: &Path, counted: &str, plain: &str) -> io::Result<()> {
    if !esp.join(counted).exists() && esp.join(plain).exists() {
        return Ok(());
    }
    fs::rename(esp.join(counted), esp.join(plain))?;
    sys::sync_file_system(esp)
}

/// `EFI/Linux/kiln+2-1.efi` is `EFI/Linux/kiln.efi`; nothing for a name without a counter or a path that climbs.
fn without_counter(path: &str) -> Option<String> {
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return None;
    }
    let (stem, suffix) = path.rsplit_once('.')?;
    let (name, counter) = stem.rsplit_once('+')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
    (is_number(left) && is_number(done) && !name.contains('+')).then(|| format!("{name}.{suffix}"))
}

#[cfg(test)]
mod tests {
    use super::{rename, without_counter};
    use std::fs;

    #[test]
    fn counters_are_told_from_names() {
        let table = [
            ("EFI/Linux/kiln+2-1.efi", Some("EFI/Linux/kiln.efi")),
            ("EFI/Linux/kiln+3.efi", Some("EFI/Linux/kiln.efi")),
            ("EFI/Linux/kiln.efi", None),
            ("EFI/Linux/kiln+x.efi", None),
            ("EFI/Linux/kiln+1-.efi", None),
            ("EFI/../kiln+1.efi", None),
            ("kiln", None),
        ];
        for (path, want) in table {
            assert_eq!(without_counter(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn renaming_twice_is_fine_and_a_lost_entry_is_told() {
        let esp = tempfile::tempdir().unwrap();
        fs::write(esp.path().join("a+1.efi"), "x").unwrap();
        rename(esp.path(), "a+1.efi", "a.efi").unwrap();
        rename(esp.path(), "a+1.efi", "a.efi").unwrap();
        assert!(esp.path().join("a.efi").exists());
        assert!(rename(esp.path(), "b+1.efi", "b.efi").is_err());
    }
}
