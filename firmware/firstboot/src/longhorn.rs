//! What Longhorn finds on a disk, and what it is told of it.

use kiln_contract::iscsi::Lun;
use kiln_contract::policy::{Rule, Slot, Use};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use uuid::Uuid;

/// Longhorn's own file at the top of a disk (longhorn-manager, util/util.go: DiskConfigFile).
const CONFIG: &str = "longhorn-disk.cfg";

/// Writes what Longhorn looks for on an empty, mounted file system. A file that is there is kept. The file must never be
/// empty nor `{}`: Longhorn reads that as a disk without a UUID, and refuses every replica.
pub(crate) fn prepare(top: &Path, slot: &Slot) -> io::Result<()> {
    prepare_as(top, (&slot.name, slot.longhorn))
}

/// The same, for a disk of that name and UUID.
pub(crate) fn prepare_as(top: &Path, (name, uuid): (&str, Uuid)) -> io::Result<()> {
    match fs::create_dir(top.join("replicas")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let path = top.join(CONFIG);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 2) {
        return Ok(());
    }
    let config = json!({
        "diskName": name, "diskUUID": uuid.to_string(), "diskDriver": "", "state": "ready",
    });
    let new = top.join(".longhorn-disk.cfg.kiln");
    let mut file = File::create(&new)?;
    file.write_all(config.to_string().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

/// The annotation `node.longhorn.io/default-disks-config` for the disks that are there and for folders on LUNs, which
/// come when the network does: Longhorn takes a disk for failed until then. Nothing without any.
pub(crate) fn default_disks_config<'a>(
    present: impl Iterator<Item = (&'a Rule, &'a Slot)>,
    luns: impl Iterator<Item = &'a Lun>,
) -> Option<String> {
    let disks = present.filter(|(rule, _)| rule.usage == Use::Longhorn).filter_map(|(rule, slot)| {
        let path = slot.mount_point.as_deref()?;
        Some(json!({
            "name": &slot.name, "path": path, "allowScheduling": true,
            "storageReserved": rule.reserved, "tags": &rule.tags,
        }))
    });
    let folders = luns.filter_map(|lun| {
        let path = format!("{}/{}", lun.mount_point, lun.longhorn.as_ref()?.folder);
        Some(json!({ "name": &lun.name, "path": path, "allowScheduling": true, "storageReserved": 0, "tags": [] }))
    });
    let all: Vec<Value> = disks.chain(folders).collect();
    (!all.is_empty()).then(|| Value::Array(all).to_string())
}

#[cfg(test)]
mod tests {
    use super::{default_disks_config, prepare};
    use crate::data::tests::rule;
    use kiln_contract::iscsi::{Longhorn, Lun};
    use std::fs;
    use uuid::Uuid;

    #[test]
    fn what_is_there_is_kept_and_what_is_useless_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let rule = rule("sdf", 1);
        let path = folder.path().join("longhorn-disk.cfg");
        for useless in ["", "{}"] {
            fs::write(&path, useless).unwrap();
            prepare(folder.path(), &rule.slots[0]).unwrap();
            let config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(config["diskUUID"], rule.slots[0].longhorn.to_string());
            assert_eq!((&config["diskDriver"], &config["state"]), (&"".into(), &"ready".into()));
        }
        fs::write(&path, r#"{"diskUUID":"mine"}"#).unwrap();
        prepare(folder.path(), &rule.slots[0]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"diskUUID":"mine"}"#);
        assert!(folder.path().join("replicas").is_dir());
    }

    #[test]
    fn the_annotation_names_the_disks_that_are_there() {
        let rule = rule("sdf", 2);
        let text =
            default_disks_config(std::iter::once((&rule, &rule.slots[1])), std::iter::empty()).unwrap();
        assert_eq!(
            text,
            r#"[{"allowScheduling":true,"name":"sdf-2","path":"/mnt/longhorn/sdf-2","storageReserved":1073741824,"tags":["ssd"]}]"#
        );
        let lun = Lun {
            longhorn: Some(Longhorn { folder: "longhorn".to_owned(), uuid: Uuid::from_u128(1) }),
            ..crate::luns::lun()
        };
        let text = default_disks_config(std::iter::empty(), std::iter::once(&lun)).unwrap();
        assert_eq!(
            text,
            r#"[{"allowScheduling":true,"name":"storage","path":"/storage/longhorn","storageReserved":0,"tags":[]}]"#
        );
        assert_eq!(default_disks_config(std::iter::empty(), std::iter::empty()), None);
    }
}
