//! What can go wrong with a machine.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a machine did not do what was expected of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is not installed.
    #[error("{program} is not installed: install Debian's package {package}")]
    NotInstalled {
        /// The program or file.
        program: String,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// A file of the machine.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The process can't be started or talked to.
    #[error("{what}: {source}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What failed.
        source: io::Error,
    },
    /// A tool ended badly.
    #[error("{program} failed: {stderr}")]
    Tool {
        /// The tool.
        program: &'static str,
        /// What it said.
        stderr: String,
    },
    /// The console did not show it in time.
    #[error("the console did not show {pattern:?} within {} s; its end:\n{tail}", within.as_secs())]
    Expectation {
        /// What was waited for.
        pattern: String,
        /// How long.
        within: Duration,
        /// The last lines of the console.
        tail: String,
    },
    /// The machine ended before the console showed it.
    #[error(
        "the machine ended before its console showed {pattern:?}{}; its end:\n{tail}",
        stderr_note(stderr)
    )]
    Ended {
        /// What was waited for.
        pattern: String,
        /// What QEMU itself said.
        stderr: String,
        /// The last lines of the console.
        tail: String,
    },
    /// No report in time.
    #[error("no report came within {} s", within.as_secs())]
    NoReport {
        /// How long.
        within: Duration,
    },
}

fn stderr_note(stderr: &str) -> String {
    if stderr.trim().is_empty() { String::new() } else { format!(" (qemu: {})", stderr.trim()) }
}
