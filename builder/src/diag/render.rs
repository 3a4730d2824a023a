//! Draws a [`Report`]: through miette for people, as JSON for scripts.

use super::{Fault, Report, Severity, Span};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents,
    SourceCode, SpanContents, ThemeCharacters, ThemeStyles,
};

/// What miette asks for as context, and [`Lines`] answers with the line and no neighbours.
const WHOLE_LINE: usize = 1;

/// More faults than this nobody reads at once.
const MOST_DRAWN: usize = 100;

/// Bytes of a line that is drawn.
const LONGEST_LINE: usize = 4096;

/// Characters that take no column of their own, or more than their neighbours know: joiners, marks of direction, marks that
/// stand on other characters, and the carriage return within a line.
fn without_width(c: char) -> bool {
    c == '\r'
        || matches!(c,
            '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{1f3fb}'..='\u{1f3ff}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// What the place where a report is shown can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// Box-drawing characters.
    pub unicode: bool,
    /// Columns at which text is wrapped.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: false, unicode: false, width: 100 }
    }
}

impl Style {
    fn theme(self) -> GraphicalTheme {
        let mut characters = if self.unicode { ThemeCharacters::unicode() } else { ThemeCharacters::ascii() };
        if !self.unicode {
            characters.error = "error:".to_owned();
            characters.warning = "warning:".to_owned();
            characters.advice = "note:".to_owned();
        }
        let styles = if self.colour { ThemeStyles::ansi() } else { ThemeStyles::none() };
        GraphicalTheme { characters, styles }
    }
}

impl Report {
    /// Every fault with its line, caret, reason and way out; ends with a newline unless there is no fault.
    pub fn render(&self, style: &Style) -> String {
        let handler = GraphicalReportHandler::new_themed(style.theme())
            .with_links(false)
            .with_context_lines(WHOLE_LINE)
            .with_width(style.width);
        let mut text = String::new();
        for fault in self.faults.iter().take(MOST_DRAWN) {
            let shown = Shown { report: self, fault, source: Lines(self) };
            // Nobody reads lines that are longer, and a few kinds of characters make the drawing miscount.
            let drawn = self.is_drawable(fault) && handler.render_report(&mut text, &shown).is_ok();
            if !drawn {
                let (line, column) = self.place(fault.span.start);
                text.push_str(&format!("{}:{line}:{column}: {}\n", self.file.display(), fault.message));
            }
            text.push('\n');
        }
        if let Some(more) = self.faults.len().checked_sub(MOST_DRAWN).filter(|more| *more > 0) {
            text.push_str(&format!("  and {more} more, which `--json` lists\n"));
        }
        // miette pads lines that it fills; trailing blanks are noise in logs and golden files.
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        let text = lines.join("\n").trim_matches('\n').to_owned();
        if text.is_empty() { text } else { text + "\n" }
    }

    /// Whether the lines of a fault are such that miette draws them right: not too long, of characters that have a width.
    fn is_drawable(&self, fault: &Fault) -> bool {
        let spans = [Some(&fault.span), fault.also.as_ref().map(|(span, _)| span)];
        spans.into_iter().flatten().all(|span| {
            let at = self.drawable(span).offset();
            let start = self.source[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let end = self.source[at..].find('\n').map_or(self.source.len(), |newline| at + newline);
            let line = &self.source[start..end];
            line.len() <= LONGEST_LINE && !line.trim_end_matches('\r').chars().any(without_width)
        })
    }

    /// A span that miette can draw: inside the text, on character boundaries, on one line.
    fn drawable(&self, span: &Span) -> miette::SourceSpan {
        let text = &self.source;
        let boundary = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let mut start = boundary(span.start);
        if start == text.len() && text.ends_with('\n') {
            start -= 1;
        }
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = boundary(span.end).clamp(start, line_end);
        (start..end).into()
    }
}

/// The faults of several reports as a JSON array of `{file, line, column, severity, code, message, help}`.
pub fn json<'a>(reports: impl IntoIterator<Item = &'a Report>) -> serde_json::Value {
    let entry = |report: &Report, fault: &Fault| {
        let (line, column) = report.place(fault.span.start);
        serde_json::json!({
            "file": report.file.display().to_string(),
            "line": line,
            "column": column,
            "severity": match fault.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "note",
            },
            "code": fault.code,
            "message": fault.message,
            "help": fault.help,
        })
    };
    reports
        .into_iter()
        .flat_map(|report| report.faults().iter().map(move |fault| entry(report, fault)))
        .collect::<Vec<_>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::Style;
    use crate::diag::{Fault, Report};
    use std::path::Path;

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(2000))]
        /// Whatever is in a file, and wherever a fault is in it, it is drawn.
        #[test]
        fn anything_is_drawn(
            text in proptest::prop_oneof!["\\PC{0,30}", "(.|\n|\r|\t|\u{301}|\u{200d}|\u{1f468}|\u{3042}|\u{7f}|\u{85}| ){0,40}"],
            spans in ((0_usize..60, 0_usize..60), (0_usize..60, 0_usize..60)),
            width in 1_usize..130,
        ) {
            let span = |(start, len): (usize, usize)| start..start + len;
            let fault = Fault::error("x", &span(spans.0), text.clone()).label("here").also(&span(spans.1), "there").help("a way");
            let report = Report::new(Path::new("x.yaml"), &text, vec![fault]);
            let style = Style { width: width.clamp(40, 120), ..Style::default() };
            proptest::prop_assert!(report.render(&style).contains("x.yaml"));
        }
    }
}

/// A source of which miette draws the whole lines of a span: without context it would draw the span's own
/// bytes only, and with context the neighbours too, which say nothing about the fault.
#[derive(Debug)]
struct Lines<'r>(&'r Report);

impl SourceCode for Lines<'_> {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        _: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text = self.0.source.as_str();
        let (mut start, mut end) = (span.offset(), span.offset() + span.len());
        if before == WHOLE_LINE {
            start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
            end = text[end..].find('\n').map_or(text.len(), |newline| end + newline);
        }
        let contents = text.get(start..end).ok_or(MietteError::OutOfBounds)?;
        let (line, column) = self.0.place(start);
        Ok(Box::new(MietteSpanContents::new_named(
            self.0.file.display().to_string(),
            contents.as_bytes(),
            (start..end).into(),
            line - 1,
            column - 1,
            contents.lines().count(),
        )))
    }
}

/// A fault in miette's eyes.
#[derive(Debug)]
struct Shown<'a> {
    report: &'a Report,
    fault: &'a Fault,
    source: Lines<'a>,
}

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.fault.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.fault.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
            Severity::Note => miette::Severity::Advice,
        })
    }
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        (!self.fault.help.is_empty()).then(|| Box::new(&self.fault.help) as Box<dyn std::fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let words = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let first = LabeledSpan::new_primary_with_span(
            words(&self.fault.label),
            self.report.drawable(&self.fault.span),
        );
        let second = self
            .fault
            .also
            .as_ref()
            .map(|(span, label)| LabeledSpan::new_with_span(words(label), self.report.drawable(span)));
        Some(Box::new(std::iter::once(first).chain(second)))
    }
}
