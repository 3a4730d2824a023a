//! Which kernel the root holds.

use super::{Error, file};
use kiln_formats::tree::{Content, Tree};
use std::collections::BTreeSet;

/// Where modules are, below the root.
pub(super) const MODULES: &str = "usr/lib/modules";

/// The kernel of an image.
#[derive(Debug)]
pub(super) struct Kernel {
    /// `uname -r` of it.
    pub(super) release: String,
    /// Its boot image (`vmlinuz`).
    pub(super) image: Content,
}

/// The one kernel of the root: a release with modules and a boot image.
pub(super) fn choose(root: &Tree) -> Result<Kernel, Error> {
    let below = root.below(MODULES).filter_map(|(path, _)| {
        let release = path[MODULES.len() + 1..].split(|byte| *byte == b'/').next()?;
        String::from_utf8(release.to_vec()).ok()
    });
    let releases: BTreeSet<String> =
        below.filter(|release| root.contains(&format!("{MODULES}/{release}/kernel"))).collect();
    let release = match releases.iter().collect::<Vec<_>>()[..] {
        [] => return Err(Error::NoKernel),
        [release] => release.clone(),
        _ => return Err(Error::SeveralKernels(releases.into_iter().collect())),
    };
    let path = format!("boot/vmlinuz-{release}");
    let image = file(root, &path).ok_or(Error::Missing { path, package: "linux-image-amd64" })?.clone();
    Ok(Kernel { release, image })
}
