//! Exact argument vectors.

use super::{Machine, Serial};
use crate::{Accelerator, Bus, Disk, Firmware, Format, Forward, Network, Source, Subnet};
use std::net::Ipv4Addr;
use std::path::Path;

fn bare() -> Machine {
    Machine { serial: Serial::None, ..Machine::new(Firmware::Bios, Accelerator::Tcg) }
}

/// What a machine has more than a bare one, which every other begins with.
fn more(machine: &Machine) -> String {
    let all = machine.arguments(Path::new("/run/m")).unwrap().join(" ");
    let common = bare().arguments(Path::new("/run/m")).unwrap().join(" ");
    all.strip_prefix(&common)
        .unwrap_or_else(|| panic!("{all}\ndoes not begin with\n{common}"))
        .trim()
        .to_owned()
}

#[test]
fn bare_machine() {
    let arguments = bare().arguments(Path::new("/run/m")).unwrap();
    let wanted = "-nodefaults -no-user-config -display none -no-reboot -machine q35 \
        -accel tcg,thread=multi -cpu max -smp 2 -m 2048 -object rng-builtin,id=rng0 -device virtio-rng-pci,rng=rng0";
    assert_eq!(arguments.join(" "), wanted);
}

#[test]
fn whole_machine() {
    let firmware = Firmware::Uefi { code: "/fw/code.fd".into(), vars: "/fw/vars.fd".into() };
    let machine = Machine {
        cpus: 4,
        memory_mib: 512,
        disks: vec![
            Disk { serial: Some("one".to_owned()), ..Disk::virtio(Source::image("/d/a,b.img")) },
            Disk::virtio(Source::Empty { bytes: 1 << 30 }),
        ],
        network: Some(Network {
            subnet: Some(Subnet {
                network: Ipv4Addr::new(192, 168, 86, 0),
                prefix: 24,
                host: Ipv4Addr::new(192, 168, 86, 1),
                dns: Ipv4Addr::new(192, 168, 86, 2),
                dhcp: Ipv4Addr::new(192, 168, 86, 3),
            }),
            forwards: vec![Forward { host: 2222, address: Some(Ipv4Addr::new(192, 168, 86, 71)), guest: 22 }],
            ..Network::default()
        }),
        serial: Serial::Captured,
        ports: vec!["org.example.report".to_owned(), "two".to_owned()],
        smbios: vec!["type=1,serial=x".to_owned()],
        ..Machine::new(firmware, Accelerator::Kvm)
    };
    let wanted = [
        "-nodefaults",
        "-no-user-config",
        "-display none",
        "-no-reboot",
        "-machine q35",
        "-accel kvm",
        "-cpu host",
        "-smp 4",
        "-m 512",
        "-drive if=pflash,unit=0,format=raw,readonly=on,file=/fw/code.fd",
        "-drive if=pflash,unit=1,format=raw,file=/run/m/vars.fd",
        "-object rng-builtin,id=rng0",
        "-device virtio-rng-pci,rng=rng0",
        "-chardev socket,id=console,path=/run/m/console.sock",
        "-serial chardev:console",
        "-device virtio-serial-pci",
        "-chardev socket,id=port0,path=/run/m/port0.sock",
        "-device virtserialport,chardev=port0,name=org.example.report",
        "-chardev socket,id=port1,path=/run/m/port1.sock",
        "-device virtserialport,chardev=port1,name=two",
        "-smbios type=1,serial=x",
        "-drive if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,snapshot=on,file=/d/a,,b.img",
        "-device virtio-blk-pci,drive=disk0,serial=one,bootindex=0",
        "-drive if=none,id=disk1,format=raw,cache=unsafe,discard=unmap,file=/run/m/disk1.img",
        "-device virtio-blk-pci,drive=disk1",
        "-netdev user,id=net0,net=192.168.86.0/24,host=192.168.86.1,dns=192.168.86.2,dhcpstart=192.168.86.3,hostfwd=tcp:127.0.0.1:2222-192.168.86.71:22",
        "-device virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:6b:69:6c",
    ];
    assert_eq!(machine.arguments(Path::new("/run/m")).unwrap().join(" "), wanted.join(" "));
}

#[test]
fn every_bus() {
    let drive = "-drive if=none,id=disk0,format=qcow2,cache=unsafe,discard=unmap,file=/d.qcow2";
    for (bus, sector_size, wanted) in [
        (Bus::Virtio, 512, "-device virtio-blk-pci,drive=disk0,serial=s,bootindex=0"),
        (
            Bus::Virtio,
            4096,
            "-device virtio-blk-pci,drive=disk0,serial=s,logical_block_size=4096,physical_block_size=4096,bootindex=0",
        ),
        (Bus::Nvme, 512, "-device nvme,drive=disk0,serial=s,bootindex=0"),
        (
            Bus::Nvme,
            4096,
            "-device nvme,drive=disk0,serial=s,logical_block_size=4096,physical_block_size=4096,bootindex=0",
        ),
        (Bus::Ahci, 512, "-device ide-hd,bus=ide.0,drive=disk0,serial=s,bootindex=0"),
        (
            Bus::Usb,
            512,
            "-device qemu-xhci,id=usb0 -device usb-storage,bus=usb0.0,drive=disk0,removable=on,serial=s,bootindex=0",
        ),
        (Bus::Sd, 512, "-device sdhci-pci,id=sd0 -device sd-card,drive=disk0"),
    ] {
        let source = Source::Image { path: "/d.qcow2".into(), format: Format::Qcow2, overlay: false };
        let disk = Disk { source, bus, serial: Some("s".to_owned()), sector_size };
        assert_eq!(more(&Machine { disks: vec![disk], ..bare() }), format!("{drive} {wanted}"));
    }
}

#[test]
fn sectors_that_a_bus_does_not_have() {
    for (bus, sector_size) in [(Bus::Ahci, 4096), (Bus::Sd, 4096), (Bus::Virtio, 1000)] {
        let disk = Disk { bus, sector_size, ..Disk::virtio(Source::Empty { bytes: 1 }) };
        let error = Machine { disks: vec![disk], ..bare() }.arguments(Path::new("/run/m")).unwrap_err();
        assert!(error.to_string().contains(&format!("sectors of {sector_size} bytes")), "{error}");
    }
}

#[test]
fn consoles_and_networks() {
    let file = Machine { serial: Serial::File("/c.log".into()), ..bare() };
    assert!(file.arguments(Path::new("/r")).unwrap().join(" ").ends_with("-serial file:/c.log"));
    let terminal = Machine { serial: Serial::Terminal, ..bare() };
    assert_eq!(more(&terminal), "-serial mon:stdio");

    let forwards =
        vec![Forward { host: 1, address: None, guest: 22 }, Forward { host: 2, address: None, guest: 80 }];
    let network = Network { mac: "02:00:00:00:00:01".to_owned(), forwards, restricted: true, subnet: None };
    assert_eq!(
        more(&Machine { network: Some(network), ..bare() }),
        "-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:1-:22,hostfwd=tcp:127.0.0.1:2-:80 \
         -device virtio-net-pci,netdev=net0,romfile=,mac=02:00:00:00:00:01"
    );
}
