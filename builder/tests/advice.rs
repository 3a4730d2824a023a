//! What messages advise to write can be written: it is read back. And what `kiln check` says that others' overlays ask for.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod bad_files;

use kiln::cluster::{self, Loaded};
use kiln::rootfs;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn parse(text: &str) -> Result<Loaded, cluster::Error> {
    cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new("/nonexistent"))
}

/// Every key that a cluster file may have anywhere.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

/// What stands between backticks, and is a key with a value.
fn snippets(help: &str) -> Vec<&str> {
    help.split('`').skip(1).step_by(2).filter(|text| text.contains(": ")).collect()
}

/// Words of other files than the cluster file: cloud-config's.
const ELSEWHERE: [&str; 1] = ["permissions"];
/// Words of flow style that stand for a part of a mapping.
fn read(snippet: &str) -> Option<Value> {
    serde_saphyr::from_str::<Value>(snippet).ok().filter(Value::is_object)
}

#[test]
fn advice_is_yaml_with_known_keys() {
    let mut known = BTreeSet::new();
    keys(&serde_json::to_value(cluster::file::schema()).expect("JSON"), &mut known);
    let mut seen = 0;
    for (name, file) in bad_files::all() {
        let faults = match parse(&file) {
            Ok(loaded) => loaded.warnings,
            Err(cluster::Error::Faults(report)) => report,
            Err(error) => panic!("{error}"),
        };
        for fault in faults.faults() {
            for snippet in snippets(&fault.help) {
                let value =
                    read(snippet).unwrap_or_else(|| panic!("{name}: `{snippet}` is no mapping in YAML"));
                let first = value.as_object().and_then(|map| map.keys().next()).expect("a key");
                let is_known = known.contains(first) || ELSEWHERE.contains(&first.as_str());
                // A mapping of the user's own words has keys that no schema has: `192.168.1.5: [nas]`.
                assert!(is_known || first.contains(['.', '/', '-']), "{name}: `{snippet}`: no key `{first}`");
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen} only");
}

/// The way out of scripts that nobody knows is one.
#[test]
fn scripts_can_be_skipped_as_advised() {
    let scripts = ["postinst", "preinst"].map(|script| ("nut-client".to_owned(), script.to_owned()));
    let error = rootfs::Error::Uncovered(scripts.to_vec()).to_string();
    let advice = snippets(&error).first().copied().map(str::to_owned).expect("advice");
    let loaded = parse(&format!("{}{}{}{advice}\n", bad_files::HEAD, bad_files::USER, bad_files::NODE));
    let Ok(loaded) = loaded else { panic!("{advice} is refused") };
    assert!(loaded.cluster.base.skip_scripts.contains("nut-client"), "{advice}");
}

/// Who uses somebody's overlay is told what it brings and what it is given, and no secret.
#[test]
fn what_an_overlay_asks_for() {
    let folder = tempfile::tempdir().expect("folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write(
        "lab/overlay.yaml",
        "packages: [nvme-cli]\nmodules: [nvme_tcp]\nenable: [lab.service]\n\
         settings: {key: {type: secret}, other: {type: secret}, sites: {type: list, items: {type: any}, default: []}}\n\
         artefacts: [{name: tool, url: \"https://example.com/tool\", path: /usr/bin/tool}]\nseed: [{path: /etc/lab.conf}]\n",
    );
    write("lab/seed/etc/lab.conf.j2", "{{ overlay.key }}\n");
    write("lab/files/usr/lib/systemd/system/lab.service", "[Service]\nExecStart=/usr/bin/tool\n");
    write("plain/overlay.yaml", "packages: []\n");
    let file = format!(
        "{}{}overlays:\n- {{name: ./lab, key: {{env: LAB_KEY}}, other: hunter2, sites: [{{token: {{secret: lab-token}}}}]}}\n- ./plain\nnodes: [{{name: a}}, {{name: b}}]\n",
        bad_files::HEAD,
        bad_files::USER
    );
    write("cluster.yaml", &file);
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kiln"))
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .output()
            .expect("kiln ran");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let said = run(&["check"]);
    let wanted = "the overlay lab asks for\n  \
        artefacts: /usr/bin/tool from https://example.com/tool\n  \
        files of the image: /usr/lib/systemd/system/lab.service\n  \
        files of the seed: /etc/lab.conf\n  \
        modules: nvme_tcp\n  packages: nvme-cli\n  \
        secrets: key ($LAB_KEY), other (a secret in the cluster file), sites.token (the secret lab-token)\n  \
        units: lab.service\nthe overlay plain asks for nothing\n";
    assert!(said.starts_with(wanted), "{said}");
    assert!(!said.contains("hunter2") || said.find("hunter2") > said.find("warning"), "{said}");
    // Nobody asks for it.
    assert!(!run(&["check", "--quiet"]).contains("asks for"));
}
