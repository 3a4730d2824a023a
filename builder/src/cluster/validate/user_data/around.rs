//! What a file of the user's own says beside what the cluster file says: who is there when its files are written, and where
//! the node can be written to.

use super::super::accounts::Account;
use super::values::named;
use super::{Check, Said};
use crate::cluster::read::Text;
use crate::cluster::user_data::{Content, Kind, UserData, Yaml, find};
use crate::cluster::words::SYSTEM_ACCOUNTS;
use std::collections::BTreeSet;

/// Places of a Kiln image that can be written to, with what is below them (`rootfs::seal`).
const WRITABLE: [&str; 10] =
    ["/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var"];
/// Links in them that lead back to the root.
const LINKS: [&str; 1] = ["/var/lib/dpkg"];
/// Those that are empty at each boot.
const PASSING: [&str; 2] = ["/run", "/tmp"];

/// What is around a file.
pub(in super::super) struct Around<'a> {
    /// Names of the users that every node with the file has.
    pub(in super::super) users: BTreeSet<&'a str>,
    /// Packages or overlays of the user's own are there, which may bring accounts.
    pub(in super::super) packages: bool,
    /// Where disks are mounted.
    pub(in super::super) mounts: BTreeSet<&'a str>,
}

impl Check<'_> {
    /// The files that a cloud-config writes.
    pub(in super::super) fn around(&mut self, text: &Text, data: &UserData, around: &Around<'_>) {
        let Content::CloudConfig(entries) = &data.content else { return };
        let path = data.path.display().to_string();
        let mut said = Said { faults: self.faults, path: &path, span: &text.span };
        let users: BTreeSet<&str> =
            around.users.iter().copied().chain(accounts(entries).into_iter().map(|one| one.name)).collect();
        for (at, file) in find(entries, "write_files").map(Yaml::items).unwrap_or_default().iter().enumerate()
        {
            let name = named(file, at + 1);
            if let Some(place) = file.get("path").and_then(Yaml::scalar) {
                if let Some((message, help)) = placed(place, &around.mounts) {
                    said.error(format!("{name}: {message}"), help);
                } else if PASSING.iter().any(|passing| below(place, passing)) {
                    said.warning(
                        format!(
                            "{name}: what is there goes with the first restart, and cloud-init writes it once"
                        ),
                        "take a place below /etc or /var, or write it with `bootcmd` at every boot",
                    );
                }
            }
            let deferred = file.get("defer").is_some_and(|defer| {
                defer.scalar().is_some_and(|word| {
                    matches!(word.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1")
                })
            });
            let owner = file.get("owner").and_then(Yaml::scalar).unwrap_or_default();
            // `cloudinit.util.extract_usergroup`: "user:group", and nobody where it says `-1` or `none`.
            let mut told = BTreeSet::new();
            for one in owner.splitn(2, ':').map(str::trim) {
                let nobody = one.is_empty() || one == "-1" || one.eq_ignore_ascii_case("none");
                if nobody || SYSTEM_ACCOUNTS.contains(&one) || !told.insert(one) {
                    continue;
                }
                let user = users.contains(one);
                if user && !deferred {
                    said.error(
                        format!("{name}: `owner: {owner}` is there later only: files are written before users are made"),
                        "add `defer: true` to the entry; else this file is lost, and all behind it",
                    );
                } else if !user && !around.packages {
                    said.error(
                        format!("{name}: there is no user or group `{one}` on every node that has this file"),
                        "name a user of `users` and add `defer: true`, or leave `owner` out; else this file is lost, and all behind it",
                    );
                }
            }
        }
    }
}

/// Why nothing can be written to that place of a Kiln image, and the way out.
pub(in super::super) fn placed(path: &str, mounts: &BTreeSet<&str>) -> Option<(&'static str, String)> {
    let mounted = mounts.iter().any(|place| below(path, place));
    let fits = mounted || WRITABLE.iter().any(|place| below(path, place));
    (!fits || LINKS.iter().any(|place| below(path, place))).then(|| {
        let help = format!("it can below {}; else this file is lost, and all behind it", WRITABLE.join(", "));
        ("a Kiln image can't be written to there: its root is read-only", help)
    })
}

fn below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
}

/// The accounts that a cloud-config makes, in their order; groups of its own are made before any.
pub(in super::super) fn accounts(entries: &[(Yaml, Yaml)]) -> Vec<Account<'_>> {
    let users = find(entries, "users").map(Yaml::items).unwrap_or_default();
    let users = users.iter().filter_map(|user| match user {
        Yaml::Map(_) => Some(Account {
            name: user.get("name")?.scalar()?,
            groups: user.get("groups").map(list).unwrap_or_default(),
            own_group: user.get("primary_group").is_none() && !says_yes(user.get("no_user_group")),
        }),
        name => name.scalar().filter(|name| *name != "default").map(|name| Account {
            name,
            groups: Vec::new(),
            own_group: true,
        }),
    });
    users.collect()
}

/// The groups that a cloud-config makes by themselves, before all users.
pub(in super::super) fn groups(entries: &[(Yaml, Yaml)]) -> Vec<&str> {
    let all = find(entries, "groups").map(|value| match value {
        Yaml::List(items) => items.iter().flat_map(names).collect(),
        other => names(other),
    });
    all.unwrap_or_default()
}

/// Names of a word with commas, or of the keys of a mapping.
fn names(value: &Yaml) -> Vec<&str> {
    match value {
        Yaml::Map(entries) => entries.iter().filter_map(|(key, _)| key.scalar()).collect(),
        other => list(other),
    }
}

/// A list of words, or one text with commas.
fn list(value: &Yaml) -> Vec<&str> {
    match value {
        Yaml::List(items) => items.iter().filter_map(Yaml::scalar).map(str::trim).collect(),
        other => other.scalar().into_iter().flat_map(|text| text.split(',')).map(str::trim).collect(),
    }
}

fn says_yes(value: Option<&Yaml>) -> bool {
    value.is_some_and(|value| {
        value.kind() == Kind::Truth
            && value
                .scalar()
                .is_some_and(|word| matches!(word.to_ascii_lowercase().as_str(), "true" | "yes" | "on"))
    })
}
