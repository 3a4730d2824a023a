//! The handoff document: what the builder tells the device about itself, as JSON in the seed partition.

use crate::credentials::Whereabouts;
use crate::document::{self, Kind};
use crate::iscsi::{Credentials, Iscsi};
use crate::memory::Memory;
use crate::policy::Policy;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where the document is on the CIDATA volume.
pub const PATH: &str = "kiln/handoff.json";
/// Where the booted system finds a copy of it, readable by root alone.
pub const RUNTIME_PATH: &str = "/run/kiln/handoff.json";
/// Where cloud-init finds its documents: copied there, at each boot, from the seed of the disk that was booted.
pub const SEED_FOLDER: &str = "/run/kiln/seed";
/// The only version that this code writes and reads.
pub const VERSION: u32 = 2;
/// No honest document is larger; more bytes than this are refused unread.
pub const MAX_BYTES: usize = 1 << 20;

static KIND: Kind = Kind {
    name: "the handoff document",
    damaged: "is damaged",
    version: VERSION,
    most: MAX_BYTES,
    reader: "this image's helper",
    remedy: document::REBUILD,
};

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// Always [`VERSION`].
    pub version: u32,
    /// Where its CHAP names and passwords are; nothing when it has none. Near the beginning, in the file's first sector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Whereabouts>,
    /// The cluster.
    pub cluster: Cluster,
    /// The node.
    pub node: Node,
    /// The partitions of its own disk.
    pub partitions: Partitions,
    /// What its disks are for.
    #[serde(default)]
    pub disks: Policy,
    /// What its memory is for.
    #[serde(default)]
    pub memory: Memory,
    /// What it has of other machines' disks, and what others have of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<Iscsi>,
}

/// Which cluster the node belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Identifier from which all others are derived.
    pub id: Uuid,
    /// Name in the cluster file.
    pub name: String,
}

/// Who the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name in the cluster file; the host name.
    pub name: String,
    /// What /etc/machine-id holds (machine-id(5): 32 lower-case hexadecimal digits).
    pub machine_id: String,
}

/// Unique partition GUIDs, as the GPT has them: those that the image carries, and those that the first boot makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// EFI system partition.
    pub esp: Uuid,
    /// The seed itself.
    pub cidata: Uuid,
    /// The root to mount.
    pub root_a: Uuid,
    /// The other root slot, made at first boot.
    pub root_b: Uuid,
    /// The state partition, made at first boot.
    pub state: Uuid,
    /// UUID of the state partition's file system.
    pub state_filesystem: Uuid,
}

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its bytes.
    #[error(transparent)]
    Document(#[from] document::Error),
    /// A field holds what it can't.
    #[error("the handoff document's {field} is {value:?}, which is not {want}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        want: &'static str,
    },
}

impl Handoff {
    /// Reads a document. Hostile bytes end in an [`Error`], never in a panic. CHAP names and passwords that it holds no more
    /// are empty.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut handoff: Self = document::read(&KIND, bytes)?;
        handoff.check()?;
        if let (true, Some(iscsi)) = (handoff.has_moved(), &mut handoff.iscsi) {
            iscsi
                .credentials_mut()
                .for_each(|one| *one = Credentials { user: String::new(), password: Secret::new("") });
        }
        Ok(handoff)
    }

    /// The document's bytes: pretty JSON with a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        document::write(self)
    }

    /// Whether the node has the CHAP names and passwords, and the document none.
    pub fn has_moved(&self) -> bool {
        matches!(self.credentials, Some(Whereabouts::Node(_)))
    }

    fn check(&self) -> Result<(), Error> {
        let id = &self.node.machine_id;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 32 || !id.bytes().all(hex) || id.bytes().all(|byte| byte == b'0') {
            let want = "32 lower-case hexadecimal digits, not all zero";
            return Err(Error::Field { field: "node.machine_id", value: id.clone(), want });
        }
        if let Some((field, value, want)) = self.iscsi.as_ref().and_then(Iscsi::fault) {
            return Err(Error::Field { field, value: value.to_owned(), want });
        }
        let credentials = self.iscsi.iter().filter(|_| !self.has_moved()).flat_map(Iscsi::credentials);
        if let Some((field, value, want)) = credentials.into_iter().find_map(Credentials::fault) {
            return Err(Error::Field { field, value: value.to_owned(), want });
        }
        let Partitions { esp, cidata, root_a, root_b, state, state_filesystem } = self.partitions;
        let ids = [esp, cidata, root_a, root_b, state, state_filesystem];
        for (at, id) in ids.iter().enumerate() {
            if id.is_nil() || ids[..at].contains(id) {
                let want = "an identifier that no other partition has";
                return Err(Error::Field { field: "partitions", value: id.to_string(), want });
            }
        }
        let faults = self.disks.check().and_then(|()| self.memory.check());
        faults.map_err(|(field, value, want)| Error::Field { field, value, want })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cluster, Error, Handoff, MAX_BYTES, Memory, Node, Partitions, Policy, VERSION};
    use crate::document;
    use proptest::prelude::{any, prop, proptest};
    use uuid::Uuid;

    fn document() -> Handoff {
        Handoff {
            version: VERSION,
            credentials: None,
            cluster: Cluster { id: Uuid::from_u128(1), name: "demo".to_owned() },
            node: Node { name: "k3s1".to_owned(), machine_id: "0123456789abcdef0123456789abcdef".to_owned() },
            partitions: Partitions {
                esp: Uuid::from_u128(2),
                cidata: Uuid::from_u128(3),
                root_a: Uuid::from_u128(4),
                root_b: Uuid::from_u128(5),
                state: Uuid::from_u128(6),
                state_filesystem: Uuid::from_u128(7),
            },
            disks: Policy::default(),
            memory: Memory::default(),
            iscsi: None,
        }
    }

    #[test]
    fn round_trips() {
        assert_eq!(Handoff::parse(&document().to_bytes()).unwrap(), document());
    }

    /// A newer document may have any other shape: its version is what is said.
    #[test]
    fn another_version_is_named() {
        let error = Handoff::parse(br#"{"version": 7, "nodes": []}"#).unwrap_err();
        assert!(matches!(error, Error::Document(document::Error::Version { version: 7, .. })), "{error}");
        assert!(error.to_string().contains("version 7"), "{error}");
    }

    #[test]
    fn faults_are_told_apart() {
        let text = String::from_utf8(document().to_bytes()).unwrap();
        let bad_id = text.replace("0123456789abcdef0123456789abcdef", "0123");
        assert!(matches!(
            Handoff::parse(bad_id.as_bytes()),
            Err(Error::Field { field: "node.machine_id", .. })
        ));
        let zeros = text.replace("0123456789abcdef0123456789abcdef", &"0".repeat(32));
        assert!(matches!(Handoff::parse(zeros.as_bytes()), Err(Error::Field { .. })));
        let unknown = text.replace("\"node\"", "\"nodes\"");
        assert!(matches!(
            Handoff::parse(unknown.as_bytes()),
            Err(Error::Document(document::Error::Damaged { .. }))
        ));
        assert!(matches!(
            Handoff::parse(&text.as_bytes()[..40]),
            Err(Error::Document(document::Error::Damaged { .. }))
        ));
        assert!(matches!(
            Handoff::parse(&vec![b' '; MAX_BYTES + 1]),
            Err(Error::Document(document::Error::TooLarge { .. }))
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Handoff::parse(&bytes);
        }

        #[test]
        fn damaged_documents_never_panic(at in 0_usize..400, byte: u8, cut in 0_usize..500) {
            let mut bytes = document().to_bytes();
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
            bytes.truncate(cut);
            let _ = Handoff::parse(&bytes);
        }
    }
}
