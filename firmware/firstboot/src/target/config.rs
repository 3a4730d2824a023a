//! The configuration of a target as targetcli saves it (rtslib-fb, RTSRoot.dump).

use super::store::Made;
use kiln_contract::iscsi::{Initiator, ServedLun, Store, Target};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The file's text. `made` are the target's LUNs, in the same order.
pub(super) fn text(target: &Target, made: &[Made]) -> String {
    let plugin = match target.store {
        Store::VolumeGroup(_) => "block",
        Store::Folder(_) => "fileio",
    };
    let objects: Vec<Value> =
        target.luns.iter().zip(made).map(|(lun, made)| object(plugin, lun, made)).collect();
    let luns: Vec<Value> = target
        .luns
        .iter()
        .map(|lun| {
            json!({
                "index": lun.lun,
                "storage_object": format!("/backstores/{plugin}/{}", lun.name),
                "alias": alias(lun),
                "alua_tg_pt_gp_name": "default_tg_pt_gp",
            })
        })
        .collect();
    let config = json!({
        "fabric_modules": [],
        "storage_objects": objects,
        "targets": [{
            "fabric": "iscsi",
            "wwn": &target.name,
            "tpgs": [{
                "tag": 1,
                "enable": true,
                // Nobody gets in but those who are listed, and each as it is listed.
                "attributes": {
                    "authentication": 1, "generate_node_acls": 0, "demo_mode_discovery": 0,
                },
                "luns": luns,
                "node_acls": acls(target),
                "portals": [{
                    "ip_address": &target.listen, "port": target.port, "iser": false, "offload": false,
                }],
            }],
        }],
    });
    config.to_string() + "\n"
}

/// Writes go to the medium before they are acknowledged: the initiator's file system counts on it.
fn object(plugin: &str, lun: &ServedLun, made: &Made) -> Value {
    let mut object = json!({
        "plugin": plugin,
        "name": &lun.name,
        "dev": made.path.to_string_lossy(),
        "wwn": lun.serial.to_string(),
        "write_back": false,
    });
    if let Some(fields) = object.as_object_mut().filter(|_| plugin == "fileio") {
        fields.insert("size".to_owned(), lun.bytes.into());
    }
    if let Some(fields) = object.as_object_mut().filter(|_| made.thin) {
        // The initiator may say what it needs no more (SBC-3, 5.28, UNMAP): its fstrim then gives room back to the pool.
        fields.insert("attributes".to_owned(), json!({ "emulate_tpu": 1 }));
    }
    object
}

/// As targetcli makes them: ten hexadecimal digits.
fn alias(lun: &ServedLun) -> String {
    lun.serial.simple().to_string()[..10].to_owned()
}

/// One entry for each initiator, with its LUNs.
fn acls(target: &Target) -> Vec<Value> {
    let mut all: BTreeMap<&str, (&Initiator, Vec<&ServedLun>)> = BTreeMap::new();
    for lun in &target.luns {
        for initiator in &lun.initiators {
            all.entry(&initiator.name).or_insert((initiator, Vec::new())).1.push(lun);
        }
    }
    all.into_values().map(|(initiator, luns)| acl(initiator, &luns)).collect()
}

fn acl(initiator: &Initiator, luns: &[&ServedLun]) -> Value {
    let mapped: Vec<Value> = luns
        .iter()
        .map(|lun| json!({ "index": lun.lun, "tpg_lun": lun.lun, "alias": alias(lun), "write_protect": false }))
        .collect();
    let mut fields = Map::new();
    fields.insert("node_wwn".to_owned(), initiator.name.clone().into());
    fields.insert("mapped_luns".to_owned(), mapped.into());
    let asked = i32::from(initiator.chap.is_some());
    fields.insert("attributes".to_owned(), json!({ "authentication": asked }));
    if let Some(chap) = &initiator.chap {
        let mut put = |key: &str, value: &str| fields.insert(key.to_owned(), value.to_owned().into());
        put("chap_userid", &chap.initiator.user);
        put("chap_password", chap.initiator.password.reveal());
        if let Some(own) = &chap.target {
            put("chap_mutual_userid", &own.user);
            put("chap_mutual_password", own.password.reveal());
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::target::store::Made;
    use kiln_contract::iscsi::{Chap, Credentials, Initiator, ServedLun, Store, Target};
    use kiln_contract::secret::Secret;
    use serde_json::{Value, json};
    use uuid::Uuid;

    #[test]
    fn each_initiator_has_its_luns_and_its_password() {
        let login =
            |user: &str, word: &str| Credentials { user: user.to_owned(), password: Secret::new(word) };
        let with = Initiator {
            name: "iqn.1993-08.org.debian:01:a".to_owned(),
            chap: Some(Chap {
                initiator: login("a", "password of a"),
                target: Some(login("t", "password of t")),
            }),
        };
        let without = Initiator { name: "iqn.1993-08.org.debian:01:b".to_owned(), chap: None };
        let lun = |name: &str, lun, initiators: &[&Initiator]| ServedLun {
            name: name.to_owned(),
            lun,
            bytes: 64 << 20,
            serial: Uuid::from_u128(u128::from(lun) + 1),
            initiators: initiators.iter().copied().cloned().collect(),
        };
        let target = Target {
            name: "iqn.2025-01.home:x".to_owned(),
            listen: "0.0.0.0".to_owned(),
            port: 3260,
            store: Store::Folder("/srv/luns".to_owned()),
            thin: false,
            luns: vec![lun("one", 0, &[&with]), lun("both", 5, &[&with, &without])],
        };
        let made = |path: &str, thin| Made { path: path.into(), remark: None, thin };
        let files = [made("/srv/luns/one.img", false), made("/srv/luns/both.img", false)];
        let config: Value = serde_json::from_str(&text(&target, &files)).unwrap();
        assert_eq!(
            config["storage_objects"][1],
            json!({ "plugin": "fileio", "name": "both", "dev": "/srv/luns/both.img", "size": 64 << 20,
                    "wwn": "00000000-0000-0000-0000-000000000006", "write_back": false })
        );
        let tpg = &config["targets"][0]["tpgs"][0];
        assert_eq!(tpg["luns"][1]["index"], 5);
        let acls = tpg["node_acls"].as_array().unwrap();
        assert_eq!(acls.len(), 2);
        assert_eq!(acls[0]["mapped_luns"].as_array().unwrap().len(), 2);
        assert_eq!(acls[0]["attributes"]["authentication"], 1);
        assert_eq!(
            (&acls[0]["chap_userid"], &acls[0]["chap_password"]),
            (&"a".into(), &"password of a".into())
        );
        assert_eq!(acls[0]["chap_mutual_userid"], "t");
        assert_eq!(acls[1]["mapped_luns"][0]["tpg_lun"], 5);
        assert_eq!(
            (acls[1]["attributes"]["authentication"].as_i64(), acls[1].get("chap_userid")),
            (Some(0), None)
        );
        let target = Target { store: Store::VolumeGroup("data".to_owned()), thin: true, ..target };
        let volumes = [made("/dev/data/one", true), made("/dev/data/both", false)];
        let config: Value = serde_json::from_str(&text(&target, &volumes)).unwrap();
        let objects = &config["storage_objects"];
        assert_eq!(objects[0]["attributes"], json!({ "emulate_tpu": 1 }));
        assert_eq!((&objects[0]["plugin"], objects[1].get("attributes")), (&"block".into(), None));
    }
}
