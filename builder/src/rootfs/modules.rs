//! The module indices: what `depmod` makes after a kernel is installed.

use super::root::Root;
use super::{Error, depmod};

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    Ok(depmod::run(&mut root.tree, root.stamp)?)
}
