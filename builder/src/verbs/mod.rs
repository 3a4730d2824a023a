//! One file a verb: its arguments, and what it does with them.

pub mod boot;
pub mod build;
pub mod check;
pub mod cluster;
pub mod completions;
mod founding;
pub mod init;
pub mod inspect;
pub mod lock;
pub mod man;
pub mod plan;
pub mod schema;
pub mod secrets;
pub mod seed;
pub mod site;

use crate::cluster::{self as file, FILE_NAME, Loaded};
use crate::diag::Ui;
use std::path::{Path, PathBuf};

/// Which cluster file is meant.
#[derive(Debug, clap::Args)]
pub struct FileArg {
    /// The cluster file; `cluster.yaml` in this folder when left out.
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: Option<PathBuf>,
}

impl FileArg {
    /// The named file, else `cluster.yaml` of the working directory, else the embedded example, and says so.
    /// Warnings are shown.
    pub fn load(&self, ui: &Ui) -> anyhow::Result<Loaded> {
        let loaded = match &self.file {
            Some(path) => file::load(path)?,
            None if Path::new(FILE_NAME).exists() => file::load(Path::new(FILE_NAME))?,
            None => {
                ui.say(format!(
                    "no {FILE_NAME} here: taking the embedded example (`kiln init` writes a file)"
                ));
                file::example()?
            }
        };
        ui.report(&loaded.warnings);
        Ok(loaded)
    }
}
