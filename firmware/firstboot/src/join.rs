//! `kiln-firstboot join`: under systemd, brings the node into its cluster, says what it waits for and why, and ends when the
//! node is Ready and the seed has lost its secrets. It is started again after a failure or a reboot, and goes on where it
//! was.

mod clock;
mod journal;
mod manifests;
mod name;
mod network;
mod node;
mod server;
mod settle;
mod shred;
mod story;
mod tls;
mod token;
mod unit;
mod validity;
mod words;

use crate::bounded;
use clock::Clock;
use kiln_contract::join::{self, Join};
use kiln_contract::settle::{self as settling, Settle};
pub(crate) use manifests::run as manifests;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use story::{Story, Title};

/// Divides every wait: for tests, which have no half minute.
const HASTE: &str = "KILN_JOIN_HASTE";
const TITLE: Title = Title { word: "join", state: join::STATE, report: join::REPORT };
const SETTLING: Title = Title { word: "settle", state: settling::STATE, report: settling::REPORT };
const USAGE: &str = "kiln-firstboot join|settle [--root DIR] [--systemctl PROGRAM] [--journalctl PROGRAM] [--clock-offset SECONDS]";

/// What the supervisor stands in.
#[derive(Debug)]
struct Around {
    /// `/`, or a folder that stands for it.
    root: PathBuf,
    clock: Clock,
    /// What starts units.
    systemctl: PathBuf,
    /// What reads their journal.
    journalctl: PathBuf,
    haste: u32,
}

impl Around {
    /// An absolute path, below the root.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A time, as much shorter as a test wants it.
    fn shorter(&self, time: Duration) -> Duration {
        time / self.haste
    }

    /// From the command line; nothing when it can't be understood.
    fn parse(arguments: &[String]) -> Option<Self> {
        let haste = std::env::var(HASTE).ok().and_then(|text| text.parse().ok()).filter(|haste| *haste > 0);
        let mut around = Self {
            root: PathBuf::from("/"),
            clock: Clock::default(),
            systemctl: PathBuf::from("systemctl"),
            journalctl: PathBuf::from("journalctl"),
            haste: haste.unwrap_or(1),
        };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return None };
            match name.as_str() {
                "--root" => around.root = PathBuf::from(value),
                "--systemctl" => around.systemctl = PathBuf::from(value),
                "--journalctl" => around.journalctl = PathBuf::from(value),
                "--clock-offset" => around.clock.offset = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(around)
    }
}

/// Joins.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some(around) = Around::parse(arguments) else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    let read = || Ok(Join::parse(&bounded::read(&around.path(join::PATH), join::MAX_BYTES)?)?);
    ended(read().map(|join| tell(&around, &join)), (&TITLE, join::PATH))
}

/// `kiln-firstboot settle`: what there is of this on a node outside the cluster.
pub(crate) fn settle(arguments: &[String]) -> ExitCode {
    let Some(around) = Around::parse(arguments) else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    let read = || Ok(Settle::parse(&bounded::read(&around.path(settling::PATH), settling::MAX_BYTES)?)?);
    ended(read().map(|document| tell_outside(&around, &document)), (&SETTLING, settling::PATH))
}

/// A story has its end, or had no document to go by.
fn ended(told: Result<(), Error>, (title, path): (&Title, &str)) -> ExitCode {
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kiln-firstboot {}: {path}: {error}", title.word);
            ExitCode::FAILURE
        }
    }
}

/// The story of a node outside the cluster.
fn tell_outside(around: &Around, document: &Settle) {
    let (cluster, node) = (document.cluster.as_str(), document.node.as_str());
    let mut story = Story::resume(around, &SETTLING, (cluster, node));
    let left = settle::left(document);
    if story.progress.done && !shred::is_left(around, &left) {
        return;
    }
    story.step("cloud-init", |_| settle::finished(around));
    story.step("units", |_| settle::units(around, document));
    story.step("shred", |_| shred::run(around, &left));
    story.done(&format!("node {node} of {cluster} is set up"));
}

/// The story of a join. It has one end.
fn tell(around: &Around, join: &Join) {
    let mut story = Story::resume(around, &TITLE, (&join.cluster, &join.node));
    let left = shred::Left::from(join);
    if story.progress.done {
        story.step("start", |_| unit::start(around, join));
        if shred::is_left(around, &left) {
            story.step("shred", |_| shred::run(around, &left));
        }
        return;
    }
    if !story.progress.joined {
        story.step("link", |_| network::link(around, join));
        story.step("address", |_| network::address(around, join));
        if join.first {
            story.step("clock", |since| clock::plausible(around, join, since));
        } else {
            story.step("route", |_| network::route(around, join));
            let mut dial = story.step("name", |_| server::find(around, &join.server));
            story.step("clock", |since| clock::witnessed(around, join, &dial, since));
            story.step("connect", |_| {
                // An address that does not answer may be an old one.
                dial = server::find(around, &join.server)?.0;
                server::reach(&dial)
            });
            let now = || server::again(around, join, &dial);
            story.step("server", |_| server::recognise(around, join, &now()?));
            story.step("token", |_| server::credentials(around, join, &now()?));
            story.step("password", |_| server::password(around, join, &now()?));
            story.step("turn", |_| server::hold(around, join));
        }
    }
    story.step("start", |_| unit::start(around, join));
    story.step("ready", |_| node::ready(around, join));
    story.joined();
    if join.longhorn {
        story.step("longhorn", |_| node::annotate(around, join));
    }
    story.step("shred", |_| shred::run(around, &left));
    story.done(&format!("node {} has joined cluster {}", join.node, join.cluster));
}

/// Why there is no document to go by.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// It can't be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is not good.
    #[error("{0}")]
    Join(#[from] join::Error),
    /// It is not good.
    #[error("{0}")]
    Settle(#[from] settling::Error),
}

#[cfg(test)]
mod tests {
    use super::{Around, Clock};
    use kiln_contract::join::{Authority, Endpoint, Join, Role, Seed, VERSION};
    use std::path::Path;

    /// A root that is a folder, in a hurry.
    pub(super) fn around(root: &Path) -> Around {
        let (systemctl, journalctl) = ("/bin/false".into(), "/bin/false".into());
        Around { root: root.to_owned(), clock: Clock::default(), systemctl, journalctl, haste: 1000 }
    }

    pub(super) fn document() -> Join {
        Join {
            version: VERSION,
            cluster: "demo".to_owned(),
            node: "k3s2".to_owned(),
            role: Role::Agent,
            first: false,
            server: Endpoint { host: "10.0.0.1".to_owned(), port: 6443 },
            ca: Authority { pem: "-----BEGIN CERTIFICATE-----\n".to_owned(), sha256: "0".repeat(64) },
            token_file: "/etc/rancher/k3s/token".to_owned(),
            agent_token_file: None,
            password_file: "/etc/rancher/node/password".to_owned(),
            after: None,
            address: None,
            interface: None,
            earliest: 0,
            longhorn: false,
            kubeconfig: "/k".to_owned(),
            admin_kubeconfig: "/a".to_owned(),
            unit: "k3s-agent.service".to_owned(),
            shred: Vec::new(),
            seed: Seed::Network,
        }
    }

    #[test]
    fn the_command_line_is_pairs() {
        let parse =
            |words: &[&str]| Around::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        let around = parse(&["--root", "/x", "--clock-offset", "-5"]).unwrap();
        assert_eq!((around.path("/etc/hosts"), around.clock.offset), ("/x/etc/hosts".into(), -5));
        assert!(parse(&["--root"]).is_none() && parse(&["--rot", "x"]).is_none());
        assert_eq!(parse(&[]).unwrap().path("/etc"), Path::new("/etc"));
    }
}
