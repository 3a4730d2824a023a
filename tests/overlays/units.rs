//! Units, in the eyes of systemd-analyze(1), in a root of their own with a stand-in for every program.

use crate::rendering::{PLAIN, rendered};
use kiln_tests::{said, tool, top};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files below `files/` of every overlay, with their paths in the image.
pub(crate) fn image_files() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&top().join("overlays"), &mut found);
    let inner = |path: PathBuf| {
        let (_, inner) = path.to_str().expect("UTF-8").split_once("/files/")?;
        Some((inner.to_owned(), path.clone()))
    };
    let mut files: Vec<_> = found.into_iter().filter_map(inner).collect();
    files.sort();
    files
}

fn write(root: &Path, path: &str, bytes: &[u8], mode: u32) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(&path, bytes).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
}

/// A root with the overlays' files, drop-ins of seeds, what systemd's own units are to others, and a program at each
/// path that a unit starts. Gives the units of the overlays.
fn root(root: &Path) -> BTreeSet<String> {
    let mut units = BTreeSet::new();
    let mut drop_ins = Vec::new();
    for (path, source) in image_files() {
        let executable = fs::metadata(&source).expect("read").permissions().mode() & 0o100 != 0;
        write(root, &path, &fs::read(&source).expect("read"), if executable { 0o755 } else { 0o644 });
        if let Some((_, name)) = path.split_once("systemd/system/").filter(|(_, name)| !name.contains('/')) {
            let text = fs::read_to_string(&source).expect("text");
            let starts = text.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once('='));
            for (_, command) in starts {
                let program = command.trim_start_matches(['-', '+', '!', '@', ':']).split(' ').next();
                let program =
                    program.filter(|program| program.starts_with('/')).expect("a program's whole path");
                if !root.join(&program[1..]).exists() {
                    write(root, program, b"", 0o755);
                }
            }
            units.insert(name.replace("@.", "@home."));
        }
    }
    for node in rendered(PLAIN) {
        for file in node.files.iter().filter(|file| file.path.starts_with("/etc/systemd/system/")) {
            write(root, &file.path, file.text.as_bytes(), 0o644);
            drop_ins.push(file.path.clone());
        }
    }
    assert!(!drop_ins.is_empty(), "no cluster has a drop-in");
    // Units that those of overlays stand beside. Only their names count here.
    let others = [
        "basic",
        "shutdown",
        "sysinit",
        "multi-user",
        "network",
        "network-online",
        "network-pre",
        "local-fs",
        "umount",
        "timers",
        "time-sync",
        "time-set",
        "cloud-config",
        "slices",
        "paths",
        "sockets",
    ];
    for name in others {
        write(
            root,
            &format!("usr/lib/systemd/system/{name}.target"),
            b"[Unit]\nDescription=stand-in\n",
            0o644,
        );
    }
    write(root, "usr/lib/systemd/system/-.mount", b"[Mount]\nWhat=/dev/x\nWhere=/\n", 0o644);
    units
}

/// What systemd-analyze says of these units.
fn verified(root: &Path, units: &BTreeSet<String>) -> Result<(), String> {
    let mut command = tool("systemd-analyze", "systemd");
    command.arg("verify").arg("--man=no").arg("--root").arg(root).args(units);
    let output = command.output().expect("systemd-analyze");
    let clean = output.status.success() && output.stderr.is_empty();
    if clean { Ok(()) } else { Err(said(&output)) }
}

#[test]
fn systemd_takes_every_unit() {
    let folder = tempfile::tempdir().expect("folder");
    let units = root(folder.path());
    assert!(units.len() > 15, "{units:?}");
    verified(folder.path(), &units).expect("units without fault");
}

/// The judge can say no.
#[test]
fn systemd_can_refuse() {
    let faults = [
        ("a word", "[Service]\nType=onshot\nExecStart=/bin/true\n"),
        ("a key", "[Service]\nExecStrat=/bin/true\nExecStart=/bin/true\n"),
        ("a program", "[Service]\nExecStart=/bin/absent\n"),
        ("no program", "[Unit]\nDescription=a\n[Service]\nType=simple\n"),
    ];
    for (what, text) in faults {
        let folder = tempfile::tempdir().expect("folder");
        root(folder.path());
        write(folder.path(), "bin/true", b"", 0o755);
        write(folder.path(), "usr/lib/systemd/system/wrong.service", text.as_bytes(), 0o644);
        let units = BTreeSet::from(["wrong.service".to_owned()]);
        assert!(verified(folder.path(), &units).is_err(), "{what} was taken");
    }
}

/// A unit of Kiln's that an overlay enables is one that an overlay brings.
#[test]
fn units_are_enabled_by_name() {
    let brought: BTreeSet<String> = image_files()
        .iter()
        .filter_map(|(path, _)| Some(path.split_once("systemd/system/")?.1.to_owned()))
        .collect();
    for node in rendered(PLAIN) {
        for overlay in &node.node.overlays {
            for unit in &overlay.enable {
                let ours = unit.starts_with("kiln-") || unit.ends_with(".mount");
                assert!(!ours || brought.contains(unit), "{}: there is no {unit}", overlay.name);
            }
        }
    }
}
