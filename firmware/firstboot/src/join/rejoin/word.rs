//! `kiln-firstboot rejoin`: a person's yes to what the join asks. It is for that question alone, and for this boot.

use crate::join::words::{Cause, Trouble};
use crate::join::{Around, USAGE, datastore};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::ExitCode;

const QUESTION: &str = "/run/kiln/rejoin-question";
const WORD: &str = "/run/kiln/rejoin-word";

fn put(around: &Around, path: &str, text: &str) -> std::io::Result<()> {
    let path = around.path(path);
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    datastore::put(&path, text.as_bytes())
}

/// Asks.
pub(super) fn ask(around: &Around, question: &str) -> Result<(), Trouble> {
    let asked = put(around, QUESTION, question);
    asked.map_err(|error| Trouble::new(Cause::NotConfigured, format!("{QUESTION}: {error}")))
}

/// The question that somebody has said yes to.
pub(super) fn given(around: &Around) -> Option<String> {
    fs::read_to_string(around.path(WORD)).ok()
}

/// Neither question nor word are left.
pub(super) fn forget(around: &Around) {
    for path in [QUESTION, WORD] {
        let _ = fs::remove_file(around.path(path));
    }
}

/// Says yes, and to what.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(around) = Around::parse(arguments) else {
        eprintln!("usage: {USAGE}; kiln-firstboot rejoin [--root DIR]");
        return ExitCode::from(2);
    };
    let Ok(question) = fs::read_to_string(around.path(QUESTION)) else {
        eprintln!(
            "kiln-firstboot rejoin: the join asks nothing on this node: `systemctl status kiln-join` tells what it waits for. Nothing was done"
        );
        return ExitCode::FAILURE;
    };
    if let Err(error) = put(&around, WORD, &question) {
        eprintln!("kiln-firstboot rejoin: {WORD}: {error}");
        return ExitCode::FAILURE;
    }
    println!(
        "kiln-firstboot rejoin: yes, {question}. The join looks at all other conditions once more, and counts down"
    );
    ExitCode::SUCCESS
}
