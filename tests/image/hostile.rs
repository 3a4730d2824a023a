//! Small inputs that want much: each ends in words, in little memory.

use kiln_tests::{binary, debian_python, said, shared, succeed, tool};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// What an input may cost beside what kiln takes anyway, in MiB.
const ROOM: u64 = 256;

/// Runs a program; its last line on standard error is the KiB that it took at most (getrusage(2)).
const PEAK: &str = "\
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
";

/// What `kiln` said, and the MiB that it took at most.
fn peak(folder: &Path, arguments: &[&str]) -> (Output, u64) {
    let mut python = debian_python("python3");
    python.env_clear().env("PATH", "/nonexistent").env("XDG_CACHE_HOME", folder.join("cache"));
    python.env("TMPDIR", folder).args(["-c", PEAK]).arg(binary()).args(arguments).current_dir(folder);
    let output = python.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let kib = error.trim_end().lines().last().and_then(|line| line.parse::<u64>().ok());
    (output, kib.unwrap_or_else(|| panic!("{error}")) / 1024)
}

fn folder(name: &str) -> PathBuf {
    let folder = shared().join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// `words` are in what `kiln` says, which takes no more than an honest run and [`ROOM`].
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], (words, usual): (&str, u64)) {
    let (output, mib) = peak(folder, arguments);
    let text = said(&output);
    assert!(text.contains(words), "{}", text.chars().take(4000).collect::<String>());
    assert!(mib <= usual + ROOM, "{mib} MiB, {usual} MiB for an honest one");
    println!("{mib} MiB, {usual} MiB for an honest one: {words}");
}

const CLUSTER: &str = "\
apiVersion: kiln/v1
cluster: { name: small }
base: { distribution: debian, suite: trixie }
users: [{ name: ops, ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 ops] }]
nodes: [{ name: one, role: agent, network: { address: 192.0.2.1/24, gateway: 192.0.2.254 } }]
";

/// So many bytes of aliases of one text, as the values of a list.
fn aliases(text: usize, bytes: usize) -> String {
    let mut all = format!("[&a \"{}\"", "x".repeat(text));
    (0..bytes / 8).for_each(|_| all.push_str(", *a   "));
    all + "]"
}

#[test]
fn files_of_aliases_are_refused_in_little_memory() {
    let folder = folder("aliases");
    let file = folder.join("cluster.yaml");
    fs::write(&file, CLUSTER).unwrap();
    let (output, usual) = peak(&folder, &["check"]);
    assert!(output.status.success(), "{}", said(&output));

    let checked = ("aliases copy more than 8 MiB of text", usual);
    for text in [100, 20_000, 400_000] {
        fs::write(&file, format!("{CLUSTER}overlays: {}\n", aliases(text, 1 << 20))).unwrap();
        refused(&folder, &["check"], checked);
    }
    // An anchor on every level copies, too.
    let nested =
        (0..30).fold(format!("\"{}\"", "x".repeat(500_000)), |inner, level| format!("[&a{level} {inner}]"));
    fs::write(&file, format!("{CLUSTER}overlays: {nested}\n")).unwrap();
    refused(&folder, &["check"], checked);

    fs::write(&file, format!("{CLUSTER}user_data: ./own.yaml\n")).unwrap();
    for text in [1000, 20_000, 400_000] {
        fs::write(
            folder.join("own.yaml"),
            format!("#cloud-config\nwrite_files: {}\n", aliases(text, 1 << 18)),
        )
        .unwrap();
        refused(&folder, &["check"], ("its aliases copy more than 8 MiB of text", usual));
    }

    // What has no end.
    refused(&folder, &["check", "-f", "/dev/zero"], ("more than the 4194304 bytes", usual));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn many_nodes_do_not_multiply_what_they_share() {
    let folder = folder("sharing");
    let mut text = CLUSTER.split("nodes:").next().unwrap().to_owned();
    let large = format!("files: [{{ path: /etc/large, content: \"{}\" }}]", "x".repeat(500_000));
    text = text.replacen("{ name: small }", &format!("{{ name: small, {large} }}"), 1);
    text.push_str("user_data: ./own.yaml\nnodes:\n");
    for node in 0..2000 {
        let (high, low) = (node / 250, node % 250 + 1);
        writeln!(text, "- {{ name: n{node}, role: agent, network: {{ address: 10.0.{high}.{low}/16, gateway: 10.0.255.254 }} }}").unwrap();
    }
    fs::write(folder.join("cluster.yaml"), text).unwrap();
    fs::write(folder.join("own.yaml"), format!("#cloud-config\nbootcmd: [\"{}\"]\n", "x".repeat(500_000)))
        .unwrap();
    let (output, mib) = peak(&folder, &["check"]);
    println!("{mib} MiB for 2,000 nodes with 1 MB in common");
    let text = said(&output).chars().take(2000).collect::<String>();
    assert!(output.status.success(), "{text}");
    assert!(mib <= ROOM, "{mib} MiB; {text}");
    fs::remove_dir_all(folder).unwrap();
}

/// A disk image with a root in it whose file `path` claims to have `size` bytes.
fn image(folder: &Path, (path, size): (&str, u64)) -> PathBuf {
    let (tree, root, disk) = (folder.join("tree"), folder.join("root"), folder.join("disk.img"));
    let file = tree.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "Package: a\n").unwrap();
    fs::File::create(&root).unwrap().set_len(8 << 20).unwrap();
    succeed(tool("mke2fs", "e2fsprogs").args(["-q", "-t", "ext4", "-b", "4096", "-d"]).arg(&tree).arg(&root));
    let request = format!("set_inode_field /{path} size {size}");
    succeed(tool("debugfs", "e2fsprogs").args(["-w", "-R", &request]).arg(&root));
    fs::File::create(&disk).unwrap().set_len(10 << 20).unwrap();
    // Linux root (x86-64), of the Discoverable Partitions Specification.
    let table = "label: gpt\nstart=2048, size=16384, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n";
    let script = format!(
        "printf '{table}' | sfdisk -q \"$1\" && dd if=\"$2\" of=\"$1\" bs=1M seek=1 conv=notrunc status=none"
    );
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    succeed(tool("sh", "dash").env("PATH", path).args(["-c", &script, "sh"]).arg(&disk).arg(&root));
    fs::remove_dir_all(tree).unwrap();
    disk
}

#[test]
fn images_that_claim_much_are_refused_in_little_memory() {
    let folder = folder("claims");
    let (output, usual) = peak(&folder, &["--version"]);
    assert!(output.status.success(), "{}", said(&output));
    for path in ["usr/lib/sysimage/dpkg/status", "usr/lib/kiln/artefacts.json"] {
        let disk = image(&folder, (path, 1 << 40));
        let words = format!(
            "cannot be read: cannot read /{path}: it has 1099511627776 bytes, more than the 33554432"
        );
        refused(&folder, &["inspect", "disk.img"], (&words, usual));
        fs::remove_file(disk).unwrap();
    }

    let bomb = folder.join("disk.img.zst");
    let script = "yes | head -c 1500M | zstd -q -3 -o \"$1\"";
    succeed(tool("sh", "dash").env("PATH", "/usr/bin:/bin").args(["-c", script, "sh"]).arg(&bomb));
    assert!(fs::metadata(&bomb).unwrap().len() < 1 << 20);
    refused(&folder, &["inspect", "disk.img.zst"], ("it unpacks to more than 64 times its size", usual));
    // Nothing stays behind in TMPDIR.
    let left: Vec<_> = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(
        left.iter().all(|name| ["root", "disk.img.zst", "cache"].iter().any(|known| name == known)),
        "{left:?}"
    );
    fs::remove_dir_all(folder).unwrap();
}
