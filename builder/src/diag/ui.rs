//! The terminal: results go to stdout, everything else to stderr; bars only where somebody watches them.

use super::{Report, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal as _, Write as _};

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How much to say and in what form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Colour.
    pub colour: Colour,
    /// Results as JSON.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
    /// Say every step.
    pub verbose: bool,
}

/// The terminal and the user's wishes.
#[derive(Debug)]
pub struct Ui {
    wish: Wish,
    style: Style,
    /// stderr is a terminal that can redraw a line.
    live: bool,
    bars: MultiProgress,
}

impl Ui {
    /// Looks at the environment and at stderr once.
    pub fn new(wish: Wish) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let live = io::stderr().is_terminal() && !dumb;
        let colour = match wish.colour {
            Colour::Auto => live && !set("NO_COLOR"),
            Colour::Always => true,
            Colour::Never => false,
        };
        // locale(7): the first of these that is not empty decides.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.is_empty())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        let target =
            if live && !wish.quiet { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map(|size| usize::from(size.ws_col));
        let width = columns.ok().filter(|_| live).map_or(100, |columns| columns.clamp(40, 120));
        let bars = MultiProgress::with_draw_target(target);
        Self { wish, style: Style { colour, unicode, width }, live, bars }
    }
    /// What the user asked for.
    pub fn wish(&self) -> Wish {
        self.wish
    }
    /// True when results are wanted as JSON.
    pub fn json(&self) -> bool {
        self.wish.json
    }
    /// A line about what goes on, to stderr; not with `--quiet`.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.wish.quiet {
            self.line(line.as_ref());
        }
    }
    /// A line about a step, to stderr; only with `--verbose`.
    pub fn detail(&self, line: impl AsRef<str>) {
        if self.wish.verbose {
            self.line(line.as_ref());
        }
    }
    /// Something worth a look, to stderr; not with `--quiet`.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.say(format!("{} {}", self.paint("warning:", "33;1"), message.as_ref()));
    }
    /// An error with its causes and a way out, to stderr, always.
    pub fn error(&self, error: &anyhow::Error) {
        let mut text = format!("{} {error}", self.paint("error:", "31;1"));
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // An error that quotes its cause has said it already.
            if !text.contains(&cause) {
                text.push_str(&format!("\n  because {cause}"));
            }
        }
        self.line(&text);
    }
    /// Faults with their lines and carets, to stderr; warnings and notes not with `--quiet`.
    pub fn report(&self, report: &Report) {
        if report.has_errors() || (!self.wish.quiet && !report.faults().is_empty()) {
            self.line(&report.render(&self.style));
        }
    }
    /// A result, to stdout, always; a newline follows. A reader that has gone away is no fault of ours.
    pub fn result(&self, text: impl AsRef<str>) -> io::Result<()> {
        self.bytes(format!("{}\n", text.as_ref()).as_bytes())
    }
    /// Bytes of a result, to stdout.
    pub fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match self.bars.suspend(|| stdout.write_all(bytes).and_then(|()| stdout.flush())) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
    /// A result as pretty JSON, to stdout.
    pub fn print_json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.result(serde_json::to_string_pretty(value)?)
    }
    /// A bar for `total` bytes of work called `what`. Where nobody watches, it is one line when it ends.
    pub fn progress(&self, what: &str, total: u64) -> Progress<'_> {
        let bar = self.bars.add(ProgressBar::new(total));
        let template = "{msg:24!} {bar:30} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta:>4}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(if self.style.unicode { style } else { style.progress_chars("=> ") });
        }
        bar.set_message(what.to_owned());
        Progress { ui: self, bar, what: what.to_owned() }
    }
    /// A line that tells what goes on while its length is not known.
    pub fn spinner(&self, what: &str) -> Progress<'_> {
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(if self.style.unicode { style } else { style.tick_chars("-\\|/ ") });
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Progress { ui: self, bar, what: what.to_owned() }
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.style.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        // Nobody is left to be told when stderr is closed.
        self.bars.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }
}

/// A piece of work on display; it disappears when dropped. May be shared by threads.
#[derive(Debug)]
pub struct Progress<'a> {
    ui: &'a Ui,
    bar: ProgressBar,
    what: String,
}

impl Progress<'_> {
    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
    /// What is being done right now.
    pub fn message(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }
    /// Done: the bar goes, and one line stays, `what` with `result` behind it.
    pub fn finish(self, result: impl AsRef<str>) {
        self.bar.finish_and_clear();
        self.ui.say(format!("{}: {}", self.what, result.as_ref()));
    }
    /// True when somebody sees the bar move.
    pub fn is_live(&self) -> bool {
        self.ui.live && !self.ui.wish.quiet
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
