//! Values of a cloud-config that cloud-init's modules fail at, each alone: a module that fails leaves out all of its work.

use super::Said;
use crate::cluster::user_data::{Kind, Yaml, find};
use crate::cluster::words::zones::{self, Zone};

/// Keys, and what cloud-init 25.1.4 takes there (`schema-cloud-config-v1.json`).
const KINDS: [(&str, Kind, &str); 13] = [
    ("bootcmd", Kind::List, "a list"),
    ("ca_certs", Kind::Map, "a mapping"),
    ("chpasswd", Kind::Map, "a mapping"),
    ("ntp", Kind::Map, "a mapping"),
    ("phone_home", Kind::Map, "a mapping"),
    ("power_state", Kind::Map, "a mapping"),
    ("resolv_conf", Kind::Map, "a mapping"),
    ("rsyslog", Kind::Map, "a mapping"),
    ("runcmd", Kind::List, "a list"),
    ("ssh", Kind::Map, "a mapping"),
    ("ssh_authorized_keys", Kind::List, "a list"),
    ("ssh_keys", Kind::Map, "a mapping"),
    ("write_files", Kind::List, "a list"),
];

/// All of them.
pub(super) fn all(entries: &[(Yaml, Yaml)], said: &mut Said<'_>) {
    for (key, kind, want) in KINDS {
        if let Some(value) = find(entries, key).filter(|value| value.kind() != Kind::Nothing)
            && value.kind() != kind
        {
            said.error(
                format!("`{key}` is not {want}"),
                "`cloud-init schema --config-file` checks such files",
            );
        }
    }
    for key in ["bootcmd", "runcmd"] {
        let commands = find(entries, key).map(Yaml::items).unwrap_or_default();
        for (at, command) in commands.iter().enumerate() {
            // `cloudinit.util.shellify` raises on all others, and no command of the list is run.
            let fits = match command.kind() {
                Kind::Text | Kind::Nothing => true,
                Kind::List => command.items().iter().all(|word| word.scalar().is_some()),
                _ => false,
            };
            if !fits {
                let help = match command {
                    Yaml::Map(_) => "a `: ` in it makes a mapping: put the whole line in quotes",
                    _ => "put it in quotes",
                };
                said.error(format!("entry {} of `{key}` is no command", at + 1), help);
            }
        }
    }
    if let Some(zone) = find(entries, "timezone").and_then(Yaml::scalar) {
        let help = match zones::zone(zone) {
            Some(Zone::Known) => None,
            Some(Zone::Legacy(now)) => Some(format!("write `{now}`, which it is now called")),
            None => Some("write it as the tz database does, such as `Europe/Berlin`".to_owned()),
        };
        if let Some(help) = help {
            said.error(format!("the package tzdata has no time zone `{zone}`"), help);
        }
    }
    for (at, file) in find(entries, "write_files").map(Yaml::items).unwrap_or_default().iter().enumerate() {
        written(file, at + 1, said);
    }
}

/// An entry of `write_files`, as messages name it.
pub(super) fn named(file: &Yaml, number: usize) -> String {
    match file.get("path").and_then(Yaml::scalar) {
        Some(path) => format!("entry {number} of `write_files` ({path})"),
        None => format!("entry {number} of `write_files`"),
    }
}

fn written(file: &Yaml, number: usize, said: &mut Said<'_>) {
    let name = named(file, number);
    let Some(path) = file.get("path").and_then(Yaml::scalar) else {
        said.error(format!("{name} has no `path`"), "write `path: /etc/...` and `content:` in each entry");
        return;
    };
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        said.error(
            format!("{name}: the path is not absolute"),
            "write the whole path, such as `/etc/app/app.conf`",
        );
    }
    let permissions = file.get("permissions");
    match permissions.map(|mode| (mode.kind(), mode.scalar().unwrap_or_default())) {
        Some((Kind::Number, mode)) => {
            let digits = mode.trim_start_matches('0');
            let quoted = format!("{digits:0>4}");
            said.error(
                format!("{name}: `permissions: {mode}` is a number, and permissions are text"),
                format!("put it in quotes: `permissions: \"{quoted}\"`; `{digits}` alone would be the decimal number"),
            );
        }
        // Python's int(text, 8) takes no more than this of what anybody writes.
        Some((Kind::Text, mode))
            if u32::from_str_radix(mode.strip_prefix("0o").unwrap_or(mode), 8)
                .is_ok_and(|mode| mode <= 0o7777) => {}
        None | Some((Kind::Nothing, _)) => {}
        Some((_, mode)) => said.error(
            format!("{name}: `permissions: {mode}` are no permission bits"),
            "write four octal digits in quotes, such as `permissions: \"0644\"`",
        ),
    }
    if let Some(encoding) = file.get("encoding").and_then(Yaml::scalar) {
        const KNOWN: [&str; 9] =
            ["b64", "base64", "gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64", "text/plain"];
        if !KNOWN.contains(&encoding) {
            said.error(
                format!("{name}: there is no encoding `{encoding}`"),
                format!("possible here: {}", KNOWN.join(", ")),
            );
        }
    }
    match file.get("content").map(Yaml::kind) {
        None | Some(Kind::Text | Kind::Nothing) => {}
        Some(_) => said.error(
            format!("{name}: `content` is not text"),
            "put it in quotes, or write it as a block behind `content: |`",
        ),
    }
}
