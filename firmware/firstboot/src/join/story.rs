//! One step after another, each tried until it is done: what is said meanwhile, what is kept over a restart, and the report.

use super::Around;
use super::rejoin::Past;
use super::words::Trouble;
use crate::console::announce;
use kiln_contract::ending::Waiting;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// First and longest wait between two tries.
const WAITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// A wait that lasts is told again after this.
const AGAIN: Duration = Duration::from_secs(30);
/// The only version of the state that this code writes and reads.
const VERSION: u32 = 1;

/// What a story is told as, and where it is kept.
#[derive(Debug)]
pub(super) struct Title {
    /// What its lines begin with.
    pub(super) word: &'static str,
    /// Where it is kept how far the node has come.
    pub(super) state: &'static str,
    /// Where the report is.
    pub(super) report: &'static str,
}

/// How far a node has come, with all steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    version: u32,
    cluster: String,
    node: String,
    /// The step that is under way, or was last.
    stage: String,
    /// The node was Ready once: who it joins is settled.
    pub(super) joined: bool,
    /// Nothing is left to do.
    pub(super) done: bool,
    /// The node was Ready once on this state, whatever became of its datastore.
    #[serde(default)]
    was_ready: bool,
    /// When this state was made, by the cluster's clocks: seconds since 1970. It may have been a while before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<u64>,
    /// What became of this node's old member in etcd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rejoin: Option<Past>,
    /// Seconds since 1970, by the node's own clock.
    began: u64,
    steps: Vec<Step>,
    /// What is in the way at the moment, as it was told last, and whether time may heal it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting>,
}

impl Progress {
    /// The node was Ready once on this state.
    pub(super) fn was_ready(&self) -> bool {
        self.joined || self.was_ready
    }
}

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Step {
    step: String,
    /// Seconds since 1970, by the node's own clock.
    began: u64,
    /// How long it took.
    seconds: f64,
    /// How often it was tried.
    attempts: u32,
    /// What was in the way last; empty when nothing was.
    trouble: String,
    /// What was found or done.
    found: String,
}

/// The story of a join, or of a node that joins nothing.
pub(super) struct Story<'a> {
    around: &'a Around,
    title: &'static Title,
    pub(super) progress: Progress,
    /// A state that can't be written is told once.
    told: bool,
}

impl<'a> Story<'a> {
    /// Where the last run ended, when it was for the same node of the same cluster.
    pub(super) fn resume(around: &'a Around, title: &'static Title, (cluster, node): (&str, &str)) -> Self {
        let kept = fs::read(around.path(title.state))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Progress>(&bytes).ok());
        let ours = |kept: &Progress| kept.version == VERSION && kept.cluster == cluster && kept.node == node;
        let progress = kept.filter(ours).unwrap_or_else(|| Progress {
            version: VERSION,
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            stage: String::new(),
            joined: false,
            done: false,
            was_ready: false,
            made: None,
            rejoin: None,
            began: around.clock.now(),
            steps: Vec::new(),
            waiting: None,
        });
        Self { around, title, progress, told: false }
    }

    /// Tries a step until it is done. What is in the way is said at once, when its cause changes, and every half minute.
    pub(super) fn step<T>(
        &mut self,
        name: &'static str,
        mut attempt: impl FnMut(Instant) -> Result<(T, String), Trouble>,
    ) -> T {
        let (since, began) = (Instant::now(), self.around.clock.now());
        name.clone_into(&mut self.progress.stage);
        self.progress.waiting = None;
        self.keep();
        let mut wait = WAITS.0;
        let mut last: Option<(Trouble, Instant)> = None;
        let mut trouble = String::new();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match attempt(since) {
                Ok((value, found)) => {
                    self.say(&format!("{name}: {found}"));
                    let seconds = since.elapsed().as_secs_f64();
                    let step = Step { step: name.to_owned(), began, seconds, attempts, trouble, found };
                    // A step that is done again after a restart has one place in the report.
                    self.progress.steps.retain(|done| done.step != name);
                    self.progress.steps.push(step);
                    self.progress.waiting = None;
                    return value;
                }
                Err(found) => {
                    let again = self.around.shorter(AGAIN);
                    let told = last.as_ref();
                    let due = told.is_none_or(|(told, at)| !told.is_like(&found) || at.elapsed() >= again);
                    trouble = found.to_string();
                    if due {
                        let lasted =
                            told.map(|_| format!(" (for {})", in_words(since.elapsed()))).unwrap_or_default();
                        // Who has read the line finds the same on the disk.
                        self.progress.waiting = Some(Waiting {
                            step: name.to_owned(),
                            trouble: trouble.clone(),
                            heals: found.heals(),
                            since: began,
                        });
                        self.keep();
                        self.say(&format!("{name}: waiting{lasted}: {trouble}"));
                        last = Some((found, Instant::now()));
                    }
                }
            }
            std::thread::sleep(self.around.shorter(wait));
            wait = (wait * 2).min(WAITS.1);
        }
    }

    /// The node was Ready.
    pub(super) fn joined(&mut self) {
        self.progress.joined = true;
        self.progress.was_ready = true;
        self.keep();
    }

    /// The node was Ready once on this state.
    pub(super) fn was_ready(&self) -> bool {
        self.progress.was_ready()
    }

    /// The datastore is gone: all is to be done again.
    pub(super) fn anew(&mut self) {
        self.progress.was_ready = self.was_ready();
        (self.progress.joined, self.progress.done) = (false, false);
        self.keep();
    }

    /// Nothing is left: the state says so, and the report is written. `end` are the last words.
    pub(super) fn done(&mut self, end: &str) {
        self.progress.done = true;
        if let Err(error) = write(&self.around.path(self.title.report), &self.progress) {
            self.say(&format!("the report can't be written: {}: {error}", self.title.report));
        }
        self.keep();
        self.say(end);
    }

    /// Writes down how far the node has come.
    pub(super) fn keep(&mut self) {
        if let Err(error) = write(&self.around.path(self.title.state), &self.progress)
            && !self.told
        {
            self.told = true;
            self.say(&format!("after a restart this begins anew: {}: {error}", self.title.state));
        }
    }

    fn say(&self, what: &str) {
        say(self.around, self.title.word, what);
    }
}

/// A line for whoever looks on.
pub(super) fn say(around: &Around, word: &str, what: &str) {
    let line = format!("{word}: {what}");
    // Other roots are other machines: their lines have no business on this one's consoles.
    if around.root == Path::new("/") { announce(&line) } else { eprintln!("{line}") }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// Beside, then renamed: a cut leaves the old one or the new one.
pub(super) fn write(path: &Path, document: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = path.with_extension("json.new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let mut bytes = serde_json::to_vec_pretty(document)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::{Story, in_words};
    use crate::join::TITLE;
    use crate::join::tests::around;
    use crate::join::words::{Cause, Trouble};
    use kiln_contract::join::STATE;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn a_step_is_tried_until_it_is_done_and_kept() {
        let root = tempfile::tempdir().unwrap();
        let around = around(root.path());
        let resume = |cluster: &str| Story::resume(&around, &TITLE, (cluster, "k3s2"));
        let mut story = resume("demo");
        let mut left = 3;
        let value = story.step("link", |_| {
            left -= 1;
            if left < 2 {
                // What it waits for is on the disk, for who asks.
                let kept = fs::read_to_string(root.path().join(STATE.trim_start_matches('/'))).unwrap();
                assert!(kept.contains("\"heals\": true") && kept.contains("\"step\": \"link\""), "{kept}");
            }
            if left > 0 { Err(Trouble::new(Cause::NoCarrier, "eth0")) } else { Ok((7, "eth0".to_owned())) }
        });
        assert_eq!((value, story.progress.steps[0].attempts), (7, 3));
        assert_eq!(story.progress.waiting, None);
        story.joined();
        let path = root.path().join(STATE.trim_start_matches('/'));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(resume("demo").progress, story.progress);
        // Another cluster begins anew, and so does a state that a cut damaged.
        assert!(!resume("other").progress.joined);
        fs::write(&path, "{").unwrap();
        assert!(!resume("demo").progress.joined);
    }

    #[test]
    fn times_are_for_people() {
        let said = [0, 119, 120, 7199, 7200].map(|seconds| in_words(Duration::from_secs(seconds)));
        assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h"]);
    }
}
