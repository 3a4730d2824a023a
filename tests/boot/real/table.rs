//! What was seen, as a table for people and as a file.

use super::site::Release;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// What came of one question.
pub(super) enum Saw {
    /// It holds; what was seen.
    Yes(String),
    /// It does not; what was seen instead.
    Not(String),
    /// The stand-in can't tell.
    NeedsK3s,
    /// The folder has no container images.
    NeedsImages,
}

/// All rows.
pub(super) struct Table {
    release: String,
    real: bool,
    out: PathBuf,
    rows: Vec<Value>,
}

impl Table {
    pub(super) fn new(release: &Release) -> Self {
        let out = std::env::var_os("KILN_REAL_OUT")
            .map_or_else(|| kiln_tests::shared().join("real.json"), PathBuf::from);
        Self { release: release.said.clone(), real: release.is_real(), out, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, node: &str, what: &str, saw: Saw) {
        self.add((node, what), saw, Value::Null);
    }

    pub(super) fn timed(&mut self, node: &str, what: &str, (saw, took): (Saw, Duration)) {
        self.add((node, what), saw, json!(took.as_secs()));
    }

    fn add(&mut self, (node, what): (&str, &str), saw: Saw, seconds: Value) {
        let (answer, words) = match saw {
            Saw::Yes(words) => ("yes", words),
            Saw::Not(words) => ("NO", words),
            Saw::NeedsK3s => ("needs k3s", String::new()),
            Saw::NeedsImages => ("needs images", String::new()),
        };
        eprintln!("{node:3} {answer:12} {what}: {words}");
        self.rows.push(
            json!({ "node": node, "question": what, "answer": answer, "seen": words, "seconds": seconds }),
        );
        self.write();
    }

    /// The file is there however the run ends.
    pub(super) fn write(&self) {
        let all = json!({ "k3s": self.release, "real": self.real, "rows": self.rows });
        fs::write(&self.out, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
    }

    pub(super) fn print(&self) {
        let of = |answer: &str| self.rows.iter().filter(|row| row["answer"] == answer).count();
        println!(
            "\n{} ({})",
            self.release,
            if self.real { "k3s" } else { "the stand-in: no word about k3s" }
        );
        println!("{:4} {:58} {:12} {:>7}  seen", "node", "question", "answer", "seconds");
        for row in &self.rows {
            let text = |key: &str| row[key].as_str().unwrap_or_default();
            let seconds =
                row["seconds"].as_u64().map_or_else(|| "-".to_owned(), |seconds| seconds.to_string());
            println!(
                "{:4} {:58} {:12} {seconds:>7}  {}",
                text("node"),
                text("question"),
                text("answer"),
                text("seen")
            );
        }
        println!(
            "{} rows: {} yes, {} NO, {} that need k3s, {} that need images; {}",
            self.rows.len(),
            of("yes"),
            of("NO"),
            of("needs k3s"),
            of("needs images"),
            self.out.display()
        );
    }
}
