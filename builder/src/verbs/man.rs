//! `kiln man`.

use crate::diag::Ui;
use anyhow::Context as _;
use std::path::PathBuf;

/// Arguments of `kiln man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln man ~/.local/share/man/man1")]
pub struct Args {
    /// Folder for kiln.1 and a page for each verb; made when it is not there.
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,
}

/// Writes the pages for the definitions of `command`.
pub fn run(args: &Args, command: clap::Command, ui: &Ui) -> anyhow::Result<()> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    clap_mangen::generate_to(command.disable_help_subcommand(true), dir)
        .with_context(|| format!("cannot write man pages to {}", dir.display()))?;
    ui.say(format!("man pages are in {}", dir.display()));
    Ok(())
}
