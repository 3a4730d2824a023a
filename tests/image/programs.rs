//! The programs of the initramfs, run where the first boot runs them: with nothing else around.

use crate::formats::{image_json, partition};
use kiln_tests::{example, root_or_skip, shared, succeed, tool};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The initramfs of a node of the example, unpacked into a folder of its own.
fn initramfs(node: &str) -> PathBuf {
    let (folder, image) = (shared().join("initramfs"), image_json(example(), node));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("root")).unwrap();
    let esp = partition("initramfs", node, "ESP");
    let (uki, copy, packed) = (folder.join("uki.efi"), folder.join("copy.efi"), folder.join("packed"));
    let path = image["boot"]["kernel_image"].as_str().unwrap();
    succeed(tool("mcopy", "mtools").arg("-i").arg(&esp).arg(format!("::{path}")).arg(&uki));
    fs::remove_file(esp).unwrap();
    let dump = format!(".initrd={}", packed.display());
    succeed(tool("objcopy", "binutils").args(["--dump-section", &dump]).arg(&uki).arg(&copy));
    unpack(&packed, &folder.join("root"));
    folder.join("root")
}

fn unpack(packed: &Path, root: &Path) {
    let archive = packed.with_extension("cpio");
    succeed(tool("zstd", "zstd").args(["-dfq"]).arg(packed).arg("-o").arg(&archive));
    let mut cpio = tool("cpio", "cpio");
    succeed(cpio.args(["-idm", "--quiet", "-F"]).arg(&archive).current_dir(root));
}

fn programs(image: &Value) -> Vec<String> {
    let programs = image["boot"]["programs"].as_array().unwrap();
    programs.iter().map(|program| program.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_program_of_the_initramfs_runs_there() {
    if !root_or_skip("chroot(8) into the initramfs") {
        return;
    }
    let root = initramfs("k3s1");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = tool("chroot", "coreutils");
        let output =
            command.env_clear().arg(&root).arg(format!("/{program}")).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        format!("{}\n{}", output.status, String::from_utf8_lossy(&text))
    };
    let listed = programs(&image_json(example(), "k3s1"));
    assert_eq!(listed, ["usr/sbin/blkid", "usr/sbin/e2fsck", "usr/sbin/mke2fs", "usr/sbin/resize2fs"]);
    for (program, arguments, wanted) in [
        ("usr/sbin/blkid", &["-V"][..], "blkid from util-linux 2."),
        ("usr/sbin/mke2fs", &["-V"], "mke2fs 1."),
        ("usr/sbin/e2fsck", &["-V"], "e2fsck 1."),
        ("usr/sbin/resize2fs", &[], "resize2fs 1."),
    ] {
        let said = run(program, arguments);
        assert!(said.contains(wanted), "{program}: {said}");
    }
    // A file system made there, by the table of defaults that is there, is sound and is recognised.
    let disk = root.join("disk");
    fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let said = run("sbin/mke2fs", &["-q", "-t", "ext4", "-L", "made-there", "/disk"]);
    assert!(said.starts_with("exit status: 0\n"), "{said}");
    let said = run("sbin/blkid", &["-p", "/disk"]);
    assert!(said.contains("LABEL=\"made-there\"") && said.contains("TYPE=\"ext4\""), "{said}");
    let said = run("sbin/e2fsck", &["-fn", "/disk"]);
    assert!(said.starts_with("exit status: 0\n"), "{said}");
    let features = succeed(tool("dumpe2fs", "e2fsprogs").arg("-h").arg(&disk));
    assert!(features.contains("metadata_csum"), "{features}");
}
