//! Settings of overlays: what an `overlay.yaml` lets a cluster file say, and what a cluster file says.
//!
//! Kiln's own overlays and a user's own declare their settings in the same words, so that a wrong one is refused
//! with its place when the cluster file is read and not when a template is.

mod calendar;
mod form;
mod pem;
mod rule;
mod url;
mod value;

pub(crate) use form::{is_zero, quantity as is_quantity};
pub(crate) use pem::certificates;
pub(super) use rule::{SettingSection, Settings as Rules, compile, schema};
pub(crate) use url::Url;
pub(super) use value::{Reading, merged};
pub use value::{Secret, Setting, SettingValue, Settings};

use super::read::{Read, wrong_type};
use super::tree::{Tree, Value};
use crate::diag::Fault;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::borrow::Cow;

/// A value that is read later, when it is known what it must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Raw(pub(crate) Tree);

// A tree holds no floats, only their text.
impl Eq for Raw {}

impl JsonSchema for Raw {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Any".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

impl Read for Raw {
    const WANT: &'static str = "a value";
    fn read(tree: &Tree, _: &mut Vec<Fault>) -> Option<Self> {
        Some(Self(tree.clone()))
    }
}

/// A mapping that is read later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMap(pub(crate) Raw);

impl Read for RawMap {
    const WANT: &'static str = "a mapping";
    fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Option<Self> {
        if matches!(tree.value, Value::Map(_)) {
            return Some(Self(Raw(tree.clone())));
        }
        wrong_type(tree, Self::WANT, faults);
        None
    }
}
