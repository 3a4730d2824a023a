//! systemd units and settings of what lies between a device and its use: opening encrypted data disks, turning on swap.
//! Written to /run at each boot, as those of mounts are.

use crate::booted::Chosen;
use crate::data::{Lock, Present};
use crate::failure::Failure;
use crate::keys;
use crate::luks;
use crate::units::{self, escape_path};
use kiln_contract::handoff::Handoff;
use kiln_contract::memory::Zram;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Where zram-generator(8) looks for what this boot says (zram-generator.conf(5)); it is read after the package's own.
const ZRAM_FOLDER: &str = "/run/systemd/zram-generator.conf.d";
/// Name of the open swap partition below /dev/mapper. No data disk's has a dot.
const SWAP: &str = "kiln.swap";
const PROGRAM: &str = "/usr/bin/systemd-cryptsetup";

/// Writes all of them. A swap partition that is not there is not waited for.
pub(crate) fn hand_on(
    handoff: &Handoff,
    swap: Option<(&Chosen, u32)>,
    present: &[Present<'_>],
) -> Result<(), Failure> {
    let folder = Path::new(units::FOLDER);
    let write = || -> io::Result<()> {
        if let (Some((chosen, number)), Some(wanted)) = (swap, &handoff.disks.system.swap) {
            // Where the kernel does not count disks, by the GUID.
            let by_guid = || format!("/dev/disk/by-partuuid/{}", wanted.partition);
            let partition = chosen.link(number).unwrap_or_else(by_guid);
            write_swap(folder, &partition, handoff.disks.system.encrypt.is_some())?;
        }
        write_openers(folder, present.iter())?;
        write_zram(Path::new(ZRAM_FOLDER), handoff.memory.zram)
    };
    write().map_err(|error| Failure::Root { what: "write this boot's units to /run".to_owned(), error })
}

/// The unit that opens a volume; what uses the volume requires it and comes after it.
fn unit_of(name: &str) -> String {
    format!("systemd-cryptsetup@{}.service", escape_path(name))
}

/// The unit that opens what is mounted from `source`, when that is a volume.
pub(crate) fn opener(source: &str) -> Option<String> {
    source.strip_prefix("/dev/mapper/").map(unit_of)
}

/// Writes the units that open encrypted data disks.
fn write_openers<'a>(folder: &Path, present: impl Iterator<Item = &'a Present<'a>>) -> io::Result<()> {
    for disk in present {
        let Some(lock) = disk.lock else { continue };
        let (key, options) = match lock {
            Lock::Tpm => ("-".to_owned(), "luks,tpm2-device=auto,headless=true"),
            Lock::File => (format!("{}/{}", keys::FOLDER, disk.slot.name), "luks,headless=true"),
        };
        let name = disk.mapped();
        let attach = format!("{name} {} {key} {options}", disk.partition());
        let text =
            opening(&format!("Encrypted data disk {}", disk.slot.name), (&name, &disk.partition()), &attach);
        write(folder, &unit_of(&name), (&text, "cryptsetup.target.wants"))?;
        wait_for(folder, &name)?;
    }
    Ok(())
}

/// Writes the units that turn on the swap partition: with an encrypted state partition under a key of this boot alone.
fn write_swap(folder: &Path, partition: &str, encrypt: bool) -> io::Result<()> {
    let (source, order) = if encrypt {
        let attach =
            format!("{SWAP} {partition} /dev/urandom plain,cipher=aes-xts-plain64,size=512,sector-size=4096");
        let volume = luks::opened(SWAP).display().to_string();
        let text = opening("Encrypted swap partition", (SWAP, partition), &attach);
        let text = format!("{text}ExecStartPost=/usr/lib/systemd/systemd-makefs swap {volume}\n");
        let unit = unit_of(SWAP);
        write(folder, &unit, (&text, "cryptsetup.target.wants"))?;
        wait_for(folder, SWAP)?;
        (volume, format!("Requires={unit}\nAfter={unit}\n"))
    } else {
        (partition.to_owned(), String::new())
    };
    let text = format!("[Unit]\nDescription=Swap partition\n{order}\n[Swap]\nWhat={source}\n");
    write(folder, &format!("{}.swap", escape_path(&source)), (&text, "swap.target.wants"))
}

/// What systemd's own generator writes for a line of crypttab(5) that nobody is asked about.
fn opening(description: &str, (name, partition): (&str, &str), attach: &str) -> String {
    let device = format!("{}.device", escape_path(partition));
    format!(
        "[Unit]\nDescription={description}\nDefaultDependencies=no\nIgnoreOnIsolate=true\n\
         BindsTo={device}\nAfter={device} cryptsetup-pre.target tpm2.target systemd-udevd-kernel.socket\n\
         Before=cryptsetup.target umount.target\nConflicts=umount.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutSec=infinity\nKeyringMode=shared\n\
         OOMScoreAdjust=500\nExecStart={PROGRAM} attach {attach}\nExecStop={PROGRAM} detach {name}\n"
    )
}

/// A volume is waited for as long as its opening takes, as systemd's own generator has it: a slow TPM on a busy machine needs more
/// than the 90 s of other devices, and a mount that gave up before is in no list of failed units. What can't be opened at all
/// ends the wait: mounts require the unit that opens.
fn wait_for(folder: &Path, name: &str) -> io::Result<()> {
    let place = folder.join(format!("{}.device.d", escape_path(&luks::opened(name).display().to_string())));
    fs::create_dir_all(&place)?;
    fs::write(place.join("40-kiln.conf"), "[Unit]\nJobTimeoutSec=infinity\n")
}

/// Writes the settings of the zram device.
fn write_zram(folder: &Path, zram: Option<Zram>) -> io::Result<()> {
    let size = match zram {
        None => return Ok(()),
        Some(Zram::Percent(percent)) => format!("ram * {percent} / 100"),
        Some(Zram::Mebibytes(size)) => size.to_string(),
    };
    fs::create_dir_all(folder)?;
    fs::write(folder.join("kiln.conf"), format!("[zram0]\nzram-size = {size}\n"))
}

/// Writes a unit, and has a target want it.
fn write(folder: &Path, name: &str, (text, wants): (&str, &str)) -> io::Result<()> {
    let wants = folder.join(wants);
    fs::create_dir_all(&wants)?;
    fs::write(folder.join(name), text)?;
    let link = wants.join(name);
    let _ = fs::remove_file(&link);
    symlink(Path::new("..").join(name), link)
}

#[cfg(test)]
mod tests {
    use super::{opener, write_openers, write_swap, write_zram};
    use crate::data::tests::rule;
    use crate::data::{Lock, Present};
    use kiln_contract::memory::Zram;
    use std::fs;
    use std::path::Path;

    const PARTITION: &str = "/dev/disk/by-diskseq/7-part6";

    fn read(folder: &Path, name: &str) -> String {
        fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn a_disk_is_opened_before_what_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let rule = rule("sdf", 3);
        let lock = [Some(Lock::Tpm), Some(Lock::File), None];
        let disks: Vec<Present<'_>> = rule
            .slots
            .iter()
            .zip(lock)
            .map(|(slot, lock)| Present { rule: &rule, slot, lock, sequence: lock.map(|_| 7) })
            .collect();
        write_openers(folder.path(), disks.iter()).unwrap();
        let wanted: Vec<String> = disks.iter().filter_map(|disk| opener(&disk.source())).collect();
        assert_eq!(
            wanted,
            [r"systemd-cryptsetup@kiln\x2dsdf\x2d1.service", r"systemd-cryptsetup@kiln\x2dsdf\x2d2.service"]
        );
        let waits = read(folder.path(), r"dev-mapper-kiln\x2dsdf\x2d1.device.d/40-kiln.conf");
        assert_eq!(waits, "[Unit]\nJobTimeoutSec=infinity\n");
        let text = read(folder.path(), &wanted[0]);
        for line in [
            r"BindsTo=dev-disk-by\x2ddiskseq-7\x2dpart1.device",
            "ExecStart=/usr/bin/systemd-cryptsetup attach kiln-sdf-1 \
             /dev/disk/by-diskseq/7-part1 - luks,tpm2-device=auto,headless=true",
            "ExecStop=/usr/bin/systemd-cryptsetup detach kiln-sdf-1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(read(folder.path(), &wanted[1]).contains(" /var/lib/kiln/keys/sdf-2 luks,headless=true\n"));
        assert_eq!(read(&folder.path().join("cryptsetup.target.wants"), &wanted[0]), text);
    }

    #[test]
    fn swap_is_plain_or_under_a_key_of_one_boot() {
        let folder = tempfile::tempdir().unwrap();
        write_swap(folder.path(), PARTITION, false).unwrap();
        let name = r"dev-disk-by\x2ddiskseq-7\x2dpart6.swap";
        let want = format!("[Unit]\nDescription=Swap partition\n\n[Swap]\nWhat={PARTITION}\n");
        assert_eq!(read(folder.path(), name), want);
        assert_eq!(read(&folder.path().join("swap.target.wants"), name), want);

        write_swap(folder.path(), PARTITION, true).unwrap();
        let opener = "systemd-cryptsetup@kiln.swap.service";
        let text = read(folder.path(), opener);
        assert!(text.contains(&format!(" attach kiln.swap {PARTITION} /dev/urandom plain,")), "{text}");
        assert!(
            text.ends_with("ExecStartPost=/usr/lib/systemd/systemd-makefs swap /dev/mapper/kiln.swap\n"),
            "{text}"
        );
        let text = read(folder.path(), "dev-mapper-kiln.swap.swap");
        assert!(text.contains(&format!("Requires={opener}\nAfter={opener}\n")), "{text}");
    }

    #[test]
    fn zram_is_a_share_or_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("conf");
        write_zram(&conf, None).unwrap();
        assert!(!conf.exists());
        for (zram, want) in [(Zram::Percent(50), "ram * 50 / 100"), (Zram::Mebibytes(2048), "2048")] {
            write_zram(&conf, Some(zram)).unwrap();
            assert_eq!(read(&conf, "kiln.conf"), format!("[zram0]\nzram-size = {want}\n"));
        }
    }
}
