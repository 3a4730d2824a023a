//! The last step: the initramfs gives its memory back and systemd becomes PID 1.

use crate::failure::Failure;
use crate::mounts::ROOT;
use crate::sys;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The system's init.
pub(crate) const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// Moves the kernel's file systems over, empties the initramfs, makes the mounted root the root and starts systemd.
pub(crate) fn to_systemd() -> Result<Infallible, Failure> {
    let step = |what: &str, result: io::Result<()>| {
        result.map_err(|error| Failure::Root { what: what.to_owned(), error })
    };
    for name in ["dev", "proc", "sys", "run"] {
        step(
            &format!("move /{name} to the root"),
            sys::move_mount(&format!("/{name}"), &format!("{ROOT}/{name}")),
        )?;
    }
    empty(Path::new("/"));
    step("enter the root", std::env::set_current_dir(ROOT))?;
    step("move the root", sys::move_mount(".", "/"))?;
    step("change the root", std::os::unix::fs::chroot("."))?;
    step("enter the new root", std::env::set_current_dir("/"))?;
    let error = Command::new(SYSTEMD).env_clear().env("TERM", "linux").exec();
    Err(Failure::Exec { path: SYSTEMD, error })
}

/// Deletes what lies on the file system of `directory` itself. What stays only costs memory.
fn empty(directory: &Path) {
    let Ok(device) = fs::symlink_metadata(directory).map(|metadata| metadata.dev()) else { return };
    for path in fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.dev() != device => {}
            Ok(metadata) if metadata.is_dir() => {
                empty(&path);
                let _ = fs::remove_dir(&path);
            }
            _ => {
                let _ = fs::remove_file(&path);
            }
        }
    }
}
