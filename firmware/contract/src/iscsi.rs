//! iSCSI (RFC 7143): the LUNs that a node uses, and those that it serves to others.

use crate::policy::FileSystem;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// TCP port of iSCSI targets (RFC 7143, section 13.2, and IANA's registry).
pub const PORT: u16 = 3260;
/// Highest LUN of the single-level form that every system writes in the same way (SAM-5, 4.7.7.2).
pub const MOST_LUN: u16 = 255;
/// Most bytes of a name (RFC 7143, section 4.2.7.1).
const MOST_NAME: usize = 223;

/// iSCSI on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Iscsi {
    /// The node's name as an initiator.
    pub initiator: String,
    /// What it mounts.
    #[serde(default)]
    pub luns: Vec<Lun>,
    /// What it serves.
    #[serde(default)]
    pub target: Option<Target>,
}

/// A LUN that the node mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lun {
    /// Name in the cluster file, unique in the node.
    pub name: String,
    /// Address or host name of the portal, an IPv6 address without brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// The target's name.
    pub target: String,
    /// Number of the LUN, at most [`MOST_LUN`].
    pub lun: u16,
    /// Name and password; nothing when the target asks for none.
    #[serde(default)]
    pub chap: Option<Chap>,
    /// Where it is mounted.
    pub mount_point: String,
    /// Its file system.
    pub filesystem: FileSystem,
    /// Options to mount with, beside those that Kiln sets.
    #[serde(default)]
    pub mount_options: Vec<String>,
    /// Formatted when it is blank; else only what is there is mounted.
    pub format: bool,
    /// Unique GUID of the partition that Kiln makes on it.
    pub partition: Uuid,
    /// UUID of the file system that Kiln makes on that.
    pub uuid: Uuid,
    /// Longhorn keeps replicas on it.
    #[serde(default)]
    pub longhorn: Option<Longhorn>,
}

/// A Longhorn disk on a mounted LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Longhorn {
    /// Folder below the mount point.
    pub folder: String,
    /// UUID in `longhorn-disk.cfg`.
    pub uuid: Uuid,
}

/// How an initiator proves who it is (RFC 7143, section 12.1), and how the target does, when it is asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chap {
    /// What the initiator says.
    pub initiator: Credentials,
    /// What the target must say.
    #[serde(default)]
    pub target: Option<Credentials>,
}

/// A name and its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// What a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The target's name.
    pub name: String,
    /// Address to listen on, as targetcli writes it: `0.0.0.0`, `[::0]`.
    pub listen: String,
    /// TCP port to listen on.
    pub port: u16,
    /// Where the LUNs are kept.
    pub store: Store,
    /// LUNs of a volume group take room as they are written to, out of a pool that all share: together they may be larger
    /// than it. False in documents of builders that know nothing of it. Files are sparse without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub thin: bool,
    /// The LUNs.
    pub luns: Vec<ServedLun>,
}

/// Where LUNs are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Logical volumes of this volume group: that of the data disks' rule of the same name.
    VolumeGroup(String),
    /// Files in this folder.
    Folder(String),
}

/// A LUN that a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedLun {
    /// Name: the logical volume's, or the file's without its ending.
    pub name: String,
    /// Number, the same for every initiator; at most [`MOST_LUN`].
    pub lun: u16,
    /// Size in bytes, a multiple of 1 MiB.
    pub bytes: u64,
    /// Serial number that initiators see.
    pub serial: Uuid,
    /// Who may use it.
    pub initiators: Vec<Initiator>,
}

/// Who may use a LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initiator {
    /// Its name.
    pub name: String,
    /// How it proves that; nothing when it need not.
    #[serde(default)]
    pub chap: Option<Chap>,
}

/// Why `text` is not an iSCSI name (RFC 7143, section 4.2.7); nothing when it is one.
pub fn name_fault(text: &str) -> Option<&'static str> {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':');
    if text.len() > MOST_NAME {
        return Some("it has more than 223 bytes");
    }
    if let Some(rest) = text.strip_prefix("eui.") {
        return (rest.len() != 16 || !hex(rest)).then_some("`eui.` is followed by 16 hexadecimal digits");
    }
    if let Some(rest) = text.strip_prefix("naa.") {
        let long = matches!(rest.len(), 16 | 32);
        return (!long || !hex(rest)).then_some("`naa.` is followed by 16 or 32 hexadecimal digits");
    }
    let Some(rest) = text.strip_prefix("iqn.") else { return Some("it does not begin with `iqn.`") };
    let digits = |range: std::ops::Range<usize>| {
        rest.get(range).is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let dated = digits(0..4) && digits(5..7) && rest.as_bytes().get(4) == Some(&b'-');
    if !dated || rest.as_bytes().get(7) != Some(&b'.') {
        return Some("`iqn.` is followed by a year, a month and a dot, as in `iqn.2025-01.`");
    }
    if text.chars().any(|c| c.is_ascii_uppercase()) {
        return Some("it has upper-case letters");
    }
    let authority = rest.get(8..).unwrap_or_default().split(':').next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with('.') || authority.ends_with('.') {
        return Some("a domain name, turned around, stands behind the date, as in `iqn.2025-01.home:disk`");
    }
    (!text.chars().all(plain)).then_some("it has a character other than a-z, 0-9, `-`, `.` and `:`")
}

/// Why `text` can't be a user's name or a password of CHAP; nothing when it can. Never shows the text.
pub fn credential_fault(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("it is empty"),
        _ if text.len() > 255 => Some("it has more than 255 bytes"),
        _ if !text.chars().all(|c| c.is_ascii_graphic() || c == ' ') => {
            Some("it has a character outside printable ASCII")
        }
        _ if text.trim() != text => Some("it begins or ends with a blank"),
        // iscsi_target_configfs.c takes this word for "none".
        _ if text.starts_with("NULL") => Some("it begins with `NULL`, which Linux targets take for none"),
        // idbm.c of open-iscsi shows an absent value so, and reads it so, too.
        "<empty>" => Some("open-iscsi takes `<empty>` for none"),
        _ => None,
    }
}

/// Why `text` can't be a place in the file system; nothing when it can: absolute, and each part a plain name.
pub fn path_fault(text: &str) -> Option<&'static str> {
    let Some(rest) = text.strip_prefix('/') else { return Some("it does not begin with `/`") };
    relative_path_fault(rest)
}

/// As [`path_fault`], of a path below another.
pub fn relative_path_fault(text: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@');
    if text.len() > 200 {
        return Some("it is longer than 200 bytes");
    }
    text.split('/').find_map(|part| match part {
        "" => Some("it has an empty part: a slash too many"),
        "." | ".." => Some("it has `.` or `..` in it"),
        _ if !part.chars().all(plain) => {
            Some("it has a character other than letters, digits, `-`, `_`, `.`, `+` and `@`")
        }
        _ => None,
    })
}

/// Why `text` can't be a host; nothing when it may be an address or a name.
pub fn host_fault(text: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let name =
        !text.is_empty() && text.len() <= 253 && !text.starts_with(['-', '.']) && text.chars().all(plain);
    (!name && text.parse::<std::net::IpAddr>().is_err()).then_some("it is neither an address nor a host name")
}

/// Why `text` can't be the name of a LUN or of a volume group; nothing when it can.
pub fn label_fault(text: &str) -> Option<&'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match text.as_bytes() {
        [] => Some("it is empty"),
        bytes if bytes.len() > 31 => Some("it has more than 31 characters"),
        [b'-', ..] | [.., b'-'] => Some("it begins or ends with a hyphen"),
        bytes if !bytes.iter().all(|byte| inner(*byte)) => {
            Some("it has a character other than a-z, 0-9 and the hyphen")
        }
        _ => None,
    }
}

/// Why `text` can't be an option of mount(8); nothing when it can.
pub fn mount_option_fault(text: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | ':' | '/' | '+');
    match text {
        "" => Some("it is empty"),
        _ if !text.chars().all(plain) => Some("it has a character that no option has: one option an entry"),
        _ => None,
    }
}

/// A field, what it holds (nothing of a secret) and what it may hold.
type Fault<'a> = (&'static str, &'a str, &'static str);

impl Iscsi {
    /// What is wrong with it, names and passwords for CHAP aside, if anything is.
    pub(crate) fn fault(&self) -> Option<Fault<'_>> {
        let initiator = name_fault(&self.initiator)
            .map(|_| ("iscsi.initiator", self.initiator.as_str(), "an iSCSI name"));
        let luns = || self.luns.iter().find_map(Lun::fault);
        initiator.or_else(luns).or_else(|| self.target.as_ref().and_then(Target::fault))
    }
}

impl Lun {
    fn fault(&self) -> Option<Fault<'_>> {
        let bad_option = self.mount_options.iter().find(|option| mount_option_fault(option).is_some());
        let folder = self.longhorn.as_ref().map(|longhorn| longhorn.folder.as_str());
        let bad_folder = folder.filter(|folder| relative_path_fault(folder).is_some());
        if label_fault(&self.name).is_some() {
            Some(("iscsi.luns.name", &self.name, "a name of a-z, 0-9 and inner hyphens"))
        } else if host_fault(&self.host).is_some() {
            Some(("iscsi.luns.host", &self.host, "an address or a host name"))
        } else if name_fault(&self.target).is_some() {
            Some(("iscsi.luns.target", &self.target, "an iSCSI name"))
        } else if self.lun > MOST_LUN {
            Some(("iscsi.luns.lun", "more than 255", "a LUN"))
        } else if path_fault(&self.mount_point).is_some() {
            Some(("iscsi.luns.mount_point", &self.mount_point, "an absolute path of plain names"))
        } else if let Some(option) = bad_option {
            Some(("iscsi.luns.mount_options", option, "an option of mount(8)"))
        } else {
            bad_folder.map(|folder| ("iscsi.luns.longhorn.folder", folder, "a path of plain names"))
        }
    }
}

impl Credentials {
    /// What is wrong with them, if anything is.
    pub(crate) fn fault(&self) -> Option<Fault<'_>> {
        let user = credential_fault(&self.user);
        let user = user.map(|_| ("iscsi chap.user", self.user.as_str(), "a name for CHAP"));
        let secret = || credential_fault(self.password.reveal());
        user.or_else(|| secret().map(|_| ("iscsi chap.password", "not shown", "a password for CHAP")))
    }
}

impl Target {
    fn fault(&self) -> Option<Fault<'_>> {
        let address = self.listen.trim_matches(['[', ']']);
        if name_fault(&self.name).is_some() {
            return Some(("iscsi.target.name", &self.name, "an iSCSI name"));
        }
        if address.parse::<std::net::IpAddr>().is_err() {
            return Some(("iscsi.target.listen", &self.listen, "an address"));
        }
        match &self.store {
            Store::VolumeGroup(name) if label_fault(name).is_some() => {
                return Some(("iscsi.target.store", name, "the name of a volume group"));
            }
            Store::Folder(path) if path_fault(path).is_some() => {
                return Some(("iscsi.target.store", path, "an absolute path of plain names"));
            }
            Store::Folder(path) if self.thin => {
                return Some(("iscsi.target.thin", path, "a volume group"));
            }
            _ => {}
        }
        self.luns.iter().find_map(|lun| {
            if label_fault(&lun.name).is_some() {
                return Some((
                    "iscsi.target.luns.name",
                    lun.name.as_str(),
                    "a name of a-z, 0-9 and inner hyphens",
                ));
            }
            if lun.lun > MOST_LUN {
                return Some(("iscsi.target.luns.lun", "more than 255", "a LUN"));
            }
            lun.initiators.iter().find_map(|initiator| {
                name_fault(&initiator.name)
                    .map(|_| ("iscsi.target.luns.initiators", initiator.name.as_str(), "an iSCSI name"))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Chap, Credentials, Iscsi, Lun, Store, Target, credential_fault, name_fault, path_fault};
    use crate::policy::FileSystem;
    use crate::secret::Secret;
    use uuid::Uuid;

    #[test]
    fn names_are_those_of_the_standard() {
        for good in [
            "iqn.2025-01.home:node1.storage",
            "iqn.1993-08.org.debian:01:abc",
            "iqn.2001-04.com.example",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
        ] {
            assert_eq!(name_fault(good), None, "{good}");
        }
        for bad in [
            "",
            "storage",
            "iqn.2025.home",
            "iqn.2025-01",
            "iqn.2025-01.",
            "iqn.2025-01.:x",
            "iqn.2025-01.Home:x",
            "iqn.2025-01.home:a/../b",
            "iqn.2025-01.home:a_b",
            "iqn.2025-01.größe",
            "eui.0200",
            "naa.x2004567ba64678d",
        ] {
            assert!(name_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn places_stay_where_they_are() {
        for good in ["/storage", "/srv/luns/a.b"] {
            assert_eq!(path_fault(good), None, "{good}");
        }
        for bad in ["", "/", "storage", "/a//b", "/a/../b", "/a b", "/a%i", "/a\nb", "/a/"] {
            assert!(path_fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_that_a_side_would_misread_are_none() {
        assert_eq!(credential_fault("has space #and=hash"), None);
        for bad in ["", " x", "NULLify", "größe", "a\nb", "<empty>"] {
            assert!(credential_fault(bad).is_some(), "{bad:?}");
        }
    }

    /// A document that would put lines of its own into a record is not taken, and its password is not told.
    #[test]
    fn thin_is_left_out_where_it_is_not_and_needs_a_volume_group() {
        let target = Target {
            name: "iqn.2025-01.home:x".to_owned(),
            listen: "0.0.0.0".to_owned(),
            port: 3260,
            store: Store::VolumeGroup("data".to_owned()),
            thin: false,
            luns: Vec::new(),
        };
        let text = serde_json::to_string(&target).unwrap();
        assert!(!text.contains("thin"), "{text}");
        assert_eq!(serde_json::from_str::<Target>(&text).unwrap(), target);
        let thin = Target { thin: true, ..target };
        let text = serde_json::to_string(&thin).unwrap();
        assert_eq!(serde_json::from_str::<Target>(&text).unwrap(), thin);
        assert_eq!(thin.fault(), None);
        let files = Target { store: Store::Folder("/srv/luns".to_owned()), ..thin };
        assert_eq!(files.fault(), Some(("iscsi.target.thin", "/srv/luns", "a volume group")));
    }

    #[test]
    fn hostile_values_are_faults_without_their_secret() {
        let credentials =
            Credentials { user: "u".to_owned(), password: Secret::new("x\nnode.startup = onboot") };
        let lun = Lun {
            name: "storage".to_owned(),
            host: "10.0.0.1".to_owned(),
            port: 3260,
            target: "iqn.2025-01.home:x".to_owned(),
            lun: 0,
            chap: Some(Chap { initiator: credentials, target: None }),
            mount_point: "/storage".to_owned(),
            filesystem: FileSystem::Ext4,
            mount_options: vec![],
            format: true,
            partition: Uuid::from_u128(1),
            uuid: Uuid::from_u128(2),
            longhorn: None,
        };
        let mut iscsi =
            Iscsi { initiator: "iqn.1993-08.org.debian:01:abc".to_owned(), luns: vec![lun], target: None };
        let fault = iscsi.credentials().find_map(Credentials::fault);
        assert_eq!(fault, Some(("iscsi chap.password", "not shown", "a password for CHAP")));
        iscsi.luns[0].chap = None;
        assert_eq!(iscsi.fault(), None);
        iscsi.luns[0].target = "iqn.2025-01.home:../../x".to_owned();
        assert!(iscsi.fault().is_some());
    }
}
