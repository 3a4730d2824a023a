//! The programs of the initramfs, run where the first boot runs them: with nothing else around.

use crate::formats::{image_json, partition};
use crate::tree;
use kiln::boot::{self, Program};
use kiln::cluster;
use kiln_formats::tree::Kind;
use kiln_tests::{die, disks, example, root_or_skip, shared, succeed, tool};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The initramfs in a unified kernel image, unpacked into a folder of its own.
fn unpack(uki: &Path) -> PathBuf {
    let folder = uki.with_extension("initramfs");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("root")).unwrap();
    let (copy, packed, archive) = (folder.join("copy.efi"), folder.join("packed"), folder.join("cpio"));
    let dump = format!(".initrd={}", packed.display());
    succeed(tool("objcopy", "binutils").args(["--dump-section", &dump]).arg(uki).arg(copy));
    succeed(tool("zstd", "zstd").args(["-dfq"]).arg(packed).arg("-o").arg(&archive));
    let root = folder.join("root");
    succeed(tool("cpio", "cpio").args(["-idm", "--quiet", "-F"]).arg(archive).current_dir(&root));
    root
}

/// What the first boot mounts before it runs anything, for the command alone.
const MOUNTS: &str = r#"root=$1; shift
mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" && exec chroot "$root" "$@""#;

/// Runs a command line in the initramfs: how it ended, and what it said.
fn run(root: &Path, line: &str) -> String {
    let mut command = tool("unshare", "util-linux");
    command.env_clear().args(["--mount", "/bin/sh", "-c", MOUNTS, "sh"]).arg(root).args(line.split(' '));
    let output = command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    format!("{line}: {}\n{}", output.status, String::from_utf8_lossy(&text))
}

fn runs(root: &Path, line: &str) -> String {
    let said = run(root, line);
    assert!(said.contains("exit status: 0\n"), "{said}");
    said
}

fn blank(path: &Path, bytes: u64) {
    fs::File::create(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn every_program_of_the_initramfs_runs_there() {
    if !root_or_skip("chroot(8) into the initramfs") {
        return;
    }
    let (image, uki) = (image_json(example(), "k3s1"), shared().join("programs.efi"));
    let esp = partition("programs", "k3s1", "ESP");
    let path = image["boot"]["kernel_image"].as_str().unwrap();
    succeed(tool("mcopy", "mtools").arg("-oi").arg(&esp).arg(format!("::{path}")).arg(&uki));
    fs::remove_file(esp).unwrap();
    let root = unpack(&uki);
    let listed: Vec<_> =
        image["boot"]["programs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(listed, ["usr/sbin/blkid", "usr/sbin/e2fsck", "usr/sbin/mke2fs", "usr/sbin/resize2fs"]);
    for (line, wanted) in [
        ("/usr/sbin/blkid -V", "blkid from util-linux 2."),
        ("/usr/sbin/mke2fs -V", "mke2fs 1."),
        ("/usr/sbin/e2fsck -V", "e2fsck 1."),
    ] {
        let said = runs(&root, line);
        assert!(said.contains(wanted), "{said}");
    }
    // A file system made there, by the table of defaults that is there, is sound and is recognised.
    blank(&root.join("disk"), 64 << 20);
    runs(&root, "/sbin/mke2fs -q -t ext4 -L made-there /disk 32M");
    let said = runs(&root, "/sbin/blkid -p /disk");
    assert!(said.contains("LABEL=\"made-there\"") && said.contains("TYPE=\"ext4\""), "{said}");
    runs(&root, "/sbin/resize2fs /disk");
    runs(&root, "/sbin/e2fsck -fn /disk");
    let features = succeed(tool("dumpe2fs", "e2fsprogs").arg("-h").arg(root.join("disk")));
    assert!(features.contains("metadata_csum"), "{features}");
}

/// The kernel image of the cluster for disks, with all programs that can be asked for.
fn with_all_programs() -> (boot::Facts, PathBuf) {
    let loaded = cluster::load(&disks().join("cluster.yaml")).unwrap();
    let root = tree::root(&loaded.cluster, &disks().join("kiln.lock"));
    let programs = [Program::Xfs, Program::Luks, Program::Tpm2].into();
    let made = boot::assemble(&root, &boot::Options { programs, threads: 2, ..Default::default() }).unwrap();
    let Kind::File(uki) = &made.esp.get(&made.facts.kernel_image).unwrap().kind else { die("no file") };
    let path = shared().join("all-programs.efi");
    fs::write(&path, uki.read().unwrap()).unwrap();
    (made.facts, path)
}

#[test]
fn programs_that_were_asked_for_run_there_too() {
    if !root_or_skip("chroot(8) into the initramfs with all programs") {
        return;
    }
    let (facts, uki) = with_all_programs();
    let root = unpack(&uki);
    for program in ["usr/sbin/mkfs.xfs", "usr/sbin/cryptsetup", "usr/bin/systemd-cryptenroll"] {
        assert!(facts.programs.iter().any(|listed| listed == program), "{:?}", facts.programs);
    }
    let modules = fs::read_dir(root.join("usr/lib/modules")).unwrap().next().unwrap().unwrap().path();
    let modules = fs::read_to_string(modules.join("modules.dep")).unwrap();
    for module in ["xfs", "libcrc32c", "dm-mod", "dm-crypt", "xts"] {
        assert!(modules.contains(&format!("/{module}.ko:")), "no {module} in\n{modules}");
    }

    blank(&root.join("xfs"), 400 << 20);
    runs(&root, "/sbin/mkfs.xfs -q -L data /xfs");
    let said = runs(&root, "/sbin/blkid -p /xfs");
    assert!(said.contains("LABEL=\"data\"") && said.contains("TYPE=\"xfs\""), "{said}");

    // Argon2 in threads, the cipher of the key slots, and the passphrase that opens them again.
    blank(&root.join("luks"), 64 << 20);
    fs::write(root.join("key"), "not a secret").unwrap();
    let cheap = "--pbkdf-memory 65536 --pbkdf-parallel 2 --pbkdf-force-iterations 4";
    runs(&root, &format!("/sbin/cryptsetup luksFormat -q --key-file /key {cheap} /luks"));
    runs(&root, "/sbin/cryptsetup open --test-passphrase --key-file /key /luks");
    let said = runs(&root, "/sbin/cryptsetup luksDump /luks");
    assert!(said.contains("argon2id") && said.contains("aes-xts-plain64"), "{said}");
    let said = runs(&root, "/sbin/blkid -p /luks");
    assert!(said.contains("TYPE=\"crypto_LUKS\""), "{said}");

    // Here is no TPM; a library that is missing is told in other words.
    let said = run(&root, "/usr/bin/systemd-cryptenroll --tpm2-device=list");
    assert!(said.contains("No suitable TPM2 devices found"), "{said}");
    let token = r#"{"type":"systemd-tpm2","keyslots":["0"],"tpm2-blob":"AAAA","tpm2-pcrs":[],"tpm2-policy-hash":"00"}"#;
    fs::write(root.join("token"), token).unwrap();
    let said = runs(&root, "/sbin/cryptsetup token import --debug --json-file /token /luks");
    let loaded =
        |line: &str| line.contains("Token handler systemd-tpm2") && line.contains("loaded successfully");
    assert!(said.lines().any(loaded), "{said}");
}
