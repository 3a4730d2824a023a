//! Reading a record. It was made on another machine and may have been edited since: nothing in it is believed.

use super::{Machine, VERSION};
use crate::document::{self, Kind};
use std::collections::BTreeSet;

/// No honest record is larger (a disk takes about a KiB); more bytes than this are refused unread.
pub const MAX_BYTES: usize = 16 << 20;

static KIND: Kind = Kind {
    name: "it",
    damaged: "is not a record of a machine's disks",
    version: VERSION,
    most: MAX_BYTES,
    reader: "this kiln",
    remedy: "record the machine with its own helper",
};

/// Disks that a record may have: Linux machines with more exist in data centres only, on multipath, which is refused.
const MOST_DISKS: usize = 4096;

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its bytes.
    #[error(transparent)]
    Document(#[from] document::Error),
    /// More disks than [`MOST_DISKS`].
    #[error("it has {0} disks, more than any machine")]
    TooMany(usize),
    /// A kernel name that the kernel gives to no disk.
    #[error("it has a disk named {0:?}, which is no name that Linux gives to one")]
    Name(String),
    /// Two disks of one name.
    #[error("it has two disks named {0:?}")]
    Twice(String),
}

impl Machine {
    /// Reads a record. Hostile bytes end in an [`Error`], never in a panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let machine: Self = document::read(&KIND, bytes)?;
        if machine.disks.len() > MOST_DISKS {
            return Err(Error::TooMany(machine.disks.len()));
        }
        let mut names = BTreeSet::new();
        for disk in &machine.disks {
            // sysfs writes `!` for the slash of names such as cciss/c0d0.
            let fits =
                |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '!');
            if disk.name.is_empty() || disk.name.len() > 64 || !disk.name.chars().all(fits) {
                return Err(Error::Name(disk.name.chars().take(64).collect()));
            }
            if !names.insert(disk.name.as_str()) {
                return Err(Error::Twice(disk.name.clone()));
            }
        }
        Ok(machine)
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, MAX_BYTES};
    use crate::document;
    use crate::machine::Machine;
    use proptest::prelude::{any, prop, proptest};

    const RECORD: &str = r#"{"version": 1, "product": "QEMU", "disks": [
        {"name": "sda", "size": 1000, "sector_size": 512, "transport": "sata", "content": "blank"},
        {"name": "sdb", "size": 1000, "sector_size": 512, "transport": "usb", "removable": true,
         "content": {"signatures": [{"kind": "ext4"}]}}]}"#;

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(Machine::parse(RECORD.as_bytes()).unwrap().disks.len(), 2);
        let error = |text: &str| Machine::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(error(""), Error::Document(document::Error::Damaged { .. })));
        assert!(matches!(error("{}"), Error::Document(document::Error::Damaged { .. })));
        assert!(matches!(
            error(r#"{"version": 2, "machines": 1}"#),
            Error::Document(document::Error::Version { version: 2, .. })
        ));
        assert!(matches!(
            error(&RECORD.replace("sector_size", "sectors")),
            Error::Document(document::Error::Damaged { .. })
        ));
        assert!(matches!(error(&RECORD.replace("sdb", "sda")), Error::Twice(_)));
        assert!(matches!(error(&RECORD.replace("sdb", "")), Error::Name(_)));
        assert!(matches!(error(&RECORD.replace("sdb", "../x")), Error::Name(_)));
        assert!(matches!(
            error(&" ".repeat(MAX_BYTES + 1)),
            Error::Document(document::Error::TooLarge { .. })
        ));
        let disk = |at: usize| RECORD.split('\n').nth(1).unwrap().replace("sda", &format!("d{at}"));
        let many: Vec<String> =
            (0..5000).map(disk).map(|line| line.trim().trim_end_matches(',').to_owned()).collect();
        assert!(matches!(
            error(&format!(r#"{{"version": 1, "disks": [{}]}}"#, many.join(","))),
            Error::TooMany(5000)
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Machine::parse(&bytes);
        }

        #[test]
        fn damaged_records_never_panic(at in 0_usize..400, byte: u8, cut in 0_usize..500) {
            let mut bytes = RECORD.as_bytes().to_vec();
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
            bytes.truncate(cut);
            let _ = Machine::parse(&bytes);
        }
    }
}
