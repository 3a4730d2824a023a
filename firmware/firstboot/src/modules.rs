//! Kernel modules of the initramfs: which module drives which hardware, in what order modules load.
//!
//! The files are depmod's (kmod, modules.dep(5)): `modules.dep` has `path: paths it needs`, the last of which needs
//! nothing; `modules.alias` has `alias PATTERN module`; `modules.softdep` has `softdep module pre: … post: …`. The
//! modules themselves are not compressed: the archive around them is.

use crate::cmdline::CommandLine;
use crate::console::Console;
use crate::failure::Failure;
use crate::sys;
use kiln_contract::glob::matches;
use std::collections::{HashMap, HashSet};
use std::fs::{File, read_to_string};
use std::path::{Path, PathBuf};

/// File systems and what they ask for by name at mount time, when no modprobe would come to help.
const FILE_SYSTEMS: [&str; 9] = [
    "crc32c_generic",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "nls_iso8859_1",
    "overlay",
    "efivarfs",
];

/// A module's name as the kernel has it: dashes and underscores are one.
pub(crate) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The text files of depmod, read.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Name to (path, paths it needs in the order of the file), below the release's directory.
    dependencies: HashMap<String, (String, Vec<String>)>,
    /// Patterns and their modules, by bus (what stands before the first colon), in the order of the file.
    aliases: HashMap<String, Vec<(String, String)>>,
    /// Name to modules that should be loaded before and after it.
    soft: HashMap<String, (Vec<String>, Vec<String>)>,
}

impl Index {
    pub(crate) fn parse(dep: &str, alias: &str, softdep: &str) -> Self {
        let mut index = Self::default();
        for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
            index.dependencies.insert(name_of(path), (path.to_owned(), needs));
        }
        for line in alias.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next()) {
                let entry = (pattern.to_owned(), normal(module));
                index.aliases.entry(bus_of(pattern).to_owned()).or_default().push(entry);
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            // What stands after the module may be an alias (`crypto-crc32c`), so it stays as it is written.
            let (before, after) = index.soft.entry(normal(module)).or_default();
            let mut list = None;
            for word in words {
                match (word, &mut list) {
                    ("pre:", _) => list = Some(&mut *before),
                    ("post:", _) => list = Some(&mut *after),
                    (name, Some(list)) => list.push(name.to_owned()),
                    _ => {}
                }
            }
        }
        index
    }

    /// The modules that say they drive this device, in the order of the file.
    pub(crate) fn modules_for(&self, modalias: &str) -> impl Iterator<Item = &str> {
        let candidates = self.aliases.get(bus_of(modalias)).map_or(&[][..], Vec::as_slice);
        let matching =
            candidates.iter().filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()));
        matching.map(|(_, module)| module.as_str())
    }

    /// Everything to load for `name`, in order, itself included; empty when this initramfs doesn't carry it.
    pub(crate) fn load_order(&self, name: &str) -> Vec<(String, &str)> {
        let mut order = Vec::new();
        self.visit(name, &mut HashSet::new(), &mut order);
        order
    }

    fn visit<'a>(&'a self, asked: &str, seen: &mut HashSet<String>, order: &mut Vec<(String, &'a str)>) {
        let name = normal(asked);
        let Some((path, needs)) = self.dependencies.get(&name) else {
            // An alias of an alias does not exist (modprobe.d(5)), so this goes one step deep.
            for module in self.modules_for(asked).filter(|module| self.dependencies.contains_key(*module)) {
                self.visit(module, seen, order);
            }
            return;
        };
        if !seen.insert(name.clone()) {
            return;
        }
        let soft = self.soft.get(&name);
        soft.iter().flat_map(|(before, _)| before).for_each(|before| self.visit(before, seen, order));
        needs.iter().rev().for_each(|path| self.visit(&name_of(path), seen, order));
        order.push((name, path));
        soft.iter().flat_map(|(_, after)| after).for_each(|after| self.visit(after, seen, order));
    }
}

fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split('.').next().unwrap_or(file))
}

fn bus_of(alias: &str) -> &str {
    alias.split(':').next().unwrap_or(alias)
}

/// The modules of the running kernel, and what was done with them.
#[derive(Debug)]
pub(crate) struct Modules {
    directory: PathBuf,
    index: Index,
    blacklist: Vec<String>,
    parameters: Vec<(String, String)>,
    tried: HashSet<String>,
    seen: HashSet<String>,
    loaded: usize,
}

impl Modules {
    /// Reads the index of the running kernel's modules.
    pub(crate) fn of_running_kernel(cmdline: &CommandLine) -> Result<Self, Failure> {
        let directory = Path::new("/lib/modules").join(sys::release());
        let read = |name: &str| read_to_string(directory.join(name));
        let dep = read("modules.dep")
            .map_err(|error| Failure::NoModules { directory: directory.display().to_string(), error })?;
        let index = Index::parse(
            &dep,
            &read("modules.alias").unwrap_or_default(),
            &read("modules.softdep").unwrap_or_default(),
        );
        Ok(Self {
            directory,
            index,
            blacklist: cmdline.blacklist.clone(),
            parameters: cmdline.parameters.clone(),
            tried: HashSet::new(),
            seen: HashSet::new(),
            loaded: 0,
        })
    }

    /// Loads what mounting will need. A file system that the kernel has built in has no module.
    pub(crate) fn load_file_systems(&mut self, console: &mut Console) {
        self.load_all(&FILE_SYSTEMS, console);
    }

    /// Loads modules by name. One that the kernel has built in, or that this machine can't use, is passed over.
    pub(crate) fn load_all(&mut self, names: &[&str], console: &mut Console) {
        for name in names {
            self.load(name, console);
        }
    }

    /// Loads the modules for a device; true when that loaded anything new.
    pub(crate) fn load_for(&mut self, modalias: &str, console: &mut Console) -> bool {
        if !self.seen.insert(modalias.to_owned()) {
            return false;
        }
        let names: Vec<String> = self.index.modules_for(modalias).map(str::to_owned).collect();
        let before = self.loaded;
        for name in names.iter().filter(|name| !self.blacklist.contains(name)).collect::<Vec<_>>() {
            self.load(name, console);
        }
        self.loaded > before
    }

    /// How many modules were loaded.
    pub(crate) fn loaded(&self) -> usize {
        self.loaded
    }

    fn load(&mut self, name: &str, console: &mut Console) {
        let order: Vec<(String, String)> =
            self.index.load_order(name).into_iter().map(|(name, path)| (name, path.to_owned())).collect();
        for (name, path) in order {
            if !self.tried.insert(name.clone()) {
                continue;
            }
            let given = self.parameters.iter().filter(|(module, _)| *module == name);
            let parameters: Vec<&str> = given.map(|(_, parameter)| parameter.as_str()).collect();
            let result = File::open(self.directory.join(&path))
                .and_then(|file| sys::load_module(&file, &parameters.join(" ")));
            match result {
                Ok(()) => {
                    self.loaded += 1;
                    console.detail(&format!("module {name}"));
                }
                // A driver may look at the hardware and find that it is none of its own: not a failure of the boot.
                Err(error) => console.detail(&format!("module {name} not loaded: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Index;

    #[test]
    fn dependencies_come_first_and_soft_ones_around() {
        let index = Index::parse(
            "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n\
             kernel/fs/jbd2/jbd2.ko:\nkernel/lib/crc16.ko:\n\
             kernel/crypto/crc32c-intel.ko:\nkernel/x/after-me.ko:\n",
            "alias crypto-crc32c crc32c_intel\n",
            "# comment\nsoftdep ext4 pre: crypto-crc32c absent post: after_me\n",
        );
        let order: Vec<_> = index.load_order("ext4").into_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["crc32c_intel", "crc16", "jbd2", "ext4", "after_me"]);
        assert!(index.load_order("absent").is_empty());
    }

    #[test]
    fn circles_of_soft_dependencies_end() {
        let index = Index::parse("a.ko:\nb.ko:\n", "", "softdep a pre: b\nsoftdep b pre: a\n");
        assert_eq!(index.load_order("a").len(), 2);
    }

    #[test]
    fn aliases_give_every_module_that_claims_a_device() {
        let index = Index::parse(
            "",
            "alias pci:v00008086d00002922sv*sd*bc*sc*i* ahci\nalias pci:v*d*sv*sd*bc01sc06i01* ahci\n\
             alias usb:v*p*d*dc*dsc*dp*ic08isc*ip62in* uas\nalias usb:v*p*d*dc*dsc*dp*ic08isc*ip* usb-storage\n",
            "",
        );
        let of = |alias: &str| index.modules_for(alias).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of("usb:v0781p5581d0100dc00dsc00dp00ic08isc06ip62in00"), ["uas", "usb_storage"]);
        assert_eq!(of("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01").len(), 2);
        assert!(of("pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00").is_empty());
    }
}
