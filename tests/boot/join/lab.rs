//! A cluster of two nodes, and where its secrets may be.

use crate::cable::{Node, side_door, write};
use crate::nodes::remove_images;
pub(super) use crate::seed::{bytes as seed, holds};
use crate::user::{done, identity, kiln_in, publish_k3s};
use kiln::secrets::{Identities, Place, Secrets};
use kiln_qemu::Link;
use kiln_tests::{said, shared, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CARDS: [&str; 2] = ["52:54:00:6b:6a:01", "52:54:00:6b:6a:02"];
/// Divides the waits of the join supervisor: a test has no half minute for each of them.
const HASTE: &str = "[Service]\nEnvironment=KILN_JOIN_HASTE=10\n";
/// Keeps what `ps` would have shown, and more, from the start of systemd on: arguments and environments of all processes,
/// as root sees them.
const LISTER: &str = "[Unit]\nDescription=Process lists\nDefaultDependencies=no\n[Service]\n\
    ExecStart=/bin/sh -c 'umask 077; while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; echo; echo SAMPLED; sleep 0.5; done 2>/dev/null >/run/process-list'\n\
    [Install]\nWantedBy=sysinit.target\n";

/// A built cluster of a server `s1` at 10.8.0.1 and an agent `a1`.
pub(super) struct Lab {
    pub(super) top: PathBuf,
    pub(super) key: PathBuf,
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove_images(&self.top.join("dist"));
    }
}

impl Lab {
    /// The cluster whose agents dial that endpoint, built in a folder of that name.
    pub(super) fn built(name: &str, endpoint: &str) -> Self {
        let top = shared().join(name);
        let overlay = top.join("lab");
        side_door(&overlay);
        write(&overlay.join("overlay.yaml"), "packages: []\nenable: [process-list.service]\n");
        let units = overlay.join("files/usr/lib/systemd/system");
        fs::create_dir_all(units.join("kiln-join.service.d")).unwrap();
        write(&units.join("kiln-join.service.d/haste.conf"), HASTE);
        write(&units.join("process-list.service"), LISTER);
        let key = identity(&top);
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        publish_k3s(&top.join("artefacts"), "v1.36.2+k3s1");
        let [one, two] = CARDS;
        let cluster = format!(
            "apiVersion: kiln/v1\ncluster:\n  name: {name}\n  endpoint: {endpoint}\n  directories: [/data]\n  k3s: {{version: v1.36.2+k3s1, tls_san: [{endpoint}], air_gap: true}}\n\
             artefacts: [./artefacts]\noverlays: [./lab]\n\
             users: [{{name: ops, ssh_keys: [{key}]}}]\nnodes:\n\
             - {{name: s1, role: server, network: {{address: 10.8.0.1/24, mac: \"{one}\"}}}}\n\
             - {{name: a1, role: agent, network: {{address: 10.8.0.2/24, mac: \"{two}\"}}, labels: {{example.com/tier: test}}}}\n",
            key = public.trim(),
        );
        write(&top.join("cluster.yaml"), &cluster);
        let lab = Self { top, key };
        done(lab.kiln().args(["secrets", "init"]), "");
        done(lab.kiln().arg("lock"), "");
        done(lab.kiln().args(["build", "-o", "dist"]), "");
        lab
    }

    /// `kiln` of its user.
    pub(super) fn kiln(&self) -> Command {
        kiln_in(&self.top)
    }

    /// The server and the agent on a cable, with their disks in a folder; both are off.
    pub(super) fn machines(&self, folder: &Path) -> (Node, Node) {
        let (one, two) = Link::pair(CARDS[0], CARDS[1]).unwrap();
        let output = self.top.join("dist");
        let node = |name, link| Node::new((&output, name), &self.key, (folder, link));
        (node("s1", one), node("a1", two))
    }

    /// The secrets of the cluster, as their file's only reader sees them.
    pub(super) fn opened(&self) -> Secrets {
        let place = Place::beside(&self.top, Vec::new());
        let text = fs::read_to_string(self.top.join("identity")).unwrap();
        Secrets::open(&place, &Identities::parse(&text, "identity").unwrap()).unwrap()
    }

    /// The texts that must be nowhere else.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.opened().values().map(|(_, secret)| secret.expose().to_owned()).collect()
    }
}

/// A line of a secret that is looked for: keys have several, and their first is everybody's.
pub(super) fn needle(secret: &str) -> &str {
    secret.lines().max_by_key(|line| line.len()).unwrap()
}

/// The files below a folder that hold any of these secrets, sorted. grep(1) looks: the folders may be large.
pub(super) fn files_with(secrets: &[String], folder: &Path) -> Vec<PathBuf> {
    let wanted = tempfile::tempdir().unwrap();
    let needles: Vec<&str> = secrets.iter().map(|secret| needle(secret)).collect();
    let file = wanted.path().join("needles");
    fs::write(&file, needles.join("\n")).unwrap();
    let mut command = tool("grep", "grep");
    command.env("LC_ALL", "C").args(["-r", "-l", "-a", "-F", "-f"]).args([&file, folder]);
    let output = command.output().unwrap();
    // 1: none; 2: it could not look.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", said(&output));
    let mut found: Vec<PathBuf> =
        String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect();
    found.sort();
    found
}

/// Looks at all that processes on a running node were told since its systemd began: not one of these secrets is in it, and
/// each of `seen` is.
pub(super) fn told_no_process(node: &Node, secrets: &[String], seen: &[&str]) {
    // The list comes here and is searched here: what looks for a secret on the node would be in the list with it.
    let list = node.ask("sudo sh -c 'tr \\\\0 \\\\n </run/process-list | LC_ALL=C sort -u'");
    for words in seen.iter().chain(&["SAMPLED"]) {
        assert!(list.contains(words), "{words} is not in the process list:\n{list}");
    }
    for secret in secrets {
        assert!(!list.contains(needle(secret)), "a process was told a secret");
    }
}
