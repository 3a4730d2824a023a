//! The recorder of a boot's steps: what each found and how long it took, said on the consoles, sent to the host of
//! a virtual machine as it happens, and kept for the record.

use crate::console::Console;
use crate::port::Outlet;
use crate::{DEV, SYSFS, record, sys};
use kiln_contract::event::{Event, PORT, PROBLEM, Record, State, VERSION};
use kiln_contract::plan::Plan;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A step that takes longer says that it has begun.
const PATIENCE: Duration = Duration::from_secs(2);
/// The steps so far.
#[derive(Debug)]
pub(crate) struct Steps {
    console: Console,
    outlet: Outlet,
    proc: PathBuf,
    clock: fn() -> Duration,
    began: Duration,
    events: Vec<Event>,
    problems: Vec<String>,
}

/// What a record says beside the steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Name of the node.
    pub(crate) node: String,
    /// The decision about the data disks.
    pub(crate) plan: Plan,
    /// Longhorn's annotation.
    pub(crate) default_disks_config: Option<String>,
}

impl Steps {
    /// Begins the record of this boot.
    pub(crate) fn begin(console: Console) -> Self {
        let outlet = Outlet::new(Path::new(DEV), Path::new(SYSFS), PORT);
        Self::with(console, outlet, (PathBuf::from("/proc"), sys::uptime))
    }

    fn with(console: Console, outlet: Outlet, (proc, clock): (PathBuf, fn() -> Duration)) -> Self {
        let began = clock();
        Self { console, outlet, proc, clock, began, events: Vec::new(), problems: Vec::new() }
    }

    /// The consoles.
    pub(crate) fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// Runs `work` as a step. It gives its result and what it found, in words.
    pub(crate) fn run<T, E: Display>(
        &mut self,
        step: &'static str,
        subject: &str,
        work: impl FnOnce(&mut Self) -> Result<(T, String), E>,
    ) -> Result<T, E> {
        let start = (self.clock)();
        let begun = Event { at: seconds(start), ..event(step, subject, State::Begun) };
        self.send(&begun);
        let watch = self.watch(&begun);
        let result = work(self);
        drop(watch);
        let end = (self.clock)();
        let (state, found) = match &result {
            Ok((_, found)) => (State::Done, found.clone()),
            Err(error) => (State::Failed, error.to_string()),
        };
        let taken = Some(seconds(end.saturating_sub(start)));
        self.add(Event { at: seconds(end), found, seconds: taken, ..event(step, subject, state) });
        result.map(|(value, _)| value)
    }

    /// A step without a duration: something that was found.
    pub(crate) fn note(&mut self, step: &'static str, subject: &str, found: &str) {
        let at = seconds((self.clock)());
        self.add(Event { at, found: found.to_owned(), ..event(step, subject, State::Done) });
    }

    /// Something that went wrong without ending the boot: the node will be degraded, and says this.
    pub(crate) fn problem(&mut self, text: String) {
        let told = self.keep(text);
        self.console.print(&format!("kiln: {:>7.2} {told}\n", told.at));
    }

    /// As [`Steps::problem`], of what the consoles show already.
    pub(crate) fn shown_problem(&mut self, text: String) {
        self.keep(text);
    }

    fn keep(&mut self, text: String) -> Event {
        let at = seconds((self.clock)());
        let told = Event { at, found: text.clone(), ..event(PROBLEM, "", State::Failed) };
        self.send(&told);
        self.problems.push(text);
        told
    }

    /// What went wrong so far.
    #[cfg(test)]
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The record up to now.
    pub(crate) fn finish(&mut self, outcome: Outcome) -> Record {
        self.outlet.flush();
        Record {
            version: VERSION,
            kiln: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: outcome.cluster,
            node: outcome.node,
            boot_id: record::boot_id(&self.proc),
            began: seconds(self.began),
            ended: seconds((self.clock)()),
            steps: self.events.clone(),
            plan: outcome.plan,
            problems: self.problems.clone(),
            default_disks_config: outcome.default_disks_config,
        }
    }

    fn add(&mut self, event: Event) {
        self.console.print(&format!("kiln: {:>7.2} {event}\n", event.at));
        self.send(&event);
        self.events.push(event);
    }

    fn send(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            self.outlet.send(&line);
        }
    }

    /// Says that a step has begun: at once when details are asked for, else when it takes long.
    fn watch(&mut self, begun: &Event) -> Option<Sender<()>> {
        let text = format!("kiln: {:>7.2} {begun}\n", begun.at);
        if self.console.is_debug() {
            self.console.print(&text);
            return None;
        }
        let mut console = self.console.another();
        let (sender, receiver) = channel::<()>();
        let waiting = std::thread::Builder::new().spawn(move || {
            if receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                console.print(&text);
            }
        });
        waiting.ok().map(|_| sender)
    }
}

fn event(step: &str, subject: &str, state: State) -> Event {
    Event {
        at: 0.0,
        step: step.to_owned(),
        subject: subject.to_owned(),
        state,
        found: String::new(),
        seconds: None,
    }
}

/// Milliseconds are exact enough, and readable in JSON.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
pub(crate) mod tests;
