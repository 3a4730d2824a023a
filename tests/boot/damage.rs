//! Nodes whose disk was damaged: they stop with the words that help and offer a reboot, never with a panic.

use crate::nodes::{machine, patience, site};
use kiln_qemu::Wanted;
use kiln_tests::{succeed, tool};
use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A sparse copy of a node's image, in a folder of the shape that `kiln build` makes.
pub(crate) fn copy(node: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(kiln_tests::shared()).unwrap();
    let built = site().output.join(node);
    let copied = folder.path().join(node);
    fs::create_dir_all(&copied).unwrap();
    for file in ["disk.img", "image.json", "seed"] {
        let mut cp = tool("cp", "coreutils");
        succeed(cp.args(["-r", "--sparse=always"]).arg(built.join(file)).arg(&copied));
    }
    (folder, copied.join("disk.img"))
}

/// Number and first byte of the root partition.
fn root(node: &str) -> (u64, u64) {
    let described = site().described(node);
    let partitions = described["disk"]["partitions"].as_array().unwrap();
    let root = partitions.iter().find(|partition| partition["name"] == "root-a").unwrap();
    (root["number"].as_u64().unwrap(), root["start"].as_u64().unwrap())
}

/// Overwrites the root's superblock, which stands at its bytes 1024 to 2047 (kernel documentation, ext4, "Super
/// Block"), with zeros.
pub(crate) fn zero_superblock(image: &Path) {
    let (_, start) = root("k3s1");
    let file = OpenOptions::new().write(true).open(image).unwrap();
    file.write_all_at(&[0; 1024], start + 1024).unwrap();
}

/// Boots a damaged image to its failure screen and gives the screen; Enter must reboot the machine.
fn screen(image: &Path) -> String {
    let port = kiln_qemu::free_port().unwrap();
    let mut running = machine(image, Ipv4Addr::new(192, 168, 86, 71), port).start().unwrap();
    let wanted = [Wanted::Console("Press Enter to reboot"), Wanted::Console("Kernel panic")];
    let seen = running.wait_for(&wanted, patience()).unwrap();
    let console = running.console();
    assert_eq!(seen.which, 0, "{console}");
    running.send("\r").unwrap();
    // The machine is one that ends instead of rebooting.
    let status = running.wait_until(Instant::now() + Duration::from_secs(60)).unwrap();
    assert!(status.success(), "{status}");
    let console = running.console();
    assert!(console.contains("kiln: rebooting"), "{console}");
    assert!(!console.contains("Kernel panic"), "{console}");
    let begin =
        console.find("kiln: this machine can't start").unwrap_or_else(|| panic!("no screen in\n{console}"));
    console[begin..].to_owned()
}

#[test]
fn a_corrupted_root_stops_with_the_words_that_help() {
    let (_folder, image) = copy("k3s1");
    zero_superblock(&image);
    let screen = screen(&image);
    let device = format!("/dev/vda{}", root("k3s1").0);
    for words in [
        format!("the root {device} can't be mounted"),
        format!("e2fsck -f {device}"),
        "write the node's disk.img to it again".to_owned(),
    ] {
        assert!(screen.contains(&words), "{words:?} is not in\n{screen}");
    }
}

#[test]
fn a_missing_root_stops_with_what_was_looked_for_and_found() {
    let (_folder, image) = copy("k3s1");
    let (number, _) = root("k3s1");
    succeed(tool("sgdisk", "gdisk").args(["-d", &number.to_string()]).arg(&image));
    let screen = screen(&image);
    let described = site().described("k3s1");
    let partitions = described["disk"]["partitions"].as_array().unwrap();
    let guid = |name: &str| {
        let found = partitions.iter().find(|partition| partition["name"] == name).unwrap();
        found["guid"].as_str().unwrap().to_owned()
    };
    for words in [
        "the root partition is missing on the booted disk vda".to_owned(),
        format!("looked for: root {}", guid("root-a")),
        // What is there is shown, so that a person can tell which disk this is.
        guid("ESP"),
        guid("CIDATA"),
        "Write the node's disk.img to it again".to_owned(),
    ] {
        assert!(screen.contains(&words), "{words:?} is not in\n{screen}");
    }
}
