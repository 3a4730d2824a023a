//! Whether a policy can be carried out at all. A device believes no document: what is in it becomes partition names,
//! paths and lines of systemd units.

use super::{Policy, Rule, Slot, Use};
use crate::partition::data_label;
use std::collections::BTreeSet;
use std::path::{Component, Path};
use uuid::Uuid;

/// More rules, slots of a rule or listed serial numbers than this no machine has.
const MOST: usize = 256;
/// UTF-16 units of a partition's name (UEFI 2.10, section 5.3.3).
const LABEL: usize = 36;
/// Longest mount point (bytes): a unit's name has 255, and its escapes take up to four for one.
const LONGEST_PATH: usize = 200;
/// Where the system itself lives. Nothing may be mounted on these, nor below those that end in a slash.
const SYSTEM: [&str; 18] = [
    "/bin/",
    "/boot/",
    "/dev/",
    "/etc/",
    "/home",
    "/lib/",
    "/lib64/",
    "/proc/",
    "/root",
    "/run/",
    "/sbin/",
    "/sys/",
    "/tmp",
    "/usr/",
    "/var",
    "/var/lib",
    "/var/lib/kiln/",
    "/var/log",
];

/// What is wrong: which field, what it holds, what it may hold.
pub type Fault = (&'static str, String, &'static str);

impl Policy {
    /// Looks at everything that this document alone can tell.
    pub fn check(&self) -> Result<(), Fault> {
        let bounded = |what, count: usize| {
            if count <= MOST { Ok(()) } else { Err((what, count.to_string(), "a number of at most 256")) }
        };
        bounded("disks.data", self.data.len())?;
        bounded("disks.erase", self.erase.len())?;
        let mut rules = BTreeSet::new();
        let (mut names, mut guids, mut places) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for rule in &self.data {
            rule.check()?;
            bounded("disks.data.slots", rule.slots.len())?;
            if !rules.insert(rule.name.as_str()) {
                return Err(("disks.data.name", rule.name.clone(), "a name that no other rule has"));
            }
            for slot in &rule.slots {
                if !names.insert(slot.name.as_str()) {
                    return Err((
                        "disks.data.slots.name",
                        slot.name.clone(),
                        "a name that no other slot has",
                    ));
                }
                let ids = [slot.partition, slot.filesystem, slot.luks, slot.longhorn];
                if let Some(id) = ids.into_iter().find(|id| id.is_nil() || !guids.insert(*id)) {
                    return Err(("disks.data.slots", id.to_string(), "an identifier that nothing else has"));
                }
                if let Some(path) = slot.mount_point.as_deref().filter(|path| !places.insert(*path)) {
                    return Err(("disks.data.slots.mount_point", path.to_owned(), "a place of its own"));
                }
            }
        }
        self.check_system(&mut guids)
    }

    fn check_system(&self, guids: &mut BTreeSet<Uuid>) -> Result<(), Fault> {
        let swap = self.system.swap.iter().flat_map(|swap| [swap.partition, swap.filesystem]);
        let luks = self.system.encrypt.iter().map(|encrypt| encrypt.luks);
        if let Some(id) = swap.chain(luks).find(|id| id.is_nil() || !guids.insert(*id)) {
            return Err(("disks.system", id.to_string(), "an identifier that nothing else has"));
        }
        match &self.system.swap {
            Some(swap) if swap.bytes == 0 => Err(("disks.system.swap.bytes", "0".to_owned(), "a size")),
            _ => Ok(()),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), Fault> {
        if !is_name(&self.name) {
            return Err(("disks.data.name", self.name.clone(), "a name of a-z, 0-9 and inner hyphens"));
        }
        let options = self.mount_options.iter();
        if let Some(option) = options.clone().find(|option| !is_option(option)) {
            return Err(("disks.data.mount_options", option.clone(), "one option of mount(8)"));
        }
        let tag = |tag: &&String| tag.is_empty() || tag.len() > 253 || tag.chars().any(char::is_control);
        if let Some(tag) = self.tags.iter().find(tag) {
            return Err(("disks.data.tags", tag.clone(), "a tag without control characters"));
        }
        self.slots.iter().try_for_each(|slot| slot.check(self.usage))
    }
}

impl Slot {
    fn check(&self, usage: Use) -> Result<(), Fault> {
        let fits = data_label(&self.name).encode_utf16().count() <= LABEL;
        if !is_name(&self.name) || !fits {
            let want = "a name of a-z, 0-9 and inner hyphens that fits in a partition's name";
            return Err(("disks.data.slots.name", self.name.clone(), want));
        }
        match (&self.mount_point, usage) {
            (Some(path), Use::Longhorn | Use::Mount) if is_place(path) => Ok(()),
            (Some(path), Use::Longhorn | Use::Mount) => {
                let want = "an absolute path outside of the system's own folders";
                Err(("disks.data.slots.mount_point", path.clone(), want))
            }
            (None, Use::Longhorn | Use::Mount) => {
                Err(("disks.data.slots.mount_point", String::new(), "a path: this use is a mounted one"))
            }
            (Some(path), Use::Raw | Use::Lvm) => {
                Err(("disks.data.slots.mount_point", path.clone(), "left out: this use is not mounted"))
            }
            (None, Use::Raw | Use::Lvm) => Ok(()),
        }
    }
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// True when `text` is one option of `mount -o`, and can stand in a unit's line.
pub fn is_option(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// True when something may be mounted at `path`: absolute, plain, and not where the system lives.
pub fn is_place(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let plain = |text: &str| text.chars().all(|letter| !letter.is_control() && letter != '\\');
    // Components swallow doubled and final slashes.
    let rebuilt: std::path::PathBuf = parts.clone().collect();
    let clean = rebuilt.as_os_str() == path && path.len() <= LONGEST_PATH && plain(path);
    let rooted = parts.next() == Some(Component::RootDir);
    let named = parts.clone().next().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    let taken = SYSTEM.iter().any(|place| match place.strip_suffix('/') {
        Some(top) => Path::new(path).starts_with(top),
        None => path == *place,
    });
    clean && rooted && named && !taken
}

#[cfg(test)]
mod tests;
