//! The machine and its way to an argument vector.

use crate::disk::Place;
use crate::{Accelerator, Bus, Card, Disk, Error, Firmware, Tpm};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// The program that runs machines.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Where the serial console goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// To whoever holds the [`Running`](crate::Running): `expect`, `send`, `console`.
    Captured,
    /// To this process's terminal; Ctrl-A X ends the machine, Ctrl-A C shows QEMU's monitor.
    Terminal,
    /// Into a file.
    File(PathBuf),
    /// Nowhere.
    None,
}

/// A Linux kernel that QEMU itself loads, with no firmware, boot loader or EFI variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel.
    pub image: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// What it is told.
    pub command_line: String,
}

/// What a machine is made of. It shows nothing on a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What runs first.
    pub firmware: Firmware,
    /// Runs at once; the firmware is then left out.
    pub kernel: Option<Kernel>,
    /// The guest may reboot; else the machine ends when it tries to.
    pub reboot: bool,
    /// What executes the guest.
    pub accelerator: Accelerator,
    /// Processors.
    pub cpus: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disks; the first is booted.
    pub disks: Vec<Disk>,
    /// Network cards.
    pub cards: Vec<Card>,
    /// A TPM.
    pub tpm: Option<Tpm>,
    /// The serial console.
    pub serial: Serial,
    /// Names of virtio-serial ports, whose lines come to whoever holds the [`Running`](crate::Running).
    pub ports: Vec<String>,
    /// The machine can be told what to do while it runs: [`Running::execute`](crate::Running::execute).
    pub control: bool,
    /// SMBIOS structures in QEMU's words, such as `type=1,serial=…`.
    pub smbios: Vec<String>,
    /// What the hardware clock says at the start, in whole seconds; none is the host's time. It goes on from there, in UTC.
    pub clock: Option<Timestamp>,
}

impl Machine {
    /// Two processors (one where they are translated), 2048 MiB, a captured console, the end instead of a reboot, and nothing
    /// else.
    ///
    /// A translated processor is a thread of the host. Where that waits for a core, its guest's timers may stop for minutes,
    /// and the other processor waits for it in vain ("rcu_preempt kthread timer wakeup didn't happen").
    pub fn new(firmware: Firmware, accelerator: Accelerator) -> Self {
        Self {
            firmware,
            kernel: None,
            reboot: false,
            accelerator,
            cpus: if accelerator == Accelerator::Tcg { 1 } else { 2 },
            memory_mib: 2048,
            disks: Vec::new(),
            cards: Vec::new(),
            tpm: None,
            serial: Serial::Captured,
            ports: Vec::new(),
            control: false,
            smbios: Vec::new(),
            clock: None,
        }
    }

    /// What [`PROGRAM`] is to be given, when the machine's own files and sockets are in `folder`: `vars.fd`, the
    /// copy of the firmware's variables; `console.sock`; `port0.sock` and so on; `qmp.sock`; `tpm.sock`; `disk1.img` for
    /// an empty disk number 1; `disk1.faults` for its faults.
    pub fn arguments(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let mut arguments: Vec<String> =
            ["-nodefaults", "-no-user-config", "-display", "none"].into_iter().map(str::to_owned).collect();
        if !self.reboot {
            arguments.push("-no-reboot".to_owned());
        }
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("-machine", "q35".to_owned());
        let (accelerator, cpu) = self.accelerator.arguments();
        add("-accel", accelerator.to_owned());
        add("-cpu", cpu.to_owned());
        add("-smp", self.cpus.to_string());
        add("-m", self.memory_mib.to_string());
        if let Some(Kernel { image, initrd, command_line }) = &self.kernel {
            add("-kernel", image.display().to_string());
            add("-initrd", initrd.display().to_string());
            add("-append", command_line.clone());
        } else if let Firmware::Uefi { code, .. } = &self.firmware {
            let flash = |unit: u8, more: &str, path: &Path| {
                format!("if=pflash,unit={unit},format=raw{more},file={}", quoted(&path.to_string_lossy()))
            };
            add("-drive", flash(0, ",readonly=on", code));
            add("-drive", flash(1, "", &variables(folder)));
        }
        // A first boot makes keys; it must not wait for entropy.
        add("-object", "rng-builtin,id=rng0".to_owned());
        add("-device", "virtio-rng-pci,rng=rng0".to_owned());
        match &self.serial {
            Serial::Captured => {
                add("-chardev", socket("console", &console(folder)));
                add("-serial", "chardev:console".to_owned());
            }
            Serial::Terminal => add("-serial", "mon:stdio".to_owned()),
            Serial::File(path) => add("-serial", format!("file:{}", path.display())),
            Serial::None => {}
        }
        if !self.ports.is_empty() {
            add("-device", "virtio-serial-pci".to_owned());
        }
        for (index, name) in self.ports.iter().enumerate() {
            add("-chardev", socket(&format!("port{index}"), &port(index, folder)));
            add("-device", format!("virtserialport,chardev=port{index},name={}", quoted(name)));
        }
        if self.control {
            add("-chardev", socket("qmp", &qmp(folder)));
            add("-mon", "chardev=qmp,mode=control".to_owned());
        }
        if self.tpm.is_some() {
            add("-chardev", socket("tpm", &tpm(folder)));
            add("-tpmdev", "emulator,id=tpm0,chardev=tpm".to_owned());
            add("-device", "tpm-tis,tpmdev=tpm0".to_owned());
        }
        for smbios in &self.smbios {
            add("-smbios", smbios.clone());
        }
        if let Some(clock) = self.clock {
            add("-rtc", format!("base={}", clock.strftime("%Y-%m-%dT%H:%M:%S")));
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let on_ahci = |disk: &&Disk| matches!(disk.bus, Bus::Ahci | Bus::Disc);
            let port = self.disks.iter().take(index).filter(on_ahci).count();
            // A kernel that QEMU loads is what boots first.
            let boots = index == 0 && self.kernel.is_none();
            arguments.extend(disk.arguments(Place { index, port, boots }, folder)?);
        }
        for (index, card) in self.cards.iter().enumerate() {
            arguments.extend(card.arguments(index));
        }
        Ok(arguments)
    }
}

/// The copy of the firmware's variables.
pub(crate) fn variables(folder: &Path) -> PathBuf {
    folder.join("vars.fd")
}

/// The socket that the console is listened to on.
pub(crate) fn console(folder: &Path) -> PathBuf {
    folder.join("console.sock")
}

/// The socket of port number `index`.
pub(crate) fn port(index: usize, folder: &Path) -> PathBuf {
    folder.join(format!("port{index}.sock"))
}

/// The socket that the machine takes commands from.
pub(crate) fn qmp(folder: &Path) -> PathBuf {
    folder.join("qmp.sock")
}

/// The socket of the TPM's emulator.
pub(crate) fn tpm(folder: &Path) -> PathBuf {
    folder.join("tpm.sock")
}

/// QEMU connects to a socket that is already listened on, so that no byte of the guest is lost.
fn socket(id: &str, path: &Path) -> String {
    format!("socket,id={id},path={}", quoted(&path.to_string_lossy()))
}

/// A value in QEMU's option lists, where a comma ends it unless doubled.
pub(crate) fn quoted(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests;
