//! Logging in to a target: a record for open-iscsi, a look whether anybody is there, iscsiadm, and what its failures mean.
//! Passwords go into the record's file, which root alone reads: an argument could be seen by everybody.

use kiln_contract::iscsi::{Credentials, Lun};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Where Debian's open-iscsi keeps the records of targets.
const NODES: &str = "/var/lib/iscsi/nodes";
const PROGRAM: &str = "/usr/sbin/iscsiadm";
/// How long a portal may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds that reads and writes wait for a target that is away, before they fail: one that is rebuilt comes back within a
/// day, and a file system survives waiting, not errors.
const REPLACEMENT_SECONDS: u32 = 86_400;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The record.
    #[error("the record for open-iscsi can't be written: {path}: {error}", path = path.display())]
    Record { path: PathBuf, error: io::Error },
    /// A host name.
    #[error("the name {host} can't be resolved: {error}")]
    Name { host: String, error: io::Error },
    /// Nobody is there.
    #[error("{portal}: {why}")]
    Portal { portal: String, why: String },
    /// iscsiadm itself.
    #[error("iscsiadm can't be started: {0}")]
    Start(io::Error),
    /// CHAP.
    #[error("the target refused the name or password (CHAP): {target} at {portal}")]
    Chap { target: String, portal: String },
    /// No CHAP on our side.
    #[error(
        "the target refused this node: {target} at {portal} does not list {initiator}, or wants a name and a password (CHAP)"
    )]
    Forbidden { target: String, portal: String, initiator: String },
    /// Something else.
    #[error("the login to {target} at {portal} failed: {said}")]
    Other { target: String, portal: String, said: String },
}

impl Refusal {
    /// A login that said it had worked.
    pub(super) fn of_silence(lun: &Lun, said: &str) -> Self {
        Self::Other { target: lun.target.clone(), portal: portal(lun), said: said.to_owned() }
    }
}

/// `192.168.1.10:3260`, `[2001:db8::10]:3260`.
pub(super) fn portal(lun: &Lun) -> String {
    match lun.host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{}", lun.port),
        _ => format!("{}:{}", lun.host, lun.port),
    }
}

/// Logs in to the LUN's target.
pub(super) fn log_in(lun: &Lun, initiator: &str) -> Result<(), Refusal> {
    let path = write_record(Path::new(NODES), (lun, initiator));
    path.map_err(|(path, error)| Refusal::Record { path, error })?;
    reach(lun)?;
    let portal = portal(lun);
    let output =
        iscsiadm(&["-m", "node", "-T", &lun.target, "-p", &portal, "--login"]).map_err(Refusal::Start)?;
    refusal(lun, initiator, &output).map_or(Ok(()), Err)
}

/// Logs out of a target, as well as it can be done.
pub(super) fn log_out(target: &str) {
    let _ = iscsiadm(&["-m", "node", "-T", target, "--logout"]);
}

fn iscsiadm(arguments: &[&str]) -> io::Result<Output> {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output()
}

/// Is anybody there? TCP's own answer is clearer than what is left of it behind iscsiadm.
fn reach(lun: &Lun) -> Result<(), Refusal> {
    let addresses = (lun.host.as_str(), lun.port).to_socket_addrs();
    let addresses: Vec<_> =
        addresses.map_err(|error| Refusal::Name { host: lun.host.clone(), error })?.collect();
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(Refusal::Portal { portal: portal(lun), why: unreachable(&last) })
}

fn unreachable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "the machine is there, and no iSCSI target listens on that port".to_owned()
        }
        ErrorKind::NetworkUnreachable => "no route to that network".to_owned(),
        ErrorKind::HostUnreachable => "no route: that machine does not answer".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            format!("no answer in {} s", PATIENCE.as_secs())
        }
        _ => error.to_string(),
    }
}

/// What a login's end means. Exit statuses are those of iscsiadm(8); which of its many ways a login failed is only in the
/// words that iscsiadm repeats from RFC 7143's status (section 11.13.5).
fn refusal(lun: &Lun, initiator: &str, output: &Output) -> Option<Refusal> {
    const SESSION_EXISTS: i32 = 15;
    const AUTHENTICATION: i32 = 24;
    let (target, portal) = (lun.target.clone(), portal(lun));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0 | SESSION_EXISTS) => None,
        Some(AUTHENTICATION) if lun.chap.is_some() => Some(Refusal::Chap { target, portal }),
        Some(AUTHENTICATION) => Some(Refusal::Forbidden { target, portal, initiator: initiator.to_owned() }),
        _ => Some(Refusal::Other { target, portal, said: last_line(&said) }),
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("iscsiadm said nothing");
    line.trim_start_matches("iscsiadm: ").replace(char::is_control, "?")
}

/// A target's record; the path, or the path and why not.
fn write_record(nodes: &Path, (lun, initiator): (&Lun, &str)) -> Result<PathBuf, (PathBuf, io::Error)> {
    let folder = nodes.join(&lun.target);
    // idbm.c: the file's name is the address as it was given and the port.
    let path = folder.join(format!("{},{}", lun.host, lun.port));
    let new = nodes.join(format!(".{}.kiln", lun.target));
    let write = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        // iscsiadm makes folders of the portal's name when it learns the portal group.
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        }
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(record(lun, initiator).as_bytes())?;
        fs::rename(&new, &path)
    };
    match write() {
        Ok(()) => Ok(path),
        Err(error) => Err((path, error)),
    }
}

/// The record's text: what differs from open-iscsi's own defaults. `node.startup` is manual, because who starts is this
/// service; `reopen_max` 0 is for ever.
fn record(lun: &Lun, initiator: &str) -> String {
    let mut text = String::from("# BEGIN RECORD 2.1.11\n");
    let mut put = |key: &str, value: &str| {
        let _ = writeln!(text, "{key} = {value}");
    };
    put("node.name", &lun.target);
    put("node.tpgt", "-1");
    put("node.startup", "manual");
    put("iface.iscsi_ifacename", "default");
    put("iface.transport_name", "tcp");
    put("iface.initiatorname", initiator);
    put("node.discovery_type", "static");
    put("node.session.initial_login_retry_max", "1");
    put("node.session.reopen_max", "0");
    put("node.session.timeo.replacement_timeout", &REPLACEMENT_SECONDS.to_string());
    match &lun.chap {
        None => put("node.session.auth.authmethod", "None"),
        Some(chap) => {
            put("node.session.auth.authmethod", "CHAP");
            let Credentials { user, password } = &chap.initiator;
            put("node.session.auth.username", user);
            put("node.session.auth.password", password.reveal());
            if let Some(Credentials { user, password }) = &chap.target {
                put("node.session.auth.username_in", user);
                put("node.session.auth.password_in", password.reveal());
            }
        }
    }
    put("node.conn[0].address", &lun.host);
    put("node.conn[0].port", &lun.port.to_string());
    put("node.conn[0].timeo.login_timeout", "10");
    // A target that is busy for some seconds is no target that is away: there is no second path to go over to.
    put("node.conn[0].timeo.noop_out_interval", "10");
    put("node.conn[0].timeo.noop_out_timeout", "20");
    text.push_str("# END RECORD\n");
    text
}

#[cfg(test)]
mod tests {
    use super::{portal, reach, record, refusal, write_record};
    use crate::luns::content::tests::lun;
    use kiln_contract::iscsi::{Chap, Credentials};
    use kiln_contract::secret::Secret;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    fn with_chap() -> kiln_contract::iscsi::Lun {
        let login = |user: &str, password: &str| Credentials {
            user: user.to_owned(),
            password: Secret::new(password),
        };
        let mut lun = lun();
        lun.chap = Some(Chap {
            initiator: login("node2", "a password 12"),
            target: Some(login("t", "another one 1")),
        });
        lun
    }

    #[test]
    fn the_record_is_roots_alone_and_says_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = folder.path().join("nodes");
        let path = write_record(&nodes, (&with_chap(), "iqn.1993-08.org.debian:01:abc")).unwrap();
        assert!(path.ends_with("iqn.2025-01.home:x/10.0.0.1,3260"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        for line in [
            "iface.initiatorname = iqn.1993-08.org.debian:01:abc",
            "node.session.auth.authmethod = CHAP",
            "node.session.auth.password = a password 12",
            "node.session.auth.password_in = another one 1",
            "node.session.timeo.replacement_timeout = 86400",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        // A second one takes the first one's place, also where open-iscsi has made a folder of it.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        write_record(&nodes, (&lun(), "iqn.x")).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("authmethod = None"));
        assert_eq!(fs::read_dir(&nodes).unwrap().count(), 1);
    }

    #[test]
    fn portals_are_written_as_iscsiadm_takes_them() {
        let mut lun = lun();
        assert_eq!(portal(&lun), "10.0.0.1:3260");
        lun.host = "2001:db8::1".to_owned();
        assert_eq!(portal(&lun), "[2001:db8::1]:3260");
        assert!(record(&lun, "iqn.x").contains("node.conn[0].address = 2001:db8::1\n"));
    }

    #[test]
    fn failures_are_told_in_words_without_the_password() {
        let ended = |code: i32, stderr: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
        };
        let lun = with_chap();
        assert!(refusal(&lun, "iqn.i", &ended(0, "")).is_none());
        assert!(refusal(&lun, "iqn.i", &ended(15, "already exists")).is_none());
        let chap = refusal(&lun, "iqn.i", &ended(24, "")).unwrap();
        assert_eq!(
            chap.to_string(),
            "the target refused the name or password (CHAP): iqn.2025-01.home:x at 10.0.0.1:3260"
        );
        let other = refusal(&lun, "iqn.i", &ended(8, "iscsiadm: a\niscsiadm: timed out\n")).unwrap();
        assert!(other.to_string().ends_with("failed: timed out"), "{other}");
        for said in [format!("{chap:?}"), format!("{other:?}"), format!("{lun:?}")] {
            assert!(!said.contains("a password 12"), "{said}");
        }
    }

    #[test]
    fn nobody_there_is_told_before_open_iscsi_is_asked() {
        let mut lun = lun();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (lun.host, lun.port) = ("127.0.0.1".to_owned(), listener.local_addr().unwrap().port());
        reach(&lun).unwrap();
        drop(listener);
        let error = reach(&lun).unwrap_err().to_string();
        assert!(error.ends_with("no iSCSI target listens on that port"), "{error}");
    }
}
