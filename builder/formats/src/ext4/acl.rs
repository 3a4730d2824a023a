//! POSIX ACLs: the kernel's xattr form (version 2, `include/uapi/linux/posix_acl_xattr.h`) and ext4's own
//! on-disk form (version 1, attributes.rst "POSIX ACLs"), which leaves out the id where there is none.

use super::format::{get16, get32};

const XATTR_VERSION: u32 = 2;
const DISK_VERSION: u32 = 1;
/// Tags that name a user or a group (`ACL_USER`, `ACL_GROUP`) and so carry an id.
const WITH_ID: [u16; 2] = [0x02, 0x08];
/// Tags without an id (`ACL_USER_OBJ`, `ACL_GROUP_OBJ`, `ACL_MASK`, `ACL_OTHER`).
const WITHOUT_ID: [u16; 4] = [0x01, 0x04, 0x10, 0x20];
/// The id of entries without one (`ACL_UNDEFINED_ID`).
const UNDEFINED_ID: u32 = u32::MAX;

/// ext4's form of an ACL given in the kernel's; `None` when it is not that.
pub(super) fn to_disk(xattr: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = xattr.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != XATTR_VERSION || !entries.len().is_multiple_of(8) {
        return None;
    }
    let mut out = DISK_VERSION.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let tag = get16(entry, 0);
        if WITH_ID.contains(&tag) {
            out.extend_from_slice(entry);
        } else if WITHOUT_ID.contains(&tag) {
            out.extend_from_slice(&entry[..4]);
        } else {
            return None;
        }
    }
    Some(out)
}

/// The kernel's form of an ACL in ext4's; `None` when it is not that.
pub(super) fn from_disk(disk: &[u8]) -> Option<Vec<u8>> {
    let (version, mut rest) = disk.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != DISK_VERSION {
        return None;
    }
    let mut out = XATTR_VERSION.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let tag = get16(rest, 0);
        let len = match tag {
            tag if WITH_ID.contains(&tag) => 8,
            tag if WITHOUT_ID.contains(&tag) => 4,
            _ => return None,
        };
        let (entry, more) = rest.split_at_checked(len)?;
        out.extend_from_slice(&entry[..4]);
        let id = if len == 8 { get32(entry, 4) } else { UNDEFINED_ID };
        out.extend_from_slice(&id.to_le_bytes());
        rest = more;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::{from_disk, to_disk};

    #[test]
    fn both_forms_of_an_acl() {
        let mut xattr = 2u32.to_le_bytes().to_vec();
        let mut disk = 1u32.to_le_bytes().to_vec();
        for (tag, perm, id) in
            [(1u16, 7u16, !0u32), (2, 5, 1000), (4, 5, !0), (8, 4, 4), (16, 5, !0), (32, 0, !0)]
        {
            let short = [tag.to_le_bytes(), perm.to_le_bytes()].concat();
            xattr.extend([short.as_slice(), &id.to_le_bytes()].concat());
            disk.extend(&short);
            if id != !0 {
                disk.extend(id.to_le_bytes());
            }
        }
        assert_eq!(to_disk(&xattr).as_deref(), Some(&*disk));
        assert_eq!(from_disk(&disk).as_deref(), Some(&*xattr));
        assert_eq!(to_disk(&xattr[..xattr.len() - 1]), None);
        assert_eq!(from_disk(&disk[..disk.len() - 1]), None);
        assert_eq!(to_disk(b""), None);
    }
}
