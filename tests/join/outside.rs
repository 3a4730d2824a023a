//! A node outside the cluster: when its seed loses its secrets, and when it does not.

use super::rig::{AGENT_SECRET, Cluster, Node};
use super::{CHAP, HANDOFF};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const STATUS: &str = r#"{"v1": {"stage": null, "init": {"errors": []}, "modules-final": {"errors": []}}}"#;
const RESULT: &str = r#"{"v1": {"datasource": "DataSourceNoCloud", "errors": []}}"#;

/// Secrets are there until cloud-init has done everything without an error and every unit is well; then they are gone.
#[test]
fn its_seed_is_cleaned_when_its_first_boot_has_succeeded() {
    let node = Node::new(&Cluster::new("demo"), ("agent", 1));
    node.put("seed/kiln/handoff.json", HANDOFF);
    let says = |states: &str| {
        // Beside, then renamed: it may be running.
        node.put("systemctl.new", &format!("#!/bin/sh\nprintf '{states}'\nexit 3\n"));
        fs::set_permissions(node.path("systemctl.new"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(node.path("systemctl.new"), node.path("systemctl")).unwrap();
    };
    says("active\\nfailed\\n");
    node.put("run/cloud-init/status.json", &STATUS.replacen("[]", "[\"a module failed\"]", 1));
    let supervisor = node.settle(&["kiln-target.service", "minio.service"]);
    let keeps = || {
        node.assert_secrets_are_there();
        assert_eq!(node.read("seed/kiln/handoff.json"), HANDOFF);
        assert!(!node.path("var/lib/kiln/chap.json").exists());
    };
    assert_eq!(
        supervisor.line("settle: cloud-init: waiting"),
        "settle: cloud-init: waiting: cloud-init is still at work. Its copies of the seed's secrets are removed when it is done (`cloud-init status`)"
    );
    keeps();
    node.put("run/cloud-init/result.json", RESULT);
    assert_eq!(
        supervisor.line("settle: cloud-init: waiting (for").split_once(')').unwrap().1,
        ": cloud-init had errors: init. The seed keeps its secrets: mend what is named by `cloud-init status --long`, and restart the node"
    );
    keeps();
    node.put("run/cloud-init/status.json", STATUS);
    assert_eq!(
        supervisor.line("settle: units: waiting"),
        "settle: units: waiting: not all that this node is for runs: minio.service is failed. The seed keeps its secrets until it does: `systemctl status` and `journalctl -u` tell more"
    );
    keeps();
    says("active\\nactive\\n");
    let lines = supervisor.ends();
    let end: Vec<&str> = lines[lines.len() - 2..].iter().map(String::as_str).collect();
    assert_eq!(
        end,
        [
            "settle: shred: 2 files with secrets are gone; the seed is clean, and CHAP names and passwords are in /var/lib/kiln/chap.json",
            "settle: node storage of demo is set up",
        ]
    );
    let handoff = node.read("seed/kiln/handoff.json");
    assert!(!handoff.contains(CHAP) && !handoff.contains("chap user"), "{handoff}");
    assert!(node.read("var/lib/kiln/chap.json").contains(CHAP));
    fs::remove_file(node.path("seed/kiln/handoff.json")).unwrap();
    node.assert_secrets_are_gone();
    let report: Value = serde_json::from_str(&node.read("var/lib/kiln/settle-report.json")).unwrap();
    assert_eq!((&report["done"], &report["node"]), (&true.into(), &"storage".into()), "{report:#}");

    // A second run has nothing to do but to look.
    assert_eq!(node.settle(&["minio.service"]).ends(), [""; 0]);
    // Somebody flashed the seed again, with one more unit that fails.
    node.put("seed/user-data", super::rig::USER_DATA);
    says("failed\\n");
    let supervisor = node.settle(&["minio.service"]);
    supervisor.line("settle: units: waiting");
    assert!(node.read("seed/user-data").contains(AGENT_SECRET));
    says("active\\n");
    supervisor.ends();
    node.assert_secrets_are_gone();
}
