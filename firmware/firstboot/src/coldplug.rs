//! Loading drivers for the hardware that is there, until the disk that was booted appears.

use crate::choose::{self, Booted, Reason};
use crate::cmdline::CommandLine;
use crate::console::Console;
use crate::failure::Failure;
use crate::modules::Modules;
use crate::{DEV, SYSFS, disks, efi};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often sysfs is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long nothing may change before a choice counts: disks of one controller come one after the other, and a
/// second disk with the same GUIDs must be seen before the first is taken.
const SETTLE: Duration = Duration::from_millis(200);
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
    let (mut seen, mut found, mut changed, mut said) = (Vec::new(), Vec::new(), Instant::now(), false);
    loop {
        let loaded = load_drivers(Path::new(SYSFS), modules, console);
        let now = disks::fingerprint(Path::new(SYSFS));
        if loaded || now != seen {
            (seen, changed) = (now, Instant::now());
            found = disks::scan(Path::new(SYSFS), Path::new(DEV));
        }
        let timed_out = start.elapsed() >= cmdline.disk_timeout;
        if changed.elapsed() >= SETTLE || timed_out {
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
    use super::modaliases;
    use std::fs;

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
