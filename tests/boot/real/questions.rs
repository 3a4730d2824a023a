//! What machines are asked.

use super::site::Release;
use super::table::{Saw, Table};
use super::{PATIENCE, Started};
use crate::cable::Node;
use std::time::{Duration, Instant};

/// What heals an emptied server that does not come back by itself (docs/servers.md), told to another server.
pub(super) const HEAL: &str = "sudo k3s kubectl annotate node NAME etcd.k3s.cattle.io/remove=true";
/// Seconds after which a node's lease is an old one; the kubelet renews it every ten.
const FRESH: u32 = 30;
/// Statuses of requests: method, path, user and which secret, and what the join takes them for (issue and docs/servers.md).
const STATUSES: [(&str, &str, &str, &str); 8] = [
    ("GET", "/cacerts", "", "200"),
    ("GET", "/v1-k3s/readyz", "node:agents", "200"),
    ("GET", "/v1-k3s/readyz", "node:servers", "401"),
    ("GET", "/v1-k3s/readyz", "server:agents", "401"),
    ("GET", "/v1-k3s/readyz", "server:servers", "403"),
    ("GET", "/v1-k3s/config", "", "403"),
    ("GET", "/v1-k3s/config", "node:wrong", "401"),
    // SQLite takes no second server.
    ("HEAD", "/v1-k3s/server-bootstrap", "server:servers", "400"),
];
/// A shell's way to ask with a secret that no list of processes shows.
const ASK: &str = r#"
secret() { case $1 in agents) sed 's/.*://' /etc/rancher/k3s/agent-token ;; servers) sed 's/.*://' /etc/rancher/k3s/token ;; *) echo wrong ;; esac; }
ask() {
    head=; [ "$1" = HEAD ] && head=--head
    if [ -n "$3" ]; then printf 'user = "%s:%s"\n' "${3%%:*}" "$(secret "${3#*:}")"; fi |
        curl -sk $head -m 60 -o /dev/null -w '%{http_code}' -K - "https://10.8.0.1:6443$2"
}
"#;
/// Two pods of the image that k3s brings with its own; one has AppArmor's profile asked for and a folder of the host.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: kiln-web, labels: { app: kiln-web } }
spec:
  tolerations: [{ operator: Exists }]
  containers: [{ name: web, image: IMAGE, imagePullPolicy: Never, command: [sh, -c, "mkdir /tmp/w && echo web > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"] }]
---
apiVersion: v1
kind: Pod
metadata: { name: kiln-client }
spec:
  tolerations: [{ operator: Exists }]
  securityContext: { appArmorProfile: { type: RuntimeDefault } }
  containers: [{ name: client, image: IMAGE, imagePullPolicy: Never, command: [sleep, "1000000"], volumeMounts: [{ name: data, mountPath: /data }] }]
  volumes: [{ name: data, hostPath: { path: /data/kiln-real, type: DirectoryOrCreate } }]
"#;
const DENY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: kiln-deny }
spec: { podSelector: { matchLabels: { app: kiln-web } }, policyTypes: [Ingress] }
"#;

/// Asks a node until there is an answer; none when time is over.
pub(super) fn until<T>(node: &Node, deadline: Instant, ask: impl Fn(&Node) -> Option<T>) -> Option<T> {
    loop {
        if let Some(answer) = ask(node) {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(Duration::from_secs(5));
    }
}

/// What the join said last on a console.
pub(super) fn last_words(console: &str) -> String {
    let said = console.lines().rfind(|line| line.contains("join: "));
    said.map_or("it has said nothing of the join", |line| {
        line.split_once("join: ").map_or(line, |(_, rest)| rest)
    })
    .to_owned()
}

/// Whether all of these nodes are Ready, and have said so just now.
pub(super) fn ready(release: &Release, server: &Node, table: &mut Table, (what, names): (&str, &[&str])) {
    let begun = Instant::now();
    if !release.is_real() {
        let known = until(server, begun + Duration::from_secs(240), |node| {
            let kept = node.try_ask("sudo cat /var/lib/rancher/k3s/server/standin.json")?;
            names.iter().all(|name| kept.contains(&format!("\"node/{name}\""))).then_some(())
        });
        let saw = known.map_or(Saw::NeedsK3s, |()| Saw::Yes("the stand-in knows them".to_owned()));
        return table.timed("all", what, (saw, begun.elapsed()));
    }
    let each = format!(
        "for name in {}; do sudo k3s kubectl get node $name -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}' | grep -qx True && \
         age=$(( $(date +%s) - $(date +%s -d $(sudo k3s kubectl -n kube-node-lease get lease $name -o jsonpath={{.spec.renewTime}})) )) && \
         [ $age -lt {FRESH} ] || exit 1; done; sudo k3s kubectl get nodes --no-headers | xargs",
        names.join(" ")
    );
    let found = until(server, begun + PATIENCE, |node| node.try_ask(&each));
    let saw = match found {
        Some(nodes) => Saw::Yes(nodes.trim().to_owned()),
        None => {
            Saw::Not(server.try_ask("sudo k3s kubectl get nodes --no-headers | xargs").unwrap_or_default())
        }
    };
    table.timed("all", what, (saw, begun.elapsed()));
}

/// What a server answers to what the join asks, and whether its CA is the one that tokens pin.
pub(super) fn statuses(server: &Started<'_>, agent: &Started<'_>, table: &mut Table) {
    for (method, path, who, wanted) in STATUSES {
        let script = format!("{ASK}ask {method} {path} '{who}'");
        let status = server
            .node
            .try_ask(&format!("sudo sh -c '{}'", script.replace('\'', "'\\''")))
            .unwrap_or_default();
        let who = if who.is_empty() { "nobody" } else { who };
        let saw = if status.trim() == wanted {
            Saw::Yes(status)
        } else {
            Saw::Not(format!("{status:?}, not {wanted}"))
        };
        table.row(server.name, &format!("{method} {path} by {who}: {wanted}"), saw);
    }
    let pinned = agent.node.try_ask(
        "sudo sed 's/^K10//; s/::.*//' /etc/rancher/k3s/token; curl -sk https://10.8.0.1:6443/cacerts | sha256sum | cut -d' ' -f1",
    );
    let pinned = pinned.unwrap_or_default();
    let same = pinned.lines().next().is_some_and(|one| pinned.lines().nth(1) == Some(one));
    table.row(
        agent.name,
        "the server's CA is the pinned one",
        if same { Saw::Yes(String::new()) } else { Saw::Not(pinned) },
    );
}

/// What the node under k3s is.
pub(super) fn host(release: &Release, one: &Started<'_>, table: &mut Table) {
    let mut asks = vec![
        (
            "AppArmor is on, and its unit is well",
            "systemctl is-active apparmor.service && sudo aa-status --enabled && echo enabled",
        ),
        (
            "k3s was refused nothing by the read-only root",
            "! sudo journalctl -b -o cat -u k3s -u k3s-agent | grep 'read-only file system'",
        ),
        ("ipset is there", "command -v /usr/sbin/ipset"),
        ("a folder of `directories` can be written to", "sudo mkdir -p /data/kiln-real && readlink /data"),
    ];
    if one.name.starts_with('s') {
        asks.push(("server and server/tls are root's alone", "sudo stat -c %a /var/lib/rancher/k3s/server /var/lib/rancher/k3s/server/tls | xargs | grep -x '700 700'"));
    }
    for (what, command) in asks {
        let saw = match one.node.try_ask(command) {
            Some(words) => Saw::Yes(words.lines().collect::<Vec<_>>().join(" ")),
            None => Saw::Not(format!("`{command}` failed")),
        };
        table.row(one.name, what, saw);
    }
    let check = match release.is_real() {
        false => Saw::NeedsK3s,
        true => match one.node.try_ask("sudo k3s check-config 2>&1 | grep STATUS") {
            Some(words) if words.contains("pass") => Saw::Yes(words.trim().to_owned()),
            other => Saw::Not(other.unwrap_or_default()),
        },
    };
    table.row(one.name, "k3s check-config", check);
}

/// Whether this start imported images again.
pub(super) fn imports(release: &Release, one: &Started<'_>, table: &mut Table) {
    let saw = match (release.is_real(), &release.images) {
        (false, _) => Saw::NeedsK3s,
        (true, None) => Saw::NeedsImages,
        (true, Some(_)) => {
            let count = one.node.try_ask("sudo journalctl -b -o cat -u k3s -u k3s-agent | grep -c -e 'Importing images from' -e 'Imported images from' || true");
            match count.as_deref().map(str::trim) {
                Some("0") => Saw::Yes("no line of an import".to_owned()),
                other => Saw::Not(format!("{other:?} lines of imports")),
            }
        }
    };
    table.row(one.name, "second start: no import of images", saw);
}

/// A pod that asks for AppArmor, a folder of the host, and a connection that a policy denies.
pub(super) fn pods(release: &Release, server: &Node, table: &mut Table) {
    let questions = [
        "both pods run",
        "the pod is confined by cri-containerd.apparmor.d (enforce)",
        "the pod's hostPath below /data is on the node",
        "the client reaches the web pod",
        "with a NetworkPolicy it does not",
    ];
    if !release.is_real() || release.images.is_none() {
        for what in questions {
            table.row("all", what, if release.is_real() { Saw::NeedsImages } else { Saw::NeedsK3s });
        }
        return;
    }
    let image = until(server, Instant::now() + PATIENCE, |node| {
        node.try_ask("sudo k3s ctr images ls -q | grep -m 1 busybox")
    });
    let manifest = PODS.replace("IMAGE", image.unwrap_or_default().trim());
    let apply = |text: &str| server.try_ask(&format!("sudo k3s kubectl apply -f - <<'END'{text}END"));
    apply(&manifest);
    let wait = "sudo k3s kubectl wait --for=condition=Ready pod/kiln-web pod/kiln-client --timeout=20s";
    let reach = "sudo k3s kubectl exec kiln-client -- wget -T 10 -qO- http://$(sudo k3s kubectl get pod kiln-web -o jsonpath={.status.podIP}):8080/";
    let on_host = "sudo k3s kubectl exec kiln-client -- touch /data/seen && node=$(sudo k3s kubectl get pod kiln-client -o jsonpath={.spec.nodeName}) && \
                   { [ $node != $(hostname) ] || test -e /data/kiln-real/seen; } && echo on $node";
    let asked = [
        (wait, "", PATIENCE),
        (
            "sudo k3s kubectl exec kiln-client -- cat /proc/self/attr/current",
            "cri-containerd.apparmor.d (enforce)",
            FEW,
        ),
        (on_host, "on ", FEW),
        (reach, "web", FEW),
    ];
    for (what, (command, wanted, patience)) in questions.iter().zip(asked) {
        let found = until(server, Instant::now() + patience, |node| {
            node.try_ask(command).filter(|text| text.contains(wanted))
        });
        let saw = found.map(|text| Saw::Yes(text.trim().to_owned()));
        let events = || {
            server
                .try_ask("sudo k3s kubectl get events --sort-by=.lastTimestamp | tail -n 2")
                .unwrap_or_default()
        };
        table.row("all", what, saw.unwrap_or_else(|| Saw::Not(events())));
    }
    apply(DENY);
    let denied = until(server, Instant::now() + FEW, |node| {
        let answer = node.try_ask(&format!("{reach} 2>&1 || echo denied"))?;
        answer.contains("denied").then_some(answer)
    });
    table.row(
        "all",
        questions[4],
        denied.map_or_else(|| Saw::Not("it still does".to_owned()), |text| Saw::Yes(text.trim().to_owned())),
    );
}

/// How long something that is ready may take.
const FEW: Duration = Duration::from_secs(180);

/// The same pods after all machines lost their power.
pub(super) fn pods_are_back(release: &Release, server: &Node, table: &mut Table) {
    let what = "power cut of all: the pods are back";
    if !release.is_real() || release.images.is_none() {
        return table.row("all", what, if release.is_real() { Saw::NeedsImages } else { Saw::NeedsK3s });
    }
    let asked = "sudo k3s kubectl exec kiln-client -- cat /proc/uptime && sudo k3s kubectl get pods --no-headers kiln-web kiln-client | xargs";
    let found = until(server, Instant::now() + PATIENCE, |node| node.try_ask(asked));
    table.row(
        "all",
        what,
        found.map_or_else(|| Saw::Not("they don't run".to_owned()), |text| Saw::Yes(text.trim().to_owned())),
    );
}
