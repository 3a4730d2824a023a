//! Two machines on a cable join a cluster: a server that makes it, and an agent. What stands for k3s is a stand-in that
//! speaks k3s' join protocol; all else is what users get, from `kiln secrets init` on.

use crate::cable::{Node, expect, healthy, side_door, write};
use crate::disks::{folder, partitions};
use crate::nodes::{key_pair, patience};
use kiln_qemu::Link;
use kiln_tests::{binary, die, kiln, said, shared};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const CARDS: [&str; 2] = ["52:54:00:6b:6a:01", "52:54:00:6b:6a:02"];
/// Where the artefacts' folder has what k3s is published as.
const RELEASE: &str = "artefacts/k3s-io/k3s/releases/download/v1.33.5+k3s1";

/// The built cluster.
struct Lab {
    top: PathBuf,
    key: PathBuf,
}

/// `kiln` with the identity of this test, and without anybody else's.
fn kiln_here(top: &Path) -> Command {
    let mut command = kiln();
    command.current_dir(top).env("HOME", top).env("KILN_IDENTITY", top.join("identity"));
    command
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| die(&format!("{command:?}: {e}")));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let top = shared().join("join");
        side_door(&top.join("lab"));
        let key = key_pair(&top, "key");
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        // An age identity is an SSH key, too: the one of the test.
        let _ = fs::remove_file(top.join("identity"));
        fs::copy(&key, top.join("identity")).unwrap();
        let release = top.join(RELEASE);
        fs::create_dir_all(&release).unwrap();
        let standin = binary().with_file_name("k3s-standin");
        let bytes = fs::read(&standin).unwrap_or_else(|e| {
            die(&format!("{}: {e}: run `cargo build -p kiln-tests --bins` first", standin.display()))
        });
        fs::write(release.join("k3s"), &bytes).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(release.join("sha256sum-amd64.txt"), format!("{digest}  k3s\n")).unwrap();
        let [one, two] = CARDS;
        let cluster = format!(
            "apiVersion: kiln/v1\ncluster:\n  name: join-lab\n  endpoint: 10.8.0.1\n  k3s: {{version: v1.33.5+k3s1}}\n\
             artefacts: [./artefacts]\noverlays: [./lab]\n\
             users: [{{name: ops, ssh_keys: [{key}]}}]\nnodes:\n\
             - {{name: s1, role: server, network: {{address: 10.8.0.1/24, mac: \"{one}\"}}}}\n\
             - {{name: a1, role: agent, network: {{address: 10.8.0.2/24, mac: \"{two}\"}}, labels: {{example.com/tier: test}}}}\n",
            key = public.trim(),
        );
        write(&top.join("cluster.yaml"), &cluster);
        done(kiln_here(&top).args(["secrets", "init"]));
        done(kiln_here(&top).arg("lock"));
        done(kiln_here(&top).args(["build", "-o", "dist"]));
        Lab { top, key }
    })
}

/// The secrets of the cluster, as their file's only reader sees them: the texts that must be nowhere else.
fn secrets(lab: &Lab) -> Vec<String> {
    let place = kiln::secrets::Place::beside(&lab.top, Vec::new());
    let text = fs::read_to_string(lab.top.join("identity")).unwrap();
    let identities = kiln::secrets::Identities::parse(&text, "identity").unwrap();
    let secrets = kiln::secrets::Secrets::open(&place, &identities).unwrap();
    secrets.values().map(|(_, secret)| secret.expose().to_owned()).collect()
}

/// A line of a secret that is looked for: keys have several, and their first is everybody's.
fn needle(secret: &str) -> &str {
    secret.lines().max_by_key(|line| line.len()).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    let text = text.as_bytes();
    let first = text[0];
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == first) {
        at += next;
        if bytes[at..].starts_with(text) {
            return true;
        }
        at += 1;
    }
    false
}

/// The bytes of a disk's seed partition.
fn seed(disk: &Path) -> Vec<u8> {
    let partition = partitions(disk).into_iter().find(|partition| partition.name == "CIDATA").unwrap();
    let mut file = fs::File::open(disk).unwrap();
    file.seek(SeekFrom::Start(partition.bytes.start)).unwrap();
    let mut bytes = Vec::new();
    file.take(partition.bytes.end - partition.bytes.start).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Nobody but the owner can read a seed or an image of one, and nothing else that was built or printed has a secret.
#[test]
fn secrets_are_where_they_must_be_and_nowhere_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = lab();
    let secrets = secrets(lab);
    assert!(secrets.len() > 10);
    let mut printed = String::new();
    for words in [
        &["secrets", "list"][..],
        &["secrets", "init"],
        &["check"],
        &["plan", "-v"],
        &["build", "-v", "-o", "dist"],
    ] {
        printed += &done(kiln_here(&lab.top).args(words));
    }
    let mut seen = Vec::new();
    let mut folders = vec![lab.top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            if secrets.iter().any(|secret| holds(&bytes, needle(secret))) {
                assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{}", path.display());
                seen.push(path.strip_prefix(&lab.top).unwrap().display().to_string());
            }
        }
    }
    seen.sort();
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
    for secret in &secrets {
        assert!(!holds(printed.as_bytes(), needle(secret)), "a secret was printed");
    }
}

/// From images to a cluster: the agent waits for a server that is late and says so, joins, and both seeds lose their
/// secrets; after a restart the agent is there again.
#[test]
fn two_nodes_join() {
    let lab = lab();
    let folder = folder();
    let (one, two) = Link::pair(CARDS[0], CARDS[1]).unwrap();
    let output = lab.top.join("dist");
    let server = Node::new((&output, "s1"), &lab.key, (folder.path(), one));
    let agent = Node::new((&output, "a1"), &lab.key, (folder.path(), two));

    let mut working = agent.machine.start().unwrap();
    expect(&mut working, "join: ");
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

    agent.ask("sudo systemctl --no-block poweroff");
    let status =
        working.wait_until(patience()).unwrap_or_else(|e| die(&format!("{e}\n{}", working.console())));
    assert!(status.success(), "{status}");
    // Not a trace of a secret is on the seeds' volumes, not even in what no file has any more.
    let secrets = secrets(lab);
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
}
