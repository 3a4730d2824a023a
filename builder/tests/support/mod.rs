//! What tests on real packages share: a folder of .deb files into packages, a tree into a folder.

#![allow(clippy::expect_used, clippy::panic, reason = "test code: a failure should stop it")]

use kiln::rootfs::unpack::{Job, unpack_all};
use kiln::rootfs::{Options, Unpacked};
use kiln_formats::deb::index;
use kiln_formats::tree::{Kind, Tree};
use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The .deb files of a folder, unpacked into `scratch` unless they are there already.
pub(crate) fn packages(folder: &Path, scratch: &Path) -> Vec<Unpacked> {
    let mut debs: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of packages")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    debs.sort();
    std::fs::create_dir_all(scratch).expect("scratch");
    let jobs: Vec<Job> = debs
        .into_iter()
        .map(|deb| {
            let name = deb.file_name().expect("a name").to_owned();
            Job { deb, unpacked: scratch.join(name).with_extension("tar") }
        })
        .collect();
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let controls = unpack_all(&jobs, threads, &|_| {}).expect("unpacked");
    jobs.iter()
        .zip(controls)
        .map(|(job, control)| {
            let text = control.text("control").expect("control").into_owned();
            let field = |name: &str| {
                text.lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                    .expect("field")
                    .to_owned()
            };
            Unpacked {
                name: field("Package"),
                version: field("Version"),
                architecture: field("Architecture"),
                control,
                tree: index(Arc::new(File::open(&job.unpacked).expect("unpacked"))).expect("indexed"),
            }
        })
        .collect()
}

/// Options with a fixed date.
pub(crate) fn options() -> Options {
    Options { source_date: 1_700_000_000, architecture: "amd64".into(), scripts_skip: Vec::new(), threads: 2 }
}

/// Writes a tree below `folder`, owners and all; needs root.
pub(crate) fn write_folder(tree: &Tree, folder: &Path) {
    let at = |path: &[u8]| folder.join(OsStr::from_bytes(path));
    for (path, entry) in tree.iter() {
        let full = at(path);
        match &entry.kind {
            Kind::Directory => std::fs::create_dir_all(&full).expect("directory"),
            Kind::File(content) => {
                let mut file = File::create(&full).unwrap_or_else(|error| panic!("{full:?}: {error}"));
                file.write_all(&content.read().expect("content")).expect("written");
            }
            Kind::Symlink(to) => std::os::unix::fs::symlink(OsStr::from_bytes(to), &full).expect("link"),
            Kind::HardLink(_) => continue,
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                let kind = match entry.kind {
                    Kind::CharDevice { .. } => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                let device: Dev = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(CWD, &full, kind, Mode::empty(), device).expect("device");
            }
            Kind::Fifo | Kind::Socket => {
                rustix::fs::mknodat(CWD, &full, FileType::Fifo, Mode::empty(), 0).expect("fifo");
            }
        }
        let meta = &entry.meta;
        std::os::unix::fs::lchown(&full, Some(meta.uid), Some(meta.gid)).expect("chown");
        if !matches!(entry.kind, Kind::Symlink(_)) {
            rustix::fs::chmod(&full, Mode::from_raw_mode(meta.mode.into())).expect("chmod");
        }
    }
    for (path, entry) in tree.iter() {
        if let Kind::HardLink(to) = &entry.kind {
            std::fs::hard_link(at(to), at(path)).expect("hard link");
        }
    }
    for (path, entry) in tree.iter() {
        let time = Timespec { tv_sec: entry.meta.mtime.secs, tv_nsec: entry.meta.mtime.nanos.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).expect("time");
    }
}
