//! Exact argument vectors.

use super::{Kernel, Machine, Serial};
use crate::{
    Accelerator, Bus, Cache, Card, Disk, Fault, Firmware, Format, Forward, Link, Network, Operation, Source,
    Subnet, Tpm,
};
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
        -accel tcg,thread=multi -cpu max -smp 1 -m 2048 -object rng-builtin,id=rng0 -device virtio-rng-pci,rng=rng0";
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
        cards: vec![Card::User(Network {
            subnet: Some(Subnet {
                network: Ipv4Addr::new(192, 168, 86, 0),
                prefix: 24,
                host: Ipv4Addr::new(192, 168, 86, 1),
                dns: Ipv4Addr::new(192, 168, 86, 2),
                dhcp: Ipv4Addr::new(192, 168, 86, 3),
            }),
            forwards: vec![Forward { host: 2222, address: Some(Ipv4Addr::new(192, 168, 86, 71)), guest: 22 }],
            ..Network::default()
        })],
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
        "-device virtio-blk-pci,id=device0,drive=disk0,serial=one,bootindex=0",
        "-drive if=none,id=disk1,format=raw,cache=unsafe,discard=unmap,file=/run/m/disk1.img",
        "-device virtio-blk-pci,id=device1,drive=disk1",
        "-netdev user,id=net0,net=192.168.86.0/24,host=192.168.86.1,dns=192.168.86.2,dhcpstart=192.168.86.3,hostfwd=tcp:127.0.0.1:2222-192.168.86.71:22",
        "-device virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:6b:69:6c",
    ];
    assert_eq!(machine.arguments(Path::new("/run/m")).unwrap().join(" "), wanted.join(" "));
}

#[test]
fn every_bus() {
    let drive = "-drive if=none,id=disk0,format=qcow2,cache=unsafe,discard=unmap,file=/d.qcow2";
    let large = ",logical_block_size=4096,physical_block_size=4096";
    let (virtio, nvme) = ("virtio-blk-pci,id=device0,drive=disk0", "nvme,id=device0,drive=disk0");
    let usb = "qemu-xhci,id=usb0 -device usb-storage,bus=usb0.0,id=device0,drive=disk0";
    let scsi = "virtio-scsi-pci,id=scsi0 -device scsi-hd,bus=scsi0.0,id=device0,drive=disk0";
    for (bus, sector_size, wanted) in [
        (Bus::Virtio, 512, format!("{virtio},serial=s,bootindex=0")),
        (Bus::Virtio, 4096, format!("{virtio},serial=s{large},bootindex=0")),
        (Bus::Nvme, 512, format!("{nvme},serial=s,bootindex=0")),
        (Bus::Nvme, 4096, format!("{nvme},serial=s{large},bootindex=0")),
        (Bus::Ahci, 512, "ide-hd,bus=ide.0,id=device0,drive=disk0,serial=s,bootindex=0".to_owned()),
        (Bus::Usb, 512, format!("{usb},serial=s,removable=on,bootindex=0")),
        (Bus::Usb, 4096, format!("{usb},serial=s,removable=on{large},bootindex=0")),
        (Bus::Scsi, 512, format!("{scsi},serial=s,bootindex=0")),
        (Bus::Scsi, 4096, format!("{scsi},serial=s{large},bootindex=0")),
        (Bus::Sd, 512, "sdhci-pci,id=sd0 -device sd-card,id=device0,drive=disk0".to_owned()),
        (Bus::Disc, 512, "ide-cd,bus=ide.0,id=device0,drive=disk0,bootindex=0".to_owned()),
    ] {
        let source = Source::Image { path: "/d.qcow2".into(), format: Format::Qcow2, overlay: false };
        let serial = (!matches!(bus, Bus::Sd | Bus::Disc)).then(|| "s".to_owned());
        let disk = Disk { serial, sector_size, ..Disk::new(source, bus) };
        // Nobody writes to a disc.
        let drive =
            if bus == Bus::Disc { drive.replace(",file=", ",readonly=on,file=") } else { drive.to_owned() };
        assert_eq!(more(&Machine { disks: vec![disk], ..bare() }), format!("{drive} -device {wanted}"));
    }
}

#[test]
fn what_disks_say_of_themselves() {
    let all = |bus| Disk {
        serial: Some("S,1".to_owned()),
        wwn: Some(0x5000_c500_a1b2_c3d4),
        rotation_rate: Some(1),
        discard: false,
        ..Disk::new(Source::file("/d"), bus)
    };
    let ahci = Disk { model: Some("M 1".to_owned()), revision: Some("R1".to_owned()), ..all(Bus::Ahci) };
    let scsi = Disk { model: Some("P".to_owned()), removable: Some(true), read_only: true, ..all(Bus::Scsi) };
    let usb = Disk { removable: Some(false), ..Disk::new(Source::file("/d"), Bus::Usb) };
    let nvme = Disk { hot_plug: true, discard: false, ..Disk::new(Source::file("/d"), Bus::Nvme) };
    let virtio = Disk { hot_plug: true, discard: false, ..Disk::virtio(Source::file("/d")) };
    let second = Disk { serial: None, discard: true, ..all(Bus::Ahci) };
    let disks = vec![ahci, scsi, usb, nvme, virtio, second];
    let drive = |index: u8, more: &str| {
        format!(
            "-drive if=none,id=disk{index},format=raw,cache=unsafe,{more},node-name=format{index},file.driver=file,file.node-name=file{index},file.filename=/d"
        )
    };
    let wanted = [
        drive(0, "discard=ignore"),
        "-device ide-hd,bus=ide.0,id=device0,drive=disk0,serial=S,,1,model=M 1,ver=R1,wwn=0x5000c500a1b2c3d4,rotation_rate=1,discard_granularity=0,bootindex=0".to_owned(),
        drive(1, "discard=ignore,readonly=on"),
        "-device virtio-scsi-pci,id=scsi1".to_owned(),
        "-device scsi-hd,bus=scsi1.0,id=device1,drive=disk1,serial=S,,1,product=P,wwn=0x5000c500a1b2c3d4,removable=on,rotation_rate=1,discard_granularity=0".to_owned(),
        drive(2, "discard=unmap"),
        "-device qemu-xhci,id=usb2 -device usb-storage,bus=usb2.0,id=device2,drive=disk2,removable=off".to_owned(),
        drive(3, "discard=ignore"),
        "-device pcie-root-port,id=slot3,chassis=4 -device nvme,bus=slot3,id=device3,drive=disk3,serial=disk3".to_owned(),
        drive(4, "discard=ignore"),
        "-device pcie-root-port,id=slot4,chassis=5 -device virtio-blk-pci,bus=slot4,id=device4,drive=disk4,discard=off".to_owned(),
        drive(5, "discard=unmap"),
        "-device ide-hd,bus=ide.1,id=device5,drive=disk5,wwn=0x5000c500a1b2c3d4,rotation_rate=1".to_owned(),
    ];
    assert_eq!(more(&Machine { disks, ..bare() }), wanted.join(" "));
}

#[test]
fn facts_that_a_bus_does_not_have() {
    let disk = |bus| Disk::new(Source::file("/d"), bus);
    let text = |length| Some("x".repeat(length));
    for (disk, fact) in [
        (Disk { serial: text(1), ..disk(Bus::Sd) }, "sd can't have this serial number"),
        (Disk { serial: text(21), ..disk(Bus::Virtio) }, "virtio can't have this serial number"),
        (Disk { model: text(1), ..disk(Bus::Nvme) }, "nvme can't have this model"),
        (Disk { model: text(17), ..disk(Bus::Scsi) }, "scsi can't have this model"),
        (Disk { revision: text(0), ..disk(Bus::Ahci) }, "ahci can't have this revision"),
        (Disk { wwn: Some(1), ..disk(Bus::Usb) }, "usb can't have a world-wide name"),
        (Disk { removable: Some(true), ..disk(Bus::Ahci) }, "ahci can't have a say whether"),
        (Disk { rotation_rate: Some(1), ..disk(Bus::Nvme) }, "nvme can't have a rotation rate"),
        (Disk { read_only: true, ..disk(Bus::Ahci) }, "ahci can't have write protection"),
        (Disk { hot_plug: true, ..disk(Bus::Ahci) }, "ahci can't have hot plugging"),
    ] {
        let error =
            Machine { disks: vec![disk], ..bare() }.arguments(Path::new("/r")).unwrap_err().to_string();
        assert!(error.contains(fact), "{error}");
    }
}

#[test]
fn files_that_stay_and_faults() {
    let source = Source::File { path: "/a,b".into(), format: Format::Raw, cache: Cache::Writeback };
    let disk = Disk { faults: vec![Fault::every(Operation::Read)], ..Disk::virtio(source) };
    assert_eq!(
        more(&Machine { disks: vec![disk], ..bare() }),
        "-drive if=none,id=disk0,format=raw,cache=writeback,discard=unmap,file.driver=blkdebug,\
         file.config=/run/m/disk0.faults,file.image.driver=file,file.image.filename=/a,,b \
         -device virtio-blk-pci,id=device0,drive=disk0,bootindex=0"
    );
    let source = Source::File { path: "/d".into(), format: Format::Qcow2, cache: Cache::Unsafe };
    let disk = Disk { faults: vec![Fault::every(Operation::Read)], ..Disk::virtio(source) };
    let error = Machine { disks: vec![disk], ..bare() }.arguments(Path::new("/r")).unwrap_err().to_string();
    assert!(error.contains("faults over a file that is not raw"), "{error}");
}

#[test]
fn kernels_links_and_the_rest() {
    let firmware = Firmware::Uefi { code: "/fw/code.fd".into(), vars: "/fw/vars.fd".into() };
    let kernel =
        Kernel { image: "/k".into(), initrd: "/i".into(), command_line: "console=ttyS0 quiet".to_owned() };
    let link = Link { mac: "02:00:00:00:00:02".to_owned(), local: 5001, remote: 5002 };
    let machine = Machine {
        kernel: Some(kernel),
        disks: vec![Disk::virtio(Source::image("/d"))],
        reboot: true,
        cards: vec![Network::default().into(), link.into()],
        tpm: Some(Tpm { state: "/s".into() }),
        control: true,
        ..Machine { firmware, ..bare() }
    };
    let wanted = [
        "-nodefaults -no-user-config -display none -machine q35 -accel tcg,thread=multi -cpu max -smp 1 -m 2048",
        "-kernel /k -initrd /i -append console=ttyS0 quiet",
        "-object rng-builtin,id=rng0 -device virtio-rng-pci,rng=rng0",
        "-chardev socket,id=qmp,path=/run/m/qmp.sock -mon chardev=qmp,mode=control",
        "-chardev socket,id=tpm,path=/run/m/tpm.sock -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-tis,tpmdev=tpm0",
        "-drive if=none,id=disk0,format=raw,cache=unsafe,discard=unmap,snapshot=on,file=/d",
        "-device virtio-blk-pci,id=device0,drive=disk0",
        "-netdev user,id=net0 -device virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:6b:69:6c",
        "-netdev dgram,id=net1,local.type=inet,local.host=127.0.0.1,local.port=5001,remote.type=inet,remote.host=127.0.0.1,remote.port=5002",
        "-device virtio-net-pci,netdev=net1,romfile=,mac=02:00:00:00:00:02",
    ];
    assert_eq!(machine.arguments(Path::new("/run/m")).unwrap().join(" "), wanted.join(" "));
}

#[test]
fn another_time() {
    // QEMU takes whole seconds.
    let clock = Some("2024-02-29T23:59:58.9Z".parse().unwrap());
    assert_eq!(more(&Machine { clock, ..bare() }), "-rtc base=2024-02-29T23:59:58");
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
        more(&Machine { cards: vec![network.into()], ..bare() }),
        "-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:1-:22,hostfwd=tcp:127.0.0.1:2-:80 \
         -device virtio-net-pci,netdev=net0,romfile=,mac=02:00:00:00:00:01"
    );
}
