//! Which maintainer scripts are covered: by kind, when nothing is left of a script but what debhelper and
//! its kin add and a finaliser does; by digest of what is left, when a person has read it and found a
//! finaliser for each thing that it does on a first installation (`scripts.txt`).
//!
//! Only `preinst` and `postinst` matter: the others run at upgrade and removal, or ask debconf's questions.

use super::script::residue;
use super::{Error, Options, Unpacked};
use crate::digest::Sha256;
use std::collections::BTreeSet;

/// Helpers whose sections are done by finalisers, or do nothing at a first installation.
const KINDS: [&str; 16] = [
    "dh_apparmor",            // base: an empty local profile
    "dh_icons",               // a cache that is made when the tool is there; it is not on a server
    "dh_installalternatives", // alternatives
    "dh_installdeb",          // dpkg-maintscript-helper: upgrades only
    "dh_installdebconf",      // debconf: the database is not kept
    "dh_installinit",         // update-rc.d: System V links, which systemd passes over
    "dh_installinitramfs",    // a trigger; Kiln makes its own initramfs
    "dh_installmenu",         // a menu that no server has
    "dh_installsystemd",      // units
    "dh_installsystemduser",  // units
    "dh_installsysusers",     // users
    "dh_installtmpfiles",     // tmpfiles
    "dh_installudev",         // reloads a running udev
    "dh_makeshlibs",          // ldcache
    "dh_python3",             // byte-code: left to run time
    "dh_runit",               // state for another init system
];

/// Name of package, script, and digest of its residue, one a line; `#` begins a comment.
const TABLE: &str = include_str!("scripts.txt");

/// What is left of a script that no kind covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residue {
    /// The package.
    pub package: String,
    /// `preinst` or `postinst`.
    pub script: &'static str,
    /// Digest of the residue: the third word of a line of the table.
    pub digest: Sha256,
    /// The residue itself, for a person to read.
    pub text: String,
    /// True when the table has it.
    pub covered: bool,
}

/// The scripts of `packages` that are not covered by kind, sorted by package.
pub fn residues(packages: &[Unpacked]) -> Vec<Residue> {
    let table: BTreeSet<(&str, &str, &str)> = TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?, words.next()?))
        })
        .collect();
    let mut found = Vec::new();
    for package in packages {
        let (name, volatile) = (stable_name(&package.name), volatile(package));
        for script in ["preinst", "postinst"] {
            let Some(text) = package.control.text(script) else { continue };
            let text = residue(&text, &KINDS, &volatile);
            if text.is_empty() {
                continue;
            }
            let digest = Sha256::of(text.as_bytes());
            let covered = table.contains(&(name.as_str(), script, digest.to_string().as_str()));
            found.push(Residue { package: package.name.clone(), script, digest, text, covered });
        }
    }
    found.sort_by(|a, b| a.package.cmp(&b.package));
    found
}

/// Refuses packages with scripts that are neither covered nor passed over on the user's word.
pub(super) fn check(packages: &[Unpacked], options: &Options) -> Result<(), Error> {
    let uncovered = residues(packages).into_iter().filter(|residue| !residue.covered);
    let refused = uncovered.filter(|residue| !options.scripts_skip.contains(&residue.package));
    let refused: Vec<_> = refused.map(|residue| (residue.package, residue.script.to_owned())).collect();
    if refused.is_empty() { Ok(()) } else { Err(Error::Uncovered(refused)) }
}

/// The kernel's release, for a package that carries one in its name.
fn release(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    release.starts_with(|c: char| c.is_ascii_digit()).then_some(release)
}

/// Kernel packages are renamed with every update; the table knows them by this name.
fn stable_name(package: &str) -> String {
    match release(package) {
        Some(_) => "linux-image-@RELEASE@".to_owned(),
        None => package.to_owned(),
    }
}

/// Words of a script that differ by kernel or architecture and change nothing about what it does.
fn volatile(package: &Unpacked) -> Vec<(String, &'static str)> {
    let mut words = Vec::new();
    if let Some(release) = release(&package.name) {
        words.push((release.to_owned(), "@RELEASE@"));
    }
    for word in ["x86_64-linux-gnu", "aarch64-linux-gnu"] {
        words.push((word.to_owned(), "@TRIPLET@"));
    }
    for word in [":amd64", ":arm64"] {
        words.push((word.to_owned(), ":@ARCH@"));
    }
    words
}
