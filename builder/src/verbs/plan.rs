//! `kiln plan`.

use super::FileArg;
use crate::diag::Ui;
use anyhow::bail;
use std::path::PathBuf;

/// Arguments of `kiln plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln plan\n  kiln plan k3s1 --json")]
pub struct Args {
    /// Which cluster file.
    #[command(flatten)]
    pub file: FileArg,
    /// Where a build would write.
    #[arg(short, long, value_name = "DIR", default_value = "dist", value_hint = clap::ValueHint::DirPath)]
    pub output: PathBuf,
    /// Nodes to plan for; all when left out.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
}

/// Prints what a build would do and why.
pub fn run(_: &Args, _: &Ui) -> anyhow::Result<()> {
    bail!("not built yet")
}
