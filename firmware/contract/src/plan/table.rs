//! The plan as text, for the console of a device and for `kiln plan --disks`: what happens to each disk, then what
//! keeps rules from being satisfied, and what to do about it. Plain ASCII, at most 80 columns.

use super::{Action, Obstacle, Place, Plan, Problem};
use crate::machine::{Disk, Machine, Signature, UNSIGNED};
use std::fmt::Write as _;

/// Columns of a console.
const WIDTH: usize = 80;
/// Columns of model and serial number; most serial numbers have no more than 20 characters (ATA, NVMe).
const MODEL: usize = 20;

/// The plan of a machine as a table, with a final newline.
pub fn table(machine: &Machine, plan: &Plan) -> String {
    let names = machine.disks.iter().map(|disk| disk.name.len()).max().unwrap_or(0).clamp(4, 12);
    let mut disks: Vec<&Disk> = machine.disks.iter().collect();
    disks.sort_by(|one, other| one.name.cmp(&other.name));
    let mut text = String::new();
    let left = names + 2 + 10 + 2 + 6 + 2 + MODEL + 2;
    let mut row = |cells: [&str; 5]| {
        let [name, size, transport, model, what] = cells;
        let line = format!("{name:<names$}  {size:>10}  {transport:<6}  {model:<MODEL$}  {what}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    row(["disk", "size", "via", "model, serial number", "what happens"]);
    for disk in &disks {
        let action =
            plan.disks.iter().find(|decision| decision.disk == disk.name).map(|decision| &decision.action);
        let what = match action {
            None => "booted from: not a data disk".to_owned(),
            Some(action) => action_words(action),
        };
        let mut what = wrap(&what, WIDTH - left).into_iter();
        let labels: Vec<String> = [&disk.model, &disk.serial]
            .into_iter()
            .filter(|label| !label.is_empty())
            .map(|label| shorten(label, MODEL))
            .collect();
        let mut labels = labels.into_iter();
        let (size, name) = (human(disk.size), shorten(&disk.name, names));
        let (model, first) = (labels.next().unwrap_or_default(), what.next().unwrap_or_default());
        row([&name, &size, disk.transport.as_str(), &model, &first]);
        loop {
            match (labels.next(), what.next()) {
                (None, None) => break,
                (label, line) => row(["", "", "", &label.unwrap_or_default(), &line.unwrap_or_default()]),
            }
        }
    }
    if disks.is_empty() {
        text.push_str("(no disk at all)\n");
    }
    for problem in &plan.problems {
        text.push('\n');
        let mut indent = "* ";
        for words in problem_words(problem, machine) {
            for line in wrap(&words, WIDTH - 2) {
                let _ = writeln!(text, "{indent}{line}");
                indent = "  ";
            }
        }
    }
    let _ = writeln!(text, "\n{}", summary(plan));
    text
}

/// A size with one decimal: `1.5 GiB`.
pub fn human(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let (unit, one) = units.into_iter().find(|(_, one)| bytes >= *one).unwrap_or(("B", 1));
    let tenths = bytes / one * 10 + bytes % one * 10 / one;
    if one == 1 { format!("{bytes} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

fn summary(plan: &Plan) -> String {
    let writes =
        |action: &Action| matches!(action, Action::Resume(_) | Action::Provision(_) | Action::Erase(..));
    let written: Vec<&str> = plan
        .disks
        .iter()
        .filter(|decision| writes(&decision.action))
        .map(|decision| &*decision.disk)
        .collect();
    let erases = |action: &Action| matches!(action, Action::Erase(..));
    let erased: Vec<&str> = plan
        .disks
        .iter()
        .filter(|decision| erases(&decision.action))
        .map(|decision| &*decision.disk)
        .collect();
    let mut text = match (plan.is_refused(), written.is_empty()) {
        (true, true) => "REFUSED: nothing is written to any data disk.".to_owned(),
        (true, false) => {
            format!("REFUSED: no new disk is taken; only {} is finished.", written.join(", "))
        }
        (false, true) => "Nothing is written to any disk.".to_owned(),
        (false, false) => format!("Written to: {}.", written.join(", ")),
    };
    if !erased.is_empty() {
        let _ = write!(text, " DATA IS LOST on: {}.", erased.join(", "));
    }
    wrap(&text, WIDTH).join("\n")
}

fn action_words(action: &Action) -> String {
    match action {
        Action::Keep(place) => format!("keep as {}", place_words(place)),
        Action::Resume(place) => format!("finish formatting as {}", place_words(place)),
        Action::Provision(place) => format!("format as {}", place_words(place)),
        Action::Erase(place, lost) => {
            format!("ERASE, then format as {}; lost: {}", place_words(place), signature_words(lost))
        }
        Action::Leave(rule) => format!("leave for rule {rule}"),
        Action::Ignore(obstacle) => format!("not touched: {}", obstacle_words(obstacle)),
    }
}

fn place_words(place: &Place) -> String {
    let Place { rule, slot, usage } = place;
    if rule == slot {
        format!("{slot} ({})", usage.as_str())
    } else {
        format!("{slot} of {rule} ({})", usage.as_str())
    }
}

fn obstacle_words(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Unmatched => "no rule fits it".to_owned(),
        Obstacle::Excluded(rule) => format!("rule {rule} excludes it"),
        Obstacle::Spare => "its rules have all the disks they want".to_owned(),
        Obstacle::Removable => "it is removable".to_owned(),
        Obstacle::ReadOnly => "it is read-only".to_owned(),
        Obstacle::Signatures(found) if is_unsigned(found) => {
            format!("it is not blank: it carries {}", signature_words(found))
        }
        Obstacle::Signatures(found) => format!("it carries {}", signature_words(found)),
        Obstacle::ForeignCluster => "a data disk of another cluster".to_owned(),
        Obstacle::ForeignNode(label) => {
            format!("a data disk of this cluster, but none that this node has a rule for: {label}")
        }
        Obstacle::Sectors(size) => {
            format!("a data disk of this node, divided when it showed sectors of {size} bytes")
        }
        Obstacle::Unreadable(reason) => format!("it can't be read: {reason}"),
        Obstacle::Duplicate(disks) => format!("it can't be told from {}", disks.join(", ")),
        Obstacle::TooSmall(least) => format!("smaller than {}", human(*least)),
        Obstacle::Refused => "see below".to_owned(),
    }
}

/// True when there is something, and nothing that anybody knows.
fn is_unsigned(signatures: &[Signature]) -> bool {
    matches!(signatures, [only] if only.kind == UNSIGNED)
}

/// `ext4 "backup" on partition 1, LVM2_member`.
fn signature_words(signatures: &[Signature]) -> String {
    let words = signatures.iter().map(|Signature { kind, label, partition, .. }| {
        if kind == UNSIGNED {
            return format!("data without a signature, {label}");
        }
        let label = if label.is_empty() { String::new() } else { format!(" \"{label}\"") };
        let partition = partition.map(|number| format!(" on partition {number}")).unwrap_or_default();
        format!("{kind}{label}{partition}")
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "something unknown".to_owned() } else { words.join(", ") }
}

/// What is wrong, and what to do next: paragraphs.
/// A problem in words, as one line.
pub fn in_words(problem: &Problem, machine: &Machine) -> String {
    problem_words(problem, machine).join("; ")
}

fn problem_words(problem: &Problem, machine: &Machine) -> Vec<String> {
    let each =
        |disks: &[String]| disks.iter().map(|disk| format!("{disk}: {}", telling(disk, machine))).collect();
    match problem {
        Problem::Missing { rule, slots } => vec![
            format!("Rule {rule}: no disk for {}.", slots.join(", ")),
            "Nothing else that is attached fits its `match:`. Attach the disk, or change the rule."
                .to_owned(),
        ],
        Problem::Guarded { rule, slots, disks } => {
            let slots = slots.join(", ");
            let mut words =
                vec![format!("Rule {rule}: no disk for {slots}. These fit, and may not be taken:")];
            words.extend(disks.iter().map(|(disk, obstacle)| {
                format!("{disk}: {}. {}", obstacle_words(obstacle), way_out(disk, obstacle, machine))
            }));
            words
        }
        Problem::Ambiguous { rule, wanted, disks } => {
            let mut words = vec![
                format!("Rule {rule}: {wanted} wanted, and {} disks fit: {}.", disks.len(), disks.join(", ")),
                "Raise `count:`, or add to its `match:` or `exclude:` what tells them apart:".to_owned(),
            ];
            words.extend::<Vec<String>>(each(disks));
            words
        }
        Problem::Overlap { disk, rules } => {
            let mut words = vec![
                format!("{disk} fits more than one rule: {}.", rules.join(", ")),
                "Add to `match:`, or to `exclude:` of all of them but one, what tells:".to_owned(),
            ];
            words.extend::<Vec<String>>(each(std::slice::from_ref(disk)));
            words
        }
        Problem::Twins { slot, disks } => vec![
            format!("More than one disk says that it is {slot}: {}.", disks.join(", ")),
            "Take out all but one: the copy, or the one with older data. If they are one disk on two paths \
             (multipath, which is not supported), connect one path only."
                .to_owned(),
        ],
        Problem::Erase { serial, disks } => {
            let is_booted = |disk: &&Disk| disk.booted && disk.serial == *serial;
            let next = match machine.disks.iter().find(is_booted) {
                Some(disk) => {
                    format!("The machine was booted from {}. Take the number off the list.", disk.name)
                }
                None => "It has to mean one disk: take the number off the list, or the other disks out."
                    .to_owned(),
            };
            vec![
                format!("`erase:` lists serial number {serial}, which belongs to {}.", disks.join(", ")),
                next,
            ]
        }
    }
}

/// What to do about a disk that fits, but may not be taken.
fn way_out(name: &str, obstacle: &Obstacle, machine: &Machine) -> String {
    let serial =
        machine.disks.iter().find(|disk| disk.name == name).map(|disk| &*disk.serial).unwrap_or_default();
    match obstacle {
        Obstacle::Signatures(found) => {
            let what = if is_unsigned(found) {
                "It may be encrypted as a whole (VeraCrypt, dm-crypt, LUKS with its header elsewhere), or half wiped. "
            } else {
                ""
            };
            let way = if serial.is_empty() {
                "empty it by hand (`blkdiscard`, or zeros all over it): it has no serial number that could be listed \
                 under `erase:`."
                    .to_owned()
            } else {
                format!("list its serial number under `erase:`: {serial}")
            };
            format!("{what}If nothing on it is needed any more, {way}")
        }
        Obstacle::ForeignCluster | Obstacle::ForeignNode(_) => {
            let way = if serial.is_empty() {
                "empty it by hand (`blkdiscard`, or zeros all over it).".to_owned()
            } else {
                format!("take its table off by hand (`wipefs --all`) and list its serial number there: {serial}")
            };
            format!("`erase:` alone does not cover disks of Kiln: if nothing on it is needed any more, {way}")
        }
        Obstacle::Sectors(_) => {
            "What is on it is kept. Attach it as it was then: another bridge or controller, or a setting of the drive, \
             shows sectors of another size."
                .to_owned()
        }
        Obstacle::Removable => {
            format!("If it is meant, name it in `match:`, by {}; if not, take it out.", telling(name, machine))
        }
        Obstacle::ReadOnly => "Make it writable: a switch, a jumper, or the controller's settings.".to_owned(),
        Obstacle::Unreadable(_) => "Look after its cable, then the disk itself.".to_owned(),
        Obstacle::Duplicate(_) => {
            "They have one serial number or WWN: take one out, or, if they are one disk on two paths (multipath, which \
             is not supported), connect one path only."
                .to_owned()
        }
        Obstacle::TooSmall(_) => "Give the rule's `match:` a `min_size:` that leaves it out.".to_owned(),
        Obstacle::Unmatched | Obstacle::Excluded(_) | Obstacle::Spare | Obstacle::Refused => String::new(),
    }
}

/// The word of `match` that means this disk and no other of the machine.
fn telling(name: &str, machine: &Machine) -> String {
    let Some(disk) = machine.disks.iter().find(|disk| disk.name == name) else { return String::new() };
    type Word = fn(&Disk) -> &str;
    let words: [(&str, Word); 3] =
        [("serial", |disk| &disk.serial), ("wwn", |disk| &disk.wwn), ("path", |disk| &disk.path)];
    let tells = |word: Word| {
        !word(disk).is_empty() && machine.disks.iter().filter(|other| word(other) == word(disk)).count() == 1
    };
    let word = words.into_iter().find(|(_, word)| tells(*word));
    word.map_or("nothing that no other disk has".to_owned(), |(key, word)| format!("`{key}: {}`", word(disk)))
}

/// At most `width` characters of a text that a disk gave.
fn shorten(text: &str, width: usize) -> String {
    let text = ascii(text);
    if text.len() <= width { text } else { format!("{}~", &text[..width.saturating_sub(1)]) }
}

/// Foreign bytes on their way to a terminal.
fn ascii(text: &str) -> String {
    let printable = |letter: char| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' };
    text.chars().map(printable).collect()
}

/// Lines of at most `width` characters; a word that is longer is cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in ascii(text).split_ascii_whitespace() {
        let mut word = word;
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut line));
        }
        while word.len() > width {
            let (head, rest) = word.split_at(width);
            lines.push(head.to_owned());
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests;
