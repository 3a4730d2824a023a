//! Machines without firmware: QEMU loads the kernel of a node's image itself, and the initramfs runs a few seconds
//! later. Such a machine has no EFI variables.

use crate::disks::{content, data, folder, installed, partitions};
use crate::nodes::{PORT, Site, machine, patience, report, site};
use kiln_qemu::{Bus, Disk, Fault, Kernel, Machine, Operation, Source, Wanted, free_port};
use kiln_tests::{succeed, tool};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Takes the kernel, initramfs and command line of a node of the example out of its image, into `folder`.
pub(crate) fn kernel(node: &str, folder: &Path) -> Kernel {
    kernel_of(site(), node, folder)
}

/// The same of a node of any site.
pub(crate) fn kernel_of(site: &Site, node: &str, folder: &Path) -> Kernel {
    let described = site.described(node);
    let start = partitions(&site.image(node)).iter().find(|part| part.name == "ESP").unwrap().bytes.start;
    let image = folder.join("kernel.efi");
    let place = format!("{}@@{start}", site.image(node).display());
    let path = format!("::{}", described["boot"]["kernel_image"].as_str().unwrap());
    succeed(tool("mcopy", "mtools").args(["-n", "-i", &place, &path]).arg(&image));
    let section = |name: &str| {
        let to = folder.join(name);
        let dump = format!("--dump-section=.{name}={}", to.display());
        succeed(tool("objcopy", "binutils").arg(dump).arg(&image));
        assert!(fs::metadata(&to).unwrap().len() > 0, "no {name} in the kernel image");
        to
    };
    Kernel {
        image: section("linux"),
        initrd: section("initrd"),
        command_line: described["boot"]["command_line"].as_str().unwrap().to_owned(),
    }
}

/// A node on `disk` that starts without firmware.
pub(crate) fn directly(kernel: &Kernel, disk: Disk) -> Machine {
    let Source::File { path, .. } = &disk.source else { panic!("{disk:?} does not stay") };
    let mut machine = machine(path, Ipv4Addr::new(192, 168, 86, 71), free_port().unwrap());
    machine.disks = vec![disk];
    Machine { kernel: Some(kernel.clone()), ..machine }
}

/// The power goes as soon as the initramfs has said its first words; the next start is a healthy one all the same.
/// Beside the node's disk there is one that can't be read, and one that vanishes while the node runs.
#[test]
fn a_power_cut_and_bad_disks_stop_no_node() {
    let folder = folder();
    let kernel = kernel("k3s1", folder.path());
    let image = installed("k3s1", folder.path(), 20 << 30);
    let (broken_path, broken) = data(folder.path(), "broken.img", 1 << 30, Bus::Virtio);
    let (vanishing_path, vanishing) = data(folder.path(), "vanishing.img", 1 << 30, Bus::Virtio);
    let mut machine = directly(&kernel, Disk::virtio(Source::file(&image)));
    machine.disks.push(Disk { faults: vec![Fault::every(Operation::Read)], ..broken });
    machine.disks.push(Disk { hot_plug: true, ..vanishing });
    machine.control = true;

    let mut running = machine.start().unwrap();
    let seen = running.wait_for(&[Wanted::Console("kiln: ")], patience()).unwrap();
    running.kill().unwrap();
    assert!(seen.at.elapsed() < Duration::from_millis(300), "{:?} after {:?}", seen.at.elapsed(), seen.line);

    let before = [&broken_path, &vanishing_path].map(|path| content(path, &[]));
    let mut running = machine.start().unwrap();
    let report = report(&mut running);
    assert_eq!(report["state"], "running", "{report:#}\n{}", running.console());
    assert!(running.console().contains("I/O error"), "{}", running.console());
    running.unplug(2, Instant::now() + Duration::from_secs(60)).unwrap();
    assert!(matches!(
        running.wait_for(&[Wanted::Port(PORT)], Instant::now()),
        Err(kiln_qemu::Error::Deadline { .. })
    ));
    running.kill().unwrap();
    // Disks that nobody gave to the node are as they were.
    assert_eq!([&broken_path, &vanishing_path].map(|path| content(path, &[])), before);
}
