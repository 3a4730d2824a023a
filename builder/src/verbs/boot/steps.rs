//! The steps of a first boot as they come, for people.

use crate::diag::{Progress, Ui};
use kiln_contract::event::{Event, State};

/// Something that a booting node says.
#[derive(Debug)]
pub(super) enum Told<'a> {
    /// A line of the helper on the console.
    Milestone(&'a str),
    /// A line from its port.
    Event(&'a str),
}

/// Shows steps: where somebody watches, the one that goes on; else a line for each that ends.
#[derive(Debug)]
pub(super) struct Show<'a> {
    ui: &'a Ui,
    progress: Progress<'a>,
    open: Open,
    /// Events have come: the console says nothing new.
    events: bool,
}

impl<'a> Show<'a> {
    /// Begins to show the boot of a node.
    pub(super) fn new(ui: &'a Ui, node: &str) -> Self {
        Self { ui, progress: ui.spinner(&format!("booting {node}")), open: Open::default(), events: false }
    }

    /// Shows what the node says.
    pub(super) fn tell(&mut self, told: &Told<'_>) {
        match told {
            Told::Milestone(line) if !self.events => {
                self.progress.message(*line);
                self.ui.detail(line);
            }
            Told::Milestone(_) => {}
            Told::Event(line) => match serde_json::from_str(line) {
                Ok(event) => self.event(&event),
                Err(error) => {
                    self.ui.warn(format!("the node told a step that cannot be read: {error}: {line}"))
                }
            },
        }
    }

    fn event(&mut self, event: &Event) {
        self.events = true;
        self.progress.message(self.open.after(event));
        let watched = self.progress.is_live() && !self.ui.wish().verbose;
        match event.state {
            State::Begun => {}
            State::Failed => self.ui.warn(event.to_string()),
            State::Done if watched => {}
            State::Done => self.ui.say(timed(event)),
        }
    }
}

/// Steps that have begun and not ended: one may be part of another.
#[derive(Debug, Default)]
struct Open(Vec<Event>);

impl Open {
    /// The step that goes on after this event; the event itself when there is none.
    fn after(&mut self, event: &Event) -> String {
        match event.state {
            State::Begun => self.0.push(event.clone()),
            State::Done | State::Failed => {
                let same = |begun: &Event| begun.step == event.step && begun.subject == event.subject;
                if let Some(at) = self.0.iter().rposition(same) {
                    self.0.truncate(at);
                }
            }
        }
        timed(self.0.last().unwrap_or(event))
    }
}

fn timed(event: &Event) -> String {
    format!("{:>7.2} {event}", event.at)
}

#[cfg(test)]
mod tests {
    use super::{Open, timed};
    use kiln_contract::event::Event;

    #[test]
    fn the_step_that_goes_on_is_shown() {
        let lines = [
            r#"{"at":1.204,"step":"modules","state":"begun"}"#,
            r#"{"at":1.514,"step":"modules","state":"done","found":"24 loaded","seconds":0.31}"#,
            r#"{"at":1.6,"step":"disk","subject":"sda","state":"done","found":"10.0 GiB"}"#,
            r#"{"at":1.7,"step":"provision","subject":"sdb","state":"begun"}"#,
            r#"{"at":1.8,"step":"format","subject":"sdb1","state":"begun"}"#,
            r#"{"at":2.1,"step":"problem","state":"failed","found":"slot x is empty"}"#,
            r#"{"at":2.6,"step":"format","subject":"sdb1","state":"failed","found":"mke2fs: I/O error","seconds":0.8}"#,
            r#"{"at":2.7,"step":"provision","subject":"sdb","state":"done","seconds":1.0}"#,
        ];
        let events: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut open = Open::default();
        let shown: Vec<String> = events.iter().map(|event| open.after(event)).collect();
        assert_eq!(
            shown,
            [
                "   1.20 modules    ...",
                "   1.51 modules    24 loaded (0.31 s)",
                "   1.60 disk       sda: 10.0 GiB",
                "   1.70 provision  sdb ...",
                "   1.80 format     sdb1 ...",
                "   1.80 format     sdb1 ...",
                "   1.70 provision  sdb ...",
                "   2.70 provision  sdb (1.00 s)",
            ]
        );
        assert_eq!(timed(&events[6]), "   2.60 format     sdb1: failed: mke2fs: I/O error (0.80 s)");
    }
}
