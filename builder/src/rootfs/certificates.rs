//! To be written.
use super::Error;
use super::root::Root;

pub(super) fn apply(_root: &mut Root<'_>) -> Result<(), Error> {
    Ok(())
}
