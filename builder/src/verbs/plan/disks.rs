//! `kiln plan --disks`: the rules for disks, tried on the record of a machine.

use crate::diag::Ui;
use crate::render;
use crate::verbs::site::Site;
use anyhow::{Context as _, bail};
use kiln_contract::choose::choose;
use kiln_contract::machine::Machine;
use kiln_contract::machine::record::MAX_BYTES;
use kiln_contract::plan::table;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Prints what each of the nodes would do with the recorded machine's disks.
pub(super) fn run(site: &Site, record: &Path, names: &[String], ui: &Ui) -> anyhow::Result<()> {
    let nodes = site.nodes(names)?;
    let machine = read(record)?;
    if nodes.len() > 1 {
        ui.say("a record is of one machine: this is what each node would do if it were that one; name a node to see only its plan");
    }
    if !machine.disks.iter().any(|disk| disk.booted) {
        ui.say(
            "no disk of the record was booted from: the one that the node's image goes to counts as a data disk here",
        );
    }
    let mut plans = Vec::new();
    for node in nodes {
        let handoff = render::handoff(&site.cluster, node)?;
        plans.push((node.name.as_str(), choose(&machine, &handoff)));
    }
    if ui.json() {
        let nodes: Vec<_> = plans
            .iter()
            .map(|(name, plan)| json!({"name": name, "refused": plan.is_refused(), "plan": plan}))
            .collect();
        ui.print_json(&json!({ "nodes": nodes }))?;
    } else {
        let several = plans.len() > 1;
        for (name, plan) in &plans {
            let head = if several { format!("node {name}\n\n") } else { String::new() };
            ui.result(format!("{head}{}", table(&machine, plan)).trim_end())?;
            if several {
                ui.result("")?;
            }
        }
    }
    let refused: Vec<&str> =
        plans.iter().filter(|(_, plan)| plan.is_refused()).map(|(name, _)| *name).collect();
    if !refused.is_empty() {
        bail!("{} would refuse this machine's disks and write to none of them", refused.join(", "));
    }
    Ok(())
}

fn read(record: &Path) -> anyhow::Result<Machine> {
    let (name, source): (String, Box<dyn Read>) = if record == Path::new("-") {
        ("the record on standard input".to_owned(), Box::new(io::stdin().lock()))
    } else {
        let file = File::open(record).with_context(|| format!("cannot read {}", record.display()))?;
        (record.display().to_string(), Box::new(file))
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    Machine::parse(&bytes)
        .with_context(|| format!("{name} was not taken; `kiln-firstboot probe` on the machine writes one"))
}
