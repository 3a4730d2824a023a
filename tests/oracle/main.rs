//! The assembled root against one that mmdebstrap installed and dpkg configured from the same .deb files:
//! type, mode, owner, link target and content of every path. Every difference needs a rule with a reason,
//! and a rule that nothing needs fails, too. Then dpkg itself judges our root.
//!
//! The packages are the example's, and those for disks, out of the cache. Needs root; without it the test says aloud that it is
//! skipped.

#![allow(clippy::expect_used, clippy::panic, reason = "test code: a failure should stop it")]

mod folder;

use kiln::cache::Cache;
use kiln::execute::unpack;
use kiln::lock::Lock;
use kiln::rootfs;
use kiln_tests::{disks, example, root_or_skip, shared};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What may differ at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Difference {
    /// Only the configured root has it.
    Missing,
    /// Only ours has it.
    Added,
    /// Both have it, with other bytes.
    Content,
    /// Both have it, with another mode, owner, kind or target.
    Meta,
}
use Difference::{Added, Content, Meta, Missing};

/// Paths (`*` stands for anything), what may differ, and why.
type Rule = (&'static str, Difference, &'static str);

/// What may differ in any root.
const RULES: &[Rule] = &[
    ("etc/apt/preferences.d", Missing, "made by the apt that mmdebstrap brings; the example has none"),
    ("var/cache/apt", Missing, "made by the apt that mmdebstrap brings; the example has none"),
    ("var/lib/apt", Missing, "made by the apt that mmdebstrap brings; the example has none"),
    ("var/lib/apt/lists", Missing, "made by the apt that mmdebstrap brings; the example has none"),
    ("var/log/apt", Missing, "made by the apt that mmdebstrap brings; the example has none"),
    // Made for one machine: no two may share them, the seed or the first boot brings them.
    ("etc/hostname", Missing, "the build host's name; the node's comes with its seed"),
    ("etc/iscsi/initiatorname.iscsi", Missing, "an identity; comes with the seed"),
    ("etc/ssh/ssh_host_*", Missing, "an identity; comes with the seed or is made at first boot"),
    // The initramfs and the links to it.
    ("boot/initrd.img-*", Missing, "Kiln makes its own initramfs"),
    ("initrd.img*", Missing, "systemd-boot reads unified images, not links at the root"),
    ("vmlinuz*", Missing, "systemd-boot reads unified images, not links at the root"),
    // Caches, backups, locks and logs of tools that did not run.
    ("etc/.pwd.lock", Missing, "a lock of tools that edit passwd"),
    ("etc/*-", Missing, "backups of tools that edit passwd and group"),
    ("etc/.resolv.conf.systemd-resolved.bak", Missing, "mmdebstrap's own resolv.conf"),
    ("*/__pycache__", Missing, "byte-code is made at run time"),
    ("*/__pycache__/*", Missing, "byte-code is made at run time"),
    ("var/lib/python", Missing, "python3.13-minimal's note that byte-code was made"),
    ("var/lib/python/*", Missing, "python3.13-minimal's note that byte-code was made"),
    ("var/cache/debconf/*", Missing, "debconf's database: nothing is asked of an image"),
    ("var/lib/apt/extended_states", Missing, "apt's notes on what it installed"),
    ("var/lib/apt/lists/*", Missing, "apt's lists and lock"),
    ("var/cache/apt/*", Missing, "apt's cache and lock"),
    ("var/lib/dpkg/*-old", Missing, "dpkg's backups"),
    ("var/lib/dpkg/available", Added, "dselect's list, empty as dpkg --clear-avail leaves it"),
    ("var/lib/systemd/deb-systemd-*", Missing, "deb-systemd-helper's own state; it does not run again"),
    ("var/lib/ucf/*", Missing, "ucf's copies for three-way merges at upgrades"),
    ("var/lib/ucf/hashfile", Content, "ucf's hashes for upgrades"),
    ("var/lib/ucf/registry", Content, "ucf's hashes for upgrades"),
    ("run/*", Missing, "made by systemd-tmpfiles at boot"),
    // System V init.
    ("etc/rc?.d/*", Missing, "systemd passes over the System V links"),
    // What the choices of an appliance change.
    (
        "etc/apt/sources.list*",
        Missing,
        "mmdebstrap writes its own mirror; an appliance is not updated by apt",
    ),
    ("etc/fstab", Content, "a comment; the initramfs mounts root, /etc and /var"),
    ("etc/locale.conf", Missing, "no locale is set; cloud-init sets one"),
    ("etc/locale.gen", Missing, "no locale is generated; C.UTF-8 is built in"),
    ("usr/lib/systemd/system/cloud-*.service.d*", Added, "byte-code of Python goes to /var"),
    ("var/cache/python", Added, "byte-code of Python goes here"),
    (
        "var/lib/dbus/machine-id",
        Added,
        "dbus' tmpfiles.d asks for it; mmdebstrap takes it out with the machine's identity",
    ),
    ("etc/passwd", Content, "numbers are pinned, and the order differs; compared by name below"),
    ("etc/group", Content, "numbers are pinned, and the order differs; compared by name below"),
    ("etc/shadow", Content, "the date of the build; compared by name below"),
    ("etc/gshadow", Content, "the order differs; compared by name below"),
    (
        "etc/systemd/system/timers.target.wants/*.timer",
        Meta,
        "enabled before systemd was there: /lib for /usr/lib",
    ),
    (
        "var/lib/dpkg/diversions",
        Content,
        "diversions against the merge of /usr, with no effect on a merged one",
    ),
    ("var/lib/dpkg/info/*.list", Content, "order; compared sorted below"),
    ("var/lib/dpkg/triggers/*", Content, "order; compared sorted below"),
    ("var/lib/dpkg/status", Content, "conffiles that a later upgrade will remove are not listed"),
];

/// What may differ in roots with the packages for disks.
const DISK_RULES: &[Rule] = &[
    ("etc/apparmor.d/disable/*", Added, "profiles of programs that are not in the root are not loaded"),
    ("etc/nvme/host*", Missing, "an identity; nvme-cli takes the machine's own UUID where there is none"),
    (
        "var/lib/smartmontools/drivedb/drivedb.h.raw",
        Missing,
        "update-smart-drivedb's note on what it installed; smartctl reads drivedb.h",
    ),
];

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: u32,
    mode: u32,
    owner: String,
    group: String,
    target: Option<PathBuf>,
    len: u64,
}

fn names(root: &Path, file: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(root.join("etc").join(file)).expect("account file");
    let pair = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().expect("name").to_owned();
        (fields.nth(1).expect("number").to_owned(), name)
    };
    text.lines().map(pair).collect()
}

fn walk(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let (users, groups) = (names(root, "passwd"), names(root, "group"));
    let name = |names: &BTreeMap<String, String>, id: u32| {
        names.get(&id.to_string()).cloned().unwrap_or(id.to_string())
    };
    let (mut seen, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            let relative = path.strip_prefix(root).expect("inside").as_os_str().as_bytes().to_vec();
            if ["dev/", "proc/", "sys/"].iter().any(|live| relative.starts_with(live.as_bytes())) {
                continue;
            }
            let meta = path.symlink_metadata().expect("metadata");
            if meta.is_dir() {
                open.push(path.clone());
            }
            let link = meta.file_type().is_symlink();
            let one = Seen {
                kind: meta.mode() & 0o170_000,
                mode: if link { 0 } else { meta.mode() & 0o7777 },
                owner: name(&users, meta.uid()),
                group: name(&groups, meta.gid()),
                target: link.then(|| fs::read_link(&path).expect("target")),
                len: if meta.is_file() { meta.len() } else { 0 },
            };
            seen.insert(relative, one);
        }
    }
    seen
}

/// `*` is anything, slashes too; `?` is one byte.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    match (pattern.first(), path.first()) {
        (None, None) => true,
        (Some(b'*'), _) => (0..=path.len()).any(|at| matches(&pattern[1..], &path[at..])),
        (Some(b'?'), Some(_)) => matches(&pattern[1..], &path[1..]),
        (Some(a), Some(b)) if a == b => matches(&pattern[1..], &path[1..]),
        _ => false,
    }
}

fn differences(theirs: &Path, ours: &Path) -> Vec<(Vec<u8>, Difference, String)> {
    let (configured, made) = (walk(theirs), walk(ours));
    let paths: BTreeSet<&Vec<u8>> = configured.keys().chain(made.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        let at = |root: &Path| root.join(OsStr::from_bytes(path));
        match (configured.get(path), made.get(path)) {
            (Some(one), None) => found.push((path.clone(), Missing, format!("{one:?}"))),
            (None, Some(one)) => found.push((path.clone(), Added, format!("{one:?}"))),
            (Some(a), Some(b)) => {
                if (a.kind, a.mode, &a.owner, &a.group, &a.target)
                    != (b.kind, b.mode, &b.owner, &b.group, &b.target)
                {
                    found.push((path.clone(), Meta, format!("{a:?} but ours is {b:?}")));
                }
                let file = a.kind == 0o100_000 && b.kind == 0o100_000;
                if file
                    && (a.len != b.len
                        || fs::read(at(theirs)).expect("read") != fs::read(at(ours)).expect("read"))
                {
                    found.push((path.clone(), Content, format!("{} bytes, ours {}", a.len, b.len)));
                }
            }
            (None, None) => {}
        }
    }
    found
}

/// The lines of a file, sorted.
fn sorted(path: &Path) -> Vec<String> {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}")))
        .into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn run(program: &str, arguments: &[&str], package: &str) -> (bool, String) {
    let output =
        Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").output().unwrap_or_else(|error| {
            panic!("{program} does not start ({error}); it is in Debian's package {package}")
        });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A configured root of exactly the packages in `pool`.
fn mmdebstrap(pool: &Path, scratch: &Path, packages: &[String]) -> PathBuf {
    let pool_text = pool.to_str().expect("a path in UTF-8");
    let (_, index) = run(
        "sh",
        &["-c", "cd \"$1\" && dpkg-scanpackages --multiversion . 2>/dev/null", "sh", pool_text],
        "dpkg-dev",
    );
    assert!(index.contains("Package: "), "dpkg-scanpackages (Debian's package dpkg-dev) made no index");
    fs::write(pool.join("Packages"), index).expect("index");
    let target = scratch.join("configured");
    let include = format!("--include={}", packages.join(","));
    let source = format!("deb [trusted=yes] copy://{pool_text} ./");
    let arguments = [
        "--mode=root",
        "--variant=essential",
        include.as_str(),
        "",
        target.to_str().expect("UTF-8"),
        source.as_str(),
    ];
    let (ok, text) = run("mmdebstrap", &arguments, "mmdebstrap");
    assert!(ok, "mmdebstrap failed:\n{text}");
    target
}

#[test]
fn assembled_root_is_the_configured_one() {
    if !root_or_skip("the comparison with mmdebstrap's root of the same packages") {
        return;
    }
    example();
    let used = compare(&shared().join("example/kiln.lock"), RULES);
    let idle: Vec<_> = RULES.iter().zip(&used).filter(|(_, used)| !**used).map(|(rule, _)| rule.0).collect();
    assert!(idle.is_empty(), "rules that explain nothing any more: {idle:?}");
}

#[test]
fn packages_for_disks_are_configured_alike() {
    if !root_or_skip("the comparison with mmdebstrap's root of the packages for disks") {
        return;
    }
    let rules = RULES.iter().chain(DISK_RULES).copied().collect::<Vec<_>>();
    let used = compare(&disks().join("kiln.lock"), &rules);
    let idle: Vec<_> = rules.iter().zip(used).skip(RULES.len()).filter(|(_, used)| !used).collect();
    assert!(idle.is_empty(), "rules that explain nothing any more: {idle:?}");
}

/// Compares the first root of a lock; which rules were needed.
fn compare(lock: &Path, rules: &[Rule]) -> Vec<bool> {
    let lock = Lock::read(lock).expect("lock").expect("a lock");
    let cache = Cache::open(&shared().join("cache/kiln")).expect("cache");
    let scratch = tempfile::tempdir_in(shared()).expect("scratch");
    let locked = &lock.roots[0].packages;
    let packages = unpack::unpack(locked, &cache, 2, false).expect("unpacked");
    let options = rootfs::Options {
        source_date: 1_700_000_000,
        architecture: "amd64".into(),
        scripts_skip: Vec::new(),
        threads: 2,
    };
    let tree = rootfs::assemble(&packages, &options).unwrap_or_else(|error| panic!("{error}"));
    let ours = scratch.path().join("ours");
    folder::write_folder(&tree, &ours);
    let names: Vec<String> = packages.iter().map(|package| package.name.clone()).collect();
    let pool = scratch.path().join("pool");
    fs::create_dir_all(&pool).expect("pool");
    for package in locked {
        let deb = cache.get(&package.sha256, Some(package.size)).expect("cache").expect("a fetched package");
        let version = package.version.replace(':', "%3a");
        let name = format!("{}_{version}_{}.deb", package.name, package.architecture);
        fs::copy(deb, pool.join(name)).expect("copied");
    }
    let theirs = mmdebstrap(&pool, scratch.path(), &names);

    let mut used = vec![false; rules.len()];
    let mut unexplained = Vec::new();
    for (path, difference, text) in differences(&theirs, &ours) {
        let rule = rules
            .iter()
            .position(|(pattern, kind, _)| *kind == difference && matches(pattern.as_bytes(), &path));
        match rule {
            Some(at) => used[at] = true,
            None => unexplained.push(format!("{difference:?} {}: {text}", String::from_utf8_lossy(&path))),
        }
    }
    assert!(unexplained.is_empty(), "differences that no rule explains:\n{}", unexplained.join("\n"));

    compare_by_meaning(&theirs, &ours);
    let root = ours.to_str().expect("UTF-8");
    for arguments in [vec![root, "dpkg", "-V"], vec![root, "dpkg", "--audit"]] {
        let (ok, text) = run("chroot", &arguments, "coreutils");
        assert!(ok && text.trim().is_empty(), "{arguments:?}:\n{text}");
    }
    let (ok, list) =
        run("chroot", &[root, "dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n"], "coreutils");
    let installed: BTreeSet<&str> =
        list.lines().filter_map(|line| line.strip_prefix("ii ")).map(str::trim).collect();
    assert!(ok && installed == names.iter().map(String::as_str).collect(), "{list}");
    used
}

/// Files whose bytes may differ although they say the same.
fn compare_by_meaning(theirs: &Path, ours: &Path) {
    // Everything but the numbers, and in shadow the day.
    for (file, fields) in [
        ("passwd", vec![0, 1, 4, 5, 6]),
        ("group", vec![0, 1, 3]),
        ("shadow", vec![0, 1, 7]),
        ("gshadow", vec![0, 1, 2, 3]),
    ] {
        let lines = |root: &Path| -> Vec<Vec<String>> {
            let pick = |line: &String| {
                let all: Vec<&str> = line.split(':').collect();
                fields.iter().map(|at| all[*at].to_owned()).collect()
            };
            let mut lines: Vec<Vec<String>> = sorted(&root.join("etc").join(file)).iter().map(pick).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(ours), lines(theirs), "{file}");
    }
    let libraries = |root: &Path| {
        let (ok, text) = run("chroot", &[root.to_str().expect("UTF-8"), "ldconfig", "-p"], "coreutils");
        assert!(ok, "{text}");
        text.lines()
            .filter(|line| !line.starts_with("Cache generated by"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(libraries(ours), libraries(theirs), "ldconfig -p");
    let status = |root: &Path| {
        let lines = sorted(&root.join("var/lib/dpkg/status"));
        lines.into_iter().filter(|line| !line.ends_with(" remove-on-upgrade")).collect::<Vec<_>>()
    };
    assert_eq!(status(ours), status(theirs), "dpkg's status");
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/triggers"] {
        for entry in fs::read_dir(theirs.join(folder)).expect("folder") {
            let name = entry.expect("entry").file_name();
            if folder.ends_with("triggers") || name.as_bytes().ends_with(b".list") {
                let path = Path::new(folder).join(&name);
                assert_eq!(sorted(&ours.join(&path)), sorted(&theirs.join(&path)), "{path:?}");
            }
        }
    }
    for release in fs::read_dir(theirs.join("usr/lib/modules")).into_iter().flatten() {
        let path =
            Path::new("usr/lib/modules").join(release.expect("entry").file_name()).join("modules.symbols");
        assert_eq!(sorted(&ours.join(&path)), sorted(&theirs.join(&path)), "{path:?}");
    }
}
