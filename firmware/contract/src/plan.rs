//! What is going to be done with each disk of a machine, and why: the decision, before anything is written.

mod table;

pub use table::{human, in_words, table};

use crate::machine::Signature;
use crate::policy::Use;
use serde::{Deserialize, Serialize};

/// The decision about all data disks of a machine. The disk that was booted is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// One for each disk of the machine but the booted one, in the order of their names.
    pub disks: Vec<Decision>,
    /// What keeps rules from being satisfied. While any of them [refuses](Problem::refuses), nothing new is written:
    /// of what writes, only [`Action::Resume`] is left.
    pub problems: Vec<Problem>,
}

/// The decision about one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Kernel name of the disk.
    pub disk: String,
    /// What is done.
    pub action: Action,
}

/// What is done with a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Provisioned for this slot already: mounted, never written to here.
    Keep(Place),
    /// Ours, but its formatting was cut short: formatted again.
    Resume(Place),
    /// Blank: partitioned and formatted.
    Provision(Place),
    /// Emptied, because its serial number is listed under `erase`, then as [`Action::Provision`]. What is lost.
    Erase(Place, Vec<Signature>),
    /// Left as it is for somebody else by a rule with `use: raw`: the rule's name.
    Leave(String),
    /// Not touched: why.
    Ignore(Obstacle),
}

/// Which slot of which rule a disk takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Name of the rule.
    pub rule: String,
    /// Name of the slot.
    pub slot: String,
    /// What the rule is for.
    pub usage: Use,
}

/// Why a disk is not touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// No rule matches it.
    Unmatched,
    /// A rule that matches it leaves it out by name: the rule.
    Excluded(String),
    /// Every rule that matches it has all the disks that it wants.
    Spare,
    /// Its medium can be taken out, and no rule names it by what it is.
    Removable,
    /// It refuses writes.
    ReadOnly,
    /// Something is on it.
    Signatures(Vec<Signature>),
    /// It belongs to another Kiln cluster.
    ForeignCluster,
    /// It belongs to this cluster, but to another node or to a rule that is not there any more: the partition's name.
    ForeignNode(String),
    /// It is one of this node's, and was divided when it showed sectors of another size: how many bytes they had.
    Sectors(u32),
    /// It could not be read: why.
    Unreadable(String),
    /// Another disk has the same serial number or WWN, or says that it is the same slot: which disks. One disk that
    /// is seen twice (multipath) looks like that, too, and is not supported.
    Duplicate(Vec<String>),
    /// It is smaller than a disk of this use can be: least size in bytes.
    TooSmall(u64),
    /// Rules refused the whole plan: nothing new is written.
    Refused,
}

/// What keeps a rule from being satisfied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Fewer disks than wanted are there, and none of those that match is in the way. Slots without a disk.
    Missing {
        /// The rule.
        rule: String,
        /// Names of the slots that stay empty.
        slots: Vec<String>,
    },
    /// Fewer disks than wanted can be taken: others match, and may not be touched.
    Guarded {
        /// The rule.
        rule: String,
        /// Names of the slots that stay empty.
        slots: Vec<String>,
        /// The disks that match, each with what is in the way.
        disks: Vec<(String, Obstacle)>,
    },
    /// More disks than wanted fit, and nothing tells which.
    Ambiguous {
        /// The rule.
        rule: String,
        /// How many it still wants.
        wanted: usize,
        /// The disks that fit.
        disks: Vec<String>,
    },
    /// One disk fits two rules.
    Overlap {
        /// The disk.
        disk: String,
        /// The rules.
        rules: Vec<String>,
    },
    /// Two disks say that they are the same slot.
    Twins {
        /// The slot.
        slot: String,
        /// The disks.
        disks: Vec<String>,
    },
    /// A serial number under `erase` that more than one disk has, or that the booted disk has.
    Erase {
        /// The serial number.
        serial: String,
        /// The disks that have it.
        disks: Vec<String>,
    },
}

impl Problem {
    /// True when nothing new may be written on this machine. A disk that is absent is no reason to leave the others.
    pub fn refuses(&self) -> bool {
        !matches!(self, Self::Missing { .. })
    }
}

impl Plan {
    /// True when a problem forbids to write anything new.
    pub fn is_refused(&self) -> bool {
        self.problems.iter().any(Problem::refuses)
    }

    /// True when data is going to be lost.
    pub fn is_destructive(&self) -> bool {
        self.disks.iter().any(|decision| matches!(decision.action, Action::Erase(..)))
    }

    /// The plan when a person has stopped it: what is there already is kept, nothing is written.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        for decision in &mut self.disks {
            if matches!(decision.action, Action::Resume(_) | Action::Provision(_) | Action::Erase(..)) {
                decision.action = Action::Ignore(Obstacle::Refused);
            }
        }
        self
    }

    /// How many disks are kept, written to, and left alone.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.disks.iter().fold((0, 0, 0), |(kept, written, left), decision| match decision.action {
            Action::Keep(_) => (kept + 1, written, left),
            Action::Resume(_) | Action::Provision(_) | Action::Erase(..) => (kept, written + 1, left),
            Action::Leave(_) | Action::Ignore(_) => (kept, written, left + 1),
        })
    }

    /// True when anything is going to be written.
    pub fn writes(&self) -> bool {
        self.disks.iter().any(|decision| {
            matches!(decision.action, Action::Resume(_) | Action::Provision(_) | Action::Erase(..))
        })
    }
}
