//! A tree into a folder.

use kiln_formats::tree::{Kind, Tree};
use rustix::fs::{AtFlags, CWD, Dev, FileType, Mode, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
