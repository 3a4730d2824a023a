//! What becomes of an object that is made once: decided from what the seed says, what a seed before said, and what is there.
//! A field is a person's (or a controller's) when it is not what a seed said of it, and such a field is never touched.

use super::marks::{Marker, Said, plain};
use super::{Identity, Once};
use serde_json::{Map, Value};

/// k3s writes it on what it applied from its folder (rancher/wrangler, pkg/apply: LabelHash).
const APPLIED: &str = "/metadata/labels/objectset.rio.cattle.io~1hash";
/// Fields that hold the release of something that can't go back.
const RELEASES: [(&str, &str); 2] =
    [("HelmChart", "/spec/version"), ("HelmRelease", "/spec/chart/spec/version")];

/// What the cluster's record has of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded<'a> {
    /// Nothing: it was never made.
    No,
    /// It was made, and nobody can tell what was said then: the key of the record was lost.
    Unreadable,
    /// It was made, and this was said of it last.
    Said(&'a Said),
}

/// What to do. Places of fields are JSON pointers (RFC 6901).
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It is not there and never was.
    Create,
    /// It was made, and somebody has deleted it: it is not made again.
    Gone,
    /// Nothing. These fields are not as the seed has them, since somebody changed them.
    Leave {
        /// Their places.
        kept: Vec<String>,
    },
    /// What the seed says anew.
    Change {
        /// The object as it is to be, with the version that was read.
        object: Value,
        /// Places that change.
        changed: Vec<String>,
        /// Places that stay as somebody left them.
        kept: Vec<String>,
    },
}

/// Decides.
pub fn decide(seed: &Once, recorded: Recorded<'_>, live: Option<&Value>, marker: &Marker) -> Decision {
    let Some(live) = live else {
        return match recorded {
            Recorded::No => Decision::Create,
            Recorded::Unreadable | Recorded::Said(_) => Decision::Gone,
        };
    };
    let none = Said::default();
    let mut work = Work {
        marker,
        said: match recorded {
            Recorded::Said(said) => said,
            Recorded::No | Recorded::Unreadable => &none,
        },
        // A controller that was there first has made a bare object. What k3s applied for an older seed is no such object.
        adds: match recorded {
            Recorded::Said(_) => true,
            Recorded::No => seed.after_node.is_some() && live.pointer(APPLIED).is_none(),
            Recorded::Unreadable => false,
        },
        empty_is_absent: matches!(recorded, Recorded::No),
        kind: Identity::of(&seed.object).map(|identity| identity.kind).unwrap_or_default(),
        changed: Vec::new(),
        kept: Vec::new(),
    };
    let mut object = live.clone();
    for path in parts(&seed.object) {
        let Some(wanted) = seed.object.pointer(&path) else { continue };
        match slot(&mut object, &path) {
            Some(there) => work.lay(wanted, there, &path),
            None if is_empty_map(wanted) || wanted.is_null() => {}
            None if work.may_add(&path) => {
                put(&mut object, &path, wanted.clone());
                work.changed.push(path);
            }
            None => work.kept.push(path),
        }
    }
    if matches!(recorded, Recorded::Said(_)) {
        for path in parts(live) {
            let wanted = seed.object.pointer(&path);
            if let Some(there) = slot(&mut object, &path) {
                work.clear(wanted, there, &path);
            }
        }
    }
    let Work { changed, kept, .. } = work;
    if changed.is_empty() { Decision::Leave { kept } } else { Decision::Change { object, changed, kept } }
}

/// What is to be recorded: what the seed says, and what the API made of it in `live`, but for fields that are a person's.
pub fn said(seed: &Value, live: Option<&Value>, kept: &[String], marker: &Marker) -> Said {
    let mut noting = Noting { said: Said::default(), marker, kept };
    for path in parts(seed) {
        if let Some(wanted) = seed.pointer(&path) {
            noting.note(&path, wanted, live.and_then(|live| live.pointer(&path)));
        }
    }
    noting.said
}

struct Noting<'a> {
    said: Said,
    marker: &'a Marker,
    kept: &'a [String],
}

impl Noting<'_> {
    fn note(&mut self, path: &str, wanted: &Value, live: Option<&Value>) {
        self.said.add_place(self.marker, path);
        if let Value::Object(entries) = wanted {
            for (key, wanted) in entries {
                self.note(&below(path, key), wanted, live.and_then(|live| live.get(key)));
            }
            return;
        }
        self.said.add_value(self.marker, path, wanted);
        if let Some(live) = live.filter(|_| !self.kept.iter().any(|place| place == path)) {
            self.said.add_value(self.marker, path, live);
        }
    }
}

/// The parts of an object that say something: all but what it is called and how it fares.
fn parts(object: &Value) -> Vec<String> {
    let top = object.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let top = top.filter(|key| !matches!(*key, "apiVersion" | "kind" | "metadata" | "status"));
    let mut parts: Vec<String> = top.map(|key| below("", key)).collect();
    parts.extend(["/metadata/labels", "/metadata/annotations"].map(str::to_owned));
    parts.retain(|path| object.pointer(path).is_some());
    parts
}

struct Work<'a> {
    marker: &'a Marker,
    said: &'a Said,
    /// What is absent and was never spoken of is added.
    adds: bool,
    /// An empty text, list or map is as good as none: of what a controller begins.
    empty_is_absent: bool,
    kind: String,
    changed: Vec<String>,
    kept: Vec<String>,
}

impl Work<'_> {
    fn may_add(&self, path: &str) -> bool {
        self.adds && !self.said.knows(self.marker, path)
    }

    /// Brings `wanted` into what is there, where that is what was said before.
    fn lay(&mut self, wanted: &Value, there: &mut Value, path: &str) {
        if covers(there, wanted) {
            return;
        }
        if self.empty_is_absent && self.adds && is_empty(there) {
            *there = wanted.clone();
            self.changed.push(path.to_owned());
            return;
        }
        if let (Value::Object(wanted), Value::Object(there)) = (wanted, &mut *there) {
            for (key, wanted) in wanted {
                let path = below(path, key);
                match there.get_mut(key) {
                    Some(there) => self.lay(wanted, there, &path),
                    None if is_empty_map(wanted) || wanted.is_null() => {}
                    None if self.may_add(&path) => {
                        there.insert(key.clone(), wanted.clone());
                        self.changed.push(path);
                    }
                    // Somebody took it out.
                    None => self.kept.push(path),
                }
            }
            return;
        }
        let has = |value: &Value| self.said.has(self.marker, path, value);
        let (ours, same) = (has(there), has(wanted));
        if ours && same {
            // The API writes it in another way.
        } else if ours && !self.goes_back(path, there, wanted) {
            *there = wanted.clone();
            self.changed.push(path.to_owned());
        } else {
            self.kept.push(path.to_owned());
        }
    }

    fn goes_back(&self, path: &str, there: &Value, wanted: &Value) -> bool {
        let release = RELEASES.iter().any(|(kind, place)| *kind == self.kind && *place == path);
        let texts = there.as_str().zip(wanted.as_str());
        release && texts.is_some_and(|(there, wanted)| is_lower(wanted, there))
    }

    /// Takes out what a seed before said and this one does not, where it is still what was said.
    fn clear(&mut self, wanted: Option<&Value>, there: &mut Value, path: &str) {
        let Value::Object(entries) = there else { return };
        let keys: Vec<String> = entries.keys().cloned().collect();
        for key in keys {
            let place = below(path, &key);
            let inner = wanted.and_then(|wanted| wanted.get(&key));
            let Some(value) = entries.get_mut(&key) else { continue };
            if inner.is_some() {
                self.clear(inner, value, &place);
            } else if self.said.knows(self.marker, &place) {
                if self.is_untouched(value, &place) {
                    self.changed.push(place);
                    entries.remove(&key);
                } else {
                    self.kept.push(place);
                }
            }
        }
    }

    /// All of it is what was said, or what an API fills in.
    fn is_untouched(&self, value: &Value, path: &str) -> bool {
        if let Value::Object(entries) = value {
            return entries.iter().all(|(key, value)| {
                let path = below(path, key);
                if self.said.knows(self.marker, &path) {
                    self.is_untouched(value, &path)
                } else {
                    is_nothing(value)
                }
            });
        }
        self.said.has(self.marker, path, value)
    }
}

/// All that `wanted` says is there; an API adds defaults, inside lists, too.
fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match there.get(key) {
                Some(there) => covers(there, wanted),
                None => wanted.is_null() || is_empty_map(wanted),
            })
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| covers(there, wanted))
        }
        (there, wanted) => plain(there) == plain(wanted),
    }
}

fn is_empty_map(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_nothing(value: &Value) -> bool {
    is_empty(value) || *value == Value::Bool(false) || value.as_f64() == Some(0.0)
}

/// `1.9.2` is lower than `1.10.1`; what is no release of three numbers is not lower than anything.
pub fn is_lower(one: &str, other: &str) -> bool {
    let numbers = |text: &str| {
        let text = text.strip_prefix('v').unwrap_or(text);
        let whole = text.split(['-', '+']).next().unwrap_or_default();
        let numbers: Option<Vec<u64>> = whole.split('.').map(|part| part.parse().ok()).collect();
        numbers.filter(|numbers| numbers.len() == 3)
    };
    numbers(one).zip(numbers(other)).is_some_and(|(one, other)| one < other)
}

fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn slot<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    object.pointer_mut(path)
}

/// Puts a part where its parent is there, which of `metadata` and of the top it is.
fn put(object: &mut Value, path: &str, value: Value) {
    let Some((parent, key)) = path.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(entries)) = object.pointer_mut(parent) {
        entries.insert(key, value);
    }
}
