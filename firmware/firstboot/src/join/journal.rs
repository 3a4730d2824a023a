//! What k3s itself says when it does not stay: how often systemd has started it again, and its last words from the journal.

use super::Around;
use super::words::{Cause, Trouble};
use kiln_contract::ending::{self, Ending};
use kiln_contract::join::Join;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

/// As many lines of the journal are looked through: a start that fails writes some hundreds.
const LINES: &str = "-n3000";
/// And not more bytes than this.
const MOST: u64 = 4 << 20;
/// Where the endpoint of an external datastore is, with its password (the overlay `k3s`).
const DATASTORE: &str = "/etc/rancher/k3s/config.yaml.d/50-datastore.yaml";

/// How often a unit has ended by itself, and how.
#[derive(Debug)]
pub(super) struct Exits {
    pub(super) count: u32,
    state: String,
    pub(super) last: Option<Ending>,
}

/// Asks systemd and the journal. Nothing when the unit has not ended by itself since somebody started it.
pub(super) fn exits(around: &Around, join: &Join) -> Option<Exits> {
    let mut command = Command::new(&around.systemctl);
    command.args(["show", "--property=ActiveState,SubState,NRestarts,Result", &join.unit]);
    let said = output(&mut command)?;
    let value = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default().trim()
    };
    let (state, result) = (value("ActiveState"), value("Result"));
    let restarts: u32 = value("NRestarts").parse().unwrap_or(0);
    // While it waits for its next start (`auto-restart`) the end before is not counted yet.
    let ended = value("SubState").starts_with("auto-restart") || state == "failed";
    let count = restarts.saturating_add(u32::from(ended));
    if count == 0 && matches!(result, "" | "success") {
        return None;
    }
    Some(Exits { count: count.max(1), state: state.to_owned(), last: last_words(around, join) })
}

/// How the unit ended last, in its own words without any secret; empty when it did not.
pub(super) fn quoted(around: &Around, join: &Join) -> String {
    exits(around, join).and_then(|exits| exits.last).map(|last| last.quote).unwrap_or_default()
}

/// The unit's last words in this boot, without any secret.
fn last_words(around: &Around, join: &Join) -> Option<Ending> {
    let mut command = Command::new(&around.journalctl);
    command.args(["-b", "-o", "cat", "--no-pager", LINES, "-u", &join.unit]);
    let secrets = secrets(around, join);
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    ending::last_words(&output(&mut command)?, &secrets)
}

/// Every secret of this node that k3s could quote.
fn secrets(around: &Around, join: &Join) -> Vec<String> {
    let read = |path: &String| fs::read_to_string(around.path(path)).ok().map(|text| text.trim().to_owned());
    let files = [&join.token_file, &join.password_file].into_iter().chain(&join.agent_token_file);
    let mut secrets: Vec<String> = files.filter_map(read).collect();
    // Of a token, what is behind its user as well.
    let parts =
        secrets.iter().filter_map(|token| Some(token.split_once("::")?.1.split_once(':')?.1.to_owned()));
    let parts: Vec<String> = parts.collect();
    secrets.extend(parts);
    if let Some(text) = read(&DATASTORE.to_owned()) {
        let endpoint = text.split_once(": ").map_or("", |(_, value)| value).trim().trim_matches(['"', '\'']);
        secrets.push(endpoint.to_owned());
        let user = endpoint.rsplit_once('@').map_or("", |(user, _)| user);
        let user = user.split_once("://").map_or(user, |(_, user)| user);
        secrets
            .extend([user.to_owned(), user.split_once(':').map_or("", |(_, password)| password).to_owned()]);
    }
    secrets
}

/// Its standard output, bounded; nothing when it can't be run.
fn output(command: &mut Command) -> Option<String> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut bytes = Vec::new();
    let read = child.stdout.take().map(|out| out.take(MOST).read_to_end(&mut bytes));
    // One that had more to say would wait for somebody to read it.
    let _ = child.kill();
    let _ = child.wait();
    read?.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What is in the way of a node that k3s is to bring: k3s' own end, where it has met one, else what was found.
pub(super) fn explained(around: &Around, join: &Join, found: Trouble) -> Trouble {
    // Kubernetes' own word on the node is newer than any end of k3s.
    if found.cause == Cause::NotReady {
        return found;
    }
    let Some(exits) = exits(around, join) else { return found };
    let times = if exits.count == 1 { "once".to_owned() } else { format!("{} times", exits.count) };
    let facts = format!("{} has ended {times} by itself and is {}", join.unit, exits.state);
    match exits.last {
        Some(Ending { quote, known }) => {
            Trouble::new(Cause::Ended, format!("{facts}; its last words: {quote}")).knowing(known)
        }
        None => Trouble::new(Cause::Ended, format!("{facts}, without last words in its journal")),
    }
}

#[cfg(test)]
mod tests {
    use super::explained;
    use crate::join::tests::{around, document};
    use crate::join::words::{Cause, Trouble};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn script(path: &Path, text: &str) {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn an_end_of_k3s_is_told_in_its_own_words() {
        let root = tempfile::tempdir().unwrap();
        let mut around = around(root.path());
        (around.systemctl, around.journalctl) =
            (root.path().join("systemctl"), root.path().join("journalctl"));
        fs::create_dir_all(root.path().join("etc/rancher/k3s")).unwrap();
        fs::write(root.path().join("etc/rancher/k3s/token"), "K10aa::server:s3cret-token\n").unwrap();
        let said = |show: &str, journal: &str| {
            script(&around.systemctl, &format!("printf '{show}'"));
            script(&around.journalctl, &format!("cat <<'X'\n{journal}\nX"));
            // Between another test's fork and its exec a script is open for writing (execve(2), ETXTBSY).
            std::thread::sleep(std::time::Duration::from_millis(50));
            explained(&around, &document(), Trouble::new(Cause::NotStarted, "nothing is there"))
        };
        let fatal = |words: &str| format!("time=\"x\" level=fatal msg=\"{words}\"");
        let running = "ActiveState=activating\\nSubState=start\\nNRestarts=0\\nResult=success\\n";
        assert_eq!(said(running, &fatal("of an earlier start")).cause, Cause::NotStarted);
        let again = "ActiveState=activating\\nSubState=auto-restart\\nNRestarts=3\\nResult=exit-code\\n";
        let trouble =
            said(again, &fatal("etcd cluster join failed: duplicate node name found, s3cret-token"));
        assert_eq!(
            trouble.said(),
            "k3s-agent.service has ended 4 times by itself and is activating; its last words: etcd cluster join failed: duplicate node name found, …"
        );
        assert!(
            !trouble.heals() && trouble.to_string().contains("etcd.k3s.cattle.io/remove=true"),
            "{trouble}"
        );
        assert!(said(again, &fatal("etcd disabled")).heals());
        // Another end is another cause, and told at once.
        assert!(!trouble.is_like(&said(again, &fatal("etcd disabled"))));
        let unknown = said(again, "nothing of use");
        assert!(
            unknown.said().ends_with("without last words in its journal") && unknown.heals(),
            "{unknown}"
        );
        // What Kubernetes says of the node is newer.
        let not_ready = explained(&around, &document(), Trouble::new(Cause::NotReady, "no CNI"));
        assert_eq!(not_ready.cause, Cause::NotReady);
    }
}
