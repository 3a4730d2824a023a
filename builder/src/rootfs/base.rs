//! The small things: files that packages keep a master of and copy at installation, files that postinsts
//! write from here-documents, and the directories and links of base-files.

use super::Error;
use super::root::Root;
use super::users;

/// Master, copy: made when the master is there and the copy is not.
const COPIES: [(&str, &str); 15] = [
    ("usr/share/base-files/dot.profile", "root/.profile"),
    ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
    ("usr/share/base-files/profile", "etc/profile"),
    ("usr/share/base-files/motd", "etc/motd"),
    ("usr/share/base-files/info.dir", "usr/share/info/dir"),
    ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ("usr/share/readline/inputrc", "etc/inputrc"),
    ("usr/share/nfs-common/conffiles/idmapd.conf", "etc/idmapd.conf"),
    ("usr/share/nfs-common/conffiles/nfs.conf", "etc/nfs.conf"),
    ("usr/share/openssh/sshd_config", "etc/ssh/sshd_config"),
    ("usr/share/nfs-kernel-server/conffiles/etc.exports", "etc/exports"),
    ("usr/share/nfs-kernel-server/conffiles/nfs-kernel-server.default", "etc/default/nfs-kernel-server"),
    ("usr/share/chrony/chrony.conf", "etc/chrony/chrony.conf"),
    ("usr/share/chrony/chrony.keys", "etc/chrony/chrony.keys"),
    ("usr/share/smartmontools/drivedb.h", "var/lib/smartmontools/drivedb/drivedb.h"),
];

/// Files that postinsts write whole from here-documents.
const DOCUMENTS: [(&str, &str); 8] = [
    ("apparmor", "/etc/apparmor.d/tunables/home.d/ubuntu"),
    ("apparmor", "/etc/apparmor.d/tunables/xdg-user-dirs.d/site.local"),
    ("netbase", "/etc/hosts"),
    ("netbase", "/etc/networks"),
    ("libwrap0", "/etc/hosts.allow"),
    ("libwrap0", "/etc/hosts.deny"),
    ("kmod", "/etc/modules"),
    ("python3", "/etc/python3/debian_config"),
];

/// Package, path, owner, group, mode of directories.
const DIRECTORIES: [(&str, &str, &str, &str, u16); 24] = [
    ("base-files", "mnt", "root", "root", 0o755),
    ("base-files", "srv", "root", "root", 0o755),
    ("base-files", "opt", "root", "root", 0o755),
    ("base-files", "media", "root", "root", 0o755),
    ("base-files", "etc/opt", "root", "root", 0o755),
    ("base-files", "var/opt", "root", "root", 0o755),
    ("base-files", "var/mail", "root", "mail", 0o2775),
    ("base-files", "run/lock", "root", "root", 0o1777),
    ("base-files", "usr/local", "root", "root", 0o755),
    ("base-files", "usr/local/share", "root", "root", 0o755),
    ("base-files", "usr/local/share/man", "root", "root", 0o755),
    ("base-files", "usr/local/bin", "root", "root", 0o755),
    ("base-files", "usr/local/games", "root", "root", 0o755),
    ("base-files", "usr/local/lib", "root", "root", 0o755),
    ("base-files", "usr/local/libexec", "root", "root", 0o755),
    ("base-files", "usr/local/include", "root", "root", 0o755),
    ("base-files", "usr/local/sbin", "root", "root", 0o755),
    ("base-files", "usr/local/src", "root", "root", 0o755),
    ("base-files", "usr/local/etc", "root", "root", 0o755),
    ("ca-certificates", "usr/local/share/ca-certificates", "root", "root", 0o755),
    ("python3.13-minimal", "usr/local/lib/python3.13", "root", "root", 0o755),
    ("python3.13-minimal", "usr/local/lib/python3.13/dist-packages", "root", "root", 0o755),
    ("dbus-daemon", "var/lib/dbus", "root", "root", 0o755),
    ("systemd", "var/log/journal", "root", "root", 0o755),
];

/// Package, path, target of links.
const LINKS: [(&str, &str, &str); 8] = [
    ("base-files", "etc/dpkg/origins/default", "debian"),
    ("base-files", "var/spool/mail", "../mail"),
    ("base-files", "var/run", "/run"),
    ("base-files", "var/lock", "/run/lock"),
    ("base-files", "usr/local/man", "share/man"),
    ("tzdata", "etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
    ("systemd-resolved", "etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ("libwtmpdb0", "var/lib/wtmpdb/wtmp.db", "../../log/wtmp.db"),
];

/// Package, path, owner, group, mode of files that begin empty.
const EMPTY: [(&str, &str, &str, &str, u16); 12] = [
    ("base-files", "var/log/wtmp", "root", "utmp", 0o664),
    ("base-files", "var/log/btmp", "root", "utmp", 0o660),
    ("base-files", "var/log/lastlog", "root", "utmp", 0o664),
    ("libpam-modules", "etc/security/opasswd", "root", "root", 0o600),
    ("libpam-modules", "etc/environment", "root", "root", 0o644),
    ("cryptsetup", "etc/crypttab", "root", "root", 0o644),
    ("nfs-kernel-server", "var/lib/nfs/etab", "root", "root", 0o644),
    ("nfs-kernel-server", "var/lib/nfs/rmtab", "root", "root", 0o644),
    ("nfs-common", "var/lib/nfs/state", "statd", "root", 0o644),
    ("ucf", "var/lib/ucf/hashfile", "root", "root", 0o644),
    ("ucf", "var/lib/ucf/registry", "root", "root", 0o644),
    ("systemd", "etc/machine-id", "root", "root", 0o644),
];

/// Package, path, owner, group, mode of what is packaged as root's and given away at installation; the last
/// word says whether dpkg's statoverride knows.
const OWNERS: [(&str, &str, &str, &str, u16, bool); 14] = [
    ("openssh-client", "usr/bin/ssh-agent", "root", "_ssh", 0o2755, false),
    ("dbus", "usr/lib/dbus-1.0/dbus-daemon-launch-helper", "root", "messagebus", 0o4754, true),
    ("nfs-common", "var/lib/nfs/sm", "statd", "nogroup", 0o755, false),
    ("nfs-common", "var/lib/nfs/sm.bak", "statd", "nogroup", 0o755, false),
    ("apt", "var/cache/apt/archives/partial", "_apt", "root", 0o700, false),
    ("apt", "var/lib/apt/lists/partial", "_apt", "root", 0o700, false),
    ("chrony", "var/lib/chrony", "_chrony", "_chrony", 0o750, true),
    ("chrony", "var/log/chrony", "_chrony", "_chrony", 0o750, true),
    ("chrony", "etc/chrony/chrony.keys", "root", "_chrony", 0o640, true),
    ("cron", "usr/bin/crontab", "root", "crontab", 0o2755, true),
    ("cron-daemon-common", "var/spool/cron/crontabs", "root", "crontab", 0o1730, false),
    ("rsyslog", "var/spool/rsyslog", "root", "root", 0o700, false),
    ("sudo", "etc/sudoers", "root", "root", 0o440, false),
    ("tpm-udev", "var/lib/tpm", "tss", "tss", 0o755, false),
];

/// What every root has and no package ships: an empty table of file systems, for /init mounts what there is.
const FSTAB: &str = "# Root, /etc and /var are mounted by the initramfs.\n";

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    for (_, path, _, _, mode) in DIRECTORIES.into_iter().filter(|row| root.has(row.0)).collect::<Vec<_>>() {
        root.put_directory(path, mode);
    }
    for (_, path, to) in LINKS.into_iter().filter(|row| root.has(row.0)).collect::<Vec<_>>() {
        root.put_link(path, to);
    }
    for (_, path, _, _, mode) in EMPTY.into_iter().filter(|row| root.has(row.0)).collect::<Vec<_>>() {
        root.put_file(path, "", mode);
    }
    for (master, copy) in COPIES {
        if let (Some(entry), false) = (root.tree.get(master).cloned(), root.tree.contains(copy)) {
            let mtime = entry.meta.mtime;
            root.put(copy, entry);
            if let Some(entry) = root.tree.get_mut(copy) {
                entry.meta.mtime = mtime;
            }
        }
    }
    for (package, path) in DOCUMENTS {
        let package = root.packages.iter().find(|other| other.unpacked.name == package);
        let text = package.and_then(|package| package.postinst.documents.get(path)).cloned();
        if let (Some(text), false) = (text, root.tree.contains(&path[1..])) {
            root.put_file(&path[1..], text, 0o644);
        }
    }
    if root.has("base-files") {
        root.put_file("etc/fstab", FSTAB, 0o644);
    }
    local_profiles(root);
    shells(root)?;
    initramfs_modules(root)
}

/// A profile of AppArmor includes a file for what the machine's owner adds; dh_apparmor makes it, empty.
fn local_profiles(root: &mut Root<'_>) {
    let assigned = |words: &[String], name: &str| {
        let (_, path) = words.first()?.split_once('=').filter(|(left, _)| *left == name)?;
        Some(path.trim_start_matches('/').to_owned())
    };
    let mut wanted = Vec::new();
    for package in &root.packages {
        let mut profile = None;
        for words in &package.postinst.commands {
            profile = assigned(words, "APP_PROFILE").or(profile);
            let local = assigned(words, "LOCAL_APP_PROFILE");
            wanted.extend(local.filter(|_| profile.as_ref().is_some_and(|path| root.tree.contains(path))));
        }
    }
    for path in wanted {
        if !root.tree.contains(&path) {
            root.put_file(&path, "", 0o644);
        }
    }
}

/// Gives things to the accounts that exist by now.
pub(super) fn owners(root: &mut Root<'_>) -> Result<(), Error> {
    let rows =
        DIRECTORIES.into_iter().chain(EMPTY).map(|(a, b, c, d, e)| (a, b, c, d, e, false)).chain(OWNERS);
    for (_, path, user, group, mode, listed) in rows.filter(|row| root.has(row.0)).collect::<Vec<_>>() {
        let (user_id, group_id) = (users::id(root, "passwd", user)?, users::id(root, "group", group)?);
        let (Some(uid), Some(gid)) = (user_id, group_id) else { continue };
        // A directory that tmpfiles.d or the package gave to somebody is left alone.
        if root.tree.get(path).is_some_and(|entry| (entry.meta.uid, entry.meta.gid) == (0, 0)) {
            root.own(path, (uid, gid), mode);
        }
        if listed && root.tree.contains(path) {
            root.overrides.push(format!("{user} {group} {mode:o} /{path}\n"));
        }
    }
    Ok(())
}

/// /etc/shells as update-shells(8) makes it: the template, then what packages list, each with the path that
/// the merged /usr gives it.
fn shells(root: &mut Root<'_>) -> Result<(), Error> {
    let Some(template) = root.text("usr/share/debianutils/shells")? else { return Ok(()) };
    let mut state = Vec::new();
    let mut sources = vec!["usr/share/debianutils/shells".to_owned()];
    sources.extend(
        root.names("usr/share/debianutils/shells.d")
            .iter()
            .map(|n| format!("usr/share/debianutils/shells.d/{n}")),
    );
    for source in sources {
        for line in root.text(&source)?.unwrap_or_default().lines() {
            let shell = line.split('#').next().unwrap_or("").trim();
            for shell in [shell.to_owned(), format!("/{}", root.real(shell))] {
                if shell.len() > 1 && !state.contains(&shell) {
                    state.push(shell);
                }
            }
        }
    }
    let listed = |shell: &&String| !template.lines().any(|line| line == **shell);
    let added: String = state.iter().filter(listed).map(|shell| format!("{shell}\n")).collect();
    let state: String = state.iter().map(|shell| format!("{shell}\n")).collect();
    root.put_file("etc/shells", template.clone() + &added, 0o644);
    root.put_file("var/lib/shells.state", state, 0o644);
    Ok(())
}

/// initramfs-tools keeps a commented master; lines with three hashes are its own notes.
fn initramfs_modules(root: &mut Root<'_>) -> Result<(), Error> {
    if let Some(master) = root.text("usr/share/initramfs-tools/modules")? {
        let kept = master.lines().filter(|line| !line.starts_with("###"));
        root.put_file(
            "etc/initramfs-tools/modules",
            kept.map(|line| format!("{line}\n")).collect::<String>(),
            0o644,
        );
    }
    Ok(())
}
