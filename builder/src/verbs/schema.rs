//! `kiln schema`.

use crate::cluster::file;
use crate::diag::Ui;
use anyhow::Context as _;

/// Arguments of `kiln schema`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  kiln schema > kiln.schema.json\n  # and as the first line of cluster.yaml:\n  \
    # yaml-language-server: $schema=kiln.schema.json"
)]
pub struct Args {}

/// Prints the schema.
pub fn run(_: &Args, ui: &Ui) -> anyhow::Result<()> {
    ui.print_json(&file::schema()).context("cannot write to stdout")
}
