//! Handoff documents that nobody should believe: each ends in a screen that names it, on a machine whose disks are as
//! they were.

use crate::disks::{content, data, folder, installed};
use crate::early::refused;
use crate::seed::{handoff, remove_handoff, write_handoff};
use kiln_qemu::{Bus, Disk, Source};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Mutex;

/// What takes the document's place, and words of the screen.
struct Case {
    name: &'static str,
    /// Nothing: the file is missing.
    document: Option<Vec<u8>>,
    words: Vec<&'static str>,
}

/// A data disk's rule with one slot, which nothing is wrong with.
fn rule() -> Value {
    let id = |n: u32| format!("00000000-0000-4000-8000-{n:012}");
    json!({
        "name": "blank",
        "match": {"min_size": 1},
        "use": "mount",
        "slots": [{
            "name": "blank", "partition": id(1), "filesystem": id(2), "luks": id(3), "longhorn": id(4),
            "mount_point": "/srv/blank",
        }],
    })
}

fn cases(good: &Value) -> Vec<Case> {
    let bytes = |value: &Value| serde_json::to_vec_pretty(value).unwrap();
    let with = |rule: Value| {
        let mut document = good.clone();
        document["disks"]["data"] = json!([rule]);
        Some(bytes(&document))
    };
    let slot = |key: &str, value: Value| {
        let mut rule = rule();
        rule["slots"][0][key] = value;
        with(rule)
    };
    let mut cut = bytes(good);
    cut.truncate(cut.len() / 2);
    let mut newer = good.clone();
    newer["version"] = json!(good["version"].as_u64().unwrap() + 1);
    let mut twins = good.clone();
    twins["partitions"]["root_b"] = twins["partitions"]["state"].clone();
    let mut other = good.clone();
    other["partitions"]["esp"] = json!("00000000-0000-4000-8000-00000000000e");
    let case = |name, document, words: &[&'static str]| Case { name, document, words: words.to_vec() };
    vec![
        case("missing", None, &["has no readable kiln/handoff.json: No such file"]),
        case("cut short", Some(cut), &["the handoff document is damaged: EOF while parsing"]),
        case("no text", Some(vec![0xff; 4096]), &["the handoff document is damaged: expected value"]),
        case("nested", Some(vec![b'['; 100_000]), &["the handoff document is damaged"]),
        case(
            "newer",
            Some(bytes(&newer)),
            &["the handoff document has version", "rebuild the seed and the image"],
        ),
        case("large", Some(vec![b' '; 2 << 20]), &["bytes, more than the 1048576 that one can have"]),
        case(
            "twin partitions",
            Some(bytes(&twins)),
            &["partitions is", "an identifier that no other partition has"],
        ),
        case("of another disk", Some(bytes(&other)), &["belongs to another image: it names ESP"]),
        case("over /etc", slot("mount_point", json!("/etc")), &[r#"mount_point is "/etc""#, "own folders"]),
        case(
            "out of its folder",
            slot("mount_point", json!("/srv/../etc")),
            &[r#"mount_point is "/srv/../etc""#],
        ),
        case(
            "a unit in a name",
            slot("name", json!("blank\n[Service]\nExecStart=/bin/sh")),
            &[r#"slots.name is "blank\n[Service]\nExecStart=/bin/sh""#],
        ),
        case(
            "twin slots",
            slot("filesystem", rule()["slots"][0]["partition"].clone()),
            &["an identifier that nothing else has"],
        ),
    ]
}

/// Boots one case and looks at both of its disks, before and after.
fn is_refused(case: &Case, disk: &Path, blank: &Path) {
    match &case.document {
        None => remove_handoff(disk),
        Some(bytes) => write_handoff(disk, bytes),
    }
    let look = || [content(disk, &[]), content(blank, &[])];
    let before = look();
    let screen = refused(&[disk, blank].map(|path| Disk::virtio(Source::file(path))));
    for words in &case.words {
        assert!(screen.contains(words), "{}: {words:?} is not in\n{screen}", case.name);
    }
    assert!(screen.contains("Write the node's disk.img"), "{}: no way out in\n{screen}", case.name);
    assert!(look() == before, "{}: a disk has changed:\n{screen}", case.name);
}

#[test]
fn no_document_that_is_not_good_is_believed() {
    let folders = [folder(), folder()];
    let good = handoff(&crate::nodes::site().image("k3s1"));
    let cases = Mutex::new(cases(&good));
    std::thread::scope(|scope| {
        for folder in &folders {
            scope.spawn(|| {
                let disk = installed("k3s1", folder.path(), 8 << 30);
                let (blank, _) = data(folder.path(), "blank.img", 1 << 30, Bus::Virtio);
                loop {
                    // The lock is let go of before the boot.
                    let next = cases.lock().unwrap().pop();
                    let Some(case) = next else { break };
                    is_refused(&case, &disk, &blank);
                }
            });
        }
    });
}
