//! Where data disks are mounted, and how.

use super::{Check, Rule};
use crate::cluster::file::DataDiskSection;
use crate::cluster::model::DiskRule;
use crate::cluster::read::{Spanned, Text};
use crate::cluster::words;
use crate::diag::{Fault, Span};
use kiln_contract::policy::Use;
use std::collections::{BTreeMap, BTreeSet};

/// Stands for the name of a disk; no path that a file may give has such a character.
pub(super) const NAME: &str = "{}";
/// Where Longhorn's disks are mounted.
const LONGHORN: &str = "/mnt/longhorn";
/// A unit's name has at most 255 characters (systemd.unit(5)), with `.mount` at the end; where the place's first part is
/// a link, `var-` is ahead of it.
const LONGEST_UNIT: usize = 255 - "var-".len() - ".mount".len();
/// Longest place (bytes) that a device takes.
const LONGEST_PLACE: usize = 200;

pub(in crate::cluster::validate) const MOUNT_POINT: Rule = Rule {
    check: words::disks::mount_point,
    what: "a place for a disk",
    code: "mount-point",
    help: "write a whole path below /srv, /mnt, /media or /opt, or below a directory of your own, such as `/srv/data`",
};
const MOUNT_OPTION: Rule = Rule {
    check: words::disks::mount_option,
    what: "a mount option",
    code: "mount-option",
    help: "write each option as an entry of its own, such as `noatime`",
};

impl Check<'_> {
    /// Where the disks of these names are mounted, with [`NAME`] for the name.
    pub(super) fn mount_folder(
        &mut self,
        written: &DataDiskSection,
        usage: Use,
        names: &[String],
    ) -> Option<String> {
        if !matches!(usage, Use::Longhorn | Use::Mount) {
            return None;
        }
        let Some(text) = &written.mount_point else {
            return (usage == Use::Longhorn).then(|| format!("{LONGHORN}/{NAME}"));
        };
        let folder = self.word(text, MOUNT_POINT)?;
        let folder = if names.len() == 1 { folder } else { format!("{folder}/{NAME}") };
        // The last name is the longest.
        let place = folder.replace(NAME, names.last().map_or("", String::as_str));
        // systemd-escape(1): these stay, a slash becomes a hyphen, any other byte becomes `\x2d`.
        let stays = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'.' | b':');
        let unit: usize = place.bytes().skip(1).map(|byte| if stays(byte) { 1 } else { 4 }).sum();
        if unit > LONGEST_UNIT || place.len() > LONGEST_PLACE {
            let message = format!("the place {place:?} is too long for the name of a systemd unit");
            let fault = Fault::error("mount-point", &text.span, message).label("too long");
            self.faults.push(fault.help(
                "shorten it: there is room for 200 characters, and fewer with hyphens, which count as four of 245",
            ));
            return None;
        }
        Some(folder)
    }

    pub(in crate::cluster::validate) fn mount_options(
        &mut self,
        texts: Option<&Spanned<Vec<Text>>>,
    ) -> Vec<String> {
        let texts = texts.map_or(&[][..], |texts| &texts.value);
        texts.iter().filter_map(|text| self.word(text, MOUNT_OPTION)).collect()
    }

    /// Every disk has a place of its own, and none is inside another's: a disk that is missing would take away the
    /// places inside of it.
    pub(super) fn mount_places(&mut self, written: &[DataDiskSection], data: &[DiskRule]) {
        let mut places: BTreeMap<&str, (usize, &Span)> = BTreeMap::new();
        let mut told: BTreeSet<(usize, usize)> = BTreeSet::new();
        for (at, (section, rule)) in written.iter().zip(data).enumerate() {
            let place = section.mount_point.as_ref().or(section.name.as_ref());
            let Some(span) = place.map(|text| &text.span) else { continue };
            for point in rule.slots.iter().filter_map(|slot| slot.mount_point.as_deref()) {
                let Some((first, there)) = places.get(point).copied() else {
                    places.insert(point, (at, span));
                    continue;
                };
                // Rules of one name have been told apart already.
                if data[first].name != rule.name && told.insert((first, at)) {
                    let message = format!("two disks would be mounted at {point}");
                    let fault = Fault::error("duplicate-mount-point", span, message).label("again here");
                    self.faults
                        .push(fault.also(there, "first here").help("give each rule a place of its own"));
                }
            }
        }
        for (point, (inner, span)) in &places {
            let ancestors = point.match_indices('/').map(|(end, _)| &point[..end]);
            for (outer, there) in ancestors.filter_map(|ancestor| places.get(ancestor)) {
                if told.insert((*outer.min(inner), *outer.max(inner))) {
                    let message = format!("{point} is inside the place of another disk");
                    let fault =
                        Fault::error("nested-mount-point", span, message).label("inner").also(there, "outer");
                    self.faults.push(fault.help(
                        "put the two side by side: without the outer disk there would be no place for the inner one",
                    ));
                }
            }
        }
    }
}
