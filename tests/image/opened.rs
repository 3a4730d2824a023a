//! What a build touches, as the kernel sees it: it runs in a home folder, and most of that is none of its business.

use crate::verbs::site;
use kiln_tests::{binary, kiln, said, shared, tool};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// System calls that open, make, move or remove what has a name, or run it.
const CALLS: &str = "open,openat,openat2,creat,execve,execveat,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,\
                     rename,renameat,renameat2,unlink,unlinkat,rmdir,truncate,chmod,fchmodat,chown,fchownat";

/// What is read beside the cluster's folder and the cache, by whom.
const READ: &[&str] = &[
    // The loader and libc: libraries, names of hosts, processors.
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/lib/",
    "/lib64/",
    "/usr/lib/",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/proc/self/",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup/",
    // The host's trust store.
    "/etc/ssl/",
    "/usr/share/ca-certificates/",
    "/usr/local/share/ca-certificates/",
    // Apt's configuration, and the archive's keys.
    "/etc/apt/",
    "/usr/share/keyrings/debian-archive-keyring.",
];

/// The path without `.` and `..`, links not followed.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The paths that a line of strace's names: of `openat(AT_FDCWD</home>, "a", …) = 3</home/a>` it is /home/a.
fn paths(line: &str, folder: &Path) -> Vec<PathBuf> {
    let call = line.split(" = ").next().unwrap_or_default();
    let arguments = call.split_once('(').map_or("", |(_, rest)| rest);
    let pieces: Vec<&str> = arguments.split('"').collect();
    // Every other piece is a text; what an execve has behind its first one are arguments.
    let count = if call.contains("execve") { 1 } else { pieces.len() / 2 };
    let texts = (0..count).filter_map(|at| Some((pieces.get(2 * at)?, pieces.get(2 * at + 1)?)));
    let from = |before: &str| {
        let (_, opened) = before.rsplit_once('<')?;
        Some(PathBuf::from(opened.split('>').next()?))
    };
    texts.map(|(before, text)| plain(&from(before).unwrap_or_else(|| folder.to_owned()).join(text))).collect()
}

#[test]
fn a_build_opens_its_own_things_alone() {
    let folder = fs::canonicalize(site("opened")).unwrap();
    // A lock is made, too: releases are asked for, with the host's mirrors and certificates.
    fs::remove_file(folder.join("kiln.lock")).unwrap();
    fs::create_dir_all(folder.join("own/files/etc")).unwrap();
    fs::write(folder.join("own/overlay.yaml"), "{}\n").unwrap();
    fs::write(folder.join("own/files/etc/motd"), "own\n").unwrap();
    let file = folder.join("cluster.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let with_own = text.replacen("overlays: [", "overlays: [./own, ", 1);
    assert_ne!(text, with_own, "the example has overlays");
    fs::write(file, with_own).unwrap();

    let trace = shared().join("opened.trace");
    let ours = kiln();
    let mut strace = tool("strace", "strace");
    strace.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace.args(["-f", "-y", "--seccomp-bpf", "-e"]).arg(format!("trace={CALLS}")).arg("-o").arg(&trace);
    let output =
        strace.arg(binary()).args(["build", "--threads", "2"]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let cache = fs::canonicalize(shared().join("cache")).unwrap();
    let (own, program) = ([folder.clone(), cache.clone()], fs::canonicalize(binary()).unwrap());
    let allowed = |path: &Path, line: &str| {
        let text = path.to_string_lossy();
        let read = !line.contains("O_WRONLY") && !line.contains("O_RDWR") && !line.contains("O_CREAT");
        let opens = line.contains("open") || line.contains("execve");
        let known = READ.iter().any(|known| text.starts_with(known) || format!("{text}/") == **known);
        own.iter().any(|own| path.starts_with(own)) || opens && read && (known || path == program)
    };
    let text = fs::read_to_string(&trace).unwrap();
    let (mut seen, mut strange) = (BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        for path in paths(line, &folder) {
            // Making a folder that is there, with those above it, changes nothing.
            let there = line.contains("mkdir") && line.contains("EEXIST");
            if !allowed(&path, line) && !there {
                strange.insert(line.to_owned());
            }
            seen.insert(path);
        }
    }
    assert!(strange.is_empty(), "a build touches what is not its own: {strange:#?}");
    for path in [
        folder.join("cluster.yaml"),
        folder.join("own/overlay.yaml"),
        folder.join("dist/k3s1/.kiln-new.disk.img"),
    ] {
        assert!(seen.contains(&path), "{} was not seen: is the trace whole?", path.display());
    }
    assert!(seen.iter().any(|path| path.starts_with(&cache)));
    fs::remove_file(trace).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn paths_of_lines() {
    let of = |line| paths(line, Path::new("/srv/here"));
    assert_eq!(
        of(r#"1 openat(AT_FDCWD</srv/here>, "a/../b", O_RDONLY) = 3</srv/here/b>"#),
        [Path::new("/srv/here/b")]
    );
    assert_eq!(of(r#"1 unlinkat(5</tmp/x>, "y", 0) = 0"#), [Path::new("/tmp/x/y")]);
    assert_eq!(of(r#"1 open("/etc/shadow", O_RDONLY <unfinished ...>"#), [Path::new("/etc/shadow")]);
    assert_eq!(of(r#"1 rename("a", "/b") = 0"#), [Path::new("/srv/here/a"), Path::new("/b")]);
    assert_eq!(of(r#"1 execve("/bin/x", ["x", "y"], 0x7) = 0"#), [Path::new("/bin/x")]);
    assert!(of("1 <... openat resumed>) = 3</etc/passwd>").is_empty());
}
