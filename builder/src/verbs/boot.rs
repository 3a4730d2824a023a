//! `kiln boot`.

use crate::diag::Ui;
use anyhow::bail;
use std::path::PathBuf;

/// Arguments of `kiln boot`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln boot k3s1\n  kiln boot k3s1 --check --disk 20G --report report.json"
)]
pub struct Args {
    /// The node, as the cluster file names it.
    pub node: String,
    /// Where `kiln build` wrote.
    #[arg(short, long, value_name = "DIR", default_value = "dist", value_hint = clap::ValueHint::DirPath)]
    pub output: PathBuf,
    /// End with status 0 when the node reports itself healthy, and with 1 and the reason when not.
    #[arg(long)]
    pub check: bool,
    /// Attach an empty disk of this size, such as `20G`; may be repeated.
    #[arg(long, value_name = "SIZE")]
    pub disk: Vec<String>,
    /// Write the node's own report, as JSON, to this file.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub report: Option<PathBuf>,
}

/// Boots an image in QEMU.
pub fn run(_: &Args, _: &Ui) -> anyhow::Result<()> {
    bail!("not built yet")
}
