//! What the outside proof shares: the built `kiln`, the built example, other people's tools.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
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

/// The `kiln` that was built beside this test.
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let path = exe.ancestors().nth(2).map(|folder| folder.join("kiln")).unwrap_or_default();
    if !path.is_file() {
        die(&format!("{} is missing: run `cargo build -p kiln` first, in the same profile", path.display()));
    }
    path
}

/// `kiln` in an empty environment, with the cache that tests share.
pub fn kiln() -> Command {
    let mut command = Command::new(binary());
    command.env_clear().env("XDG_CACHE_HOME", shared().join("cache")).env("PATH", "/nonexistent");
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
    - thin-provisioning-tools
    - xfsprogs
users: [{ name: ops, ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 disks@kiln] }]
nodes: [{ name: one, role: server, network: { address: 192.0.2.1/24, gateway: 192.0.2.254 } }]
";

/// A cluster with all packages for disks, built once for all tests of a run: the folder of its lock.
pub fn disks() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = shared().join("disks");
        let written =
            fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("cluster.yaml"), DISKS));
        written.unwrap_or_else(|e| die(&format!("{}: {e}", folder.display())));
        build(&folder, ["-o", "dist"]);
        folder
    })
}

/// Runs `kiln build` with `arguments` in `folder`, where its lock and its output go.
pub fn build<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> String {
    // Test programs of one run share the folder.
    let guard = File::create(shared().join("build.lock")).unwrap_or_else(|e| die(&e.to_string()));
    guard.lock().unwrap_or_else(|e| die(&e.to_string()));
    succeed(kiln().arg("build").args(arguments).current_dir(folder))
}
