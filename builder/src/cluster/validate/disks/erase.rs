//! `erase`: the only way to have a disk emptied.

use super::{Check, Rule, Seen};
use crate::cluster::model::DiskRule;
use crate::cluster::read::Text;
use crate::cluster::words;
use crate::diag::Fault;
use kiln_contract::glob;
use kiln_contract::policy::{Match, Use};

const SERIAL: Rule = Rule {
    check: words::disks::serial,
    what: "a serial number",
    code: "erase-serial",
    help: "name each disk that may be emptied by its own serial number, as `lsblk -o NAME,SERIAL` shows it",
};

/// Serial numbers that a device takes.
const MOST: usize = 256;

impl Check<'_> {
    pub(super) fn erase(&mut self, texts: Option<&Vec<Text>>, data: &[DiskRule]) -> Vec<String> {
        let mut seen = Seen::new("duplicate-erase", "the serial number", "keep one of the two");
        let mut serials = Vec::new();
        if let Some(text) = texts.and_then(|texts| texts.get(MOST)) {
            let message = format!("more than {MOST} serial numbers are listed");
            let fault = Fault::error("erase-serial", &text.span, message).label("one too many");
            self.faults.push(
                fault.help("list those of the disks that are in the node, under the node's own `disks`"),
            );
        }
        for text in texts.into_iter().flatten() {
            let Some(serial) = self.word(text, SERIAL) else { continue };
            seen.check(&serial, &text.span, self.faults);
            if !data.iter().any(|rule| may_take(rule, &serial)) {
                let message =
                    format!("no rule can take the disk {serial:?}, so it is not going to be emptied");
                let fault = Fault::warning("erase-unmatched", &text.span, message).label("left as it is");
                self.faults.push(fault.help(
                    "add a rule under `data` that matches it and writes to it, or remove it from this list",
                ));
            }
            serials.push(serial);
        }
        serials
    }
}

/// False when the rule never takes a disk of this serial number, or never writes to it.
fn may_take(rule: &DiskRule, serial: &str) -> bool {
    let fits = |pattern: &String| glob::matches(pattern.as_bytes(), serial.as_bytes());
    let excludes = |exclude: &Match| {
        let only = Match { serial: exclude.serial.clone(), ..Match::default() };
        *exclude == only && exclude.serial.as_ref().is_some_and(fits)
    };
    rule.usage != Use::Raw
        && rule.matching.serial.as_ref().is_none_or(fits)
        && !rule.exclude.iter().any(excludes)
}
