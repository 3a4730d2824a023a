//! `kiln inspect`.

use crate::diag::Ui;
use anyhow::bail;
use std::path::PathBuf;

/// Arguments of `kiln inspect`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln inspect dist/k3s1/disk.img\n  kiln inspect --json disk.img | jq .packages"
)]
pub struct Args {
    /// The image: raw, zst or qcow2.
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub image: PathBuf,
}

/// Prints what is in an image.
pub fn run(_: &Args, _: &Ui) -> anyhow::Result<()> {
    bail!("not built yet")
}
