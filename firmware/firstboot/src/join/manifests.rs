//! `kiln-firstboot manifests`: on servers, brings into the cluster what the seed has for it. What a person may change is made
//! once, and the record of that is in the cluster, so that a server which was flashed again puts nothing back. What is of a kind
//! that may come later is laid into k3s' folder when it has. Decisions are `kiln_contract::manifest`'s; this does them.

mod api;
mod folder;
mod record;

use super::story::{self, say};
use super::words::{Cause, Trouble};
use super::{Around, USAGE};
use crate::bounded;
use api::{Api, Put};
use kiln_contract::join::{self, Join, Role};
use kiln_contract::manifest::{self, Decision, Identity, Index, Manifest, Once, decide, said};
use record::Record;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const WORD: &str = "manifests";
/// First and longest wait between two looks.
const WAITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// What has not come for so long is looked for less often.
const LONG: (Duration, Duration) = (Duration::from_secs(1800), Duration::from_secs(120));
/// A wait that lasts is told again after this. It may last for weeks: a node that is still in its box.
const AGAIN: Duration = Duration::from_secs(3600);
/// As long as k3s may take to start without a word from here.
const START: Duration = Duration::from_secs(300);
/// How often an object is read again when somebody writes it at the same time.
const TRIES: usize = 5;
/// After as many changes they are recorded, whatever is left to do.
const BATCH: usize = 50;
/// Says that k3s has not started yet.
const BEFORE: &str = "--before-k3s";

/// What became of it.
#[derive(Debug, Default, Serialize)]
struct Report {
    version: u32,
    cluster: String,
    node: String,
    /// Nothing is left to make.
    done: bool,
    /// Objects that this run has made.
    made: Vec<String>,
    /// Objects that it has changed, with the places of the fields.
    changed: BTreeMap<String, Vec<String>>,
    /// Objects of which fields are as somebody left them, not as the seed has them.
    kept: BTreeMap<String, Vec<String>>,
    /// Objects that somebody has deleted, by their keys in the record.
    deleted: BTreeMap<String, String>,
    /// Files in k3s' folder.
    laid: BTreeSet<String>,
    /// What is waited for.
    waits: Vec<String>,
}

/// Makes and lays; comes back when nothing is left to wait for.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let (flags, rest): (Vec<String>, Vec<String>) =
        arguments.iter().cloned().partition(|word| word == BEFORE);
    let Some(around) = Around::parse(&rest) else {
        eprintln!("usage: {USAGE}; kiln-firstboot manifests [{BEFORE}] [the same]");
        return ExitCode::from(2);
    };
    let told = match Work::read(&around) {
        Ok(Some(work)) if flags.is_empty() => work.go_on(),
        Ok(Some(work)) => work.before_k3s(),
        // No server of k3s, or one whose seed says nothing of it.
        Ok(None) => Ok(()),
        Err(said) => Err(said),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(said) => {
            eprintln!("kiln-firstboot {WORD}: {said}");
            ExitCode::FAILURE
        }
    }
}

/// The seed's manifests, and how far they have come.
struct Work<'a> {
    around: &'a Around,
    join: Join,
    index: Index,
    manifests: Vec<Manifest>,
    /// Objects that need no further look in this run.
    settled: BTreeSet<Identity>,
    report: Report,
}

impl<'a> Work<'a> {
    fn read(around: &'a Around) -> Result<Option<Self>, String> {
        let bytes = |path: &str, most| {
            bounded::read(&around.path(path), most).map_err(|error| format!("{path}: {error}"))
        };
        if !around.path(manifest::INDEX).exists() {
            return Ok(None);
        }
        let fault = |path: &str, error: &dyn std::fmt::Display| format!("{path}: {error}");
        let join =
            Join::parse(&bytes(join::PATH, join::MAX_BYTES)?).map_err(|error| fault(join::PATH, &error))?;
        if join.role != Role::Server {
            return Ok(None);
        }
        let index = Index::parse(&bytes(manifest::INDEX, manifest::MAX_BYTES)?)
            .map_err(|error| fault(manifest::INDEX, &error))?;
        let report = Report {
            version: manifest::VERSION,
            cluster: join.cluster.clone(),
            node: join.node.clone(),
            ..Report::default()
        };
        let mut manifests = Vec::new();
        for name in &index.manifests {
            let path = format!("{}/{name}.json", manifest::FOLDER);
            // One that can't be read must not keep the others from being made.
            let read = bytes(&path, manifest::MAX_BYTES)
                .and_then(|bytes| Manifest::parse(&bytes).map_err(|error| fault(&path, &error)));
            match read {
                Ok(manifest) => manifests.push(manifest),
                Err(said) => say(around, WORD, &format!("left out: {said}")),
            }
        }
        Ok(Some(Self { around, join, index, manifests, settled: BTreeSet::new(), report }))
    }

    /// Nothing of it is in k3s' folder when k3s starts.
    fn before_k3s(&self) -> Result<(), String> {
        folder::forget(self.around, &self.index)?;
        let names = self.index.manifests.iter().chain(&self.index.withdrawn);
        for name in names {
            let laid = self
                .manifests
                .iter()
                .find(|manifest| manifest.name == *name)
                .and_then(|one| one.laid.as_ref());
            let gone = folder::clear(self.around, name, laid).map_err(|error| format!("{name}: {error}"))?;
            if let Some(gone) = gone {
                say(self.around, WORD, &gone);
            }
        }
        Ok(())
    }

    fn go_on(mut self) -> Result<(), String> {
        if self.manifests.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let (mut wait, mut moved) = (WAITS.0, began);
        let mut told: Option<(Vec<String>, Instant)> = None;
        loop {
            let before = self.settled.len();
            match self.pass() {
                // k3s is starting, and kiln-join.service says what that waits for.
                Err(_) if told.is_none() && began.elapsed() < self.around.shorter(START) => {}
                pass => {
                    let waits = pass.unwrap_or_else(|trouble| vec![trouble.to_string()]);
                    let again = self.around.shorter(AGAIN);
                    if told.as_ref().is_none_or(|(last, since)| *last != waits || since.elapsed() >= again) {
                        self.tell(&waits);
                        told = Some((waits, Instant::now()));
                    }
                }
            }
            // A file in k3s' folder is taken out again when its kind goes.
            if told.as_ref().is_some_and(|(waits, _)| waits.is_empty()) && self.report.laid.is_empty() {
                return Ok(());
            }
            if self.settled.len() > before {
                (wait, moved) = (WAITS.0, Instant::now());
            } else {
                let long = moved.elapsed() >= self.around.shorter(LONG.0);
                wait = (wait * 2).min(if long { LONG.1 } else { WAITS.1 });
            }
            std::thread::sleep(self.around.shorter(wait));
        }
    }

    fn tell(&mut self, waits: &[String]) {
        for wait in waits {
            say(self.around, WORD, &format!("waiting: {wait}"));
        }
        self.report.done = waits.is_empty();
        self.report.waits = waits.to_vec();
        if let Err(error) = story::write(&self.around.path(manifest::REPORT), &self.report) {
            say(self.around, WORD, &format!("the report can't be written: {}: {error}", manifest::REPORT));
        }
        if waits.is_empty() {
            say(self.around, WORD, &self.end());
        }
    }

    fn end(&self) -> String {
        let (made, kept) = (self.report.made.len(), self.report.kept.len() + self.report.deleted.len());
        let all = self.settled.len() + self.report.laid.len();
        format!(
            "the cluster has what the seed has for it: {all}, {made} of them made now, {kept} left as somebody changed them"
        )
    }

    /// One look at all that is left; what it waits for.
    fn pass(&mut self) -> Result<Vec<String>, Trouble> {
        let left = |manifest: &Manifest| {
            let all = || manifest.once.iter().filter_map(|once| Identity::of(&once.object));
            manifest.laid.is_some() || all().any(|identity| !self.settled.contains(&identity))
        };
        if !self.manifests.iter().any(left) {
            return Ok(Vec::new());
        }
        let mut api = Api::connect(self.around, &self.join)?;
        let mut record = Record::open(&api)?;
        let mut waits = BTreeMap::new();
        for manifest in self.manifests.clone() {
            if let Some(laid) = &manifest.laid {
                self.lay(&mut api, (&manifest.name, laid), &mut waits)?;
            }
            for once in &manifest.once {
                let Some(identity) = Identity::of(&once.object).filter(|one| !self.settled.contains(one))
                else {
                    continue;
                };
                match self.settle((&mut api, &mut record), &manifest, (once, &identity)) {
                    Ok(()) => drop(self.settled.insert(identity)),
                    // Without the API nothing else can be done either.
                    Err(trouble) if matches!(trouble.cause, Cause::ApiSilent | Cause::ApiRefused) => {
                        record.keep(&api)?;
                        return Err(trouble);
                    }
                    Err(trouble) => waits
                        .entry((trouble.cause as u8, trouble.to_string()))
                        .or_insert(Vec::new())
                        .push(identity),
                }
                if record.news() >= BATCH {
                    record.keep(&api)?;
                }
            }
            record.keep(&api)?;
        }
        Ok(waits.into_iter().map(|((_, said), objects)| in_words(&said, &objects)).collect())
    }

    fn lay(
        &mut self,
        api: &mut Api,
        (name, laid): (&str, &manifest::Laid),
        waits: &mut BTreeMap<(u8, String), Vec<Identity>>,
    ) -> Result<(), Trouble> {
        let mut absent = Vec::new();
        for kind in &laid.kinds {
            if api.resource(&kind.api_version, &kind.kind)?.is_none() {
                absent.push(format!("{} ({})", kind.kind, kind.api_version));
            }
        }
        let failed = |error: std::io::Error| Trouble::new(Cause::NotLaid, format!("{name}: {error}"));
        if absent.is_empty() {
            if folder::lay(self.around, name, laid).map_err(failed)? {
                say(self.around, WORD, &format!("{name}.yaml is laid into k3s' folder: its kinds are there"));
            }
            self.report.laid.insert(name.to_owned());
        } else {
            if folder::clear(self.around, name, Some(laid)).map_err(failed)?.is_some() {
                say(
                    self.around,
                    WORD,
                    &format!("{name}.yaml is taken out of k3s' folder: its kinds are gone"),
                );
            }
            self.report.laid.remove(name);
            let trouble = Trouble::new(Cause::KindAbsent, absent.join(", "));
            waits.entry((trouble.cause as u8, trouble.to_string())).or_default();
        }
        Ok(())
    }

    /// Makes an object, changes it or leaves it, and records what was said of it.
    fn settle(
        &mut self,
        (api, record): (&mut Api, &mut Record),
        manifest: &Manifest,
        (once, identity): (&Once, &Identity),
    ) -> Result<(), Trouble> {
        if let Some(node) = &once.after_node
            && !api.nodes()?.contains(node)
        {
            return Err(Trouble::new(Cause::NodeAbsent, node));
        }
        let Some(resource) = api.resource(&identity.api_version, &identity.kind)? else {
            let kind = format!("{} ({})", identity.kind, identity.api_version);
            return Err(Trouble::new(Cause::KindAbsent, kind));
        };
        let once = &Once { object: api::with_data(&once.object), ..once.clone() };
        for _ in 0..TRIES {
            let live = api.get(&resource, identity)?;
            let (put, kept) = match decide(
                once,
                record.of(identity).recorded(),
                live.as_ref(),
                record.marker(),
            ) {
                Decision::Create => {
                    let put = api.create(&resource, identity, &once.object)?;
                    if matches!(put, Put::Done(_)) {
                        say(self.around, WORD, &format!("{identity} is made"));
                        self.report.made.push(identity.to_string());
                    }
                    (put, Vec::new())
                }
                Decision::Gone => {
                    let key = identity.key();
                    say(
                        self.around,
                        WORD,
                        &format!(
                            "{identity} was deleted, and is not made again. To have it made, take {key} out of the ConfigMap {}/{}",
                            manifest::RECORD.0,
                            manifest::RECORD.1
                        ),
                    );
                    self.report.deleted.insert(identity.to_string(), key);
                    return Ok(());
                }
                Decision::Leave { kept } => (Put::Done(live.unwrap_or_default()), kept),
                Decision::Change { object, changed, kept } => {
                    let put = api.replace(&resource, identity, &object)?;
                    if matches!(put, Put::Done(_)) {
                        say(
                            self.around,
                            WORD,
                            &format!("{identity} is changed as the seed has it now: {}", changed.join(", ")),
                        );
                        self.report.changed.insert(identity.to_string(), changed);
                    }
                    (put, kept)
                }
            };
            match put {
                Put::Done(live) => {
                    self.done(record, (manifest, once, identity), (&live, kept));
                    return Ok(());
                }
                Put::Conflict => {}
                Put::Refused(status, said) => {
                    // What the API says of an object may show its values.
                    let said = if manifest.secret || said.is_empty() {
                        format!("({status})")
                    } else {
                        format!("({status}): {said}")
                    };
                    return Err(Trouble::new(Cause::NotTaken, format!("{identity} {said}")));
                }
            }
        }
        Err(Trouble::new(Cause::NotTaken, format!("{identity}: somebody changes it all the time")))
    }

    fn done(
        &mut self,
        record: &mut Record,
        (manifest, once, identity): (&Manifest, &Once, &Identity),
        (live, kept): (&Value, Vec<String>),
    ) {
        let now = said(&once.object, Some(live), &kept, record.marker());
        record.note(identity, (&manifest.name, &self.join.node), &now);
        if !kept.is_empty() {
            say(
                self.around,
                WORD,
                &format!(
                    "{identity} stays as somebody changed it, and is not as the seed has it: {}",
                    kept.join(", ")
                ),
            );
            self.report.kept.insert(identity.to_string(), kept);
        }
    }
}

/// A wait, and for what.
fn in_words(said: &str, objects: &[Identity]) -> String {
    match objects {
        [] => said.to_owned(),
        [one] => format!("{one}: {said}"),
        [one, rest @ ..] => format!("{one} and {} more: {said}", rest.len()),
    }
}
