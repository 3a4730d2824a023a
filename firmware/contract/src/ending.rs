//! How k3s ends by itself: its last words in a unit's journal, without secrets, and what is known of them. Pure: who reads the
//! journal hands over its text.
//!
//! k3s (1.34.3, logrus' text form) ends with a line of `level=fatal`, or asks itself to stop, `level=error msg="Shutdown request
//! received: …"` (pkg/signals/signals.go), and may then add a fatal line about its cancelled context. What keeps a program from
//! being started at all is said by systemd, in the same journal.

mod clean;

pub use clean::clean;

use serde::{Deserialize, Serialize};

/// More of a line than this is not quoted.
const MOST: usize = 400;

/// The last words of a program, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its own words in one line, without secrets.
    pub quote: String,
    /// What that is, where it is known.
    pub known: Option<Known>,
}

/// What keeps a node from its cluster at the moment, as its state on the disk has it (`/var/lib/kiln/join.json`, `waiting`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The step that waits.
    pub step: String,
    /// What is in the way, with the way out.
    pub trouble: String,
    /// False when somebody must do something on this node or to its seed: time alone will not heal it.
    pub heals: bool,
    /// Seconds since 1970, by the node's own clock, when this step began.
    pub since: u64,
}

/// Makes the known endings and their table from one list.
macro_rules! endings {
    ($($known:ident: [$($part:literal),+], heals $heals:literal, $way_out:literal;)*) => {
        /// An ending that is known.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Known { $(#[doc = $way_out] $known),* }

        impl Known {
            /// All of them, in the order in which they are looked for.
            pub const ALL: &'static [Self] = &[$(Self::$known),*];

            /// Words of which one is in the line.
            fn parts(self) -> &'static [&'static str] {
                match self { $(Self::$known => &[$($part),+]),* }
            }

            /// What a person can do, as a sentence without its end.
            pub fn way_out(self) -> &'static str {
                match self { $(Self::$known => $way_out),* }
            }

            /// True when it may pass without anybody's doing on this node: another server's, or room on a disk.
            pub fn heals(self) -> bool {
                match self { $(Self::$known => $heals),* }
            }
        }
    };
}

// The first row that fits is taken: what is narrower stands above.
endings! {
    EtcdDisabled: ["etcd disabled"], heals true,
        "The server that it asks keeps its data in SQLite, and nobody can join that: have its SQLite turned into etcd, by starting k3s there once with `cluster-init: true`, after a copy of `/var/lib/rancher/k3s/server/db`";
    DuplicateName: ["duplicate node name found"], heals false,
        "The cluster's etcd still has a member of this name, from before this node was written anew: have it removed by another server, `kubectl annotate node NAME etcd.k3s.cattle.io/remove=true`";
    OtherToken: ["bootstrap data already found and encrypted with different token", "cipher: message authentication failed"], heals false,
        "The token was rotated and the datastore was kept, or the other way round: build this node's seed with the token that the datastore was made with, or rotate it with `k3s token rotate`";
    OtherSettings: ["critical configuration value mismatch"], heals false,
        "Servers must agree on networks, the cluster's domain, what is disabled and how it is encrypted: build this node's seed from the same cluster file as the others'";
    WrongToken: ["token CA hash does not match", "invalid token CA hash", "failed to normalize server token", "failed to normalize token", "_TOKEN is required"], heals false,
        "Build this node's seed with the cluster's present secrets";
    Learner: ["too many learner members", "unhealthy cluster"], heals true,
        "Another server is joining, or one is away (etcd takes one at a time): look at the other servers";
    SwapOn: ["running with swap on is not supported"], heals false,
        "Take `memory: {swap: …}` out of the cluster file, or give the kubelet `fail-swap-on=false` (`kubelet_arguments`)";
    DiskFull: ["no space left on device", "disk quota exceeded", "database or disk is full"], heals true,
        "Make room: `df -h /var`, `journalctl --vacuum-size=100M`; images that nobody uses go when the kubelet runs";
    KubeletFlag: ["failed to parse kubelet flag", "unknown flag", "unknown shorthand flag", "flag provided but not defined", "invalid flag use"], heals false,
        "Take that flag out of the cluster file (`k3s: {kubelet_arguments, server, agent}`): this version of k3s does not know it";
    KubeletEnded: ["kubelet exited"], heals false,
        "What the kubelet says behind that is the cause; its arguments are `kubelet_arguments` of the cluster file";
    NoRoute: ["unable to select an IP from default routes", "no default routes found"], heals true,
        "k3s takes the address of the default route: give the node a `gateway`, or an `address` in the cluster file, which k3s then takes";
    NoCgroup: ["failed to find cpu cgroup", "failed to find cpuset cgroup", "failed to find memory cgroup", "failed to find pids cgroup", "failed to find hugetlb cgroup", "failed to find io cgroup", "failed to find blkio cgroup"], heals false,
        "The kernel runs without that controller: on a Raspberry Pi `cgroup_memory=1 cgroup_enable=memory` belongs on its command line; `cat /sys/fs/cgroup/cgroup.controllers` shows what there is";
    PortTaken: ["address already in use"], heals false,
        "Another program has that port (`ss -lntp`): stop it, or k3s that somebody started by hand";
    WrongFormat: ["Exec format error", "exec format error"], heals false,
        "/usr/bin/k3s is for another kind of processor: build the image with this node's `architecture` (`file /usr/bin/k3s`, `uname -m`)";
    NoProgram: ["No such file or directory"], heals false,
        "The program or its folder is not there: is this the image that the cluster file means (`ls -l /usr/bin/k3s`)?";
    NoPermission: ["Permission denied", "permission denied"], heals false,
        "Look at owner and mode of what is named, and whether its file system is mounted read-only or noexec";
    Killed: ["OOM killer", "out of memory", "code=killed, status=9"], heals true,
        "The kernel ended it, as a rule for want of memory (`journalctl -k | grep -i oom`): k3s wants 512 MB on an agent and 2 GB on a server";
}

impl Known {
    /// What a line means.
    pub fn of(line: &str) -> Option<Self> {
        let line = line.to_ascii_lowercase();
        let fits = |known: &&Self| known.parts().iter().any(|part| line.contains(&part.to_ascii_lowercase()));
        Self::ALL.iter().find(fits).copied()
    }
}

/// The last words in a journal's text (`journalctl -o cat`), which `secrets` are taken out of. Nothing when no line is one.
pub fn last_words(journal: &str, secrets: &[&str]) -> Option<Ending> {
    let mut last: Option<(Kind, String)> = None;
    for line in journal.lines() {
        let Some((kind, said)) = words(line) else { continue };
        // What is only a consequence does not take its cause's place.
        let echo = matches!(&last, Some((Kind::Request, _))) && kind == Kind::Cancelled;
        let weaker = last.is_some() && kind == Kind::Exit;
        if !echo && !weaker {
            last = Some((kind, said));
        }
    }
    let (_, said) = last?;
    let known = Known::of(&said);
    Some(Ending { quote: shortened(&clean(&said, secrets)), known })
}

/// What kind of last words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// k3s' own fatal line.
    Fatal,
    /// A fatal line that only says that something else made it stop.
    Cancelled,
    /// k3s asked itself to stop.
    Request,
    /// It was never started, says systemd, or it crashed.
    Start,
    /// systemd's word on a program that said nothing itself.
    Exit,
}

/// A line's words, when they are last ones.
fn words(line: &str) -> Option<(Kind, String)> {
    if let Some((_, rest)) = line.split_once("level=fatal") {
        let said = message(rest).unwrap_or_else(|| rest.trim().to_owned());
        let cancelled = said.trim_end().ends_with("context canceled");
        return Some((if cancelled { Kind::Cancelled } else { Kind::Fatal }, said));
    }
    if line.contains("level=") {
        let said = message(line)?;
        let cause = said.strip_prefix("Shutdown request received")?.trim_start_matches(':').trim();
        let cause = match cause.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(inner) => unescaped(inner),
            None => cause.to_owned(),
        };
        // Without a cause somebody stopped it.
        return (!cause.is_empty()).then_some((Kind::Request, cause));
    }
    // `k3s.service: Failed to execute …`, `Failed at step EXEC spawning …` (systemd.exec(5)); Go's own words of a crash.
    let by_systemd =
        line.contains(".service: Failed to execute") || line.contains(".service: Failed at step");
    if by_systemd || line.starts_with("panic: ") || line.starts_with("fatal error: ") {
        return Some((Kind::Start, line.trim().to_owned()));
    }
    let ended = line.contains(".service: Main process exited") && !line.contains("status=0/");
    ended.then(|| (Kind::Exit, line.trim().to_owned()))
}

/// The value of `msg=` in a line of logrus: quoted as Go quotes, or one word.
fn message(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("msg=")?;
    let Some(quoted) = rest.strip_prefix('"') else {
        return rest.split_ascii_whitespace().next().map(str::to_owned);
    };
    let mut escaped = false;
    let end = quoted.char_indices().find(|(_, c)| {
        let is_end = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        is_end
    });
    // A line that was cut has no end.
    Some(unescaped(end.map_or(quoted, |(at, _)| &quoted[..at])))
}

/// Go's `%q`, read back as far as people see it.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n' | 't' | 'r')) => plain.push(' '),
            ('\\', Some(next)) => plain.push(next),
            (c, _) => plain.push(c),
        }
    }
    plain
}

/// One line without what could move a cursor, and not a page of it.
fn shortened(text: &str) -> String {
    let plain: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let plain = plain.join(" ");
    if plain.chars().count() <= MOST { plain } else { plain.chars().take(MOST).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
