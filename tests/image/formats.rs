//! sgdisk, e2fsck, fsck.vfat, objdump, qemu-img and zstd on what `kiln build` wrote.

use kiln_tests::{build, die, example, kiln, shared, succeed, tool};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

pub(crate) fn image_json(dist: &Path, node: &str) -> Value {
    let path = dist.join(node).join("image.json");
    let bytes = fs::read(&path).unwrap_or_else(|e| die(&format!("{}: {e}", path.display())));
    serde_json::from_slice(&bytes).unwrap()
}

/// A partition's bytes as a file of their own, holes kept; `test` keeps tests apart that run at once.
pub(crate) fn partition(test: &str, node: &str, name: &str) -> PathBuf {
    let image = image_json(example(), node);
    let partitions = image["disk"]["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|p| p["name"] == name).unwrap();
    let (start, size) = (found["start"].as_u64().unwrap(), found["size"].as_u64().unwrap());
    let to = shared().join(format!("{test}-{node}-{name}.part"));
    let mut source = fs::File::open(example().join(node).join("disk.img")).unwrap();
    source.seek(SeekFrom::Start(start)).unwrap();
    let target = fs::File::create(&to).unwrap();
    target.set_len(size).unwrap();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).unwrap().min(buf.len());
        source.read_exact(&mut buf[..len]).unwrap();
        if buf[..len].iter().any(|byte| *byte != 0) {
            std::os::unix::fs::FileExt::write_all_at(&target, &buf[..len], at).unwrap();
        }
        at += len as u64;
    }
    to
}

#[test]
fn the_partition_table_is_sound() {
    for node in ["k3s1", "k3s2"] {
        let image = example().join(node).join("disk.img");
        let said = succeed(tool("sgdisk", "gdisk").arg("-v").arg(&image));
        assert!(said.contains("No problems found"), "{said}");
        let said = succeed(tool("sgdisk", "gdisk").arg("-p").arg(&image));
        for name in ["ESP", "CIDATA", "root-a"] {
            assert!(said.contains(name), "{said}");
        }
    }
}

#[test]
fn the_file_systems_are_sound() {
    for node in ["k3s1", "k3s2"] {
        for name in ["ESP", "CIDATA"] {
            let part = partition("sound", node, name);
            succeed(tool("fsck.vfat", "dosfstools").arg("-n").arg(&part));
            fs::remove_file(part).unwrap();
        }
        let part = partition("sound", node, "root-a");
        succeed(tool("e2fsck", "e2fsprogs").arg("-fn").arg(&part));
        let facts = succeed(tool("dumpe2fs", "e2fsprogs").arg("-h").arg(&part));
        let image = image_json(example(), node);
        let uuid = image["disk"]["partitions"][2]["filesystem_id"].as_str().unwrap().to_owned();
        assert!(facts.contains(&uuid), "{facts}\nwants {uuid}");
        fs::remove_file(part).unwrap();
    }
}

#[test]
fn the_kernel_image_is_a_sound_pe_file() {
    let esp = partition("pe", "k3s1", "ESP");
    let image = image_json(example(), "k3s1");
    let path = image["boot"]["kernel_image"].as_str().unwrap();
    let uki = shared().join("k3s1.efi");
    let _ = fs::remove_file(&uki);
    succeed(tool("mcopy", "mtools").arg("-i").arg(&esp).arg(format!("::{path}")).arg(&uki));
    let sections = succeed(tool("objdump", "binutils").arg("-h").arg(&uki));
    for section in [".osrel", ".cmdline", ".uname", ".ucode", ".initrd", ".linux", ".sbat"] {
        assert!(sections.contains(section), "no {section} in\n{sections}");
    }
    let read = |section: &str| {
        let (to, copy) = (shared().join("section"), shared().join("k3s1-copy.efi"));
        fs::copy(&uki, &copy).unwrap();
        let dump = format!("{section}={}", to.display());
        succeed(tool("objcopy", "binutils").arg("--dump-section").arg(dump).arg(&copy));
        fs::read(to).unwrap()
    };
    let cmdline = String::from_utf8(read(".cmdline")).unwrap();
    assert_eq!(cmdline.trim_end_matches('\0'), image["boot"]["command_line"].as_str().unwrap());
    // Microcode ahead of everything, uncompressed, as the kernel's early loader wants it.
    assert!(read(".ucode").starts_with(b"070701"), "the microcode is no cpio archive");
}

#[test]
fn other_forms_hold_the_same_disk() {
    let dist = example();
    let made = tempfile::tempdir_in(shared()).unwrap();
    let output = made.path().to_str().unwrap();
    build(&shared().join("example"), ["-o", output, "--format", "raw,zst,qcow2", "k3s1"]);
    let (forms, raw) = (made.path().join("k3s1"), dist.join("k3s1/disk.img"));
    let qcow2 = forms.join("disk.qcow2");
    succeed(tool("qemu-img", "qemu-utils").arg("check").arg(&qcow2));
    let compare = ["compare", "-f", "raw", "-F", "qcow2"];
    succeed(tool("qemu-img", "qemu-utils").args(compare).arg(&raw).arg(&qcow2));
    let unpacked = forms.join("unpacked.img");
    succeed(
        tool("zstd", "zstd")
            .args(["-dfq", "--no-sparse"])
            .arg(forms.join("disk.img.zst"))
            .arg("-o")
            .arg(&unpacked),
    );
    succeed(tool("cmp", "diffutils").arg(&raw).arg(&unpacked));
    fs::remove_file(unpacked).unwrap();
    // And all forms read alike.
    let inspect = |image: &Path| succeed(kiln().arg("inspect").arg(image));
    let wanted = inspect(&raw);
    assert_eq!(inspect(&qcow2), wanted);
    assert_eq!(inspect(&forms.join("disk.img.zst")), wanted);
}

/// Every identifier of a node: none of them may be another node's.
#[test]
fn nodes_share_no_identifier() {
    let identifiers = |node: &str| {
        let image = image_json(example(), node);
        let mut all = vec![image["disk"]["guid"].as_str().unwrap().to_owned()];
        for partition in image["disk"]["partitions"].as_array().unwrap() {
            all.push(partition["guid"].as_str().unwrap().to_owned());
            all.push(partition["filesystem_id"].as_str().unwrap().to_owned());
        }
        let seed = partition("identifiers", node, "CIDATA");
        let handoff = succeed(tool("mtype", "mtools").arg("-i").arg(&seed).arg("::kiln/handoff.json"));
        let handoff: Value = serde_json::from_str(&handoff).unwrap();
        all.push(handoff["node"]["machine_id"].as_str().unwrap().to_owned());
        all
    };
    let (one, two) = (identifiers("k3s1"), identifiers("k3s2"));
    assert_eq!(one.len(), 8);
    for identifier in &one {
        assert!(!two.contains(identifier), "{identifier} is on both nodes");
    }
    // And what they do share is the same.
    let shared = |node: &str| image_json(example(), node)["disk"]["partitions"][2]["shared_sha256"].clone();
    assert!(shared("k3s1").is_string());
    assert_eq!(shared("k3s1"), shared("k3s2"));
}
