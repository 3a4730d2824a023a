//! `iscsi` and `iscsi_target` of a node, as they are written.

use super::FileSystem;
use crate::cluster::read::{Spanned, Text, document};

document! {
    /// A LUN that the node mounts.
    IscsiSection, "a LUN of `iscsi`",
    required {
        /// Name of the LUN, unique in the node.
        #[schemars(extend("pattern" = "^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$", "examples" = ["storage"]))]
        name: Text,
        /// The target's iSCSI name, or the node of this cluster that serves it.
        #[schemars(extend("examples" = ["iqn.2025-01.home:node1.storage", "node1"]))]
        target: Text,
        /// Where the LUN is mounted.
        #[schemars(extend("pattern" = "^/", "examples" = ["/storage"]))]
        mount_point: Text,
    }
    optional {
        /// Address of the target, with its port unless that is 3260. A node of this cluster has its own when left out.
        #[schemars(extend("examples" = ["192.168.1.10", "192.168.1.10:3260", "[2001:db8::10]:3260"]))]
        portal: Text,
        /// Number of the LUN. 0 when left out; of a node of this cluster, the one LUN that it has for this node.
        #[schemars(range(min = 0, max = 255))]
        lun: Spanned<u32>,
        /// Name and password, when the target asks for them.
        chap: ChapSection,
        /// File system. `ext4` when left out.
        filesystem: Spanned<FileSystem>,
        /// Options to mount with, beside those that Kiln sets.
        #[schemars(extend("examples" = [["noatime"]]))]
        mount_options: Spanned<Vec<Text>>,
        /// Formats the LUN once, when it is blank. `true` when left out; `false` mounts only what is there.
        format: Spanned<bool>,
        /// Folder below the mount point that Longhorn keeps replicas in.
        #[schemars(extend("examples" = ["longhorn"]))]
        longhorn: Text,
    }
}

document! {
    /// How the two sides prove who they are.
    ChapSection, "`chap`",
    required {
        /// What the initiator calls itself.
        user: Text,
        /// Its password: 12 to 16 characters.
        password: Text,
    }
    optional {
        /// What the target must answer with.
        mutual: CredentialsSection,
    }
}

document! {
    /// A name and its password.
    CredentialsSection, "`mutual`",
    required {
        /// What the target calls itself.
        user: Text,
        /// Its password: 12 to 16 characters, another one than the initiator's.
        password: Text,
    }
    optional {}
}

document! {
    /// The LUNs that the node serves, from a volume group or from a folder.
    IscsiTargetSection, "`iscsi_target`",
    required {
        /// The LUNs.
        #[schemars(length(min = 1))]
        luns: Spanned<Vec<ServedLunSection>>,
    }
    optional {
        /// The target's iSCSI name. It derives from cluster and node when left out.
        #[schemars(extend("examples" = ["iqn.2025-01.home:node1.storage"]))]
        name: Text,
        /// LVM volume group that holds the LUNs: the name of a rule of the node's data disks with `use: lvm`.
        #[schemars(extend("examples" = ["data"]))]
        volume_group: Text,
        /// LUNs of the volume group take room as they are written to, so that together they may be larger than it. `false`
        /// when left out: each has all of its size from the start.
        thin: Spanned<bool>,
        /// Folder that holds the LUNs as files, instead.
        #[schemars(extend("pattern" = "^/", "examples" = ["/srv/luns"]))]
        folder: Text,
        /// TCP port. 3260 when left out.
        #[schemars(range(min = 1, max = 65535))]
        port: Spanned<u32>,
        /// Name and password of initiators that are not nodes of this cluster. Those of nodes are in their `iscsi`.
        chap: ChapSection,
    }
}

document! {
    /// A LUN that the node serves.
    ServedLunSection, "a LUN of `iscsi_target`",
    required {
        /// Name of the LUN: the logical volume's, or the file's.
        #[schemars(extend("pattern" = "^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$", "examples" = ["node2"]))]
        name: Text,
        /// Its size with the unit, such as `100GB`. A LUN that exists keeps the size that it has.
        #[schemars(extend("pattern" = "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$", "examples" = ["100GB"]))]
        size: Text,
        /// Who may use it: nodes of this cluster, or iSCSI names of others.
        #[schemars(length(min = 1))]
        initiators: Spanned<Vec<Text>>,
    }
    optional {
        /// Its number. Its place in the list, from 0, when left out.
        #[schemars(range(min = 0, max = 255))]
        lun: Spanned<u32>,
    }
}
