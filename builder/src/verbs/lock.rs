//! `kiln lock`.

use super::FileArg;
use crate::diag::Ui;
use anyhow::bail;

/// Arguments of `kiln lock`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln lock\n  kiln lock --check")]
pub struct Args {
    /// Which cluster file.
    #[command(flatten)]
    pub file: FileArg,
    /// Write nothing; say what would change, and exit with 1 if anything would.
    #[arg(long)]
    pub check: bool,
}

/// Resolves packages and writes `kiln.lock` beside the cluster file.
pub fn run(_: &Args, _: &Ui) -> anyhow::Result<()> {
    bail!("not built yet")
}
