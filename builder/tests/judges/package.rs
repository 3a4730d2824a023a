//! A package of trixie, fetched once as Kiln fetches packages, and unpacked: the host's own may be another version.

use kiln::cache::Cache;
use kiln::execute::locking::{Base, HOST_KEYRINGS, LockRequest, RootRequest, fetch_packages, lock};
use kiln::fetch::Silent;
use kiln::fetch::mirrors::{Mirrors, Sources};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is at `inner` in the package of that name, below the folder that test programs share.
pub fn unpacked(shared: &Path, name: &str, inner: &str) -> Result<PathBuf, String> {
    let end = shared.join(name);
    let wanted = end.join(inner);
    if wanted.exists() {
        return Ok(wanted);
    }
    let package = fetched(&shared.join("cache/kiln"), name)?;
    let beside = tempfile::tempdir_in(shared).map_err(|error| error.to_string())?;
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&package).arg(beside.path()).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        return Err(format!("dpkg-deb can't unpack {name}"));
    }
    // Another test program may have been faster.
    let _ = std::fs::rename(beside.path(), &end);
    if wanted.exists() { Ok(wanted) } else { Err(format!("the package {name} has no {inner}")) }
}

#[expect(clippy::disallowed_methods, reason = "a test is a caller, and callers have the clock")]
fn fetched(cache: &Path, name: &str) -> Result<PathBuf, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let cache = Cache::open(cache).map_err(|error| words(&error))?;
    let environment = std::env::var("KILN_MIRROR").ok();
    let apt = Some(Path::new("/etc/apt"));
    let sources =
        Sources { environment: environment.as_deref(), named: &[], base: Path::new("."), apt, public: true };
    let mirrors = Mirrors::gather(sources).map_err(|error| words(&error))?;
    let names = vec![name.to_owned()];
    let root =
        RootRequest { architecture: "amd64".to_owned(), names, exclude: Vec::new(), base: Base::Essential };
    let keyrings = HOST_KEYRINGS.map(Path::new);
    let request = LockRequest {
        allow_expired: false,
        suite: "trixie",
        components: &["main"],
        roots: &[root],
        mirrors: &mirrors,
        keyring: None,
        previous: None,
        host_keyrings: &keyrings,
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.ok().and_then(|now| i64::try_from(now.as_secs()).ok()).ok_or("no clock")?;
    let mut lock = lock(&request, &cache, &Silent, now).map_err(|error| words(&error))?;
    lock.roots[0].packages.retain(|package| package.name == name);
    let files = fetch_packages(&lock, &mirrors, &cache, &Silent).map_err(|error| words(&error))?;
    files.into_values().next().ok_or_else(|| format!("the archive has no {name}"))
}
