//! The document of a node outside the cluster: what it has to wait for before its seed loses its secrets. It holds none itself.

use crate::document::{self, Kind};
use crate::join::{Seed, is_absolute};
use serde::{Deserialize, Serialize};

/// Where the document is. cloud-init writes it (`write_files`) where there is a secret to lose.
pub const PATH: &str = "/etc/kiln/settle.json";
/// Where a node keeps how far it has come.
pub const STATE: &str = "/var/lib/kiln/settle.json";
/// Where the report is.
pub const REPORT: &str = "/var/lib/kiln/settle-report.json";
/// The only version that this code writes and reads.
pub const VERSION: u32 = 1;
/// No honest document is larger; more bytes than this are refused unread.
pub const MAX_BYTES: usize = 64 << 10;

static KIND: Kind = Kind {
    name: "the document",
    damaged: "is damaged",
    version: VERSION,
    most: MAX_BYTES,
    reader: "this kiln-firstboot",
    remedy: document::REBUILD,
};

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// Always [`VERSION`].
    pub version: u32,
    /// Name of the cluster file's cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// systemd units that must not have failed.
    #[serde(default)]
    pub units: Vec<String>,
    /// Files to overwrite and remove.
    #[serde(default)]
    pub shred: Vec<String>,
    /// Where the seed is that is to lose its secrets.
    #[serde(default)]
    pub seed: Seed,
}

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its bytes.
    #[error(transparent)]
    Document(#[from] document::Error),
    /// A field holds what it can't.
    #[error("the document's {0} holds {1:?}, which is not {2}")]
    Field(&'static str, String, &'static str),
}

impl Settle {
    /// Reads a document. Hostile bytes end in an [`Error`], never in a panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let settle: Self = document::read(&KIND, bytes)?;
        settle.check()?;
        Ok(settle)
    }

    /// The document's bytes: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        document::write(self)
    }

    fn check(&self) -> Result<(), Error> {
        let fault = |field, value: &str, want| Err(Error::Field(field, value.to_owned(), want));
        let unit =
            |unit: &&String| unit.is_empty() || unit.starts_with('-') || unit.contains(char::is_whitespace);
        if let Some(bad) = self.units.iter().find(unit) {
            return fault("units", bad, "the name of a systemd unit");
        }
        match self.shred.iter().chain(self.seed.folder()).find(|path| !is_absolute(path)) {
            Some(bad) => fault("shred", bad, "an absolute path without '..'"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, MAX_BYTES, Settle, VERSION};
    use crate::document;
    use crate::join::Seed;
    use proptest::prelude::{any, prop, proptest};

    fn document() -> Settle {
        Settle {
            version: VERSION,
            cluster: "demo".to_owned(),
            node: "storage".to_owned(),
            units: vec!["kiln-target.service".to_owned()],
            shred: vec!["/run/x".to_owned()],
            seed: Seed::Volume,
        }
    }

    #[test]
    fn round_trips_and_faults_are_told_apart() {
        assert_eq!(Settle::parse(&document().to_bytes()).unwrap(), document());
        let error = Settle::parse(br#"{"version": 7, "nodes": []}"#).unwrap_err();
        assert!(matches!(error, Error::Document(document::Error::Version { version: 7, .. })), "{error}");
        let said = |edit: fn(&mut Settle)| {
            let mut settle = document();
            edit(&mut settle);
            Settle::parse(&settle.to_bytes()).unwrap_err().to_string()
        };
        for (found, want) in [
            (said(|one| one.units.push("--now".to_owned())), "the document's units holds \"--now\""),
            (said(|one| one.units.push("a b".to_owned())), "the document's units holds \"a b\""),
            (said(|one| one.shred.push("/a/../b".to_owned())), "the document's shred holds \"/a/../b\""),
            (said(|one| one.seed = Seed::Folder("x".to_owned())), "the document's shred holds \"x\""),
        ] {
            assert!(found.starts_with(want), "{found}");
        }
        assert!(matches!(
            Settle::parse(&vec![b' '; MAX_BYTES + 1]),
            Err(Error::Document(document::Error::TooLarge { .. }))
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Settle::parse(&bytes);
        }
    }
}
