//! Recorded machines (`tests/machines/*.tree`, made by `tests/record-machine` as root on any Linux, or by hand): what
//! is seen of each.

mod half_wiped;
mod rules;

use super::machine;
use kiln_contract::machine::{Content, Disk, Machine};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(0xc1);

fn tree(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/machines/{name}.tree"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lays a recorded tree out as files and links.
fn unpack(text: &str, root: &Path) {
    let at = |path: &str| -> PathBuf {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("udev ")) {
        let (path, value) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        if let Some(target) = value.strip_prefix("-> ") {
            symlink(target, at(path)).unwrap();
        } else if let Some(hex) = value.strip_prefix("= ") {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            fs::write(at(path), (0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>()).unwrap();
        } else {
            let path = path.strip_suffix(':').unwrap_or_else(|| panic!("{line:?}"));
            fs::write(at(path), format!("{value}\n")).unwrap();
        }
    }
}

/// The machine of a recorded tree, with nothing on its disks.
fn recorded(name: &str) -> Machine {
    let sysfs = tempfile::tempdir().unwrap();
    unpack(&tree(name), sysfs.path());
    let mut machine = machine(sysfs.path(), &sysfs.path().join("dev"), None);
    machine.disks.iter_mut().for_each(|disk| disk.content = Content::Blank);
    machine
}

fn find<'a>(machine: &'a mut Machine, name: &str) -> &'a mut Disk {
    machine.disks.iter_mut().find(|disk| disk.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Kernel name, transport, GiB, what else is set, model, serial number, WWN, path.
fn facts(disk: &Disk) -> String {
    let flags = [
        (disk.removable, "removable"),
        (disk.read_only, "read-only"),
        (disk.rotational == Some(true), "spins"),
        (disk.rotational == Some(false), "still"),
    ];
    let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    let Disk { name, transport, size, model, serial, wwn, path, .. } = disk;
    let transport = transport.as_str();
    format!("{name} {transport} {} [{}] {model}|{serial}|{wwn}|{path}", size >> 30, flags.join(" "))
}

#[test]
fn what_is_seen_of_each_machine() {
    let machines: [(&str, &str, &[&str]); 13] = [
        (
            "dell-r640-perc",
            "Dell Inc. PowerEdge R640",
            &[
                "sda scsi 222 [] PERC H740P Mini|0071605f4e3d2c1b2a00563412604609|0x6d094660123456002a1b2c3d4e5f6071|pci-0000:3b:00.0-scsi-0:2:0:0",
                "sdb scsi 3725 [] PERC H740P Mini|00ad9c8b7a3d2c1b2a00563412604609|0x6d094660123456002a1b2c3d7a8b9cad|pci-0000:3b:00.0-scsi-0:2:1:0",
                "sdc scsi 3725 [] PERC H740P Mini|00d3c2b1a03d2c1b2a00563412604609|0x6d094660123456002a1b2c3da0b1c2d3|pci-0000:3b:00.0-scsi-0:2:2:0",
            ],
        ),
        (
            "emmc-thin-client",
            "Dell Inc. Wyse 3040 Thin Client",
            &[
                "mmcblk0 mmc 14 [still] DF4016|0x2a4f11c8||",
                "mmcblk1 mmc 59 [removable read-only still] SD64G|0x0badcafe||",
            ],
        ),
        (
            "intel-nuc-10",
            "Intel(R) Client Systems NUC10i5FNH",
            &[
                "nvme0n1 nvme 465 [still] Samsung SSD 970 EVO Plus 500GB|S4EVNX0N912345B|eui.0025385991b0f2ae|pci-0000:3a:00.0-nvme-1",
                "sda sata 931 [still] Samsung SSD 870 EVO 1TB|S626NF0R123456A|0x5002538f31223344|pci-0000:00:17.0-ata-3.0",
                "sdb usb 28 [removable] Ultra Fit|4C530001230815115123||pci-0000:00:14.0-usb-0:3:1.0-scsi-0:0:0:0",
            ],
        ),
        (
            "pc-lsi-ide",
            "QEMU Standard PC (i440FX + PIIX, 1996)",
            &[
                "sda scsi 1 [] QEMU HARDDISK|a||pci-0000:00:02.0-scsi-0:0:2:0",
                "sdb sata 1 [spins] QEMU HARDDISK|IDE0001||pci-0000:00:01.1-ata-1.1",
            ],
        ),
        (
            "q35-megasas",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "sda scsi 1 [] QEMU HARDDISK|VD0001|0x5000c50015ea7201|pci-0000:00:01.0-scsi-0:2:0:0",
                "sdb scsi 1 [] QEMU HARDDISK|VD0002||pci-0000:00:01.0-scsi-0:2:1:0",
            ],
        ),
        (
            "q35-mptsas",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &["sda sas 1 [] QEMU HARDDISK|SAS0001|0x5000c50015ea7301|pci-0000:00:01.0-sas-phy0-lun-0"],
        ),
        (
            "q35-nvme-ahci-virtio",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "nvme0n1 nvme 1 [still] QEMU NVMe Ctrl|NVME0001|nvme.1b36-4e564d4530303031-51454d55204e564d65204374726c-00000001|pci-0000:00:01.0-nvme-1",
                "sda sata 1 [spins] QEMU HARDDISK|QM00005|0x5000c50015ea71ad|pci-0000:00:02.0-ata-1.0",
                "sdb sata 1 [still] QEMU HARDDISK|QM00007||pci-0000:00:02.0-ata-3.0",
                "vda virtio 1 [] |VBLK0001||pci-0000:00:03.0",
                "vdb virtio 1 [] |||pci-0000:00:04.0",
            ],
        ),
        (
            "q35-nvme-namespaces",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "nvme1n1 nvme 1 [still] QEMU NVMe Ctrl|NVMESUB1|nvme.1b36-4e564d4553554231-51454d55204e564d65204374726c-00000001|pci-0000:00:02.0-nvme-1",
                "nvme1n2 nvme 1 [still] QEMU NVMe Ctrl|NVMESUB1|nvme.1b36-4e564d4553554231-51454d55204e564d65204374726c-00000002|pci-0000:00:02.0-nvme-2",
            ],
        ),
        (
            "q35-usb-sd",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "mmcblk0 mmc 1 [removable still] QEMU!|0xdeadbeef||",
                "sda usb 1 [removable] QEMU HARDDISK|27842-0000:00:01.0-2||pci-0000:00:01.0-usb-0:2:1.0-scsi-0:0:0:0",
                "sdb usb 1 [removable] QEMU HARDDISK|USBSTICK1||pci-0000:00:01.0-usb-0:1:1.0-scsi-0:0:0:0",
            ],
        ),
        (
            "q35-virtio-scsi",
            "QEMU Standard PC (Q35 + ICH9, 2009)",
            &[
                "sda scsi 1 [] QEMU HARDDISK|LUN0001|0x5000c50015ea7101|pci-0000:00:01.0-scsi-0:0:0:0",
                "sdb scsi 1 [spins] QEMU HARDDISK|LUN0002||pci-0000:00:01.0-scsi-0:0:0:1",
                "sdc scsi 1 [] QEMU HARDDISK|LUN0003||pci-0000:00:01.0-scsi-0:0:5:16684",
            ],
        ),
        (
            "raspberry-pi-4",
            "Raspberry Pi 4 Model B Rev 1.4",
            &[
                "mmcblk0 mmc 29 [removable still] SC32G|0x5a3c1f02||platform-fe340000.mmc",
                "sda usb 465 [removable still] Portable SSD T5|1234567A1B2C||platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1:1.0-scsi-0:0:0:0",
            ],
        ),
        (
            "supermicro-sas-expander",
            "Supermicro X9DRi-LN4+",
            &[
                "sda sas 3726 [spins] ST4000NM0023|Z1Z0ABCD0000C4361234|0x5000c50057a1b2c3|pci-0000:02:00.0-sas-exp0x500304800012bbff-phy4-lun-0",
                "sdb sas 3726 [spins] ST4000NM0023|Z1Z0ABCE0000C4365678|0x5000c50057a1b2d7|pci-0000:02:00.0-sas-exp0x500304800012bbff-phy5-lun-0",
            ],
        ),
        (
            "two-usb-bridges",
            "AZW SER",
            &[
                "nvme0n1 nvme 476 [still] KINGSTON OM8PGP4512Q-A0|50026B7282B1C2D3|eui.0026b7282b1c2d35|pci-0000:04:00.0-nvme-1",
                "sda usb 931 [removable still] Tech|DD564198838E3||pci-0000:00:14.0-usb-0:1:1.0-scsi-0:0:0:0",
                "sdb usb 931 [removable still] Tech|DD564198838E3||pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0",
            ],
        ),
    ];
    for (name, product, disks) in machines {
        let machine = recorded(name);
        assert_eq!(machine.product, product, "{name}");
        assert_eq!(machine.disks.iter().map(facts).collect::<Vec<_>>(), disks, "{name}");
    }
}

/// udev was asked on the machines that were recorded. What it makes of the same disks is what users see and write down.
#[test]
fn names_are_those_that_udev_gave() {
    let mut judged = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = tree(&name);
        let links: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix("udev ")?.split_once(' ')).collect();
        if links.is_empty() {
            continue;
        }
        for disk in recorded(&name).disks {
            let given = |below: &str| -> BTreeSet<String> {
                let own = links.iter().filter(|(of, _)| *of == disk.name);
                // A second name that udev calls deprecated: virtio-pci-… for pci-….
                own.filter_map(|(_, link)| link.strip_prefix(below))
                    .filter(|link| !link.starts_with("virtio-pci-"))
                    .map(str::to_owned)
                    .collect()
            };
            let by_id: BTreeSet<String> = disk.by_id.iter().cloned().collect();
            assert_eq!(by_id, given("disk/by-id/"), "{name}: {}", disk.name);
            let paths = std::iter::once(&disk.path).chain(&disk.other_paths).filter(|path| !path.is_empty());
            assert_eq!(
                paths.cloned().collect::<BTreeSet<_>>(),
                given("disk/by-path/"),
                "{name}: {}",
                disk.name
            );
            judged += 1;
        }
    }
    assert!(judged >= 15, "only {judged} disks were judged: where are the recorded machines?");
}
