//! From a machine to QEMU's argument vector. Pure.

use crate::machine::{Bus, Disk, Firmware, Format, Machine, Network};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Files that one run of a machine uses.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunFiles {
    /// The copy of the variable store.
    pub(crate) vars: PathBuf,
    /// The socket that QEMU connects the report port to.
    pub(crate) report: PathBuf,
}

impl Machine {
    /// The arguments after the program's name. The console is standard input and output.
    pub(crate) fn argv(&self, files: &RunFiles) -> Vec<OsString> {
        let mut argv = Argv(Vec::new());
        argv.pair("-machine", "q35");
        for (option, value) in self.accelerator.arguments() {
            argv.pair(option, value);
        }
        argv.pair("-m", &self.memory_mib.to_string());
        argv.pair("-smp", &self.cpus.to_string());
        argv.one("-nodefaults");
        argv.one("-no-user-config");
        argv.pair("-display", "none");
        argv.pair("-vga", if self.screen { "std" } else { "none" });
        argv.pair("-chardev", "stdio,id=console,signal=off");
        argv.pair("-serial", "chardev:console");
        argv.pair("-device", "virtio-rng-pci");
        if self.ends_at_reboot {
            argv.one("-no-reboot");
        }
        self.firmware_arguments(files, &mut argv);
        self.disk_arguments(&mut argv);
        if let Some(network) = &self.network {
            argv.pair("-netdev", &network.netdev());
            // No option ROM: firmware must not try the network before the disk.
            argv.pair("-device", "virtio-net-pci,netdev=net,romfile=");
        }
        if let Some(name) = &self.report_port {
            argv.path("-chardev", ("socket,id=report,path=", &files.report, ""));
            argv.pair("-device", "virtio-serial-pci");
            argv.pair("-device", &format!("virtserialport,chardev=report,name={name}"));
        }
        argv.0.extend(self.extra.iter().cloned());
        argv.0
    }

    fn firmware_arguments(&self, files: &RunFiles, argv: &mut Argv) {
        match &self.firmware {
            Firmware::Uefi { code, .. } => {
                argv.path("-drive", ("if=pflash,format=raw,unit=0,readonly=on,file=", code, ""));
                argv.path("-drive", ("if=pflash,format=raw,unit=1,file=", &files.vars, ""));
            }
            Firmware::Direct { kernel, initrd, command_line } => {
                argv.0.extend(["-kernel".into(), kernel.into(), "-initrd".into(), initrd.into()]);
                argv.pair("-append", command_line);
            }
        }
    }

    fn disk_arguments(&self, argv: &mut Argv) {
        let has = |bus| self.disks.iter().any(|disk| disk.bus == bus);
        if has(Bus::Usb) {
            argv.pair("-device", "qemu-xhci,id=xhci");
        }
        if has(Bus::Scsi) {
            argv.pair("-device", "virtio-scsi-pci,id=scsi");
        }
        let mut ports = 0..;
        for (number, disk) in self.disks.iter().enumerate() {
            let format = match disk.format {
                Format::Raw => "raw",
                Format::Qcow2 => "qcow2",
            };
            let snapshot = if disk.throw_away { ",snapshot=on" } else { "" };
            let options = format!("if=none,id=disk{number},format={format},discard=unmap{snapshot},file=");
            argv.path("-drive", (&options, &disk.path, ""));
            if disk.bus == Bus::Sd {
                argv.pair("-device", "sdhci-pci");
            }
            let port = if disk.bus == Bus::Ahci { ports.next() } else { None };
            argv.pair("-device", &disk.device(number, port.unwrap_or(0)));
        }
    }
}

impl Disk {
    fn device(&self, number: usize, port: usize) -> String {
        let device = match self.bus {
            Bus::Virtio => "virtio-blk-pci".to_owned(),
            Bus::Scsi => "scsi-hd,bus=scsi.0".to_owned(),
            Bus::Nvme => "nvme".to_owned(),
            Bus::Ahci => format!("ide-hd,bus=ide.{port}"),
            Bus::Usb => "usb-storage,bus=xhci.0,removable=on".to_owned(),
            Bus::Sd => return format!("sd-card,drive=disk{number}"),
        };
        let serial = match (&self.serial, self.bus) {
            (Some(serial), _) => format!(",serial={}", serial.replace(',', ",,")),
            (None, Bus::Nvme) => format!(",serial=kiln{number}"),
            (None, _) => String::new(),
        };
        let sector = match self.sector {
            512 => String::new(),
            sector => format!(",logical_block_size={sector},physical_block_size={sector}"),
        };
        format!("{device},drive=disk{number},bootindex={number}{serial}{sector}")
    }
}

impl Network {
    fn netdev(&self) -> String {
        let mut text = "user,id=net".to_owned();
        for (key, value) in [("net", &self.net), ("host", &self.host)] {
            if let Some(value) = value {
                text.push_str(&format!(",{key}={value}"));
            }
        }
        if self.restricted {
            text.push_str(",restrict=on");
        }
        for (host_port, address, port) in &self.forwards {
            text.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host_port}-{address}:{port}"));
        }
        text
    }
}

struct Argv(Vec<OsString>);

impl Argv {
    fn one(&mut self, option: &str) {
        self.0.push(option.into());
    }
    fn pair(&mut self, option: &str, value: &str) {
        self.0.extend([option.into(), value.into()]);
    }
    /// An option whose value holds a path. QEMU's lists end at a comma, and two commas stand for one.
    fn path(&mut self, option: &str, (before, path, after): (&str, &Path, &str)) {
        let mut value = before.as_bytes().to_vec();
        for byte in OsStr::as_bytes(path.as_os_str()) {
            value.push(*byte);
            if *byte == b',' {
                value.push(b',');
            }
        }
        value.extend(after.as_bytes());
        self.0.extend([option.into(), OsString::from_vec(value)]);
    }
}

#[cfg(test)]
mod tests {
    use super::RunFiles;
    use crate::machine::{Bus, Disk, Firmware, Format, Machine, Network};

    fn machine() -> Machine {
        Machine::with(Firmware::Uefi { code: "/f/code".into(), vars: "/f/vars".into() })
    }

    /// The values of an option, in order.
    fn values(machine: &Machine, option: &str) -> Vec<String> {
        let files = RunFiles { vars: "/run/vars".into(), report: "/run/report".into() };
        let argv: Vec<String> =
            machine.argv(&files).into_iter().map(|word| word.into_string().unwrap()).collect();
        argv.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn every_bus_has_its_device() {
        let table = [
            (Bus::Virtio, "virtio-blk-pci,drive=disk0,bootindex=0"),
            (Bus::Scsi, "scsi-hd,bus=scsi.0,drive=disk0,bootindex=0"),
            (Bus::Nvme, "nvme,drive=disk0,bootindex=0,serial=kiln0"),
            (Bus::Ahci, "ide-hd,bus=ide.0,drive=disk0,bootindex=0"),
            (Bus::Usb, "usb-storage,bus=xhci.0,removable=on,drive=disk0,bootindex=0"),
            (Bus::Sd, "sd-card,drive=disk0"),
        ];
        for (bus, want) in table {
            let mut machine = machine();
            machine.disks.push(Disk::throw_away("/d").at(bus));
            assert!(values(&machine, "-device").contains(&want.to_owned()), "{bus:?}");
        }
    }

    #[test]
    fn disks_keep_their_order_and_controllers_come_once() {
        let mut machine = machine();
        machine.disks.push(Disk::throw_away("/a").at(Bus::Ahci));
        machine.disks.push(Disk { serial: Some("A,1".to_owned()), ..Disk::throw_away("/b") });
        machine.disks.push(Disk { sector: 4096, ..Disk::throw_away("/c").at(Bus::Usb) });
        machine.disks.push(Disk::throw_away("/d").at(Bus::Ahci));
        machine.disks.push(Disk::throw_away("/e").at(Bus::Usb));
        let devices: Vec<_> = values(&machine, "-device")
            .into_iter()
            .filter(|device| device.contains("disk") || device.contains("xhci"))
            .collect();
        assert_eq!(
            devices,
            [
                "qemu-xhci,id=xhci",
                "ide-hd,bus=ide.0,drive=disk0,bootindex=0",
                "virtio-blk-pci,drive=disk1,bootindex=1,serial=A,,1",
                "usb-storage,bus=xhci.0,removable=on,drive=disk2,bootindex=2,\
                 logical_block_size=4096,physical_block_size=4096",
                "ide-hd,bus=ide.1,drive=disk3,bootindex=3",
                "usb-storage,bus=xhci.0,removable=on,drive=disk4,bootindex=4",
            ]
        );
    }

    #[test]
    fn drives_say_what_becomes_of_the_image() {
        let mut machine = machine();
        machine.disks.push(Disk::throw_away("/with,comma"));
        let kept = Disk { format: Format::Qcow2, throw_away: false, ..Disk::throw_away("/kept") };
        machine.disks.push(kept);
        assert_eq!(
            values(&machine, "-drive"),
            [
                "if=pflash,format=raw,unit=0,readonly=on,file=/f/code",
                "if=pflash,format=raw,unit=1,file=/run/vars",
                "if=none,id=disk0,format=raw,discard=unmap,snapshot=on,file=/with,,comma",
                "if=none,id=disk1,format=qcow2,discard=unmap,file=/kept",
            ]
        );
    }

    #[test]
    fn networks_forward_from_the_loopback_only() {
        let mut machine = machine();
        machine.network = Some(Network {
            net: Some("192.168.86.0/24".to_owned()),
            host: Some("192.168.86.1".to_owned()),
            forwards: vec![(2222, "192.168.86.71".to_owned(), 22)],
            restricted: true,
        });
        let want = "user,id=net,net=192.168.86.0/24,host=192.168.86.1,restrict=on,\
                    hostfwd=tcp:127.0.0.1:2222-192.168.86.71:22";
        assert_eq!(values(&machine, "-netdev"), [want]);
        machine.network = None;
        assert!(values(&machine, "-netdev").is_empty());
    }

    #[test]
    fn reports_and_direct_kernels() {
        let mut machine = machine();
        machine.report_port = Some("org.kiln.report".to_owned());
        assert!(values(&machine, "-chardev").contains(&"socket,id=report,path=/run/report".to_owned()));
        assert!(
            values(&machine, "-device")
                .contains(&"virtserialport,chardev=report,name=org.kiln.report".to_owned())
        );
        machine.firmware =
            Firmware::Direct { kernel: "/k".into(), initrd: "/i".into(), command_line: "a b".into() };
        assert_eq!(values(&machine, "-append"), ["a b"]);
        assert!(values(&machine, "-drive").is_empty());
    }
}
