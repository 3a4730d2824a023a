//! `kiln plan --disks`: the rules for disks on recorded machines, word for word in `tests/plan/<name>.snap`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CLUSTER: &str = "
apiVersion: kiln/v1
cluster: { name: home }
overlays: [longhorn]
users: [{ name: anna, password_hash: $6$saltsalt$abcdefgh }]
nodes:
  - name: k3s1
    disks:
      data: [{ name: sdf, match: { model: Samsung SSD 870*, min_size: 400GB, max_size: 600GB }, count: 2, use: longhorn }]
      erase: [S2]
  - name: k3s2
    disks:
      data: [{ name: big, match: { min_size: 1TB }, use: mount, mount_point: /srv/big, filesystem: xfs }]
  - name: k3s3
";

/// A disk of a record, as `kiln-firstboot probe` writes it.
fn disk(name: &str, serial: &str, more: &str) -> String {
    format!(
        r#"{{"name": "{name}", "size": 500107862016, "sector_size": 512, "rotational": false, "transport": "sata",
            "model": "Samsung SSD 870 EVO 500GB", "serial": "{serial}", {more}}}"#
    )
}

fn record(disks: &[String]) -> String {
    format!(r#"{{"version": 1, "product": "Acme Box", "disks": [{}]}}"#, disks.join(", "))
}

/// A machine with two blank disks that fit, and one that is too full.
fn machine() -> String {
    let ntfs = r#""content": {"signatures": [{"kind": "ntfs", "label": "Photos \u001b[2J"}]}"#;
    record(&[
        disk("sda", "S0", r#""booted": true, "content": {"signatures": [{"kind": "gpt"}]}"#),
        disk("sdb", "S1", r#""content": "blank""#),
        disk("sdc", "S2", ntfs),
        disk("sdd", "S3", r#""removable": true, "content": "blank""#),
    ])
}

struct Said {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// `kiln plan` with these words beside a cluster file and `machine.json` with this text.
fn plan(record: &str, words: &[&str]) -> Said {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("cluster.yaml"), CLUSTER).expect("written");
    std::fs::write(folder.path().join("machine.json"), record).expect("written");
    said(&run(folder.path(), record, words))
}

fn run(folder: &Path, input: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.arg("plan").args(words).current_dir(folder).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kiln ran");
    // A kiln that does not read its input may end before all of it is written.
    let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
    child.wait_with_output().expect("kiln ended")
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Said { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn snapshot(name: &str, said: &Said) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("plan");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let text = format!("status {:?}\n---- stdout\n{}---- stderr\n{}", said.status, said.stdout, said.stderr);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn a_plan_is_a_table() {
    let said = plan(&machine(), &["--disks", "machine.json", "k3s1"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    snapshot("one-node", &said);
    let steers = said.stdout.chars().any(|c| c.is_control() && c != '\n');
    assert!(!steers, "{:?}", said.stdout);
}

/// What is missing is no reason to refuse; what is in the way is.
#[test]
fn every_node_has_its_own_plan() {
    let said = plan(&machine(), &["--disks", "machine.json"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    snapshot("every-node", &said);
}

#[test]
fn a_refused_plan_is_a_fault() {
    let ceph = r#""content": {"signatures": [{"kind": "ceph_bluestore"}]}"#;
    let machine = record(&[disk("sda", "S1", ceph), disk("sdb", "S4", r#""content": "blank""#)]);
    let said = plan(&machine, &["--disks", "machine.json", "k3s1"]);
    assert_eq!(said.status, Some(1), "{}", said.stdout);
    snapshot("refused", &said);
}

#[test]
fn scripts_get_the_plan_itself() {
    let said = plan(&machine(), &["--json", "--disks", "-", "k3s1"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let json: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let node = &json["nodes"][0];
    assert_eq!((&node["name"], &node["refused"]), (&"k3s1".into(), &false.into()));
    let plan: kiln_contract::plan::Plan = serde_json::from_value(node["plan"].clone()).expect("a plan");
    assert!(plan.is_destructive() && plan.writes() && plan.problems.is_empty(), "{plan:?}");
    assert_eq!(plan.disks.len(), 3);
}

#[test]
fn bad_records_get_their_words() {
    let good = machine();
    let deep = format!(r#"{{"version": 1, "disks": {}"#, "[".repeat(100_000));
    for (name, record) in [
        ("not-json", "hello"),
        ("cut", &good[..200]),
        ("version", &good.replace("\"version\": 1", "\"version\": 9")),
        ("unknown-field", &good.replace("rotational", "rotates")),
        ("two-of-one-name", &good.replace("sdc", "sdb")),
        ("odd-name", &good.replace("sdc", "../\\u001b[31m")),
        ("deep", &deep),
    ] {
        let said = plan(record, &["--disks", "machine.json"]);
        assert_eq!((said.status, said.stdout.as_str()), (Some(1), ""), "{name}");
        let steers = said.stderr.chars().any(|c| c.is_control() && c != '\n');
        assert!(!steers, "{name}: {:?}", said.stderr);
        snapshot(name, &said);
    }
    let said = plan(&good, &["--disks", "other.json"]);
    assert_eq!(said.status, Some(1));
    snapshot("no-record", &said);
    let said = plan("", &["--disks", "-"]);
    assert_eq!(said.status, Some(1));
    snapshot("empty-input", &said);
}

#[test]
fn words_that_exclude_each_other() {
    let said = plan(&machine(), &["--disks", "machine.json", "--fresh"]);
    assert_eq!(said.status, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("cannot be used with '--fresh'"), "{}", said.stderr);
    let said = plan(&machine(), &["--disks", "machine.json", "k3s9"]);
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("the cluster has no node \"k3s9\""), "{}", said.stderr);
}
