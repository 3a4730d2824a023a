//! Devices and their attributes in sysfs, or in a recorded tree of it.

use std::fs;
use std::path::{Path, PathBuf};

/// A directory below `devices`. Not each of them is a device; one that is has a subsystem.
#[derive(Debug, Clone)]
pub(super) struct Device {
    /// Where sysfs is, links resolved.
    root: PathBuf,
    directory: PathBuf,
}

impl Device {
    /// The device that `class/block/NAME` links to.
    pub(super) fn of_block(sysfs: &Path, name: &str) -> Option<Self> {
        let root = fs::canonicalize(sysfs).ok()?;
        let directory = fs::canonicalize(sysfs.join("class/block").join(name)).ok()?;
        directory.starts_with(&root).then_some(Self { root, directory })
    }

    /// Another device of the same sysfs, by its class.
    pub(super) fn of_class(&self, class: &str, name: &str) -> Option<Self> {
        let directory = fs::canonicalize(self.root.join("class").join(class).join(name)).ok()?;
        directory.starts_with(&self.root).then_some(Self { root: self.root.clone(), directory })
    }

    /// Its directory's name.
    pub(super) fn name(&self) -> String {
        self.directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its path below sysfs, with `/` at the start.
    pub(super) fn path(&self) -> String {
        let below = self.directory.strip_prefix(&self.root).unwrap_or(&self.directory);
        format!("/{}", below.display())
    }

    /// The directory that holds it.
    pub(super) fn parent(&self) -> Option<Self> {
        let directory = self.directory.parent().filter(|directory| **directory != self.root)?;
        Some(Self { root: self.root.clone(), directory: directory.to_owned() })
    }

    /// Itself and everything that holds it, from the inside out.
    pub(super) fn chain(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// `pci`, `scsi`, `block`; empty for a directory that is no device.
    pub(super) fn subsystem(&self) -> String {
        let link = fs::read_link(self.directory.join("subsystem")).unwrap_or_default();
        link.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// An attribute's bytes; none when there is no such attribute, or the device does not answer.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.join(name)).unwrap_or_default()
    }

    /// An attribute's text without blanks at its end; what is not printable is a question mark. Empty when there is
    /// none.
    pub(super) fn text(&self, name: &str) -> String {
        printable(&self.bytes(name)).trim_end().to_owned()
    }

    /// True when there is such an attribute.
    pub(super) fn has(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    /// The text of an attribute of the nearest device that has it.
    pub(super) fn nearest(&self, name: &str) -> String {
        self.chain().map(|device| device.text(name)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// Names of what is in its directory.
    pub(super) fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
    }
}

/// Foreign bytes on their way to a terminal and to JSON.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(|letter: char| letter == '\0' || letter == '\n')
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
