//! Running the outside tools that judge our bytes, and comparing trees.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part of this one"
)]

use kiln_formats::tree::{Kind, Tree};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An outside program, and the Debian package that brings it.
pub struct Tool {
    command: Command,
    name: String,
    package: &'static str,
}

impl Tool {
    pub fn new(name: &str, package: &'static str) -> Self {
        // Many of the judges live in sbin, which an ordinary user's PATH lacks.
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(name);
        command.env("PATH", path).env("LC_ALL", "C").env("TZ", "UTC");
        Self { command, name: name.to_owned(), package }
    }
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }
    /// Runs with `input` and returns all that came out, whatever the exit status.
    pub fn try_run(mut self, input: &[u8]) -> Output {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {} ({error}): install the Debian package {}", self.name, self.package)
        });
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }
    /// Runs with `input`, demands success, and returns stdout.
    pub fn output(self, input: &[u8]) -> Vec<u8> {
        let name = self.name.clone();
        let output = self.try_run(input);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {}\n{out}\n{err}", output.status);
        output.stdout
    }
    /// As [`Tool::output`], as text.
    pub fn input(self, input: &[u8]) -> String {
        String::from_utf8(self.output(input)).unwrap()
    }
    /// Runs without input, demands success, and returns stdout as text.
    pub fn run(self) -> String {
        self.input(b"")
    }
}

/// So many cases (PROPTEST_CASES in the environment overrides it, for a long run), and no file of failures
/// beside the sources: a failure prints its input.
pub fn cases(cases: u32) -> proptest::test_runner::Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

pub fn say_skipped(why: &str) {
    eprintln!("SKIPPED {why}");
}

/// What differs between two trees, one line a difference; contents are compared byte by byte.
pub fn differences(wanted: &Tree, found: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, want) in wanted.iter() {
        let name = String::from_utf8_lossy(path).into_owned();
        let Some(have) = found.get(path) else {
            lines.push(format!("{name}: missing"));
            continue;
        };
        if want.meta != have.meta {
            lines.push(format!("{name}: wanted {:?}, found {:?}", want.meta, have.meta));
        }
        let same = match (&want.kind, &have.kind) {
            (Kind::File(want), Kind::File(have)) => want.read().unwrap() == have.read().unwrap(),
            (want, have) => format!("{want:?}") == format!("{have:?}"),
        };
        if !same {
            lines.push(format!("{name}: wanted {:.200?}, found {:.200?}", want.kind, have.kind));
        }
    }
    let added = found.iter().filter(|(path, _)| !wanted.contains(path));
    lines.extend(added.map(|(path, _)| format!("{}: added", String::from_utf8_lossy(path))));
    lines
}

/// A loop device of a file, detached when dropped.
pub struct Loop {
    pub name: String,
}

impl Loop {
    /// `None` where the machine has no loop devices to give.
    pub fn attach(file: &Path, sector_size: u32) -> Option<Self> {
        let sector = sector_size.to_string();
        let output = Tool::new("losetup", "mount")
            .args(["--find", "--show", "--sector-size", &sector])
            .args([file])
            .try_run(b"");
        let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !name.is_empty()).then_some(Self { name })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Tool::new("losetup", "mount").args(["--detach", &self.name]).try_run(b"");
    }
}
