//! The real trixie: asks Debian mirrors, so it runs only when asked for:
//! `cargo test -p kiln --test trixie -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail in any line")]

use kiln::archive::index;
use kiln::archive::resolve::{Request, resolve};
use kiln::archive::universe::Universe;
use kiln::cache::Cache;
use kiln::execute::locking::{Base, HOST_KEYRINGS, LockRequest, RootRequest, lock};
use kiln::fetch::Silent;
use kiln::fetch::mirrors::{Mirrors, Sources};
use kiln::lock::Lock;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, UNIX_EPOCH};

const NODE: [&str; 21] = [
    "amd64-microcode",
    "ca-certificates",
    "cloud-init",
    "cryptsetup",
    "dbus",
    "dmsetup",
    "e2fsprogs",
    "firmware-linux-free",
    "intel-microcode",
    "iproute2",
    "linux-image-amd64",
    "netplan.io",
    "nfs-common",
    "open-iscsi",
    "openssh-server",
    "sudo",
    "systemd-boot-efi",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
];

const SUITES: [(&str, &str); 3] =
    [("debian", "trixie"), ("debian", "trixie-updates"), ("debian-security", "trixie-security")];

fn mirrors() -> Mirrors {
    let environment = std::env::var("KILN_MIRROR").ok();
    let apt = Some(Path::new("/etc/apt"));
    let sources =
        Sources { environment: environment.as_deref(), named: &[], base: Path::new("."), apt, public: true };
    Mirrors::gather(sources).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test is a caller, and callers have the clock")]
fn lock_with(cache: &Cache, names: &[&str], keyrings: &[&Path]) -> Lock {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let root =
        RootRequest { architecture: "amd64".to_owned(), names, exclude: Vec::new(), base: Base::Essential };
    let request = LockRequest {
        allow_expired: false,
        suite: "trixie",
        components: &["main", "non-free-firmware"],
        roots: &[root],
        mirrors: &mirrors(),
        keyring: None,
        previous: None,
        host_keyrings: keyrings,
    };
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    lock(&request, cache, &Silent, i64::try_from(now).unwrap()).unwrap()
}

/// What apt would install into an empty root: `name version` lines.
fn apt_set(root: &Path, names: &[&str]) -> BTreeSet<String> {
    for folder in
        ["etc/apt/apt.conf.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg"]
    {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let keyring = HOST_KEYRINGS.into_iter().find(|path| Path::new(path).is_file());
    let keyring =
        keyring.expect("apt needs Debian's keys: install the Debian package debian-archive-keyring");
    let source = |(archive, suite): (&str, &str)| {
        let place = mirrors().locations(archive, "")[0].to_string();
        format!("deb [signed-by={keyring}] {place} {suite} main non-free-firmware\n")
    };
    fs::write(root.join("etc/apt/sources.list"), SUITES.map(source).concat()).unwrap();
    let config = format!(
        "Dir \"{0}\";\nDir::State::status \"{0}/var/lib/dpkg/status\";\nAPT::Architecture \"amd64\";\n\
         APT::Architectures \"amd64\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n",
        root.display()
    );
    let path = root.join("apt.conf");
    fs::write(&path, config).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("apt-get").env("APT_CONFIG", &path).args(arguments).output();
        let output = output.expect("this test compares with apt: install the Debian package apt");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["update", "-q"]);
    let text = run(&[&["install", "-s", "-y", "-qq", "--no-install-recommends"], names].concat());
    let installs = text.lines().filter_map(|line| line.strip_prefix("Inst "));
    // `Inst name (version Debian:13/stable [amd64]) []`
    installs.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ").replace('(', "")).collect()
}

#[test]
#[ignore = "asks Debian mirrors"]
fn the_set_is_apts() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let keyrings = HOST_KEYRINGS.map(Path::new);
    let start = Instant::now();
    let lock = lock_with(&cache, &NODE, &keyrings);
    println!("lock, nothing cached: {} ms", start.elapsed().as_millis());
    let start = Instant::now();
    assert_eq!(lock_with(&cache, &NODE, &keyrings), lock);
    println!("lock, indices cached: {} ms", start.elapsed().as_millis());
    let packages = &lock.roots[0].packages;
    println!(
        "{} packages, {} bytes",
        packages.len(),
        packages.iter().map(|package| package.size).sum::<u64>()
    );

    let base = packages.iter().filter(|package| package.wanted_by.iter().any(|by| by == "base"));
    let names: Vec<&str> = base.map(|package| package.name.as_str()).chain(NODE).collect();
    let ours: BTreeSet<String> =
        packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect();
    assert_eq!(ours, apt_set(&folder.path().join("apt"), &names));
}

/// Without a keyring on the host the archive's own package gives the keys, and the pins judge them.
#[test]
#[ignore = "asks Debian mirrors"]
fn keys_from_the_archive_itself() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    assert!(!lock_with(&cache, &["mawk"], &[]).roots[0].packages.is_empty());
}

/// Parsing and resolving alone, on the index that the cache then holds.
#[test]
#[ignore = "asks Debian mirrors"]
fn parsing_and_resolving_are_fast() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    lock_with(&cache, &["mawk"], &HOST_KEYRINGS.map(Path::new));
    let files = fs::read_dir(folder.path().join("indexes")).unwrap();
    let files = files.flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    let largest =
        files.map(|entry| entry.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len());
    let text = fs::read_to_string(largest.unwrap()).unwrap();
    let start = Instant::now();
    let packages = index::parse(&text).unwrap();
    println!("{} stanzas of {} bytes: {} ms", packages.len(), text.len(), start.elapsed().as_millis());
    let start = Instant::now();
    let universe = Universe::new("amd64", vec![("trixie", packages)]);
    println!("universe: {} ms", start.elapsed().as_millis());
    let names: Vec<String> = universe.essential().into_iter().map(str::to_owned).collect();
    let names = [names, vec!["kde-plasma-desktop".to_owned(), "systemd-sysv".to_owned()]].concat();
    let start = Instant::now();
    let chosen = resolve(&universe, Request { names: &names, exclude: &[] }).unwrap();
    println!("{} packages resolved: {} ms", chosen.len(), start.elapsed().as_millis());
    assert!(start.elapsed().as_secs() < 5);
}
