//! `base`: what all nodes are built from.

use super::{Check, PACKAGE, Rule};
use crate::cluster::file::{BaseSection, FirmwareItem, MirrorItem};
use crate::cluster::model::{Base, Distribution, Firmware, Location, Mirror, Suite};
use crate::cluster::read::Text;
use crate::cluster::{size, words};
use crate::diag::{Fault, nearest};
use std::path::PathBuf;

/// Smaller than this, not even a minimal Debian with a kernel fits.
const MIN_ROOT: u64 = 512 << 20;
/// ext4 with 4 KiB blocks and no `64bit` ends at 16 TiB; nobody's root comes near.
const MAX_ROOT: u64 = 1 << 40;
const ARCHIVES: [&str; 2] = ["debian", "debian-security"];

const KERNEL_ARGUMENT: Rule = Rule {
    check: words::kernel_argument,
    what: "a word for the kernel's command line",
    code: "kernel-argument",
    help: "write each word as an entry of its own, such as `console=ttyS1,115200n8`",
};

/// What is said of places that things are taken from.
#[derive(Clone, Copy)]
struct Places {
    code: &'static str,
    what: &'static str,
    /// An example.
    address: &'static str,
    /// What a folder has.
    folder: &'static str,
}

const MIRRORS: Places =
    Places { code: "mirror", what: "a mirror", address: "https://host/debian", folder: ".deb files" };
const ARTEFACTS: Places = Places {
    code: "artefacts",
    what: "a mirror of artefacts",
    address: "https://host/files",
    folder: "artefacts",
};

impl Check<'_> {
    pub(super) fn base(&mut self, section: Option<&BaseSection>) -> Base {
        let mut base = Base {
            distribution: Distribution::Debian,
            suite: Suite::Trixie,
            packages: Default::default(),
            firmware: Firmware::Auto,
            mirrors: Vec::new(),
            keyring: None,
            kernel_arguments: Vec::new(),
            skip_scripts: Default::default(),
            root_size: None,
        };
        let Some(section) = section else { return base };
        base.packages = self.set(section.packages.as_ref(), PACKAGE);
        base.firmware = match &section.firmware {
            None | Some(FirmwareItem::Auto) => Firmware::Auto,
            Some(FirmwareItem::None) => Firmware::None,
            Some(FirmwareItem::Packages(packages)) => Firmware::Packages(self.set(Some(packages), PACKAGE)),
        };
        base.mirrors = section.mirrors.iter().flatten().filter_map(|mirror| self.mirror(mirror)).collect();
        base.keyring =
            section.keyring.as_ref().and_then(|keyring| self.path(keyring, "keyring", PathIs::File));
        for argument in section.kernel_arguments.iter().flatten() {
            base.kernel_arguments.extend(self.word(argument, KERNEL_ARGUMENT));
        }
        for (package, (span, _)) in section.scripts.iter().flatten() {
            let text = Text { value: package.clone(), span: span.clone() };
            base.skip_scripts.extend(self.word(&text, PACKAGE));
        }
        base.root_size = section.root_size.as_ref().and_then(|size| self.root_size(size));
        base
    }

    fn root_size(&mut self, text: &Text) -> Option<u64> {
        if text.value == "auto" {
            return None;
        }
        let help = "write a number with its unit, such as `2GiB`, or `auto`";
        match size::parse(&text.value) {
            Err(reason) => {
                let message = format!("{:?} is not a size: {reason}", text.value);
                self.faults.push(Fault::error("root-size", &text.span, message).label("here").help(help));
                None
            }
            Ok(bytes) if !(MIN_ROOT..=MAX_ROOT).contains(&bytes) => {
                let (problem, limit) =
                    if bytes < MIN_ROOT { ("small", "at least 512 MiB") } else { ("large", "at most 1 TiB") };
                let message = format!("a root of {} is too {problem}: it takes {limit}", text.value);
                let fault = Fault::error("root-size", &text.span, message).label(format!("too {problem}"));
                self.faults.push(fault.help("`auto` fits the root to what is in it"));
                None
            }
            Ok(bytes) => Some(bytes),
        }
    }

    fn mirror(&mut self, item: &MirrorItem) -> Option<Mirror> {
        let (url, archive) = match item {
            MirrorItem::Location(url) => (url, None),
            MirrorItem::Section(section) => (section.url.as_ref()?, section.archive.as_ref()),
        };
        let location = self.location(url, MIRRORS);
        if let Some(archive) = archive {
            if !ARCHIVES.contains(&archive.value.as_str()) {
                let help = nearest(&archive.value, ARCHIVES)
                    .map_or("possible here: `debian`, `debian-security`".to_owned(), |a| {
                        format!("did you mean `{a}`?")
                    });
                let message = format!("{:?} is not an archive that this version knows", archive.value);
                self.faults.push(Fault::error("archive", &archive.span, message).label("unknown").help(help));
            }
            return Some(Mirror { archive: Some(archive.value.clone()), location: location? });
        }
        let archive = match location.as_ref()? {
            Location::Folder(_) => None,
            Location::Url(url) => {
                let last = url.rsplit('/').next().unwrap_or_default();
                ARCHIVES.iter().find(|archive| **archive == last).map(|archive| (*archive).to_owned())
            }
        };
        Some(Mirror { archive, location: location? })
    }

    /// A folder, or the address of a mirror, that artefacts are taken from.
    pub(super) fn artefact_place(&mut self, text: &Text) -> Option<Location> {
        self.location(text, ARTEFACTS)
    }

    fn location(&mut self, text: &Text, of: Places) -> Option<Location> {
        let Places { code, what, address, folder } = of;
        let scheme = text.value.split_once("://");
        match scheme {
            Some(("http" | "https", rest)) => {
                let host = rest.split('/').next().unwrap_or_default();
                let blank = text.value.chars().any(|c| c.is_whitespace() || c.is_control());
                if host.is_empty() || host.contains('@') || blank {
                    let message = format!("this is not the address of {what}");
                    let help = format!("write `{address}`, without a user name and blanks");
                    self.faults.push(Fault::error(code, &text.span, message).label("here").help(help));
                    return None;
                }
                Some(Location::Url(text.value.trim_end_matches('/').to_owned()))
            }
            Some(("file", path)) if path.starts_with('/') => {
                let path = Text { value: path.to_owned(), span: text.span.clone() };
                self.path(&path, code, PathIs::Folder).map(Location::Folder)
            }
            Some((scheme, _)) => {
                let message =
                    format!("{what} is reached over http, https or as a folder, not over `{scheme}`");
                let help = format!("write `{address}`, or the path of a folder of {folder}");
                self.faults.push(Fault::error(code, &text.span, message).label("here").help(help));
                None
            }
            None => self.path(text, code, PathIs::Folder).map(Location::Folder),
        }
    }

    /// A path from the file's folder, when something of that kind is there.
    pub(super) fn path(&mut self, text: &Text, code: &'static str, want: PathIs) -> Option<PathBuf> {
        let path = self.folder.join(text.value.trim_start_matches("./"));
        let (there, what) = match want {
            PathIs::File => (path.is_file(), "file"),
            PathIs::Folder => (path.is_dir(), "folder"),
        };
        if there && !text.value.is_empty() {
            return Some(path);
        }
        let message = format!("there is no {what} {}", path.display());
        let fault = Fault::error(code, &text.span, message).label(format!("no such {what}"));
        self.faults.push(fault.help("relative paths count from the cluster file's folder"));
        None
    }
}

/// What a path must lead to.
#[derive(Clone, Copy)]
pub(super) enum PathIs {
    /// A file.
    File,
    /// A folder.
    Folder,
}
