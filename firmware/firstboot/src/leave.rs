//! What a boot leaves behind for those who come after it: the record, and the handoff document.

use crate::data::Present;
use crate::failure::Failure;
use crate::longhorn::default_disks_config;
use crate::mounts::ROOT;
use crate::record;
use crate::steps::{Outcome, Steps};
use kiln_contract::event::{BOOT_RECORD, RECORD};
use kiln_contract::handoff::{Handoff, RUNTIME_PATH};
use kiln_contract::plan::Plan;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes both. The record of a boot that wrote to a disk stays on the node until the next that does.
pub(crate) fn behind(
    steps: &mut Steps,
    handoff: &Handoff,
    (plan, present): (Plan, &[Present<'_>]),
    wrote: bool,
) -> Result<(), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error| Failure::Root { what, error }
    };
    hand_on(handoff).map_err(failed("keep the handoff document in /run"))?;
    let record = steps.finish(outcome(handoff, plan, present));
    record::write(Path::new("/"), BOOT_RECORD, &record).map_err(failed("write the record of this boot"))?;
    let root = Path::new(ROOT);
    if wrote || !root.join(RECORD.trim_start_matches('/')).exists() {
        record::write(root, RECORD, &record).map_err(failed("write the record of the first boot"))?;
    }
    Ok(())
}

/// What a record says of these disks.
pub(crate) fn outcome(handoff: &Handoff, plan: Plan, present: &[Present<'_>]) -> Outcome {
    Outcome {
        cluster: handoff.cluster.name.clone(),
        node: handoff.node.name.clone(),
        plan,
        default_disks_config: default_disks_config(
            present.iter().map(|found| (found.rule, found.slot)),
            handoff.iscsi.iter().flat_map(|iscsi| &iscsi.luns),
        ),
    }
}

/// The document may hold secrets: nobody but root reads it.
pub(crate) fn hand_on(handoff: &Handoff) -> io::Result<()> {
    let path = Path::new(RUNTIME_PATH);
    let folder = path.parent().unwrap_or(Path::new("/run"));
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&handoff.to_bytes())
}
