//! For tests that compare finalisers with what Debian's own tools made in a real root.
//!
//! Such a root is made once, as root, and named by `KILN_ORACLE_ROOT`:
//! ```text
//! mmdebstrap --variant=minbase --include=ca-certificates,kmod,systemd,udev,linux-image-amd64 trixie "$KILN_ORACLE_ROOT"
//! cargo test -p kiln rootfs:: -- --ignored
//! ```

use kiln_formats::io::ReadAt;
use kiln_formats::tree::{Content, Entry, Kind, Tree};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The root that Debian's tools configured.
pub(super) fn root() -> PathBuf {
    std::env::var_os("KILN_ORACLE_ROOT")
        .map(PathBuf::from)
        .expect("KILN_ORACLE_ROOT names a root made by mmdebstrap; see builder/src/rootfs/oracle.rs")
}

/// Reads a folder of this machine; file contents stay where they are.
pub(super) fn load(root: &Path) -> Tree {
    let mut tree = Tree::new();
    tree.insert("", Entry::directory());
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for found in std::fs::read_dir(&folder).unwrap() {
            let path = found.unwrap().path();
            let data = std::fs::symlink_metadata(&path).unwrap();
            let kind = if data.is_dir() {
                folders.push(path.clone());
                Kind::Directory
            } else if data.is_symlink() {
                Kind::Symlink(std::fs::read_link(&path).unwrap().as_os_str().as_bytes().into())
            } else if data.is_file() {
                let source = Arc::new(Lazy(path.clone()));
                Kind::File(Content::Extern { source, offset: 0, len: data.len() })
            } else {
                continue;
            };
            let mode = u16::try_from(data.permissions().mode() & 0o7777).unwrap();
            let mut entry = Entry::new(kind, mode);
            (entry.meta.uid, entry.meta.gid) = (data.uid(), data.gid());
            tree.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes(), entry);
        }
    }
    tree
}

/// Fails unless the file at `path` has the bytes it has in the root.
pub(super) fn same_file(tree: &Tree, root: &Path, path: &str) {
    let wanted = std::fs::read(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let Some(Kind::File(content)) = tree.get(path).map(|entry| &entry.kind) else {
        panic!("{path} is missing")
    };
    let got = content.read().unwrap();
    if let Some(at) = (0..wanted.len().max(got.len())).find(|at| got.get(*at) != wanted.get(*at)) {
        let around = |bytes: &[u8]| {
            let start = at.saturating_sub(80).min(bytes.len());
            String::from_utf8_lossy(&bytes[start..(at + 80).min(bytes.len())]).into_owned()
        };
        panic!(
            "{path}: {} bytes, {} wanted; first difference at {at}:\n{:?}\n{:?} wanted",
            got.len(),
            wanted.len(),
            around(&got),
            around(&wanted)
        );
    }
}

#[derive(Debug)]
struct Lazy(PathBuf);

impl ReadAt for Lazy {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        FileExt::read_exact_at(&File::open(&self.0)?, buf, offset)
    }
    fn size(&self) -> std::io::Result<u64> {
        Ok(std::fs::metadata(&self.0)?.len())
    }
}
