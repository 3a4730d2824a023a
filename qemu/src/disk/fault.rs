//! Requests that fail, as rules of QEMU's `blkdebug` driver (QEMU, docs/devel/blkdebug.rst).

use crate::Error;
use serde_json::{Value, json};
use std::ops::Range;

/// Linux's EIO.
const EIO: u32 = 5;
/// How many bytes `blkdebug` calls a sector, whatever the disk's are.
const SECTOR: u64 = 512;
/// Each sector of a range and each request to wait for is a rule, and every request is held against every rule.
const MOST_RULES: u64 = 8192;

/// What a disk is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Flushing; it has no place.
    Flush,
}

impl Operation {
    /// Names of the request and of the event that precedes it, both as QEMU's QAPI schema has them (`BlkdebugIOType`,
    /// `BlkdebugEvent`; block/raw-format.c emits the first two, block/io.c the third).
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("read", "read_aio"),
            Self::Write => ("write", "write_aio"),
            Self::Flush => ("flush", "flush_to_disk"),
        }
    }
}

/// Requests of one kind that end with EIO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which requests.
    pub operation: Operation,
    /// Those that touch these bytes of the disk; all when left out.
    pub bytes: Option<Range<u64>>,
    /// After this many requests of the kind that went well, wherever they were.
    pub after: u32,
}

impl Fault {
    /// Every request of this kind fails.
    pub fn every(operation: Operation) -> Self {
        Self { operation, bytes: None, after: 0 }
    }

    /// The first byte of each sector that a request must touch to fail; none is any.
    fn places(&self, sector_size: u64) -> Vec<Option<u64>> {
        match &self.bytes {
            None => vec![None],
            Some(range) => {
                let begin = range.start / sector_size * sector_size;
                let places = (0..).map(|count| begin + count * sector_size);
                places.take_while(|place| *place < range.end).map(Some).collect()
            }
        }
    }

    /// How many rules it makes.
    fn count(&self, sector_size: u64) -> u64 {
        let places = self
            .bytes
            .as_ref()
            .map_or(1, |range| range.end.div_ceil(sector_size).saturating_sub(range.start / sector_size));
        places + u64::from(self.after)
    }
}

/// The rules by which every request of these kinds fails, in QMP's form.
pub(super) fn always(operations: &[Operation]) -> Value {
    let rule = |operation: &Operation| json!({"event": "none", "iotype": operation.names().0, "errno": EIO});
    operations.iter().map(rule).collect()
}

/// The rules, in the form of `blkdebug`'s `config` file. Counted faults share one counter, `blkdebug`'s state, so that
/// there can be one of them only.
pub(super) fn rules(faults: &[Fault], sector_size: u32) -> Result<String, Error> {
    let sector_size = u64::from(sector_size);
    if faults.iter().filter(|fault| fault.after > 0).count() > 1 {
        return Err(Error::Faults("more than one that begins after some requests"));
    }
    if faults.iter().map(|fault| fault.count(sector_size)).sum::<u64>() > MOST_RULES {
        return Err(Error::Faults("more than 8192 sectors and requests to wait for"));
    }
    let mut text = String::new();
    for fault in faults {
        let (request, event) = fault.operation.names();
        for state in 1..=fault.after {
            text.push_str(&format!(
                "[set-state]\nevent = \"{event}\"\nstate = \"{state}\"\nnew_state = \"{}\"\n\n",
                state + 1
            ));
        }
        // State 0 is any; `none` happens once, when the disk is opened, and holds from there on.
        let (event, state) = if fault.after > 0 { (event, fault.after + 1) } else { ("none", 0) };
        for place in fault.places(sector_size) {
            text.push_str(&format!(
                "[inject-error]\nevent = \"{event}\"\nstate = \"{state}\"\niotype = \"{request}\"\nerrno = \"{EIO}\"\n"
            ));
            if let Some(place) = place {
                text.push_str(&format!("sector = \"{}\"\n", place / SECTOR));
            }
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Fault, Operation, rules};

    #[test]
    fn a_range_is_a_rule_for_each_sector() {
        let fault = Fault { operation: Operation::Read, bytes: Some(4096..4096 + 8193), after: 0 };
        let text = rules(std::slice::from_ref(&fault), 4096).unwrap();
        let sectors: Vec<&str> = text.lines().filter(|line| line.starts_with("sector")).collect();
        assert_eq!(sectors, ["sector = \"8\"", "sector = \"16\"", "sector = \"24\""]);
        assert!(text.starts_with(
            "[inject-error]\nevent = \"none\"\nstate = \"0\"\niotype = \"read\"\nerrno = \"5\"\nsector = \"8\"\n\n"
        ));
        assert_eq!(rules(&[fault], 512).unwrap().matches("[inject-error]").count(), 17);
        assert_eq!(rules(&[], 512).unwrap(), "");
    }

    #[test]
    fn counted_requests_go_well_first() {
        let fault = Fault { after: 2, ..Fault::every(Operation::Write) };
        let wanted = "[set-state]\nevent = \"write_aio\"\nstate = \"1\"\nnew_state = \"2\"\n\n\
            [set-state]\nevent = \"write_aio\"\nstate = \"2\"\nnew_state = \"3\"\n\n\
            [inject-error]\nevent = \"write_aio\"\nstate = \"3\"\niotype = \"write\"\nerrno = \"5\"\n\n";
        assert_eq!(rules(&[fault], 512).unwrap(), wanted);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let late = Fault { after: 1, ..Fault::every(Operation::Flush) };
        assert!(rules(&[late.clone(), late], 512).unwrap_err().to_string().contains("more than one"));
        let wide = Fault { bytes: Some(0..u64::MAX), ..Fault::every(Operation::Read) };
        assert!(rules(&[wide], 512).unwrap_err().to_string().contains("more than 8192"));
    }
}
