//! Two machines on a cable join a cluster: a server that makes it, and an agent. What stands for k3s is a stand-in that
//! speaks k3s' join protocol; all else is what users get, from `kiln secrets init` on.

mod faults;
mod host;
mod lab;
mod processes;

use crate::cable::{expect, healthy};
use crate::disks::folder;
use crate::nodes::Shared;
use crate::user::done;
use kiln_tests::shared;
use lab::{Lab, files_with, holds, needle, seed, told_no_process};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

fn lab() -> Arc<Lab> {
    static LAB: Shared<Lab> = Shared::new();
    LAB.hold(|| Lab::built("join", "10.8.0.1"))
}

/// Nobody but the owner can read a seed or an image of one, and nothing else that was built or printed has a secret.
#[test]
fn secrets_are_where_they_must_be_and_nowhere_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = lab();
    let secrets = lab.secrets();
    assert!(secrets.len() > 10);
    let mut printed = String::new();
    for words in [
        &["secrets", "list"][..],
        &["secrets", "init"],
        &["check"],
        &["plan", "-v"],
        &["build", "-v", "-o", "dist"],
    ] {
        printed += &done(lab.kiln().args(words), "");
    }
    let found = files_with(&secrets, &lab.top);
    for path in &found {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    let seen: Vec<String> =
        found.iter().map(|path| path.strip_prefix(&lab.top).unwrap().display().to_string()).collect();
    assert_eq!(
        seen,
        ["dist/a1/disk.img", "dist/a1/seed/user-data", "dist/s1/disk.img", "dist/s1/seed/user-data"]
    );
    for node in ["s1", "a1"] {
        let volume = seed(&lab.top.join("dist").join(node).join("disk.img"));
        assert!(
            secrets.iter().any(|secret| holds(&volume, needle(secret))),
            "{node}'s seed has no secret to lose"
        );
    }
    let cache = shared().join("cache");
    assert!(cache.join("kiln").is_dir(), "is this the cache?");
    assert_eq!(files_with(&secrets, &cache), Vec::<PathBuf>::new(), "the cache has a secret");
    for secret in &secrets {
        assert!(!holds(printed.as_bytes(), needle(secret)), "a secret was printed");
    }
}

/// From images to a cluster: the agent waits for a server that is late and says so, joins, and both seeds lose their
/// secrets; after a restart the agent is there again. On neither is a process told a secret, from its first boot on.
#[test]
fn two_nodes_join() {
    let lab = lab();
    let folder = folder();
    let (server, agent) = lab.machines(folder.path());

    let mut working = agent.machine.start().unwrap();
    expect(
        &mut working,
        "join: connect: waiting: 10.8.0.1:6443 can't be reached. Is the server switched on, and is a cable, VLAN or gateway between here and there?",
    );
    let mut serving = server.machine.start().unwrap();
    healthy(&mut serving);
    healthy(&mut working);
    for node in [&server, &agent] {
        node.ask("for i in $(seq 150); do sudo test -s /var/lib/kiln/join-report.json && break; sleep 2; done; sudo cat /var/lib/kiln/join-report.json");
    }
    let report = agent.ask("sudo cat /var/lib/kiln/join-report.json; systemctl is-active k3s-agent.service");
    assert!(report.trim_end().ends_with("active"), "{report}");
    // What is a secret of the join is on no disk but where k3s needs it.
    let token = agent.ask("sudo cat /etc/rancher/k3s/token");
    assert!(token.starts_with("K10"), "the agent's token is not whole");
    let nodes = server.ask("sudo cat /var/lib/rancher/k3s/server/standin.json");
    for words in ["\"a1\"", "\"s1\""] {
        assert!(nodes.contains(words), "{words} is not in {nodes}");
    }

    for node in [&server, &agent] {
        host::serves_k3s(node);
    }
    host::confines(&agent);
    host::gives_room(&agent);
    host::remembers(&agent, "imported");
    host::keeps_to_itself(&server);

    let secrets = lab.secrets();
    told_no_process(&server, &secrets, &["cloud-init", "kiln-firstboot", "/usr/bin/k3s"]);
    told_no_process(&agent, &secrets, &["cloud-init", "kiln-firstboot", "/usr/bin/k3s"]);

    agent.power_off(&mut working);
    // Not a trace of a secret is on the seeds' volumes, not even in what no file has any more.
    for node in [&server, &agent] {
        let volume = seed(&node.disk);
        assert!(holds(&volume, "local-hostname"), "is this the seed?");
        assert!(holds(&volume, "token-file"), "user-data is gone as a whole");
        for secret in &secrets {
            assert!(!holds(&volume, needle(secret)), "the seed still has a secret");
        }
    }
    let mut working = agent.machine.start().unwrap();
    healthy(&mut working);
    agent.ask("for i in $(seq 60); do systemctl is-active k3s-agent.service && break; sleep 2; done; systemctl is-active k3s-agent.service");
    told_no_process(&agent, &secrets, &["kiln-firstboot", "/usr/bin/k3s"]);
    host::serves_k3s(&agent);
    assert_eq!(host::remembered(&agent), "imported", "all images would be imported anew");
    host::confines(&agent);
    host::kept_room(&agent);
}
