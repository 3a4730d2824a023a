//! The kernel's own file systems.

use crate::failure::Failure;
use crate::sys::{self, Flags};
use std::fs;

/// Mounts /proc, /sys, /dev, /run and /run/lock. What is mounted already (a kernel with automatic devtmpfs) is left.
pub(crate) fn mount_file_systems() -> Result<(), Failure> {
    let quiet = Flags::NOSUID | Flags::NOEXEC | Flags::NODEV;
    let table = [
        ("proc", "/proc", quiet, ""),
        ("sysfs", "/sys", quiet, ""),
        ("devtmpfs", "/dev", Flags::NOSUID, "mode=0755"),
        ("tmpfs", "/run", Flags::NOSUID | Flags::NODEV, "mode=0755"),
        // As Debian's run-lock.mount has it, which would be laid over LVM's locks while lvm2-monitor.service takes them:
        // nothing orders those two.
        ("tmpfs", "/run/lock", quiet, "mode=1777,size=5242880"),
    ];
    for (fstype, target, flags, options) in table {
        let _ = fs::create_dir(target);
        match sys::mount(fstype, target, fstype, (flags, options)) {
            Err(error) if error.kind() != std::io::ErrorKind::ResourceBusy => {
                return Err(Failure::KernelMount { fstype, target, error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Mounts the EFI variables. A machine without them is one that was not started by UEFI firmware.
pub(crate) fn mount_efi_variables() {
    let flags = Flags::NOSUID | Flags::NOEXEC | Flags::NODEV;
    let _ = sys::mount("efivarfs", crate::efi::VARIABLES, "efivarfs", (flags, ""));
}

/// Where the kernel keeps what it prints on consoles: four levels, of which the first counts (proc_sys_kernel(5)).
const PRINTK: &str = "/proc/sys/kernel/printk";

/// Keeps the kernel's own messages off the consoles, so that a screen of ours stays readable. Panics still show.
pub(crate) fn hush() {
    let _ = fs::write(PRINTK, "1");
}

/// The same until it is dropped.
pub(crate) fn hushed() -> Hushed {
    let before = fs::read_to_string(PRINTK).ok();
    hush();
    Hushed(before)
}

/// The kernel is kept off the consoles.
#[derive(Debug)]
pub(crate) struct Hushed(Option<String>);

impl Drop for Hushed {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = fs::write(PRINTK, before.trim_end());
        }
    }
}
