//! Copying the image's own /var to where it can be written.

use crate::sys;
use std::collections::HashMap;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Written last: /var holds all of the factory's files. Relative to /var.
const DONE: &str = "lib/kiln/filled";

/// Copies `from` to `to` with owners, modes, times, attributes, links and devices, once in the life of `to`. A copy
/// that was cut short is made again: no system has run on it, and a file may have its name and not its content.
pub(crate) fn fill(from: &Path, to: &Path) -> io::Result<()> {
    let done = to.join(DONE);
    if done.exists() {
        return Ok(());
    }
    if let Ok(metadata) = fs::symlink_metadata(from) {
        Copy { links: HashMap::new() }.directory(from, to, &metadata)?;
    }
    fs::create_dir_all(to.join("lib/kiln"))?;
    // ext4 keeps content back for half a minute, and names for five seconds at most: the mark must not be on the disk
    // before what it speaks of.
    sys::sync_file_system(to)?;
    fs::write(done, "")
}

struct Copy {
    /// (device, inode) of files with more names than one, and the first copy.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn directory(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        let mut entries: Vec<_> =
            fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        entries.sort();
        for name in entries {
            let (from, to) = (from.join(&name), to.join(&name));
            let metadata = fs::symlink_metadata(&from)?;
            if metadata.is_dir() {
                match fs::create_dir(&to) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => self.directory(&from, &to, &metadata)?,
                }
            } else {
                match fs::remove_file(&to) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => self.other(&from, &to, &metadata)?,
                }
            }
        }
        // Last, as a directory's time changes with what is made in it.
        attributes(from, to, metadata)
    }

    fn other(&mut self, from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
        let inode = (metadata.dev(), metadata.ino());
        if let Some(first) = self.links.get(&inode) {
            return fs::hard_link(first, to);
        }
        if metadata.nlink() > 1 {
            self.links.insert(inode, to.to_owned());
        }
        if metadata.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if metadata.is_file() {
            fs::copy(from, to)?;
        } else {
            sys::make_node(to, metadata)?;
        }
        attributes(from, to, metadata)
    }
}

/// Owner first: chown(2) clears setuid bits and capabilities.
fn attributes(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.is_symlink() {
        fs::set_permissions(to, Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    sys::copy_xattrs(from, to)?;
    sys::set_times(to, metadata)
}

#[cfg(test)]
mod tests {
    use super::fill;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn everything_is_copied_once() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("factory"), root.path().join("var"));
        fs::create_dir_all(from.join("lib/deep")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("lib/file"), "text").unwrap();
        fs::set_permissions(from.join("lib/file"), Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join("lib/deep"), Permissions::from_mode(0o1777)).unwrap();
        fs::hard_link(from.join("lib/file"), from.join("lib/other")).unwrap();
        symlink("/run", from.join("run")).unwrap();
        fill(&from, &to).unwrap();

        let (old, new) =
            (fs::metadata(from.join("lib/file")).unwrap(), fs::metadata(to.join("lib/file")).unwrap());
        assert_eq!((new.mode(), new.uid(), new.mtime_nsec()), (old.mode(), old.uid(), old.mtime_nsec()));
        assert_eq!(new.ino(), fs::metadata(to.join("lib/other")).unwrap().ino());
        assert_eq!(fs::metadata(to.join("lib/deep")).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_link(to.join("run")).unwrap().to_str(), Some("/run"));

        fs::remove_file(to.join("lib/file")).unwrap();
        fill(&from, &to).unwrap();
        assert!(!to.join("lib/file").exists(), "what the node removed must not come back");
    }

    /// A power cut can leave a file's name without its content.
    #[test]
    fn a_copy_cut_short_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("factory"), root.path().join("var"));
        fs::create_dir_all(from.join("lib")).unwrap();
        fs::create_dir_all(to.join("lib")).unwrap();
        for name in ["a", "b"] {
            fs::write(from.join("lib").join(name), "factory").unwrap();
        }
        symlink("a", from.join("lib/link")).unwrap();
        symlink("a", to.join("lib/link")).unwrap();
        fs::write(to.join("lib/a"), "").unwrap();
        fill(&from, &to).unwrap();
        for name in ["a", "b", "link"] {
            assert_eq!(fs::read_to_string(to.join("lib").join(name)).unwrap(), "factory", "{name}");
        }
    }

    #[test]
    fn an_image_without_factory_settings_is_fine() {
        let root = tempfile::tempdir().unwrap();
        fill(&root.path().join("nothing"), root.path()).unwrap();
    }
}
