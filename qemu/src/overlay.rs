//! Images that keep what a guest writes, while the image below stays as it is.

use crate::error::Error;
use crate::machine::{Bus, Disk, Format};
use std::path::Path;
use std::process::Command;

/// Makes a qcow2 image at `path` over the raw image `base`, `size` bytes large (the base's size when none is given),
/// and returns it as a disk. For machines that boot more than once from one disk.
///
/// # Errors
/// When qemu-img is not installed or fails.
pub fn overlay(base: &Path, path: &Path, size: Option<u64>) -> Result<Disk, Error> {
    let absolute = base.canonicalize().map_err(|source| Error::File { path: base.to_owned(), source })?;
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(absolute).arg(path);
    command.args(size.map(|size| size.to_string()));
    let output = command.output().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NotInstalled { program: "qemu-img".to_owned(), package: "qemu-utils" }
        }
        _ => Error::Process { what: "starting qemu-img", source },
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Tool { program: "qemu-img", stderr });
    }
    let path = path.to_owned();
    Ok(Disk { path, format: Format::Qcow2, bus: Bus::Virtio, throw_away: false, serial: None, sector: 512 })
}

#[cfg(test)]
mod tests {
    use super::overlay;

    #[test]
    fn an_overlay_is_as_large_as_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (base, path) = (directory.path().join("base"), directory.path().join("over.qcow2"));
        std::fs::write(&base, vec![7; 1 << 20]).unwrap();
        let disk = overlay(&base, &path, Some(1 << 30)).unwrap();
        let bytes = std::fs::read(&disk.path).unwrap();
        // Virtual size: offset 24, big-endian (QEMU, docs/interop/qcow2.txt).
        assert_eq!(bytes[24..32], (1_u64 << 30).to_be_bytes());
        assert!(overlay(&directory.path().join("nothing"), &path, None).is_err());
    }
}
