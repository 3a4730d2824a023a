//! `kiln-firstboot join`: under systemd, brings the node into its cluster, says what it waits for and why, and ends when the
//! node is Ready and the seed has lost its secrets. It is started again after a failure or a reboot, and goes on where it
//! was.

mod clock;
mod countdown;
mod datastore;
mod journal;
mod manifests;
mod name;
mod network;
mod node;
mod rejoin;
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
use datastore::{Local, Told};
use kiln_contract::datastore::{Decision, Here, Said, Store};
use kiln_contract::join::{self, Endpoint, Join};
use kiln_contract::settle::{self as settling, Settle};
pub(crate) use manifests::run as manifests;
use rejoin::Up;
pub(crate) use rejoin::say_yes;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use story::{Story, Title};

/// Divides every wait: for tests, which have no half minute.
const HASTE: &str = "KILN_JOIN_HASTE";
const TITLE: Title = Title { word: "join", state: join::STATE, report: join::REPORT };
const SETTLING: Title = Title { word: "settle", state: settling::STATE, report: settling::REPORT };
const USAGE: &str = "kiln-firstboot join|settle|rejoin [--root DIR] [--systemctl PROGRAM] [--journalctl PROGRAM] [--clock-offset SECONDS]";

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

/// How k3s gets to its datastore.
enum Way {
    /// It has it: nobody is dialled.
    Has,
    /// It is made or found by way of this server.
    Dials(Endpoint),
}

/// The story of a join. It has one end.
fn tell(around: &Around, join: &Join) {
    let mut story = Story::resume(around, &TITLE, (&join.cluster, &join.node));
    let left = shred::Left::from(join);
    // What k3s began with is settled when it runs; before that it is looked at anew, whatever became of the node.
    let asks = join.store.as_ref().filter(|_| !unit::runs(around, join));
    let local = asks.map(|store| (store, story.step("datastore", |_| datastore::look(around, join, store))));
    let resumes = match local {
        Some((store, local)) => {
            kiln_contract::datastore::decide(&datastore::facts(join, store, local, &[])) == Decision::Resume
        }
        None => true,
    };
    if !resumes && story.was_ready() {
        story.anew();
    }
    if story.progress.done {
        story.step("start", |_| unit::start(around, join));
        if shred::is_left(around, &left) {
            story.step("shred", |_| shred::run(around, &left));
        }
        return;
    }
    let mut endpoint = join.server.clone();
    if !story.progress.joined {
        story.step("link", |_| network::link(around, join));
        story.step("address", |_| network::address(around, join));
        let way = match local {
            Some((store, mut local)) => {
                local.was_ready |= story.was_ready();
                way(&mut story, (around, join), (store, local))
            }
            None if join.first => Way::Has,
            None => Way::Dials(join.server.clone()),
        };
        match way {
            Way::Has => story.step("clock", |since| clock::plausible(around, join, since)),
            Way::Dials(found) => {
                endpoint = found;
                dial(&mut story, (around, join), &endpoint);
            }
        }
    }
    story.step("start", |_| unit::start(around, join));
    up(&mut story, (around, join), &endpoint);
    story.joined();
    if let Some(store) = &join.store {
        datastore::was_ready(around, join, store);
    }
    if join.longhorn {
        story.step("longhorn", |_| node::annotate(around, join));
    }
    story.step("shred", |_| shred::run(around, &left));
    story.done(&format!("node {} has joined cluster {}", join.node, join.cluster));
}

/// Until the node is Ready. A server that was made anew may have an old member in etcd, which must go first.
fn up(story: &mut Story<'_>, (around, join): (&Around, &Join), endpoint: &Endpoint) {
    loop {
        let progress = story.progress.clone();
        match story.step("ready", |_| rejoin::ready(around, join, &progress)) {
            Up::Ready => return rejoin::over(story, (around, join), endpoint),
            Up::Duplicate => rejoin::run(story, (around, join), endpoint),
        }
    }
}

/// From the way to a server to its word that this node may join.
fn dial(story: &mut Story<'_>, (around, join): (&Around, &Join), endpoint: &Endpoint) {
    story.step("route", |_| network::route(around, endpoint));
    let mut dial = story.step("name", |_| server::find(around, endpoint));
    story.step("clock", |since| clock::witnessed(around, join, &dial, since));
    story.step("connect", |_| {
        // An address that does not answer may be an old one.
        dial = server::find(around, endpoint)?.0;
        server::reach(&dial)
    });
    let now = || server::again(around, endpoint, &dial);
    if let Some(date) = story.step("server", |_| server::recognise(around, join, &now()?)) {
        datastore::aged(around, join, (&mut story.progress, date));
    }
    story.step("token", |_| server::credentials(around, join, &now()?));
    story.step("password", |_| server::password(around, join, &now()?));
    story.step("turn", |_| server::hold(around, join));
}

/// What a server begins with, and that k3s is told so.
fn way(story: &mut Story<'_>, (around, join): (&Around, &Join), (store, local): (&Store, Local)) -> Way {
    let decide =
        |said: &[Said]| kiln_contract::datastore::decide(&datastore::facts(join, store, local, said));
    let told = |told: Told<'_>| datastore::tell(around, join, told);
    if decide(&[]) == Decision::Ask || (store.others.is_empty() && local.here == Here::Nothing) {
        // Who answers is judged by certificates, and they by the clock.
        story.step("clock", |since| clock::plausible(around, join, since));
    }
    let mut asked = false;
    loop {
        let decision = story.step("servers", |_| {
            let mut decision = decide(&[]);
            if decision == Decision::Ask {
                decision = decide(&datastore::ask(around, join, store));
            }
            let said = match &decision {
                Decision::Wait(why) => return Err(datastore::waits(why.clone())),
                Decision::Resume | Decision::Ask => "k3s goes on with its own datastore".to_owned(),
                Decision::Follow => "this is not the first one".to_owned(),
                Decision::Found => {
                    "nobody else has the cluster, and this node's seed says that it may begin".to_owned()
                }
                Decision::Turn => "SQLite becomes etcd, which others can join".to_owned(),
                Decision::Join(at) => match store.others.get(*at) {
                    Some(peer) => format!("{} has the cluster, and this node joins it there", peer.name),
                    None => String::new(),
                },
            };
            Ok((decision, said))
        });
        match decision {
            // Somebody may have come up meanwhile: the others are asked once more.
            Decision::Found if !asked => {
                story.step("founding", countdown::attempt(around, "a new, empty cluster begins here"));
                asked = true;
            }
            Decision::Found => {
                let init = if store.etcd { Told::Init } else { Told::Nothing };
                story.step("config", |_| told(init).map(|()| ((), "a cluster begins".to_owned())));
                return Way::Has;
            }
            Decision::Turn => {
                story.step("copy", |_| datastore::copied(around, local.here));
                story.step("config", |_| {
                    told(Told::Init).map(|()| ((), "etcd begins with what SQLite has".to_owned()))
                });
                return Way::Has;
            }
            Decision::Join(at) => {
                let Some(peer) = store.others.get(at) else { continue };
                let said = format!("k3s joins {}", peer.name);
                story.step("config", |_| told(Told::Server(&peer.server)).map(|()| ((), said.clone())));
                return Way::Dials(peer.server.clone());
            }
            Decision::Follow => {
                story.step("config", |_| {
                    told(Told::Nothing).map(|()| ((), "k3s joins by the cluster's endpoint".to_owned()))
                });
                return Way::Dials(join.server.clone());
            }
            Decision::Resume | Decision::Ask | Decision::Wait(_) => {
                // SQLite would be turned by what was said before; etcd no longer looks at it.
                if local.here == Here::Sqlite {
                    story.step("config", |_| {
                        told(Told::Nothing).map(|()| ((), "k3s goes on with SQLite".to_owned()))
                    });
                }
                return Way::Has;
            }
        }
    }
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
            store: None,
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
