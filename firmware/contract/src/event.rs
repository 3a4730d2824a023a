//! What the first boot tells while it goes on, one JSON object a line on a virtio-serial port, and the record
//! of it that stays on the node.

use crate::plan::Plan;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of the virtio-serial port; sysfs has it in `/sys/class/virtio-ports/*/name`.
pub const PORT: &str = "org.kiln.events";
/// Where the record of the last boot is that wrote to a disk: the first one, as a rule.
pub const RECORD: &str = "/var/lib/kiln/first-boot.json";
/// Where the record of the boot that goes on is.
pub const BOOT_RECORD: &str = "/run/kiln/boot.json";
/// The only version of a record that this code writes and reads.
pub const VERSION: u32 = 1;

/// The step of an event that tells what went wrong without ending the boot.
pub const PROBLEM: &str = "problem";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the kernel's start.
    pub at: f64,
    /// Which step: a word such as `modules`, `partition`, `format`.
    pub step: String,
    /// What it works on: a disk, a partition, a slot; empty when the step is about the whole machine.
    #[serde(default)]
    pub subject: String,
    /// Begun, ended or failed.
    pub state: State,
    /// What was found or done, or why it failed, in words.
    #[serde(default)]
    pub found: String,
    /// How long it took in seconds; of steps that ended or failed.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// What steps are padded to, so that what they found stands in one column.
const STEP_WIDTH: usize = 10;

/// In one line without the time, whatever a device put into its names.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, found) = (one_line(&self.subject), one_line(&self.found));
        let said = match self.state {
            State::Begun => "...".to_owned(),
            // A problem is no step that could have gone well.
            State::Failed if self.step != PROBLEM => format!("failed: {found}"),
            State::Done | State::Failed => found,
        };
        let between = match (subject.is_empty() || said.is_empty(), self.state) {
            (true, _) => "",
            (false, State::Begun) => " ",
            (false, _) => ": ",
        };
        let taken = self.seconds.map(|seconds| format!(" ({seconds:.2} s)")).unwrap_or_default();
        let rest = format!("{subject}{between}{said}{taken}");
        let text = format!("{:<STEP_WIDTH$} {}", one_line(&self.step), rest.trim());
        f.write_str(text.trim_end())
    }
}

/// Lines become clauses; a control character could move the cursor or clear the screen.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").replace(":; ", ": ").chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has begun.
    Begun,
    /// It has ended.
    Done,
    /// It has failed; the boot goes on without what it was for, or stops.
    Failed,
}

/// The record of a boot, at [`RECORD`] and [`BOOT_RECORD`]: what was seen, decided and done before the system started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always [`VERSION`].
    pub version: u32,
    /// Version of the helper.
    pub kiln: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// The kernel's random id of this boot (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// Seconds since the kernel's start when the helper began.
    pub began: f64,
    /// Seconds since the kernel's start when it handed over to the system.
    pub ended: f64,
    /// Steps that ended or failed, in their order.
    pub steps: Vec<Event>,
    /// The decision about the data disks.
    pub plan: Plan,
    /// What went wrong without ending the boot, in words for people; empty on a healthy node.
    pub problems: Vec<String>,
    /// Longhorn's annotation `node.longhorn.io/default-disks-config`: a JSON text; nothing without Longhorn disks.
    #[serde(default)]
    pub default_disks_config: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::{Event, PROBLEM, State};

    fn event(state: State, subject: &str, found: &str) -> Event {
        let (step, subject, found) = ("etc".to_owned(), subject.to_owned(), found.to_owned());
        Event { at: 1.0, step, subject, state, found, seconds: None }
    }

    #[test]
    fn an_event_is_one_line() {
        let table = [
            (State::Begun, "", "", "etc        ..."),
            (State::Begun, "sda", "", "etc        sda ..."),
            (State::Done, "", "", "etc"),
            (State::Done, "sda", "", "etc        sda"),
            (State::Done, "", "\n overlaid \n", "etc        overlaid"),
            (State::Done, "sda", "10 GiB", "etc        sda: 10 GiB"),
            (State::Failed, "", "no room", "etc        failed: no room"),
            (State::Failed, "sda", "mke2fs:\n  bad\n  worse", "etc        sda: failed: mke2fs: bad; worse"),
            (State::Done, "\u{1b}[2J", "\u{7}x\u{85}y", "etc        ?[2J: ?x?y"),
        ];
        for (state, subject, found, line) in table {
            assert_eq!(event(state, subject, found).to_string(), line);
        }
        let timed = Event { seconds: Some(0.126), ..event(State::Done, "", "") };
        assert_eq!(timed.to_string(), "etc        (0.13 s)");
        let problem = Event { step: PROBLEM.to_owned(), ..event(State::Failed, "", "slot x is empty") };
        assert_eq!(problem.to_string(), "problem    slot x is empty");
    }
}
