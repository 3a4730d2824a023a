//! `kiln check`.

mod asked;

use super::site::LOCK_NAME;
use super::{FileArg, founding};
use crate::cluster::{self, Cluster, FILE_NAME, Loaded};
use crate::diag::{self, Fault, Report, Ui};
use crate::lock::Lock;
use crate::render::{self, Lost};
use crate::secrets::{Identities, Place, Secrets};
use anyhow::{Context as _, bail};
use std::path::Path;

/// Arguments of `kiln check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln check\n  kiln check -f site/cluster.yaml\n  kiln check --json | jq '.[].message'"
)]
pub struct Args {
    #[command(flatten)]
    file: FileArg,
}

/// What the cluster's own secrets have to say, where a key that opens them is at hand: who can't open them is not told what
/// only they know, and whatever else is wrong with them is said when they are needed.
fn secrets(cluster: &Cluster, path: &Path, ui: &Ui) -> anyhow::Result<()> {
    let place = Place::of(&cluster.secrets, path.parent().unwrap_or(Path::new("")));
    let opened =
        Identities::find(|name| std::env::var_os(name)).and_then(|keys| Secrets::open(&place, &keys));
    let Ok(secrets) = opened else { return Ok(()) };
    if let Some(warning) = secrets.check_validity()? {
        ui.warn(warning);
    }
    if let Some(turns) = secrets.founded().and_then(|founded| founding::turns(cluster, founded.servers)) {
        ui.say(turns);
    }
    Ok(())
}

/// Prints one line when the file is sound; faults are the error. With `--json`, a list of faults either way.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let path = args.file.file.as_deref().unwrap_or(Path::new(FILE_NAME));
    if args.file.file.is_none() && !path.exists() {
        bail!("there is no {FILE_NAME} here: name the file with `-f`, or let `kiln init` write one");
    }
    let loaded = cluster::load(path)?;
    let lost = lost(&loaded)?;
    if lost.has_errors() {
        return Err(cluster::Error::Faults(lost).into());
    }
    // Whatever else is wrong with the lock is said where it is used.
    if let Ok(Some(lock)) = Lock::read(&path.with_file_name(LOCK_NAME))
        && let Some(warning) = lock.stands_still()
    {
        ui.warn(warning);
    }
    secrets(&loaded.cluster, path, ui)?;
    if !ui.json() {
        asked::lines(&loaded.cluster)?.iter().for_each(|line| ui.say(line));
    }
    let write = if ui.json() {
        ui.print_json(&diag::json([&loaded.warnings]))
    } else {
        ui.report(&loaded.warnings);
        let names: Vec<&str> = loaded.cluster.nodes.iter().map(|node| node.name.as_str()).collect();
        ui.result(format!(
            "{}: cluster {} with {}",
            loaded.warnings.summary(),
            loaded.cluster.name,
            names.join(", ")
        ))
    };
    write.context("cannot write to stdout")
}

/// Files of seeds that no disk would keep: what is written depends on expressions of overlays.
fn lost(loaded: &Loaded) -> Result<Report, render::Error> {
    let mut faults = Vec::new();
    for node in &loaded.cluster.nodes {
        for lost in render::lost(&loaded.cluster, node)? {
            let span = loaded.warnings.find(&lost.mount_point);
            let fault = Fault::error("lost-file", &span, lost.to_string()).label("a disk's place");
            faults.push(fault.help(Lost::HELP));
        }
    }
    Ok(loaded.warnings.beside(faults))
}
