//! A Debian root that is not Kiln's: what a cloud image of Debian has, installed by mmdebstrap and packed by mke2fs.

use kiln_tests::{die, root_or_skip, shared, succeed, tool};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the cloud images of Debian have beside the essential packages, as far as it matters to a seed. The kernel is that
/// of clouds, which has fewer modules.
const PACKAGES: &str = "linux-image-cloud-amd64,initramfs-tools,systemd-sysv,udev,dbus,libpam-systemd,systemd-resolved,\
    systemd-timesyncd,netplan.io,cloud-init,cloud-guest-utils,openssh-server,sudo,ca-certificates,e2fsprogs,fdisk,\
    gdisk,kmod,curl,iproute2,procps,tzdata";

/// What makes it an image for any machine: no name, no keys, no sources of packages but those that a test brings.
const HOOK: &str = r#"cd "$1"
rm -f etc/ssh/ssh_host_*
echo localhost > etc/hostname
echo 'LABEL=stock-root / ext4 defaults 0 1' > etc/fstab
: > etc/apt/sources.list
ln -sf ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf"#;

/// Size of its file system (bytes).
const SIZE: u64 = 2 << 30;

/// A root and what boots it.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) image: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
}

/// The root of that suite, made once and kept for later runs; nothing without root, whose right it is to make files of
/// others.
pub(super) fn root(suite: &str) -> Option<Root> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _guard = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let recipe = Sha256::digest([suite, PACKAGES, HOOK, &SIZE.to_string()].join("\n"));
    let name: String = recipe.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = shared().join(format!("stock-root-{name}"));
    if !folder.is_dir() {
        if !root_or_skip("a Debian root by mmdebstrap") {
            return None;
        }
        make(&folder, suite);
    }
    let file = |name| folder.join(name);
    Some(Root { image: file("root.img"), kernel: file("vmlinuz"), initrd: file("initrd") })
}

fn make(folder: &Path, suite: &str) {
    let scratch = tempfile::tempdir_in(shared()).unwrap();
    let tree = scratch.path().join("root");
    let mut mmdebstrap = tool("mmdebstrap", "mmdebstrap");
    mmdebstrap.args(["--mode=root", "--variant=apt", "--quiet"]);
    mmdebstrap.args([&format!("--include={PACKAGES}"), &format!("--customize-hook={HOOK}"), suite]);
    mmdebstrap.arg(&tree).args(mirror());
    succeed(&mut mmdebstrap);
    let made = scratch.path().join("made");
    fs::create_dir(&made).unwrap();
    for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        let mut entries = fs::read_dir(tree.join("boot")).unwrap().map(|entry| entry.unwrap());
        let found = entries.find(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        let found = found.unwrap_or_else(|| die(&format!("no {prefix}* in {}", tree.display())));
        fs::copy(found.path(), made.join(name)).unwrap();
    }
    let mut mke2fs = tool("mke2fs", "e2fsprogs");
    mke2fs.args(["-q", "-t", "ext4", "-L", "stock-root", "-d"]).arg(&tree);
    succeed(mke2fs.arg(made.join("root.img")).arg(format!("{}k", SIZE >> 10)));
    fs::rename(&made, folder).unwrap();
}

/// The first of the host's apt sources that is a Debian archive; mmdebstrap knows one where there is none.
fn mirror() -> Option<String> {
    let apt = Path::new("/etc/apt");
    let parts = fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, apt.join("sources.list"));
    let lines = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect::<Vec<_>>().join("\n");
    let lines = lines.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines.flat_map(str::split_whitespace);
    words
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_owned)
}
