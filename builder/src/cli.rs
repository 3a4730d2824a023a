//! The command line: what `kiln --help`, completions and man pages are made of, and the way to the verbs.

use crate::cluster as file;
use crate::diag::{self, Colour, Ui, Wish};
use crate::verbs::{
    boot, build, check, cluster, completions, init, inspect, lock, man, plan, schema, secrets, seed,
};
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use std::process::ExitCode;

/// Bakes bootable k3s appliances: one cluster file in, a disk image and a cloud-init seed for every node out.
#[derive(Debug, Parser)]
#[command(name = "kiln", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Start with `kiln init`, then `kiln build`. Without a cluster file `kiln build` builds the \
    embedded example.\nExit status: 0 done, 1 a fault was found or the work failed, 2 the command line is wrong."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Print results as JSON on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// When to use colours; NO_COLOR is honoured.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColourChoice::Auto)]
    color: ColourChoice,
    /// Say nothing but errors and results.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say every step.
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ColourChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write a commented cluster file to start from.
    Init(init::Args),
    /// Report every fault of a cluster file, with its place and the way out.
    Check(check::Args),
    /// Print the cluster file's JSON Schema, for editors.
    Schema(schema::Args),
    /// Make, list, set and rotate the cluster's secrets, encrypted beside the cluster file.
    Secrets(secrets::Args),
    /// Say what is known of the cluster itself: that it exists.
    Cluster(cluster::Args),
    /// Resolve packages and write `kiln.lock`.
    Lock(lock::Args),
    /// Print what a build would do and why, without doing it.
    Plan(plan::Args),
    /// Build a disk image and a seed for every node, or for those named.
    Build(build::Args),
    /// Write the cloud-init seed of every node, or of those named, with volumes that carry it.
    Seed(seed::Args),
    /// Print what is in an image that Kiln made, from its bytes.
    Inspect(inspect::Args),
    /// Boot a node's image in QEMU; the image itself stays as it is.
    Boot(boot::Args),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Write the man pages.
    Man(man::Args),
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let colour = match cli.global.color {
        ColourChoice::Auto => Colour::Auto,
        ColourChoice::Always => Colour::Always,
        ColourChoice::Never => Colour::Never,
    };
    let Global { json, quiet, verbose, .. } = cli.global;
    let ui = Ui::new(Wish { colour, json, quiet, verbose });
    match dispatch(cli.verb, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show(&error, &ui);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb, ui: &Ui) -> anyhow::Result<()> {
    match verb {
        Verb::Init(args) => init::run(&args, ui),
        Verb::Check(args) => check::run(&args, ui),
        Verb::Schema(args) => schema::run(&args, ui),
        Verb::Secrets(args) => secrets::run(&args, ui),
        Verb::Cluster(args) => cluster::run(&args, ui),
        Verb::Lock(args) => lock::run(&args, ui),
        Verb::Plan(args) => plan::run(&args, ui),
        Verb::Build(args) => build::run(&args, ui),
        Verb::Seed(args) => seed::run(&args, ui),
        Verb::Inspect(args) => inspect::run(&args, ui),
        Verb::Boot(args) => boot::run(&args, ui),
        Verb::Completions(args) => completions::run(&args, Cli::command(), ui),
        Verb::Man(args) => man::run(&args, Cli::command(), ui),
    }
}

/// Faults of a cluster file are drawn; any other error is a line with its causes.
fn show(error: &anyhow::Error, ui: &Ui) {
    match error.downcast_ref::<file::Error>() {
        Some(file::Error::Faults(report)) => {
            // A script reads stdout, a person stderr. When stdout is gone there is nobody to tell.
            let _ = if ui.json() { ui.print_json(&diag::json([report])) } else { Ok(()) };
            if !ui.json() {
                ui.report(report);
            }
            ui.error(&anyhow::anyhow!("{}", report.summary()));
        }
        _ => ui.error(error),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
