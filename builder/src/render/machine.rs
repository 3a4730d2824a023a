//! What a node's system is told, as files and as commands that put them in force at the first boot already: what reads
//! them has been started before cloud-init writes them.

use super::{Error, File, Target, Vault};
use crate::cluster::{Cluster, Content, Keyboard, Mount, Node, behind_link, content_of, link_of};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

const SYSCTLS: &str = "/etc/sysctl.d/80-kiln-own.conf";
const MODULES: &str = "/etc/modules-load.d/80-kiln-own.conf";
/// /etc/default/locale is a link to it, and so PAM gives it to every login.
const LOCALE: &str = "/etc/locale.conf";
const KEYBOARD: &str = "/etc/default/keyboard";
/// setupcon(1) keeps what it made of a keyboard for the next boot, and this of it is made last.
const KEYBOARD_MADE: &str = "/etc/console-setup/cached_setup_terminal.sh";
const NTP: &str = "/etc/systemd/timesyncd.conf.d/80-kiln-own.conf";
/// cloud-init writes /etc/hosts anew from it at every boot.
const HOSTS: &str = "/etc/cloud/templates/hosts.debian.tmpl";

/// What the node's root is.
pub(super) struct System {
    target: Target,
    /// Links at the top of it for `directories`.
    links: BTreeSet<String>,
}

impl System {
    pub(super) fn new(cluster: &Cluster, target: Target) -> Self {
        let directories = cluster.directories();
        Self {
            target,
            links: directories.iter().filter_map(|path| link_of(path)).map(str::to_owned).collect(),
        }
    }

    /// The place as systemd must name it.
    fn place(&self, path: &str) -> String {
        let own = || link_of(path).filter(|link| self.links.contains(*link)).map(|_| content_of(path));
        behind_link(path)
            .or_else(own)
            .filter(|_| self.target == Target::Kiln)
            .unwrap_or_else(|| path.to_owned())
    }
}

/// The files of `node`.
pub(super) fn files(node: &Node, system: &System, vault: &Arc<dyn Vault>) -> Result<Vec<File>, Error> {
    let machine = &node.machine;
    let mut files = Vec::new();
    let mut add = |path: &str, text: String| {
        files.push(File { path: path.to_owned(), mode: 0o644, text, secret: false })
    };
    // Writing to a string does not fail.
    if !machine.modules.is_empty() {
        add(MODULES, machine.modules.iter().map(|module| format!("{module}\n")).collect());
    }
    if !machine.sysctls.is_empty() {
        add(SYSCTLS, machine.sysctls.iter().map(|(name, value)| format!("{name} = {value}\n")).collect());
    }
    if !machine.ntp.is_empty() {
        add(NTP, format!("[Time]\nNTP={}\n", machine.ntp.join(" ")));
    }
    // On a stock image cloud-init makes the locale.
    if let Some(locale) = machine.locale.as_ref().filter(|_| system.target == Target::Kiln) {
        add(LOCALE, format!("LANG={locale}\n"));
    }
    if let Some(keyboard) = &machine.keyboard {
        let Keyboard { layout, variant, model, options } = keyboard;
        add(
            KEYBOARD,
            format!(
                "XKBMODEL=\"{model}\"\nXKBLAYOUT=\"{layout}\"\nXKBVARIANT=\"{variant}\"\nXKBOPTIONS=\"{options}\"\n\nBACKSPACE=\"guess\"\n"
            ),
        );
    }
    if !machine.hosts.is_empty() {
        let mut text = String::from(
            "## template:jinja\n127.0.1.1 {{fqdn}} {{hostname}}\n127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n\
             ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
        );
        for (address, names) in &machine.hosts {
            let _ = writeln!(text, "{address} {}", names.join(" "));
        }
        add(HOSTS, text);
    }
    for mount in &machine.mounts {
        let place = system.place(&mount.mount_point);
        add(&format!("/etc/systemd/system/{}", unit(&place)), mount_unit(mount, &place));
    }
    for file in &machine.files {
        let (text, secret) = match &file.content {
            Content::Text(text) => (text.to_string(), false),
            Content::Secret(secret) => {
                let failed = |reason| Error::Secret {
                    node: node.name.clone(),
                    reason: format!("{}: {reason}", file.path),
                };
                (vault.reveal(secret).map_err(failed)?, true)
            }
        };
        let mode = file.mode.unwrap_or(if secret { 0o600 } else { 0o644 });
        files.push(File { path: file.path.clone(), mode, text, secret });
    }
    Ok(files)
}

/// What puts them in force.
pub(super) fn commands(node: &Node, system: &System) -> Vec<Vec<String>> {
    let machine = &node.machine;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut commands = Vec::new();
    if !machine.modules.is_empty() {
        let modules: Vec<&str> = machine.modules.iter().map(String::as_str).collect();
        commands.push([&words(&["modprobe", "--all", "--"])[..], &words(&modules)[..]].concat());
    }
    if !machine.sysctls.is_empty() {
        commands.push(words(&["/usr/lib/systemd/systemd-sysctl", SYSCTLS]));
    }
    if !machine.ntp.is_empty() {
        commands.push(words(&["systemctl", "--no-block", "try-restart", "systemd-timesyncd.service"]));
    }
    if machine.keyboard.is_some() {
        // Debian's own units have run before the file was there.
        let line = format!("[ {KEYBOARD_MADE} -nt {KEYBOARD} ] || setupcon --force --save");
        commands.push(words(&["sh", "-c", &line]));
    }
    if !machine.directories.is_empty() && system.target == Target::Stock {
        let directories: Vec<&str> = machine.directories.iter().map(String::as_str).collect();
        commands.push([&words(&["mkdir", "-p", "--"])[..], &words(&directories)[..]].concat());
    }
    if !machine.mounts.is_empty() {
        for mount in machine.mounts.iter().filter(|_| system.target == Target::Kiln) {
            // Folders below the root's own are made in memory, as those of data disks are.
            let parts: Vec<&str> = mount.mount_point.split('/').skip(1).collect();
            let top = format!("/{}", parts.first().unwrap_or(&""));
            if parts.len() > 1 && system.place(&mount.mount_point) == mount.mount_point && top != "/var" {
                let line = format!(
                    "mountpoint -q {top} || mount -t tmpfs -o nosuid,nodev,noexec,mode=0755,size=64k,nr_inodes=1k tmpfs {top}"
                );
                commands.push(words(&["sh", "-c", &line]));
            }
        }
        commands.push(words(&["systemctl", "daemon-reload"]));
        let units: Vec<String> =
            machine.mounts.iter().map(|mount| unit(&system.place(&mount.mount_point))).collect();
        let units: Vec<&str> = units.iter().map(String::as_str).collect();
        commands
            .push([&words(&["systemctl", "enable", "--now", "--no-block"])[..], &words(&units)[..]].concat());
    }
    commands
}

/// systemd-escape(1) `--path --suffix=mount`.
fn unit(path: &str) -> String {
    let mut name = String::new();
    for (at, byte) in path.trim_matches('/').bytes().enumerate() {
        let c = char::from(byte);
        match c {
            '/' => name.push('-'),
            '.' if at == 0 => name.push_str("\\x2e"),
            _ if c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.') => name.push(c),
            // Writing to a string does not fail.
            _ => drop(write!(name, "\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

fn mount_unit(mount: &Mount, place: &str) -> String {
    let remote = mount.is_remote();
    let mut text = format!("[Unit]\nDescription={} at {}\n", mount.filesystem, mount.mount_point);
    if remote {
        text += "Wants=network-online.target\nAfter=network-online.target\n";
    }
    // Writing to a string does not fail.
    let _ = write!(text, "\n[Mount]\nWhat={}\nWhere={place}\nType={}\n", mount.source, mount.filesystem);
    if !mount.options.is_empty() {
        let _ = writeln!(text, "Options={}", mount.options.join(","));
    }
    let target = if remote { "remote-fs.target" } else { "local-fs.target" };
    let _ = write!(text, "TimeoutSec=90s\n\n[Install]\nWantedBy={target}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::{System, unit};
    use crate::cluster::parse;
    use crate::render::Target;
    use std::path::Path;

    /// systemd mounts at no place with a link in it, and the root that nodes share has the links of all.
    #[test]
    fn places_are_named_behind_the_links_of_all_nodes() {
        let text = "apiVersion: kiln/v1\ncluster: {name: c}\nusers: [{name: a, password_hash: $y$j9T$x$y}]\nnodes:\n  \
            - {name: n1, directories: [/data, /srv/media]}\n  - {name: n2, mounts: [{source: \"nas:/vol\", mount_point: /data/nas}]}\n";
        let loaded = parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new(".")).unwrap();
        let cluster = loaded.cluster;
        let kiln = System::new(&cluster, Target::Kiln);
        let stock = System::new(&cluster, Target::Stock);
        for (path, want) in [
            ("/data/nas", "/var/directories/data/nas"),
            ("/data", "/var/directories/data"),
            ("/database", "/database"),
            ("/srv/media/nas", "/var/srv/media/nas"),
        ] {
            assert_eq!((kiln.place(path).as_str(), stock.place(path).as_str()), (want, path));
        }
        // Nothing is mounted over what is behind the link.
        assert_eq!(super::commands(&cluster.nodes[1], &kiln).len(), 2);
        assert_eq!(
            super::commands(&cluster.nodes[0], &stock),
            [["mkdir", "-p", "--", "/data", "/srv/media"]]
        );
        assert!(super::commands(&cluster.nodes[0], &kiln).is_empty());
    }

    #[test]
    fn units_are_named_as_systemd_does() {
        assert_eq!(unit("/mnt/nas"), "mnt-nas.mount");
        assert_eq!(unit("/mnt/my-nas/a b"), "mnt-my\\x2dnas-a\\x20b.mount");
    }
}
