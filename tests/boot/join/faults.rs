//! What keeps a node from its cluster, on a machine: one fault after another is made and mended while the agent waits, so
//! that two boots show them all. Each has its exact line on the agent's console.

use super::lab::{Lab, holds, needle, seed, told_no_process};
use crate::cable::{Node, expect, healthy};
use crate::disks::folder;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan as _};
use kiln::secrets::{Authority, Secrets};
use kiln_qemu::Running;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// What the agent dials. Nobody knows it.
const NAME: &str = "api.join.test";
const TWO_YEARS: Duration = Duration::from_secs(2 * 365 * 86_400);

#[expect(clippy::disallowed_methods, reason = "the machines have the host's time, or one that is off")]
fn now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap()
}

/// `2026-01-01 00:00:00 UTC`.
fn in_words(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Every such time in a line, in its order, and the line without them.
fn times(line: &str) -> (Vec<Timestamp>, String) {
    let (mut found, mut rest) = (Vec::new(), line.to_owned());
    for (end, _) in line.match_indices(" UTC") {
        let text = &line[end - 19..end + 4];
        found.push(text.replacen(' ', "T", 1).replace(" UTC", "Z").parse().unwrap());
        rest = rest.replacen(text, "TIME", 1);
    }
    (found, rest)
}

/// Waits until the agent says that a step waits for this; how long it has waited by then is no part of the words.
fn waits(agent: &mut Running, step: &str, words: &str) {
    let line = expect(agent, words);
    let (_, said) = line.split_once("join: ").unwrap();
    let bare = match said.split_once(" (for ") {
        Some((begin, rest)) => format!("{begin}{}", rest.split_once(')').unwrap().1),
        None => said.to_owned(),
    };
    assert_eq!(bare, format!("{step}: waiting: {words}"));
}

/// A server that goes wrong as told.
struct Server<'a> {
    node: &'a Node,
    /// How many times it was started.
    runs: usize,
}

impl Server<'_> {
    fn ends(&self) {
        self.node.ask("sudo systemctl stop k3s.service");
    }

    /// Starts with these variables; a line for each request of this run is kept.
    fn begins(&mut self, variables: &[&str]) {
        self.runs += 1;
        let folder = "/run/systemd/system/k3s.service.d";
        let mut unit = format!("[Service]\\nEnvironment=K3S_STANDIN_LOG=/run/requests{}", self.runs);
        variables.iter().for_each(|variable| unit += &format!(" {variable}"));
        self.node.ask(&format!(
            "sudo mkdir -p {folder} && printf '{unit}\\n' | sudo tee {folder}/fault.conf >/dev/null && \
             sudo systemctl daemon-reload && sudo systemctl --no-block start k3s.service"
        ));
    }

    /// The requests to this run of those who are no node.
    fn requests(&self) -> Vec<Value> {
        let text = self.node.ask(&format!("sudo cat /run/requests{}", self.runs));
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|request| request["node"].is_null()).collect()
    }

    /// Nothing came but the question for the CA, and with it no header that could carry a secret.
    fn was_told_nothing(&self) {
        let requests = self.requests();
        for request in &requests {
            assert_eq!(request["path"], "/cacerts", "{requests:#?}");
        }
        assert!(!self.credentials(), "{requests:#?}");
    }

    /// True when somebody sent a token or a password.
    fn credentials(&self) -> bool {
        let requests = self.requests();
        let headers = requests.iter().flat_map(|request| request["headers"].as_array().unwrap());
        headers
            .map(|header| header[0].as_str().unwrap().to_lowercase())
            .any(|name| name == "authorization" || name.starts_with("k3s-"))
    }

    /// Changes what it knows of nodes: a line of Python about the mapping `kept`.
    fn knows(&self, change: &str) {
        let path = "/var/lib/rancher/k3s/server/standin.json";
        self.node.ask(&format!(
            "sudo python3 -c \"import json; kept = json.load(open('{path}')); {change}; json.dump(kept, open('{path}', 'w'))\""
        ));
    }

    /// The same server with the CA of another cluster, below this folder.
    fn copied(&self, other: &Secrets, folder: &str) {
        let tls = format!("{folder}/var/lib/rancher/k3s/server/tls");
        let mut command = format!(
            "sudo mkdir -p {tls} {folder}/etc && sudo cp -a /etc/rancher {folder}/etc/ && sudo cp -a /var/lib/rancher/k3s/server/tls/. {tls}/"
        );
        let certificate = other.certificate(Authority::Server).unwrap();
        let key = other.authority_key(Authority::Server).unwrap().expose();
        for (name, text) in [("server-ca.crt", certificate), ("server-ca.key", key)] {
            command +=
                &format!(" && echo {} | base64 -d | sudo tee {tls}/{name} >/dev/null", STANDARD.encode(text));
        }
        self.node.ask(&command);
    }
}

/// The first digits of the hash that tokens of a cluster pin.
fn short(secrets: &Secrets) -> String {
    let hash = Sha256::digest(secrets.certificate(Authority::Server).unwrap());
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The agent's disk still has what the join needs.
fn keeps_its_secrets(agent: &Node, secrets: &Secrets) {
    let volume = seed(&agent.disk);
    let (token, password) = (secrets.agent_token_secret(), secrets.node("a1").unwrap().password());
    for secret in [token, password] {
        assert!(holds(&volume, needle(secret.expose())), "the seed has lost a secret");
    }
}

fn sets_the_clock(agent: &Node, time: Timestamp) {
    agent.ask(&format!("sudo date -s @{}", time.as_second()));
}

/// The endpoint is a name that nobody knows, the clock is two years behind and then ahead, the server is not there, has
/// another cluster's CA, another token, is late, knows the node by another password, and ends every time in between. The
/// agent names each and waits, and its secrets stay where they are; it joins when all is mended, and loses them.
#[test]
fn every_fault_is_named_and_loses_no_secret() {
    let lab = Lab::built("join-faults", NAME);
    let secrets = lab.opened();
    let other = Secrets::make("1b0e1a4e-6d8c-4f0e-9a53-3f6d7f1d2c11".parse().unwrap(), "other").unwrap();
    let folder = folder();
    let (server, mut agent) = lab.machines(folder.path());
    agent.machine.clock = Some(now() - TWO_YEARS);
    let mut serving = server.machine.start().unwrap();
    let mut working = agent.machine.start().unwrap();

    waits(
        &mut working,
        "name",
        &format!(
            "nobody knows an address of {NAME}: /etc/hosts does not list it; systemd-resolved has no name server to ask; DNS has no other server in /etc/resolv.conf. Is the name right, and who is to know it? An address as the cluster's endpoint needs nobody"
        ),
    );
    healthy(&mut serving);
    expect(&mut serving, "join: node s1 has joined cluster join-faults");
    keeps_its_secrets(&agent, &secrets);
    let mut server = Server { node: &server, runs: 0 };
    server.ends();
    agent.ask(&format!("echo 10.8.0.1 {NAME} | sudo tee -a /etc/hosts"));
    expect(&mut working, &format!("join: name: {NAME} is 10.8.0.1, says /etc/hosts"));

    let line = expect(&mut working, "join: clock: waiting: the clock says");
    let (said, bare) = times(line.split_once("join: ").unwrap().1);
    assert_eq!(
        bare,
        "clock: waiting: the clock says TIME, which is before this node was made (TIME). Set the clock in the firmware's setup, or give the node a time server (`timedatectl`)"
    );
    // systemd itself may have moved the clock to when it was built (clock-epoch in systemd(1)).
    assert!(said[0] < said[1], "{line}");
    assert_eq!(said[1].as_second(), secrets.made());
    keeps_its_secrets(&agent, &secrets);
    let ahead = now() + TWO_YEARS;
    sets_the_clock(&agent, ahead);
    let line = expect(&mut working, "join: clock: nobody has set it, and ");
    assert!(times(&line).1.ends_with("join: clock: nobody has set it, and TIME is plausible"), "{line}");

    let nothing_listens = format!(
        "{NAME}:6443 is there, and nothing listens on that port. Is k3s running there (`systemctl status k3s`), and is it the server's address?"
    );
    waits(&mut working, "connect", &nothing_listens);
    server.begins(&[]);
    expect(&mut working, &format!("join: connect: {NAME}:6443 answers"));
    let line = expect(&mut working, "join: server: waiting: the server's certificate has expired");
    let (said, bare) = times(line.split_once("join: ").unwrap().1);
    assert_eq!(
        bare,
        "server: waiting: the server's certificate has expired: it ended TIME, and the clock here says TIME. If the clock here is right (`date`), renew it on the server: `k3s certificate rotate`, or restart k3s there"
    );
    let late = said[1].duration_since(ahead);
    assert!(late >= (-1).seconds().try_into().unwrap() && late < 10.minutes().try_into().unwrap(), "{line}");
    assert!(said[0] < said[1], "{line}, and it is {}", in_words(now()));
    server.was_told_nothing();

    server.ends();
    waits(&mut working, "server", &nothing_listens);
    sets_the_clock(&agent, now());
    server.copied(&other, "/run/other");
    server.begins(&["K3S_STANDIN_ROOT=/run/other"]);
    waits(
        &mut working,
        "server",
        &format!(
            "{NAME}:6443 has another CA (hash {}…) than the one that this node's seed pins (hash {}…). Another cluster's server, or somebody in between: nothing secret was sent. Correct the endpoint, or build this node's seed with that cluster's secrets",
            short(&other),
            short(&secrets)
        ),
    );
    assert!(!server.requests().is_empty());
    server.was_told_nothing();
    keeps_its_secrets(&agent, &secrets);

    server.ends();
    waits(&mut working, "server", &nothing_listens);
    let rotated = "/etc/rancher/k3s/config.yaml.d/99-rotated.yaml";
    server.node.ask(&format!(
        "sudo mkdir -p /etc/rancher/k3s/config.yaml.d && echo 'agent-token: another' | sudo tee {rotated}"
    ));
    server.begins(&[]);
    expect(&mut working, &format!("join: server: {NAME}:6443 is a server of cluster join-faults"));
    waits(
        &mut working,
        "token",
        "the server does not know this node's token (401). Just after its start that passes; else the token was rotated, or is of another cluster or another role (agents join by the agents' token, servers by the servers'): build this node's seed with the cluster's present secrets",
    );
    // The same look that found nothing before.
    assert!(server.credentials());
    keeps_its_secrets(&agent, &secrets);

    server.ends();
    waits(&mut working, "token", &nothing_listens);
    server.node.ask(&format!("sudo rm {rotated}"));
    server.begins(&["K3S_STANDIN_LATE=3600"]);
    waits(
        &mut working,
        "token",
        "the server is still starting (503). Nothing to do but wait; its journal tells (`journalctl -u k3s`)",
    );
    keeps_its_secrets(&agent, &secrets);

    server.ends();
    waits(&mut working, "token", &nothing_listens);
    server.knows("kept['password/a1'] = 'of the machine that had this name before'");
    server.begins(&[]);
    expect(&mut working, "join: token: the server takes the token of node");
    waits(
        &mut working,
        "password",
        "the server knows a node a1 by another password (403). Two machines with one name, or one that was built anew with other secrets: rename it, or `kubectl -n kube-system delete secret NAME.node-password.k3s`",
    );
    keeps_its_secrets(&agent, &secrets);

    server.ends();
    waits(&mut working, "password", &nothing_listens);
    server.knows("del kept['password/a1']");
    assert_ne!(agent.ask("systemctl is-active k3s-agent.service || true").trim(), "active");
    server.begins(&[]);
    expect(&mut working, "join: password: the server takes it for a1");
    expect(&mut working, "join: node a1 has joined cluster join-faults");
    let volume = seed(&agent.disk);
    assert!(holds(&volume, "token-file"), "is this the seed?");
    let secrets = lab.secrets();
    for secret in &secrets {
        assert!(!holds(&volume, needle(secret)), "the seed still has a secret");
    }
    told_no_process(&agent, &secrets, &["cloud-init", "kiln-firstboot"]);
}
