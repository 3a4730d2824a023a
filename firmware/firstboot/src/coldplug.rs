//! Loading drivers for the hardware that is there, until the disk that was booted appears.

use crate::choose::{self, Booted, Reason};
use crate::cmdline::CommandLine;
use crate::console::Console;
use crate::failure::Failure;
use crate::modules::Modules;
use crate::{DEV, SYSFS, disks, efi, slow};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often sysfs is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long nothing may change before a choice counts: disks of one controller come one after the other, and a
/// second disk with the same GUIDs must be seen before the first is taken.
const SETTLE: Duration = Duration::from_millis(200);
/// The same where there is a bus whose devices are found one after the other, by asking port after port.
const SLOW_SETTLE: Duration = Duration::from_millis(1500);
/// How long a stick or a card reader may take to show its disks, counted from when the bus found it: the kernel waits a
/// second before it asks (Linux, kernel-parameters.txt, `usb-storage.delay_use`), and disks behind bridges spin up.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
/// When a line says that the helper is waiting.
const PATIENCE: Duration = Duration::from_secs(3);

/// Waits for the booted disk, loading drivers as buses show their devices.
pub(crate) fn booted_disk(
    modules: &mut Modules,
    console: &mut Console,
    cmdline: &CommandLine,
) -> Result<Booted, Failure> {
    let esp = efi::booted_esp(Path::new(efi::VARIABLES));
    let start = Instant::now();
    let (mut seen, mut found, mut said) = (None, Vec::new(), false);
    let mut changed = Instant::now();
    loop {
        let loaded = load_drivers(Path::new(SYSFS), modules, console);
        let now = (disks::fingerprint(Path::new(SYSFS)), slow::look(Path::new(SYSFS)));
        if loaded || seen.as_ref() != Some(&now) {
            (seen, changed) = (Some(now), Instant::now());
            found = disks::scan(Path::new(SYSFS), Path::new(DEV));
        }
        let timed_out = start.elapsed() >= cmdline.disk_timeout;
        if is_settled(seen.as_ref().map(|(_, slow)| slow), changed.elapsed()) || timed_out {
            match choose::booted(&found, esp) {
                Ok(booted) => {
                    console.detail(&format!("{} modules loaded", modules.loaded()));
                    return Ok(booted);
                }
                Err(Reason::None) if !timed_out => {}
                Err(reason) => {
                    return Err(Failure::of_reason(reason, esp, (cmdline.disk_timeout.as_secs(), found)));
                }
            }
        }
        if !said && start.elapsed() >= PATIENCE {
            said = true;
            let what =
                esp.map_or("a disk with a Kiln image".to_owned(), |esp| format!("the disk with ESP {esp}"));
            console.milestone(&format!("waiting up to {} s for {what}", cmdline.disk_timeout.as_secs()));
        }
        std::thread::sleep(POLL);
    }
}

/// Whether what is there is all that will come soon, when nothing has changed for this long.
fn is_settled(slow: Option<&slow::Buses>, quiet: Duration) -> bool {
    match slow {
        Some(slow) if !slow.waiting.is_empty() => quiet >= DISK_PATIENCE,
        Some(slow) if !slow.devices.is_empty() => quiet >= SLOW_SETTLE,
        _ => quiet >= SETTLE,
    }
}

/// The last look before anything is written: a copy of the booted disk that came since it was chosen is refused, too.
pub(crate) fn look_again(booted: &Booted) -> Result<(), Failure> {
    let disks = disks::scan(Path::new(SYSFS), Path::new(DEV));
    match choose::booted(&disks, Some(booted.esp.guid)) {
        Err(reason @ Reason::Several(_)) => {
            Err(Failure::of_reason(reason, Some(booted.esp.guid), (0, disks)))
        }
        _ => Ok(()),
    }
}

/// One walk over all buses; true when a module was loaded.
pub(crate) fn load_drivers(sysfs: &Path, modules: &mut Modules, console: &mut Console) -> bool {
    // Every one of them is tried: `any` would stop at the first that loads something.
    modaliases(sysfs).iter().filter(|alias| modules.load_for(alias, console)).count() > 0
}

/// The modalias of every device on every bus, sorted within a bus so that two boots load in one order.
fn modaliases(sysfs: &Path) -> Vec<String> {
    let names = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
        names.sort();
        names
    };
    let devices = names(&sysfs.join("bus")).into_iter().flat_map(|bus| names(&bus.join("devices")));
    devices.filter_map(|device| modalias(&device)).filter(|alias| !alias.is_empty()).collect()
}

/// A device's modalias. A memory card names it in its events only (Linux, drivers/mmc/core/bus.c, `mmc_bus_uevent`).
fn modalias(device: &Path) -> Option<String> {
    if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
        return Some(alias.trim_end().to_owned());
    }
    let event = fs::read_to_string(device.join("uevent")).ok()?;
    event.lines().find_map(|line| line.strip_prefix("MODALIAS=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{DISK_PATIENCE, SETTLE, SLOW_SETTLE, is_settled, modaliases};
    use crate::slow::Buses;
    use std::fs;
    use std::time::Duration;

    /// A twin on a stick, which comes seconds later, must be seen before a choice counts.
    #[test]
    fn slow_buses_are_given_time() {
        let buses = |devices: &[&str], waiting: &[&str]| Buses {
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
            waiting: waiting.iter().map(|name| (*name).to_owned()).collect(),
        };
        let moment = Duration::from_millis(1);
        for (slow, after) in [
            (buses(&[], &[]), SETTLE),
            (buses(&["usb1"], &[]), SLOW_SETTLE),
            (buses(&["usb1", "1-1"], &["1-1:1.0"]), DISK_PATIENCE),
        ] {
            assert!(!is_settled(Some(&slow), after - moment), "{slow:?}");
            assert!(is_settled(Some(&slow), after), "{slow:?}");
        }
    }

    #[test]
    fn every_bus_is_asked() {
        let root = tempfile::tempdir().unwrap();
        for (device, alias) in
            [("usb/devices/1-1:1.0", "usb:v0781\n"), ("pci/devices/0000:00:1f.2", "pci:v00008086\n")]
        {
            let directory = root.path().join("bus").join(device);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("modalias"), alias).unwrap();
        }
        fs::create_dir_all(root.path().join("bus/cpu/devices/cpu0")).unwrap();
        let card = root.path().join("bus/mmc/devices/mmc0:50af");
        fs::create_dir_all(&card).unwrap();
        fs::write(card.join("uevent"), "MMC_TYPE=SD\nMMC_NAME=QEMU!\nMODALIAS=mmc:block\n").unwrap();
        assert_eq!(modaliases(root.path()), ["mmc:block", "pci:v00008086", "usb:v0781"]);
        assert!(modaliases(&root.path().join("nothing")).is_empty());
    }
}
