//! `kiln cluster`.

use super::secrets::Site;
use super::{FileArg, founding};
use crate::diag::Ui;
use crate::secrets::{Former, Held};
use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

/// Arguments of `kiln cluster`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say that the cluster exists: builds no longer let its first server begin it.
    Founded(FoundedArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It is kept in the secrets file. A first server that is flashed again later has an empty datastore, and joins \
    another server or waits; with the founding word it might begin a second, empty cluster.\n\
    `kiln build --found NODE` gives the word once more."
)]
struct FoundedArgs {
    #[command(flatten)]
    file: FileArg,
    /// The cluster does not exist after all: builds carry the founding word again.
    #[arg(long)]
    not: bool,
}

/// Does what the words say.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Founded(args) => founded(args, ui),
    }
}

fn founded(args: &FoundedArgs, ui: &Ui) -> anyhow::Result<()> {
    let site = Site::open(&args.file, &[])?;
    let changed = mark(&site, !args.not)?;
    let cluster = &site.cluster.name;
    if ui.json() {
        return Ok(ui.print_json(&json!({"cluster": cluster, "founded": !args.not, "changed": changed}))?);
    }
    let line = match (args.not, changed) {
        (false, true) => format!("cluster {cluster} exists: builds leave the founding word out"),
        (false, false) => format!("cluster {cluster} was known to exist"),
        (true, true) => format!("cluster {cluster} does not exist: builds carry the founding word"),
        (true, false) => format!("cluster {cluster} was not known to exist"),
    };
    Ok(ui.result(line)?)
}

/// Keeps it in the secrets file; false when that knew.
pub(super) fn mark(site: &Site, exists: bool) -> anyhow::Result<bool> {
    let held = Held::take(&site.place)?;
    let mut secrets = site.secrets(&held).with_context(|| {
        let servers = founding::servers(&site.cluster);
        let file = site.place.file.display();
        format!(
            "it is not kept that cluster {} exists (where SOPS writes the file: \
             `sops set {file} '[\"founded\"]' '{{\"date\": \"2026-01-31T00:00:00Z\", \"servers\": {servers}}}'`)",
            site.cluster.name
        )
    })?;
    let changed =
        if exists { secrets.set_founded(founding::servers(&site.cluster)) } else { secrets.clear_founded() };
    if changed {
        held.save(&mut secrets, &site.identities, Former::Replace)?;
    }
    Ok(changed)
}
