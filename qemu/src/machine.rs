//! The machine and its way to an argument vector.

use crate::{Accelerator, Disk, Error, Firmware, Network};
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

/// What a machine is made of. It ends instead of rebooting, and shows nothing on a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// What runs first.
    pub firmware: Firmware,
    /// What executes the guest.
    pub accelerator: Accelerator,
    /// Processors.
    pub cpus: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disks; the first is booted.
    pub disks: Vec<Disk>,
    /// Network; none when left out.
    pub network: Option<Network>,
    /// The serial console.
    pub serial: Serial,
    /// Names of virtio-serial ports, whose lines come to whoever holds the [`Running`](crate::Running).
    pub ports: Vec<String>,
    /// SMBIOS structures in QEMU's words, such as `type=1,serial=…`.
    pub smbios: Vec<String>,
}

impl Machine {
    /// Two processors, 2048 MiB, a captured console, and nothing else.
    pub fn new(firmware: Firmware, accelerator: Accelerator) -> Self {
        Self {
            firmware,
            accelerator,
            cpus: 2,
            memory_mib: 2048,
            disks: Vec::new(),
            network: None,
            serial: Serial::Captured,
            ports: Vec::new(),
            smbios: Vec::new(),
        }
    }

    /// What [`PROGRAM`] is to be given, when the machine's own files and sockets are in `folder`: `vars.fd`, the
    /// copy of the firmware's variables; `console.sock`; `port0.sock` and so on; `disk1.img` for an empty disk
    /// number 1.
    pub fn arguments(&self, folder: &Path) -> Result<Vec<String>, Error> {
        let mut arguments: Vec<String> = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
            .into_iter()
            .map(str::to_owned)
            .collect();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("-machine", "q35".to_owned());
        let (accelerator, cpu) = self.accelerator.arguments();
        add("-accel", accelerator.to_owned());
        add("-cpu", cpu.to_owned());
        add("-smp", self.cpus.to_string());
        add("-m", self.memory_mib.to_string());
        if let Firmware::Uefi { code, .. } = &self.firmware {
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
        for smbios in &self.smbios {
            add("-smbios", smbios.clone());
        }
        for (index, disk) in self.disks.iter().enumerate() {
            arguments.extend(disk.arguments(index, folder)?);
        }
        if let Some(network) = &self.network {
            arguments.extend(network.arguments());
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
