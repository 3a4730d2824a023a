//! `kiln-firstboot probe`: the machine's disks as JSON on standard output, for `kiln plan --disks`. Runs in any Linux
//! system, such as a rescue stick; writes to no disk.

use crate::inventory;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Mount points whose disk the machine was booted from: an installed system's, and a live system's.
const BOOTED: [&str; 7] =
    ["/boot/efi", "/efi", "/boot", "/", "/run/live/medium", "/run/archiso/bootmnt", "/run/initramfs/live"];

/// What the words after `probe` ask for.
struct Roots {
    sysfs: PathBuf,
    dev: PathBuf,
}

/// Looks at all disks. The words after `probe`: `--sysfs DIR` and `--dev DIR` for another machine's.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let roots = match Roots::of(words) {
        Ok(roots) => roots,
        Err(word) => {
            eprintln!(
                "kiln-firstboot probe: {word:?} is not known; usage: kiln-firstboot probe [--sysfs DIR] [--dev DIR]"
            );
            return ExitCode::from(2);
        }
    };
    let here = roots.sysfs == Path::new(crate::SYSFS);
    let booted = if here { booted() } else { None };
    let mut machine = inventory::machine(&roots.sysfs, &roots.dev, booted.as_deref());
    if !inventory::can_probe() {
        eprintln!(
            "kiln-firstboot probe: {} is missing, so what is on the disks is not known, and a plan would take none of \
             them: install util-linux",
            inventory::BLKID
        );
    }
    let names: Vec<String> = machine.disks.iter().map(|disk| disk.name.clone()).collect();
    inventory::probe(&mut machine, &roots.dev, &names);
    match serde_json::to_string_pretty(&machine) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kiln-firstboot probe: the record can't be written as JSON: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Kernel name of the disk that the running system was booted from, where it can be told.
pub(crate) fn booted() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    source(&mounts).and_then(|name| inventory::whole_disk(Path::new(crate::SYSFS), &name))
}

impl Roots {
    fn of(words: &[String]) -> Result<Self, String> {
        let mut roots = Self { sysfs: PathBuf::from(crate::SYSFS), dev: PathBuf::from(crate::DEV) };
        for pair in words.chunks(2) {
            match pair {
                [option, value] if option == "--sysfs" => roots.sysfs = PathBuf::from(value),
                [option, value] if option == "--dev" => roots.dev = PathBuf::from(value),
                _ => return Err(pair.join(" ")),
            }
        }
        Ok(roots)
    }
}

/// Kernel name of the device that the machine runs from, out of /proc/self/mounts.
fn source(mounts: &str) -> Option<String> {
    let device_of = |point: &&str| {
        let fields = mounts.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        fields.into_iter().find_map(|fields| match fields[..] {
            [device, at, ..] if at == *point => device.strip_prefix("/dev/"),
            _ => None,
        })
    };
    let device = BOOTED.iter().find_map(device_of)?;
    // /dev/mapper/x and /dev/disk/by-uuid/x are links to the kernel's name.
    let target = fs::canonicalize(Path::new(crate::DEV).join(device)).ok();
    let name = target.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.or_else(|| Some(device.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Roots, source};

    #[test]
    fn the_running_system_tells_what_was_booted() {
        let mounts =
            "proc /proc proc rw 0 0\n/dev/nosuch2 / ext4 ro 0 0\n/dev/nosuch1 /boot/efi vfat rw 0 0\n";
        assert_eq!(source(mounts).as_deref(), Some("nosuch1"));
        assert_eq!(source("overlay / overlay rw 0 0\n"), None);
    }

    #[test]
    fn unknown_words_are_said() {
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(Roots::of(&words("--sysfs /a --dev /b")).is_ok());
        assert_eq!(Roots::of(&words("--sys /a")).err().as_deref(), Some("--sys /a"));
        assert_eq!(Roots::of(&words("--sysfs")).err().as_deref(), Some("--sysfs"));
    }
}
