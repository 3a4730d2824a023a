use super::add_all;
use crate::boot::{Error, Program};
use kiln_formats::path;
use kiln_formats::tree::{Entry, Kind, Tree};
use std::collections::BTreeSet;

const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// A file of 64 bits for amd64 with PT_LOAD, PT_INTERP and PT_DYNAMIC: its strings from byte 1024, its dynamic section
/// from 512, where the strings are at address 0x5000.
fn elf(interpreter: Option<&str>, needed: &[&str], run_path: Option<&str>) -> Entry {
    let mut strings = vec![0];
    let mut string = |text: &str| {
        let at = strings.len() as u64;
        strings.extend(text.as_bytes());
        strings.push(0);
        at
    };
    let interpreter = interpreter.map(|path| 1024 + string(path));
    let mut dynamic: Vec<u64> = needed.iter().flat_map(|name| [1, string(name)]).collect();
    dynamic.extend(run_path.into_iter().flat_map(|path| [29, string(path)]));
    dynamic.extend([5, 0x5000, 0, 0]);
    let mut segments =
        vec![[1, 1024, 0x5000, 0, 4096, 4096, 8], [2, 512, 0, 0, 8 * dynamic.len() as u64, 0, 8]];
    segments.extend(interpreter.map(|at| [3, at, 0, 0, 64, 64, 1]));
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[16] = 3;
    file[18] = 62;
    file[32] = 64;
    file[56] = u8::try_from(segments.len()).unwrap();
    segments.iter().flatten().for_each(|word| file.extend(word.to_le_bytes()));
    file.resize(512, 0);
    dynamic.iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.resize(1024, 0);
    file.extend(strings);
    Entry::file(file)
}

fn library(needed: &[&str]) -> Entry {
    elf(None, needed, None)
}

fn tree(files: &[(&str, Entry)]) -> Tree {
    let mut tree = Tree::new();
    let program = || elf(Some(LOADER), &["libblkid.so.1", "libc.so.6"], None);
    let always = [
        ("bin", Entry::symlink("usr/bin")),
        ("lib", Entry::symlink("usr/lib")),
        ("lib64", Entry::symlink("usr/lib64")),
        ("etc/mke2fs.conf", Entry::file(*b"[defaults]\n")),
        ("usr/lib64/ld-linux-x86-64.so.2", Entry::symlink("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")),
        ("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", library(&[])),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", library(&["ld-linux-x86-64.so.2"])),
        ("usr/lib/x86_64-linux-gnu/libblkid.so.1", Entry::symlink("libblkid.so.1.1.0")),
        ("usr/lib/x86_64-linux-gnu/libblkid.so.1.1.0", library(&["libc.so.6"])),
        ("usr/lib/x86_64-linux-gnu/libunused.so.1", library(&["libc.so.6"])),
        ("usr/sbin/blkid", program()),
        ("usr/sbin/mke2fs", program()),
        ("usr/sbin/e2fsck", program()),
        ("usr/sbin/resize2fs", program()),
    ];
    for (path, entry) in always.iter().chain(files) {
        tree.make_parents(path, &Entry::directory());
        tree.insert(path, entry.clone());
    }
    tree
}

fn added(root: &Tree, asked: &[Program]) -> Result<(Vec<String>, Tree), Error> {
    let mut initramfs = Tree::new();
    for (link, to) in [("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")] {
        initramfs.insert(link, Entry::symlink(to));
    }
    let asked: BTreeSet<Program> = asked.iter().copied().collect();
    let programs = add_all(root, &asked, &mut initramfs)?;
    Ok((programs, initramfs))
}

#[test]
fn programs_bring_their_loader_and_libraries() {
    let (programs, initramfs) = added(&tree(&[]), &[]).unwrap();
    assert_eq!(programs, ["usr/sbin/blkid", "usr/sbin/e2fsck", "usr/sbin/mke2fs", "usr/sbin/resize2fs"]);
    for path in [
        "sbin/blkid",
        &LOADER[1..],
        "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "lib/x86_64-linux-gnu/libblkid.so.1",
        "lib/x86_64-linux-gnu/libc.so.6",
        "etc/mke2fs.conf",
    ] {
        assert!(path::file(&initramfs, path.as_bytes()).is_some(), "{path}");
    }
    assert_eq!(initramfs.get("usr/sbin/blkid").unwrap().meta.mode, 0o755);
    assert!(path::file(&initramfs, b"usr/lib/x86_64-linux-gnu/libunused.so.1").is_none());
}

#[test]
fn a_file_may_name_its_own_folders() {
    let root = tree(&[
        ("usr/sbin/mkfs.xfs", elf(Some(LOADER), &["libown.so"], Some("/nowhere:$ORIGIN/../lib/own"))),
        ("usr/lib/own/libown.so", library(&["libc.so.6"])),
    ]);
    let (programs, initramfs) = added(&root, &[Program::Xfs]).unwrap();
    assert!(programs.contains(&"usr/sbin/mkfs.xfs".to_owned()), "{programs:?}");
    assert!(path::file(&initramfs, b"usr/lib/own/libown.so").is_some());
    assert!(added(&root, &[]).unwrap().1.get("usr/sbin/mkfs.xfs").is_none(), "nobody asked for it");
}

/// The first folder's library is for another machine: the loader goes on.
#[test]
fn libraries_of_another_machine_are_passed_over() {
    let mut foreign = library(&[]);
    let Kind::File(content) = &foreign.kind else { panic!("a file") };
    let mut bytes = content.read().unwrap();
    bytes[18] = 183;
    foreign.kind = Entry::file(bytes).kind;
    let program = elf(Some(LOADER), &["libx.so.1"], None);
    let mut root = tree(&[("usr/sbin/mkfs.xfs", program), ("usr/lib/x86_64-linux-gnu/libx.so.1", foreign)]);
    let fault = added(&root, &[Program::Xfs]).unwrap_err().to_string();
    assert_eq!(
        fault,
        "the root holds no libx.so.1, which usr/sbin/mkfs.xfs needs: the package xfsprogs depends on the one that has it"
    );
    root.insert("usr/lib/libx.so.1", library(&[]));
    assert!(added(&root, &[Program::Xfs]).unwrap().1.contains("usr/lib/libx.so.1"));
}

#[test]
fn what_is_missing_is_told_with_its_package() {
    for (program, fault) in [
        (Program::Xfs, "the root holds no usr/sbin/mkfs.xfs: add the package xfsprogs"),
        (Program::Luks, "the root holds no usr/sbin/cryptsetup: add the package cryptsetup-bin"),
        (Program::Tpm2, "the root holds no usr/bin/systemd-cryptenroll: add the package systemd-cryptsetup"),
    ] {
        assert_eq!(added(&tree(&[]), &[program]).unwrap_err().to_string(), fault);
    }
    for (path, package) in [("usr/sbin/blkid", "util-linux"), ("etc/mke2fs.conf", "e2fsprogs")] {
        let mut root = tree(&[]);
        root.remove(path);
        let fault = added(&root, &[]).unwrap_err().to_string();
        assert_eq!(fault, format!("the root holds no {path}: add the package {package}"));
    }
    let root = tree(&[("usr/sbin/blkid", Entry::file(*b"#!/bin/sh\n"))]);
    let fault = added(&root, &[]).unwrap_err().to_string();
    assert_eq!(fault, "usr/sbin/blkid is no program for amd64: reinstall the package util-linux");
}
