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
use kiln_contract::policy::Slot;
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

/// What a record says of these disks. They are told to Longhorn in the order of the cluster file: the kernel's own names of
/// disks change from boot to boot, and the same disks must be the same annotation.
pub(crate) fn outcome(handoff: &Handoff, plan: Plan, present: &[Present<'_>]) -> Outcome {
    let all = handoff.disks.data.iter().flat_map(|rule| rule.slots.iter().map(move |slot| (rule, slot)));
    let is_there = |slot: &Slot| present.iter().any(|found| found.slot.name == slot.name);
    Outcome {
        cluster: handoff.cluster.name.clone(),
        node: handoff.node.name.clone(),
        plan,
        default_disks_config: default_disks_config(
            all.filter(|(_, slot)| is_there(slot)),
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

#[cfg(test)]
mod tests {
    use super::outcome;
    use crate::data::Present;
    use crate::data::tests::rule;
    use crate::disks::tests::handoff;
    use kiln_contract::plan::Plan;

    #[test]
    fn disks_are_told_in_the_order_of_the_cluster_file() {
        let mut handoff = handoff(1);
        handoff.disks.data = vec![rule("sdf", 3)];
        let rule = &handoff.disks.data[0];
        let told = |order: &[usize]| {
            let present: Vec<Present<'_>> = order
                .iter()
                .map(|slot| Present { rule, slot: &rule.slots[*slot], lock: None, sequence: None })
                .collect();
            let plan = Plan { disks: Vec::new(), problems: Vec::new() };
            outcome(&handoff, plan, &present).default_disks_config.unwrap()
        };
        assert_eq!(told(&[2, 0, 1]), told(&[0, 1, 2]));
        let two = told(&[2, 1]);
        assert!(!two.contains("sdf-1") && two.find("sdf-2").unwrap() < two.find("sdf-3").unwrap(), "{two}");
    }
}
