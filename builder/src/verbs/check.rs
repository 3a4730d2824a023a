//! `kiln check`.

use super::FileArg;
use crate::cluster::{self, FILE_NAME};
use crate::diag::{self, Ui};
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

/// Prints one line when the file is sound; faults are the error. With `--json`, a list of faults either way.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let path = args.file.file.as_deref().unwrap_or(Path::new(FILE_NAME));
    if args.file.file.is_none() && !path.exists() {
        bail!("there is no {FILE_NAME} here: name the file with `-f`, or let `kiln init` write one");
    }
    let loaded = cluster::load(path)?;
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
