//! A Debian root from unpacked packages: merging them, and doing what their maintainer scripts would have
//! done, without running any. Everything here is a pure function of the packages and the options.
//!
//! [`assemble`] merges the trees of packages and applies the finalisers, one file each; [`seal`] rearranges the result for a read-only root. A package whose
//! scripts no finaliser is known to cover is refused by name.

mod alternatives;
mod base;
pub mod catalog;
pub mod certs;
mod console;
mod coverage;
pub mod depmod;
mod directories;
mod dpkg;
pub mod hwdb;
pub mod ldso;
mod merge;
#[cfg(test)]
mod oracle;
mod pam;
mod profiles;
mod python;
mod root;
mod script;
mod sealing;
mod tmpfiles;
mod units;
mod users;

pub use coverage::{Residue, residues};
pub use directories::directories;
pub use sealing::seal;
pub use units::enable;

use formats::deb::Control;
use formats::tree::{Timestamp, Tree};
use kiln_formats as formats;
use root::Root;

/// A package whose `data.tar` has been unpacked and indexed.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// Name, as in the `Package` field.
    pub name: String,
    /// Full version with epoch and revision.
    pub version: String,
    /// `amd64`, `arm64` or `all`.
    pub architecture: String,
    /// The control archive.
    pub control: Control,
    /// The files, contents left in the unpacked archive.
    pub tree: Tree,
}

/// What assembling depends on besides the packages.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seconds since the epoch: the time of every file that a finaliser makes, and the day that passwords
    /// were last changed.
    pub source_date: i64,
    /// Debian's name of the architecture that the root is for.
    pub architecture: String,
    /// Packages whose maintainer scripts are passed over on the user's word.
    pub scripts_skip: Vec<String>,
    /// Threads for the work that is spread (module indices); at least one is used.
    pub threads: usize,
}

/// Why no root could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two packages ship the same path and neither replaces the other.
    #[error(
        "{first} and {second} both ship /{path}, and neither declares that it replaces the other; leave one out"
    )]
    Conflict {
        /// The path.
        path: String,
        /// Package that came first.
        first: String,
        /// Package that came second.
        second: String,
    },
    /// Packages whose scripts nothing covers, each with the scripts' names.
    #[error(
        "these packages have maintainer scripts that Kiln does not run and does not know: {}; leave them out, or write \
         `base: {{ scripts: {{ {} }} }}` in the cluster file when they work without", list(.0), skips(.0)
    )]
    Uncovered(Vec<(String, String)>),
    /// A package's control data is not what Debian's policy says.
    #[error("the control data of {package} cannot be used: {reason}")]
    Control {
        /// The package.
        package: String,
        /// What is wrong.
        reason: String,
    },
    /// A folder of the user's own is at a place that the root has.
    #[error(
        "`directories` has {path}, and a package, an overlay or an artefact has put /{link} into the root: take another \
         first name"
    )]
    Taken {
        /// The folder.
        path: String,
        /// Its first name.
        link: String,
    },
    /// A file that a finaliser reads is not what it should be.
    #[error("/{path} cannot be used: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes of an unpacked package could not be read.
    #[error("the bytes of /{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The kernel's module indices.
    #[error(transparent)]
    Modules(#[from] depmod::Error),
    /// The links to the certificates of authorities.
    #[error(transparent)]
    Certificates(#[from] certs::Error),
    /// The cache of the dynamic linker.
    #[error(transparent)]
    Linker(#[from] ldso::Error),
    /// The journal's message catalogue.
    #[error(transparent)]
    Catalogue(#[from] catalog::Error),
    /// The hardware database.
    #[error(transparent)]
    Hardware(#[from] hwdb::Error),
    /// All system user or group numbers are taken.
    #[error("no number is left for the system account {0}")]
    NoId(String),
}

fn list(packages: &[(String, String)]) -> String {
    let mut names: Vec<_> =
        packages.iter().map(|(package, script)| format!("{package} ({script})")).collect();
    names.dedup();
    names.join(", ")
}

/// What the cluster file says to have them without their scripts.
fn skips(packages: &[(String, String)]) -> String {
    let mut names: Vec<_> = packages.iter().map(|(package, _)| format!("{package}: skip")).collect();
    names.dedup();
    names.join(", ")
}

/// The root that configuring `packages` gives. The order of `packages` does not matter.
///
/// # Errors
/// See [`Error`]; nothing is written anywhere.
pub fn assemble(packages: &[Unpacked], options: &Options) -> Result<Tree, Error> {
    coverage::check(packages, options)?;
    let stamp = Timestamp { secs: options.source_date, nanos: 0 };
    let mut root = Root::new(packages, options, stamp)?;
    // No finaliser makes or moves modules, and reading them takes as long as all finalisers together.
    let shipped = root.tree.clone();
    let modules = std::thread::scope(|scope| -> Result<_, Error> {
        let modules = scope.spawn(|| depmod::analyse(&shipped, options.threads));
        for finaliser in [
            base::apply,
            users::apply,
            units::apply,
            alternatives::apply,
            pam::apply,
            console::apply,
            python::apply,
            tmpfiles::apply,
            profiles::apply,
            base::owners,
        ] {
            finaliser(&mut root)?;
        }
        certs::run(&mut root.tree, stamp)?;
        Ok(modules.join().unwrap_or(Err(depmod::Error::Thread))?)
    })?;
    depmod::write(&mut root.tree, &modules, stamp)?;
    ldso::run(&mut root.tree, stamp)?;
    catalog::run(&mut root.tree, stamp)?;
    hwdb::run(&mut root.tree, stamp)?;
    dpkg::apply(&mut root)?;
    Ok(root.tree)
}

#[cfg(test)]
mod tests;
