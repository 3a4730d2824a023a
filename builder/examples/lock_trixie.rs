//! Locks the real trixie for a node's package set and fetches it; prints counts and times.
//!
//! `cargo run --example lock_trixie -- [--cache DIR] [--arch ARCH] [--lock-only] [PACKAGE…]`. Needs a Debian
//! mirror: the host's own apt sources, `KILN_MIRROR`, or the public ones.

use kiln::cache::Cache;
use kiln::execute::locking::{Base, HOST_KEYRINGS, LockRequest, RootRequest, fetch_packages, lock};
use kiln::fetch::Progress;
use kiln::fetch::mirrors::{Mirrors, Sources};
use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};

struct Lines;

impl Progress for Lines {
    fn begin(&self, files: usize, bytes: u64) {
        println!("  {files} files to fetch, {bytes} bytes");
    }
    fn advance(&self, _: u64) {}
    fn message(&self, text: &str) {
        println!("  {text}");
    }
}

const NODE: &str = "systemd-sysv linux-image-amd64 cloud-init openssh-server open-iscsi nfs-common cryptsetup \
    dmsetup udev dbus systemd-resolved systemd-timesyncd systemd-boot-efi netplan.io sudo iproute2 ca-certificates \
    firmware-linux-free amd64-microcode intel-microcode e2fsprogs";

#[expect(clippy::disallowed_methods, reason = "this is the caller that has the clock")]
fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.remove(at);
        (at < arguments.len()).then(|| arguments.remove(at))
    };
    let architecture = option("--arch").unwrap_or_else(|| "amd64".to_owned());
    let place = match option("--cache") {
        Some(place) => place.into(),
        None => Cache::place(|name| std::env::var_os(name).map(Into::into))?,
    };
    let exclude: Vec<String> =
        option("--exclude").map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let base = if option("--base").as_deref() == Some("required") { Base::Required } else { Base::Essential };
    let lock_only =
        arguments.iter().position(|argument| argument == "--lock-only").map(|at| arguments.remove(at));
    let mut names: Vec<String> = arguments;
    if names.is_empty() {
        names = NODE.split_ascii_whitespace().map(|name| name.replace("amd64", &architecture)).collect();
    }
    let environment = std::env::var("KILN_MIRROR").ok();
    let mirrors = Mirrors::gather(Sources {
        environment: environment.as_deref(),
        named: &[],
        base: Path::new("."),
        apt: Some(Path::new("/etc/apt")),
        public: true,
    })?;
    let cache = Cache::open(place.as_path())?;
    let keyrings = HOST_KEYRINGS.map(Path::new);
    let request = LockRequest {
        allow_expired: false,
        suite: "trixie",
        components: &["main", "non-free-firmware"],
        roots: &[RootRequest { architecture, names, exclude, base }],
        mirrors: &mirrors,
        keyring: None,
        previous: None,
        host_keyrings: &keyrings,
    };
    let now = i64::try_from(std::time::SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let start = Instant::now();
    let lock = lock(&request, &cache, &Lines, now)?;
    println!("lock: {} ms", start.elapsed().as_millis());
    let packages = &lock.roots[0].packages;
    let size: u64 = packages.iter().map(|package| package.size).sum();
    let installed: u64 = packages.iter().map(|package| package.installed_kib).sum();
    println!("{} packages, {size} bytes, {} MiB installed", packages.len(), installed / 1024);
    lock.write(Path::new("target/trixie.lock"))?;
    if lock_only.is_some() {
        return Ok(());
    }
    let start = Instant::now();
    let files = fetch_packages(&lock, &mirrors, &cache, &Lines)?;
    println!("{} files: {} ms", files.len(), start.elapsed().as_millis());
    Ok(())
}
