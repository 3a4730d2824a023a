//! The addresses that a node is to have, beside the handoff document: an older helper takes no document with more in it than it
//! knows, and a file that it does not know it leaves alone.

use crate::document::{self, Error, Kind};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where the document is on the CIDATA volume.
pub const PATH: &str = "kiln/addresses.json";
/// Where the booted system finds a copy of it.
pub const RUNTIME_PATH: &str = "/run/kiln/addresses.json";
/// The only version that this code writes and reads.
pub const VERSION: u32 = 1;
/// No honest document is larger; more bytes than this are refused unread.
pub const MAX_BYTES: usize = 64 << 10;

static KIND: Kind = Kind {
    name: "the document of a node's addresses",
    damaged: "is damaged",
    version: VERSION,
    most: MAX_BYTES,
    reader: "this image's helper",
    remedy: document::REBUILD,
};

/// The document. A newer Kiln may have more in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Always [`VERSION`].
    pub version: u32,
    /// Fixed addresses; none where the node asks a DHCP server.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

impl Addresses {
    /// Reads a document. Hostile bytes end in an [`Error`], never in a panic.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        document::read(&KIND, bytes)
    }

    /// The document's bytes: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        document::write(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{Addresses, VERSION};
    use proptest::prelude::{any, prop, proptest};

    #[test]
    fn round_trips_and_newer_ones_are_read() {
        let addresses = vec!["192.168.86.71".parse().unwrap(), "fd00::71".parse().unwrap()];
        let document = Addresses { version: VERSION, addresses };
        assert_eq!(Addresses::parse(&document.to_bytes()).unwrap(), document);
        let newer = br#"{"version":1,"addresses":["192.168.86.71","fd00::71"],"more":[1]}"#;
        assert_eq!(Addresses::parse(newer).unwrap(), document);
        let error = Addresses::parse(br#"{"version":2}"#).unwrap_err().to_string();
        assert!(error.starts_with("the document of a node's addresses has version 2"), "{error}");
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Addresses::parse(&bytes);
        }
    }
}
