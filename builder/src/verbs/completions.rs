//! `kiln completions`.

use crate::diag::Ui;
use anyhow::Context as _;

/// Arguments of `kiln completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  source <(kiln completions bash)\n  kiln completions fish > ~/.config/fish/completions/kiln.fish"
)]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for the definitions of `command`.
pub fn run(args: &Args, mut command: clap::Command, ui: &Ui) -> anyhow::Result<()> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "kiln", &mut script);
    ui.bytes(&script).context("cannot write to stdout")
}
