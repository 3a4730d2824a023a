//! `kiln build`.

use super::FileArg;
use crate::diag::Ui;
use anyhow::bail;
use std::path::PathBuf;

/// A form of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum ImageFormat {
    /// Sparse raw image, disk.img.
    Raw,
    /// Compressed with zstd, disk.img.zst.
    Zst,
    /// QEMU copy-on-write, disk.qcow2.
    Qcow2,
}

/// Arguments of `kiln build`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln build\n  kiln build -o out k3s1\n  kiln build --format raw,zst,qcow2"
)]
pub struct Args {
    /// Which cluster file; the embedded example when there is none.
    #[command(flatten)]
    pub file: FileArg,
    /// Where the images go: `DIR/<node>/disk.img` and so on.
    #[arg(short, long, value_name = "DIR", default_value = "dist", value_hint = clap::ValueHint::DirPath)]
    pub output: PathBuf,
    /// Forms of each image, separated by commas; `raw` is always written.
    #[arg(long, value_name = "FORMATS", value_enum, value_delimiter = ',', default_value = "raw")]
    pub format: Vec<ImageFormat>,
    /// Reuse nothing but the fetched packages.
    #[arg(long)]
    pub fresh: bool,
    /// Nodes to build; all when left out.
    #[arg(value_name = "NODE")]
    pub nodes: Vec<String>,
}

/// Builds images and seeds.
pub fn run(_: &Args, _: &Ui) -> anyhow::Result<()> {
    bail!("not built yet")
}
