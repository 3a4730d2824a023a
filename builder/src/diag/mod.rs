//! Faults of a text file: facts with a place and a way out. [`render`] draws them, [`json`] lists them.

mod mask;
mod render;
mod ui;

pub use render::{Style, json};
pub use ui::{Colour, Progress, Ui, Wish};

use std::ops::Range;
use std::path::{Path, PathBuf};

/// Codes of faults whose places hold secrets.
const SECRET_CODES: [&str; 2] = ["plain-secret", "secret"];

/// A byte range of the source.
pub type Span = Range<usize>;

/// Does the fault stop the work?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is done until it is gone.
    Error,
    /// Worth a look; work goes on.
    Warning,
    /// What follows from the user's own words; nothing is to be done.
    Note,
}

/// One fault: what, where, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Stops the work or not.
    pub severity: Severity,
    /// Stable short name for scripts, such as `unknown-key`.
    pub code: &'static str,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// The few words beside the caret.
    pub label: String,
    /// A second place that belongs to it, with its own words.
    pub also: Option<(Span, String)>,
    /// The way out.
    pub help: String,
}

impl Fault {
    /// A fault that stops the work.
    pub fn error(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            span: span.clone(),
            label: String::new(),
            also: None,
            help: String::new(),
        }
    }
    /// A fault that doesn't.
    pub fn warning(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }
    /// What is worth knowing and as it was asked for.
    pub fn note(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::error(code, span, message) }
    }
    /// With words beside the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }
    /// With the way out.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
    /// With a second place.
    pub fn also(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.also = Some((span.clone(), label.into()));
        self
    }
}

/// All faults of one file, with what it takes to show them.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// Its text, secrets already masked; byte offsets are those of the file.
    source: String,
    /// Where its lines start.
    lines: Vec<usize>,
    /// In the order of their places.
    faults: Vec<Fault>,
}

impl Report {
    /// Collects `faults` of `file`. Private keys and password hashes in `source` are masked here, so that
    /// no later step can show them.
    pub fn new(file: &Path, source: &str, mut faults: Vec<Fault>) -> Self {
        for fault in &mut faults {
            // Messages quote what they were given, and that may be a key in the wrong place.
            fault.message = mask::mask_message(&fault.message);
            fault.help = mask::mask_message(&fault.help);
        }
        faults.sort_by_key(|fault| (fault.span.start, fault.span.end));
        faults.dedup();
        // What is known to be a secret by its place is not shown either, whatever it looks like.
        let secrets = faults.iter().filter(|fault| SECRET_CODES.contains(&fault.code));
        let source = mask::spans(source, secrets.map(|fault| &fault.span));
        let source = source.as_str();
        let starts = source.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { file: file.to_owned(), source: mask::mask(source), lines, faults }
    }
    /// Further faults of the same file.
    pub fn beside(&self, faults: Vec<Fault>) -> Self {
        Self::new(&self.file, &self.source, faults)
    }
    /// Where `text` stands first in the file; the file's beginning when it does not.
    pub fn find(&self, text: &str) -> Span {
        self.source.find(text).map_or(0..0, |at| at..at + text.len())
    }
    /// The faults, in the order of their places.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
    /// How many faults of a kind there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.faults.iter().filter(|fault| fault.severity == severity).count()
    }
    /// True when at least one fault stops the work.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }
    /// Line and column of a byte offset, both from 1, columns in characters.
    pub fn place(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.source.len());
        while !self.source.is_char_boundary(end) {
            end -= 1;
        }
        let line = self.lines.partition_point(|start| *start <= end).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        (line, self.source[start..end].chars().count() + 1)
    }
    /// `2 errors and 1 warning in cluster.yaml`, `no fault and 1 note in cluster.yaml`.
    pub fn summary(&self) -> String {
        let count = |number: usize, word: &str| match number {
            0 => None,
            1 => Some(format!("1 {word}")),
            _ => Some(format!("{number} {word}s")),
        };
        let errors = count(self.count(Severity::Error), "error");
        let warnings = count(self.count(Severity::Warning), "warning");
        let mut counts: Vec<String> = errors.into_iter().chain(warnings).collect();
        if counts.is_empty() {
            counts.push("no fault".to_owned());
        }
        counts.extend(count(self.count(Severity::Note), "note"));
        let counts = match counts.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => counts.concat(),
        };
        format!("{counts} in {}", self.file.display())
    }
}

impl std::fmt::Display for Report {
    /// Plain text without colour; [`Report::render`] knows the terminal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(&Style::default()))
    }
}

impl std::error::Error for Report {}

/// The candidate that `word` most likely meant, if one is near enough to say so.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let limit = 1 + word.chars().count() / 4;
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        let keys = ["address", "gateway", "name"];
        assert_eq!(nearest("adress", keys), Some("address"));
        assert_eq!(nearest("gatewya", keys), Some("gateway"));
        assert_eq!(nearest("Name", keys), Some("name"));
        assert_eq!(nearest("kubernetes", keys), None);
    }
}
