//! By name, for whoever has k3s: `tests/real FOLDER`. What is asked of machines with Kiln's images and that k3s comes out as a table and
//! a file; a row says what was seen, and what was looked for. On the stand-in, `tests/real --stand-in`, it is tried for its own
//! sake, and rows that only k3s can answer say so.

mod hub;
mod questions;
mod site;
mod table;

use crate::cable::Node;
use crate::disks::folder;
use kiln_qemu::Running;
use questions::{HEAL, pods, ready, statuses};
use site::{Release, Site};
use std::time::{Duration, Instant};
use table::{Saw, Table};

/// How long a node may take for one thing; three machines are translated on two cores.
const PATIENCE: Duration = Duration::from_secs(1500);
/// How long an emptied server is given to come back by itself: its join watches leases for a minute.
const REJOIN: Duration = Duration::from_secs(900);

#[test]
#[ignore = "tests/real asks for it, with k3s in a folder"]
fn real() {
    let release = Release::found();
    let mut table = Table::new(&release);
    let parts = std::env::var("KILN_REAL_PARTS").unwrap_or_else(|_| "pair three grown".to_owned());
    for part in parts.split_whitespace() {
        match part {
            "pair" => pair(&release, &mut table),
            "three" => three(&release, &mut table),
            "grown" => grown(&release, &mut table),
            other => panic!("KILN_REAL_PARTS knows pair, three and grown, not {other}"),
        }
        table.write();
    }
    table.print();
}

/// A node that runs.
struct Started<'a> {
    node: &'a Node,
    name: &'a str,
    running: Running,
}

impl<'a> Started<'a> {
    fn new(site: &'a Site, at: usize) -> Self {
        let (name, node) = &site.nodes[at];
        Self { node, name, running: node.machine.start().unwrap() }
    }

    /// Waits until its own report says that all of the join is done; a row, with the time of each step.
    fn joins(&mut self, table: &mut Table, what: &str, patience: Duration) -> bool {
        let begun = Instant::now();
        let report = questions::until(self.node, begun + patience, |node| {
            let text = node.try_ask("sudo cat /var/lib/kiln/join.json")?;
            serde_json::from_str(&text).ok().filter(|report: &serde_json::Value| report["done"] == true)
        });
        let Some(report) = report else {
            let words = questions::last_words(&self.running.console());
            table.row(self.name, what, Saw::Not(words));
            return false;
        };
        let steps = report["steps"].as_array().into_iter().flatten();
        let steps: Vec<String> = steps
            .map(|step| {
                format!(
                    "{} {:.0}",
                    step["step"].as_str().unwrap_or("?"),
                    step["seconds"].as_f64().unwrap_or(0.0)
                )
            })
            .collect();
        let uptime = self.node.try_ask("cut -d' ' -f1 /proc/uptime").unwrap_or_default();
        let words = format!("kernel to here {} s; of it {} s", uptime.trim(), steps.join(", "));
        table.timed(self.name, what, (Saw::Yes(words), begun.elapsed()));
        true
    }
}

/// A server and an agent.
fn pair(release: &Release, table: &mut Table) {
    let folder = folder();
    let site = Site::built(release, "real-pair", &["s1 server", "a1 agent"]).plugged(folder.path());
    let mut server = Started::new(&site, 0);
    server.joins(table, "first boot: joined and Ready", PATIENCE);
    let mut agent = Started::new(&site, 1);
    agent.joins(table, "first boot: joined and Ready", PATIENCE);
    let all = ["s1", "a1"];
    ready(release, server.node, table, ("both are Ready", &all));
    statuses(&server, &agent, table);
    questions::host(release, &server, table);
    questions::host(release, &agent, table);
    pods(release, server.node, table);

    for one in [&mut agent, &mut server] {
        one.node.power_off(&mut one.running);
    }
    let mut server = Started::new(&site, 0);
    let mut agent = Started::new(&site, 1);
    ready(release, server.node, table, ("second start: both are Ready", &all));
    questions::imports(release, &server, table);
    questions::imports(release, &agent, table);

    for one in [&mut agent, &mut server] {
        one.running.kill().unwrap();
    }
    let server = Started::new(&site, 0);
    let _agent = Started::new(&site, 1);
    ready(release, server.node, table, ("power cut of all: both are Ready", &all));
    questions::pods_are_back(release, server.node, table);
}

/// Three servers, each flashed again in turn while the others run, and one alone.
fn three(release: &Release, table: &mut Table) {
    let folder = folder();
    let site =
        Site::built(release, "real-three", &["s1 server", "s2 server", "s3 server"]).plugged(folder.path());
    let all = ["s1", "s2", "s3"];
    let mut running: Vec<Option<Running>> = Vec::new();
    for at in 0..3 {
        let mut one = Started::new(&site, at);
        one.joins(table, "first boot: joined and Ready", PATIENCE);
        running.push(Some(one.running));
    }
    ready(release, &site.nodes[0].1, table, ("three servers are Ready", &all));
    site.founded();
    for (at, machine) in running.iter_mut().enumerate() {
        if let Some(mut machine) = machine.take() {
            machine.kill().unwrap();
        }
        site.flash(at);
        let mut one = Started::new(&site, at);
        let other = &site.nodes[(at + 1) % 3].1;
        let what = "flashed again while the others run: comes back by itself";
        if !one.joins(table, what, REJOIN) {
            let command = HEAL.replace("NAME", one.name);
            let told = other.try_ask(&command).map_or_else(|| "that command failed".to_owned(), |_| command);
            table.row(one.name, "told as docs/servers.md says", Saw::Yes(told));
            one.joins(table, "comes back after that", REJOIN);
        }
        ready(release, other, table, ("all three are Ready again", &all));
        *machine = Some(one.running);
    }
    for machine in running.iter_mut().flatten() {
        machine.kill().unwrap();
    }
    let begun: Vec<Started<'_>> = (0..3).map(|at| Started::new(&site, at)).collect();
    ready(release, &site.nodes[0].1, table, ("power cut of all three: they are Ready", &all));
    drop(begun);

    // Alone, and with no word in its seed: silence is not an empty world.
    site.flash(0);
    let one = Started::new(&site, 0);
    let waits = questions::until(one.node, Instant::now() + PATIENCE, |node| {
        let text = node.try_ask("sudo cat /var/lib/kiln/join.json")?;
        let state: serde_json::Value = serde_json::from_str(&text).ok()?;
        state["waiting"].is_object().then(|| state["waiting"].to_string())
    });
    let begins =
        one.node.try_ask("systemctl is-active k3s.service").is_some_and(|text| text.trim() == "active");
    let saw = match (waits, begins) {
        (Some(words), false) => Saw::Yes(words),
        (words, _) => Saw::Not(format!("k3s runs: {begins}; it waits for {words:?}")),
    };
    table.row(one.name, "flashed again and alone: waits, and begins no second cluster", saw);
}

/// A server with SQLite on a data disk, to which two are added.
fn grown(release: &Release, table: &mut Table) {
    let folder = folder();
    let site = Site::built(release, "real-grown", &["s1 server data"]).plugged(folder.path());
    let mut first = Started::new(&site, 0);
    first.joins(table, "alone, first boot: joined and Ready", PATIENCE);
    let mark = "sudo k3s kubectl create configmap kiln-real --from-literal=here=yes";
    if release.is_real() {
        first.node.ask(mark);
    }
    first.node.power_off(&mut first.running);
    let site = site.grown(&["s1 server data", "s2 server data", "s3 server data"], folder.path());
    let mut running = Vec::new();
    for at in 0..3 {
        let mut one = Started::new(&site, at);
        one.joins(table, "of three: joined and Ready", PATIENCE);
        running.push(one.running);
    }
    ready(release, &site.nodes[2].1, table, ("grown to three: all are Ready", &["s1", "s2", "s3"]));
    let kept = site.nodes[2].1.try_ask("sudo k3s kubectl get configmap kiln-real -o jsonpath={.data.here}");
    let saw = match (release.is_real(), kept.as_deref()) {
        (false, _) => Saw::NeedsK3s,
        (true, Some("yes")) => Saw::Yes("the third server has it".to_owned()),
        (true, other) => Saw::Not(format!("{other:?}")),
    };
    table.row("s3", "what was in SQLite is in etcd", saw);
}
