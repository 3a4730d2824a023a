//! `match` and `exclude`: which disks a rule takes.

use super::Check;
use crate::cluster::file::MatchSection;
use crate::cluster::read::Text;
use crate::cluster::size;
use crate::diag::Fault;
use kiln_contract::policy::Match;

/// No name that a disk has is longer (NVMe's model has 40 bytes; names below by-id add the serial number's 20 and more).
const LONGEST: usize = 255;

impl Check<'_> {
    /// What disks are recognised by; `key` is where that stands.
    pub(super) fn matching(&mut self, section: &MatchSection, key: &str) -> Match {
        let mut pattern =
            |text: &Option<Text>, check| text.as_ref().and_then(|text| self.pattern(text, check));
        let mut matching = Match {
            serial: pattern(&section.serial, plain),
            wwn: pattern(&section.wwn, wwn),
            by_id: pattern(&section.by_id, by_id),
            model: pattern(&section.model, plain),
            vendor: pattern(&section.vendor, plain),
            path: pattern(&section.path, by_path),
            transport: section.transport.as_ref().map(|word| word.value.into()),
            rotational: section.rotational.as_ref().map(|word| word.value),
            min_size: None,
            max_size: None,
        };
        matching.min_size = section.min_size.as_ref().and_then(|text| self.size(text, size::exact));
        matching.max_size = section.max_size.as_ref().and_then(|text| self.size(text, size::exact));
        if let (Some(min), Some(max), Some(first), Some(second)) =
            (matching.min_size, matching.max_size, &section.min_size, &section.max_size)
            && min > max
        {
            let message = format!("no disk has at least {} and at most {}", first.value, second.value);
            let fault = Fault::error("disk-size", &first.span, message).label("the least");
            self.faults
                .push(fault.also(&second.span, "the greatest").help("exchange the two, or remove one"));
        }
        // An empty mapping whose only word was refused is not an empty one.
        if matching == Match::default() && !self.faulty(&section.span) {
            let (message, help) = match key {
                "match" => (
                    "an empty `match` would take any disk",
                    "name the disks by one or more of serial, wwn, by_id, model, vendor, transport, rotational, \
                     min_size, max_size and path; `lsblk -o NAME,SERIAL,WWN,MODEL,VENDOR,TRAN,ROTA,SIZE` shows them",
                ),
                _ => (
                    "an empty entry of `exclude` would leave out every disk",
                    "remove it, or say which disks",
                ),
            };
            self.faults.push(Fault::error("empty-match", &section.span, message).label("empty").help(help));
        }
        matching
    }

    fn pattern(&mut self, text: &Text, check: Fits) -> Option<String> {
        let Err((reason, help)) = general(&text.value).and_then(|()| check(&text.value)) else {
            return Some(text.value.clone());
        };
        let message = format!("{:?} fits no disk: {reason}", text.value);
        self.faults.push(Fault::error("disk-pattern", &text.span, message).label("here").help(help));
        None
    }
}

/// The reason why a pattern fits no disk, and the way out.
type Fits = fn(&str) -> Result<(), (&'static str, &'static str)>;

fn general(text: &str) -> Result<(), (&'static str, &'static str)> {
    if text.is_empty() {
        Err(("it is empty", "remove the key: what is not named may be anything"))
    } else if text.len() > LONGEST {
        Err(("it has more than 255 bytes", "give a shorter one: `*` stands for any characters"))
    } else if text.trim() != text {
        Err(("blanks at its ends are not part of what disks say", "remove the blanks"))
    } else if text.chars().any(char::is_control) {
        Err(("it has a character that can't be printed", "write `?` for a character that you don't know"))
    } else {
        Ok(())
    }
}

fn plain(_: &str) -> Result<(), (&'static str, &'static str)> {
    Ok(())
}

fn wwn(text: &str) -> Result<(), (&'static str, &'static str)> {
    if text.starts_with("wwn-") || text.starts_with("nvme-") {
        return Err((
            "that is its name below /dev/disk/by-id",
            "write the key `by_id` for it, or leave out what is ahead of `0x`, `eui.` or `nvme.`",
        ));
    }
    Ok(())
}

fn by_id(text: &str) -> Result<(), (&'static str, &'static str)> {
    name(text, "leave out `/dev/disk/by-id/`: `ls /dev/disk/by-id` shows the names")
}

fn by_path(text: &str) -> Result<(), (&'static str, &'static str)> {
    name(
        text,
        "write a name as `ls /dev/disk/by-path` shows it, without the folder: names such as /dev/sda change",
    )
}

fn name(text: &str, help: &'static str) -> Result<(), (&'static str, &'static str)> {
    if text.contains('/') { Err(("names in there have no `/`", help)) } else { Ok(()) }
}
