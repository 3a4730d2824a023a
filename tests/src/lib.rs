//! What the outside proof shares: the built `kiln`, the built example, other people's tools.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;

/// The workspace's top folder.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).map(Path::to_owned).unwrap_or_default()
}

/// The folder that tests share between runs: the package cache and built images.
pub fn shared() -> PathBuf {
    let folder = target().join("kiln-tests");
    fs::create_dir_all(&folder).unwrap_or_else(|e| die(&format!("{}: {e}", folder.display())));
    folder
}

fn target() -> PathBuf {
    // target/<profile>/deps/<test>
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors().nth(3).map(Path::to_owned).unwrap_or_default()
}

/// Ends the test with a message for people.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn die(message: &str) -> ! {
    panic!("{message}")
}

/// A process that ends with the test.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of this machine that nobody has.
pub fn port() -> u16 {
    let found = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    found.unwrap_or_else(|e| die(&format!("no port is free: {e}"))).port()
}

/// The `kiln` that was built beside this test.
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let path = exe.ancestors().nth(2).map(|folder| folder.join("kiln")).unwrap_or_default();
    if !path.is_file() {
        die(&format!("{} is missing: run `cargo test --no-run --workspace` first", path.display()));
    }
    path
}

/// `kiln` in an empty environment, with the cache that tests share.
pub fn kiln() -> Command {
    let mut command = Command::new(binary());
    command.env_clear().env("XDG_CACHE_HOME", shared().join("cache")).env("PATH", "/nonexistent");
    // A run makes some twenty roots, most of them for one test.
    command.env("KILN_CACHE_LIMIT", "3GiB");
    // Where the host names its mirrors and its proxy is the host's business; pass it through.
    for name in ["KILN_MIRROR", "KILN_ARTEFACTS", "http_proxy", "https_proxy", "SSL_CERT_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// What a command said, for the message of a failing test.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n--- stdout\n{}--- stderr\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Runs `command` and returns its standard output; anything but success ends the test.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| die(&format!("{command:?}: {e}")));
    if !output.status.success() {
        die(&format!("{command:?}: {}", said(&output)));
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Somebody else's tool, by name; where it is absent the message names the Debian package.
pub fn tool(name: &str, package: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    match folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) {
        Some(path) => Command::new(path),
        None => die(&format!("{name} is needed for this test: apt-get install {package}")),
    }
}

/// The system's own Python, whose modules Debian's packages bring; another one in PATH does not have them.
pub fn debian_python(packages: &str) -> Command {
    let own = Path::new("/usr/bin/python3");
    if own.is_file() { Command::new(own) } else { tool("python3", packages) }
}

/// True when the test runs as root; says aloud what is left out when it does not.
pub fn root_or_skip(what: &str) -> bool {
    let root = succeed(tool("id", "coreutils").arg("-u")).trim() == "0";
    if !root {
        eprintln!("SKIPPED, needs root: {what}");
    }
    root
}

/// The embedded example, built once for all tests of a run: the output folder.
pub fn example() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = shared().join("example");
        fs::create_dir_all(&folder).unwrap_or_else(|e| die(&format!("{}: {e}", folder.display())));
        build(&folder, ["-o", "dist"]);
        folder.join("dist")
    })
}

/// Every package for disks that Kiln covers.
const DISKS: &str = "\
apiVersion: kiln/v1
cluster: { name: disks, endpoint: 192.0.2.1 }
base:
  distribution: debian
  suite: trixie
  packages:
    - apparmor
    - cryptsetup-bin
    - hdparm
    - libtss2-esys-3.0.2-0t64
    - libtss2-rc0t64
    - libtss2-tcti-device0t64
    - lvm2
    - multipath-tools
    - nvme-cli
    - open-iscsi
    - sg3-utils
    - smartmontools
    - systemd-cryptsetup
    - systemd-zram-generator
    - targetcli-fb
    - tcpdump
    - thin-provisioning-tools
    - xfsprogs
users: [{ name: ops, ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 disks@kiln] }]
overlays: [./tool]
artefacts: [./copies]
nodes: [{ name: one, role: server, network: { address: 192.0.2.1/24, gateway: 192.0.2.254 } }]
";

/// An overlay with artefacts that nobody publishes: a folder has them.
const TOOL: &str = "\
artefacts:
  - { name: tool, url: \"https://files.invalid/v1%2B1/tool\", path: /usr/bin/tool }
  - { name: part, url: \"https://files.invalid/v1%2B1/parts.tar\", sums: \"https://files.invalid/sums\", member: a/part,
      path: /usr/share/tool/part, mode: \"0644\" }
";
/// The bytes of the first; the second's are its name.
pub const TOOL_BYTES: &[u8] = b"#!/bin/sh\n";

/// A cluster with all packages for disks and two artefacts, built once for all tests of a run: the folder of its lock.
pub fn disks() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = shared().join("disks");
        written(&folder).unwrap_or_else(|e| die(&format!("{}: {e}", folder.display())));
        build(&folder, ["-o", "dist"]);
        folder
    })
}

/// Writes the cluster file for disks and what it names. A lock of another one goes.
fn written(folder: &Path) -> std::io::Result<()> {
    let copies = folder.join("copies");
    fs::create_dir_all(folder.join("tool"))?;
    fs::create_dir_all(copies.join("v1+1"))?;
    let file = folder.join("cluster.yaml");
    let lock = folder.join("kiln.lock");
    if lock.exists() && fs::read_to_string(&file).is_ok_and(|text| text != DISKS) {
        fs::remove_file(lock)?;
    }
    fs::write(file, DISKS)?;
    fs::write(folder.join("tool/overlay.yaml"), TOOL)?;
    fs::write(copies.join("v1+1/tool"), TOOL_BYTES)?;
    fs::create_dir_all(copies.join("a"))?;
    fs::write(copies.join("a/part"), "a/part")?;
    let plain = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-cf", "parts.tar", "a"];
    succeed(tool("tar", "tar").args(plain).current_dir(&copies));
    let sums = succeed(tool("sha256sum", "coreutils").arg("parts.tar").current_dir(&copies));
    fs::write(copies.join("sums"), sums)
}

/// Runs `kiln build` with `arguments` in `folder`, where its lock and its output go.
pub fn build<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    // Test programs of one run share the folder.
    let guard = File::create(shared().join("build.lock")).unwrap_or_else(|e| die(&e.to_string()));
    guard.lock().unwrap_or_else(|e| die(&e.to_string()));
    succeed(kiln().arg("build").args(arguments).current_dir(folder))
}
