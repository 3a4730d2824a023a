//! Scripts: read by a shell and by shellcheck, and tried with stand-ins for the programs that they start.

use crate::rendering::{HOSTILE, rendered};
use crate::units::image_files;
use kiln_tests::{said, tool};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scripts() -> Vec<PathBuf> {
    let script = |path: &PathBuf| fs::read(path).expect("read").starts_with(b"#!");
    image_files().into_iter().map(|(_, path)| path).filter(script).collect()
}

#[test]
fn shells_take_every_script() {
    let scripts = scripts();
    assert!(scripts.len() > 4, "{scripts:?}");
    let check = Command::new("shellcheck").arg("--version").output().is_ok();
    if !check {
        eprintln!("SKIPPED: shellcheck is not installed");
    }
    for script in scripts {
        let first = fs::read_to_string(&script).expect("text").lines().next().map(str::to_owned);
        assert_eq!(first.as_deref(), Some("#!/bin/sh"), "{}", script.display());
        let output = tool("sh", "dash").arg("-n").arg(&script).output().expect("sh");
        assert!(output.status.success(), "{}: {}", script.display(), said(&output));
        if check {
            let output = Command::new("shellcheck")
                .args(["--shell=sh", "--enable=quote-safe-variables"])
                .arg(&script)
                .output();
            let output = output.expect("shellcheck");
            assert!(output.status.success(), "{}: {}", script.display(), said(&output));
        }
    }
}

/// What a shell reads from a file of variables is what the cluster's secrets are.
#[test]
fn variables_arrive_as_they_are() {
    let folder = tempfile::tempdir().expect("folder");
    let mut seen = 0;
    for node in rendered(HOSTILE) {
        for file in node.files.iter().filter(|file| file.path.ends_with(".env")) {
            let path = folder.path().join("env");
            fs::write(&path, &file.text).expect("written");
            let script = format!("set -eu; . '{}'; set", path.display());
            let output = tool("sh", "dash").args(["-c", &script]).output().expect("sh");
            assert!(output.status.success(), "{}: {}", node.place(file), said(&output));
            let names = file.text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
            for name in names.filter(|name| !name.starts_with('#')) {
                let script = format!("set -eu; . '{}'; printf %s \"${name}\"", path.display());
                let output = tool("sh", "dash").args(["-c", &script]).output().expect("sh");
                let value = String::from_utf8_lossy(&output.stdout).into_owned();
                let line =
                    file.text.lines().find(|line| line.starts_with(&format!("{name}="))).expect("the line");
                if line.contains("the secret") {
                    seen += 1;
                    let whole = value.starts_with(HOSTILE.before) && value.ends_with(HOSTILE.after);
                    assert!(whole, "{}: {name} is {value:?}", node.place(file));
                }
            }
        }
    }
    assert!(seen > 5, "{seen} secrets only");
}

/// A folder for a script's files, and one with programs that write down how they are called.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new(programs: &[(&str, &str)]) -> Self {
        let stage = Self { folder: tempfile::tempdir().expect("folder") };
        fs::create_dir(stage.path("bin")).expect("made");
        for (name, body) in programs {
            let path = stage.path("bin").join(name);
            let calls = stage.path("calls");
            let text = format!("#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >>'{}'\n{body}\n", calls.display());
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
        }
        stage
    }
    pub(crate) fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }
    pub(crate) fn write(&self, inner: &str, text: &str) {
        let path = self.path(inner);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let script = kiln_tests::top().join("overlays").join(script);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("bin").display());
        let mut command = tool("sh", "dash");
        command.arg(script).args(arguments).env("KILN_ROOT", self.folder.path()).env("PATH", path);
        command.output().expect("sh")
    }
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

pub(crate) const UP: &str = "tailscale/files/usr/lib/kiln/tailscale-up";

fn tailscale(stage: &Stage) {
    let nodes = rendered(crate::rendering::PLAIN);
    let node = nodes.iter().find(|node| node.cluster == "k3s-flux").expect("the example");
    for path in ["/etc/kiln/tailscale.env", "/etc/kiln/tailscale.key", "/etc/sysctl.d/60-kiln-tailscale.conf"]
    {
        stage.write(&path[1..], &node.file(path).expect(path).text);
    }
}

/// tailscaled's answers to `status --json`, as 1.94.1 gives them.
const NO_KEY: &str = "case \"$*\" in 'status --json --peers=false') echo '{ \"BackendState\": \"NeedsLogin\", \"HaveNodeKey\": false }' ;; esac";
const HAS_KEY: &str = "case \"$*\" in 'status --json --peers=false') echo '{ \"BackendState\": \"Starting\", \"HaveNodeKey\": true }' ;; esac";

#[test]
fn tailscale_logs_in_once() {
    let stage = Stage::new(&[("tailscale", NO_KEY), ("sysctl", "")]);
    tailscale(&stage);
    let output = stage.run(UP, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let calls = stage.calls();
    let [sysctl, status, up] = calls.as_slice() else { panic!("{calls:?}") };
    assert!(sysctl.starts_with("sysctl --quiet --load="), "{sysctl}");
    assert_eq!(status, "tailscale status --json --peers=false");
    let key = stage.path("etc/kiln/tailscale.key");
    // What an earlier login that was refused has left does not count.
    let begins = format!("tailscale up --reset --auth-key=file:{} --hostname=k3s1 ", key.display());
    assert!(up.starts_with(&begins), "{up}");
    assert!(up.ends_with("--advertise-routes=10.42.0.0/16,10.43.0.0/16,192.168.86.0/24"), "{up}");
    assert!(!up.contains("the secret"), "the key is among the arguments: {up}");
    assert!(!key.exists(), "the key is still there");
}

#[test]
fn tailscale_never_logs_in_again() {
    let stage = Stage::new(&[("tailscale", HAS_KEY), ("sysctl", "")]);
    tailscale(&stage);
    let output = stage.run(UP, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(stage.calls().iter().all(|call| !call.contains(" up ")), "{:?}", stage.calls());
    assert!(!stage.path("etc/kiln/tailscale.key").exists());
}

#[test]
fn tailscale_keeps_the_key_that_did_not_work_yet() {
    let stage = Stage::new(&[("tailscale", &format!("{NO_KEY}\n[ \"$1\" != up ]")), ("sysctl", "")]);
    tailscale(&stage);
    let output = stage.run(UP, &[]);
    assert!(!output.status.success());
    // The way by hand is said, whole.
    assert!(said(&output).contains("by hand: `tailscale up --reset --auth-key=file:"), "{}", said(&output));
    assert!(stage.path("etc/kiln/tailscale.key").exists());
    // And where there is no key any more, nothing is tried.
    fs::remove_file(stage.path("etc/kiln/tailscale.key")).expect("removed");
    let output = stage.run(UP, &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("log in with `tailscale up --reset --hostname=k3s1"), "{}", said(&output));
}

/// tailscaled that is not there yet is no reason to log in, nor to be done: the unit is started again.
#[test]
fn tailscale_waits_for_its_daemon() {
    let stage = Stage::new(&[("tailscale", "exit 1"), ("sysctl", "")]);
    tailscale(&stage);
    assert_eq!(stage.run(UP, &[]).status.code(), Some(1));
    assert!(stage.calls().iter().all(|call| !call.contains(" up ")), "{:?}", stage.calls());
    assert!(stage.path("etc/kiln/tailscale.key").exists());
    let units = kiln_tests::top().join("overlays/tailscale/files/usr/lib/systemd/system");
    let unit = |name: &str| fs::read_to_string(units.join(name)).expect("the unit");
    let login = unit("kiln-tailscale-up.service");
    // `Requires=` would fail it for good when tailscaled fails once.
    assert!(
        !login.contains("Requires=") && login.contains("Wants=network-online.target tailscaled.service"),
        "{login}"
    );
    for text in [login, unit("tailscaled.service")] {
        for line in ["Restart=on-failure", "StartLimitIntervalSec=0", "EnvironmentFile=-/etc/kiln/proxy.env"]
        {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}

const TAGS: &str = "longhorn/files/usr/lib/kiln/longhorn-tags";

/// Longhorn's tags of a node are set once the node has joined, follow the seed, and stay as somebody changed them.
#[test]
fn tags_of_a_node_are_somebodys_when_they_were_changed() {
    let stage = Stage::new(&[]);
    let annotation = stage.path("annotation");
    let k3s = format!(
        "#!/bin/sh\ncase \"$4\" in get) cat '{0}' ;; annotate) printf %s \"${{8#*=}}\" >'{0}' ;; esac\n",
        annotation.display()
    );
    stage.write("usr/bin/k3s", &k3s);
    fs::set_permissions(stage.path("usr/bin/k3s"), fs::Permissions::from_mode(0o755)).expect("changed");
    stage.write("annotation", "");
    let seed = |tags: &str| stage.write("etc/kiln/longhorn-tags.json", &format!("{tags}\n"));
    let runs = |works: bool| {
        let output = stage.run(TAGS, &[]);
        assert_eq!(output.status.success(), works, "{}", said(&output));
        fs::read_to_string(&annotation).expect("the annotation")
    };
    seed("[\"fast\"]");
    assert_eq!(runs(false), "");
    stage.write("var/lib/rancher/k3s/agent/kubelet.kubeconfig", "a kubeconfig");
    assert_eq!(runs(true), "[\"fast\"]");
    assert_eq!(runs(true), "[\"fast\"]");
    seed("[\"slow\"]");
    assert_eq!(runs(true), "[\"slow\"]");
    stage.write("annotation", "[\"mine\"]");
    seed("[\"fast\"]");
    assert_eq!((runs(true).as_str(), runs(true).as_str()), ("[\"mine\"]", "[\"mine\"]"));
}

const BACKUP: &str = "backup-restic/files/usr/lib/kiln/backup";

fn backup(cat: &str) -> (Stage, Output) {
    let restic = format!("[ \"$1\" != cat ] || {{ {cat}; }}");
    let stage = Stage::new(&[("restic", &restic), ("hostname", "echo node-1")]);
    stage.write("etc/kiln/backup/home.paths", "/home\n");
    stage.write("home/a", "a");
    stage.write("etc/kiln/backup/home.exclude", "*.tmp\n");
    stage.write("etc/kiln/backup/home.keep", "--keep-daily=7\n--keep-weekly=4\n");
    let output = stage.run(BACKUP, &["home"]);
    (stage, output)
}

fn restic(stage: &Stage) -> Vec<String> {
    let folder = format!("{}/", stage.path("etc/kiln/backup").display());
    let calls = stage.calls().into_iter().map(|call| call.replace(&folder, ""));
    calls.filter(|call| call.starts_with("restic ")).collect()
}

#[test]
fn a_repository_is_made_only_where_there_is_none() {
    let (stage, output) = backup("exit 10");
    assert!(output.status.success(), "{}", said(&output));
    // It is asked for once more when nobody else of this node makes it.
    assert_eq!(
        restic(&stage)[..3],
        ["restic cat config --no-lock", "restic cat config --no-lock", "restic init"]
    );
    let (stage, output) = backup("exit 12");
    assert_eq!(output.status.code(), Some(12), "a wrong password ends it");
    assert_eq!(restic(&stage), ["restic cat config --no-lock"]);
}

/// The list of trusted authorities has the cluster's, by Debian's own program.
#[test]
fn authorities_are_trusted() {
    let program = Path::new("/usr/sbin/update-ca-certificates");
    let openssl = Command::new("openssl").arg("version").output().is_ok();
    if !program.is_file() || !openssl {
        eprintln!("SKIPPED: ca-certificates or openssl is not installed");
        return;
    }
    let stage = Stage::new(&[]);
    for folder in ["local", "etc", "hooks"] {
        fs::create_dir(stage.path(folder)).expect("made");
    }
    let key = stage.path("key");
    let certificate = stage.path("local/home.crt");
    let mut make = Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=home",
    ]);
    kiln_tests::succeed(make.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    stage.write("conf", "");
    let mut update = Command::new(program);
    for (word, inner) in [
        ("--localcertsdir", "local"),
        ("--etccertsdir", "etc"),
        ("--certsconf", "conf"),
        ("--hooksdir", "hooks"),
    ] {
        update.arg(word).arg(stage.path(inner));
    }
    kiln_tests::succeed(&mut update);
    let bundle = fs::read_to_string(stage.path("etc/ca-certificates.crt")).expect("the list");
    let own = fs::read_to_string(&certificate).expect("the certificate");
    assert!(bundle.contains(own.trim()), "the list:\n{bundle}");
}

/// Two certificates in one `pem` are two files: OpenSSL trusts none of two in one.
#[test]
fn every_authority_is_a_file() {
    let make = || rcgen::generate_simple_self_signed(["kiln.test".to_owned()]).expect("made").cert.pem();
    let (one, two) = (make(), make());
    let text = format!(
        "apiVersion: kiln/v1\ncluster: {{ name: home }}\noverlays: [{{ name: ca-certificates, certificates: [{{ name: home, pem: {:?} }}, {{ name: home-2, pem: {one:?} }}] }}]\n\
         users: [{{ name: ops, password_hash: $y$j9T$abc$def }}]\nnodes: [{{ name: a }}]\n",
        format!("# ours\n{one}\n# theirs\n{two}")
    );
    let loaded = kiln::cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new("/nonexistent"));
    let cluster = loaded.map_or_else(|error| panic!("{error:?}"), |loaded| loaded.cluster);
    let vault: std::sync::Arc<dyn kiln::render::Vault> = std::sync::Arc::new(crate::rendering::PLAIN);
    let files = kiln::render::files(&cluster, &cluster.nodes[0], &vault).expect("rendered");
    let found: Vec<(&str, usize)> = files
        .iter()
        .map(|file| (file.path.as_str(), file.text.matches("-----BEGIN CERTIFICATE-----").count()))
        .collect();
    let folder = "/usr/local/share/ca-certificates";
    let expected =
        ["kiln-home-2.crt", "kiln-home.crt", "kiln-home_2.crt"].map(|name| (format!("{folder}/{name}"), 1));
    assert_eq!(found, expected.each_ref().map(|(path, count)| (path.as_str(), *count)));
    let openssl = Command::new("openssl").arg("version").output().is_ok();
    if !openssl {
        eprintln!("SKIPPED: openssl is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    for file in &files {
        let path = folder.path().join(file.path.rsplit('/').next().expect("a name"));
        fs::write(&path, &file.text).expect("written");
        kiln_tests::succeed(Command::new("openssl").args(["x509", "-noout", "-in"]).arg(&path));
    }
}

/// Links lead from where k3s looks to what the image has, and none to what an older image had.
#[test]
fn images_of_the_root_are_where_k3s_looks() {
    let folder = tempfile::tempdir().expect("folder");
    let (root, state) = (folder.path().join("root"), folder.path().join("state/images"));
    let script = scripts().into_iter().find(|path| path.ends_with("k3s-images")).expect("the script");
    let script = fs::read_to_string(script).expect("text");
    let here = script
        .replace("/usr/share/kiln/images", &root.display().to_string())
        .replace("/var/lib/rancher/k3s/agent/images", &state.display().to_string());
    assert_ne!(here, script);
    let server = folder.path().join("state/server");
    let here = here.replace("/var/lib/rancher/k3s/server", &server.display().to_string());
    let run = || {
        let output = tool("sh", "dash").args(["-c", &here]).output().expect("sh");
        assert!(output.status.success(), "{}", said(&output));
        let left = fs::read_dir(&state).into_iter().flatten();
        let mut left: Vec<_> =
            left.map(|entry| entry.expect("read").file_name().into_string().unwrap()).collect();
        left.sort();
        left
    };
    // A root without images: nothing is made.
    assert!(run().is_empty() && !state.exists() && !server.exists());
    // cloud-init makes the folders of the seed's files so.
    fs::create_dir_all(server.join("tls")).expect("made");
    fs::create_dir(&root).expect("made");
    fs::write(root.join("a b.tar.zst"), "images").expect("written");
    fs::write(root.join(".a b.tar.zst.sha256"), format!("{}\n", "0123456789abcdef".repeat(4)))
        .expect("written");
    fs::write(root.join("own.tar"), "of an own overlay").expect("written");
    // SHA-256 of the file, of which nothing is written down.
    let first = [".cache.json", "0123456789abcdef-a b.tar.zst", "OWN-own.tar"];
    let found = run();
    let own = found[2].clone();
    assert_eq!(found, first.map(|name| name.replace("OWN", own.split_once('-').unwrap().0)));
    assert_eq!(fs::read_to_string(state.join(&found[1])).expect("a link"), "images");
    assert_eq!(fs::read_to_string(state.join(&own)).expect("a link"), "of an own overlay");
    for place in [server.clone(), server.join("tls")] {
        assert_eq!(fs::metadata(place).expect("there").permissions().mode() & 0o777, 0o700);
    }
    // What k3s has written there stays, and so does what others put there.
    fs::write(state.join(".cache.json"), "{\"a\":1}").expect("written");
    fs::write(state.join("theirs.tar"), "somebody's").expect("written");
    assert_eq!(run().len(), 4);
    assert_eq!(fs::read_to_string(state.join(".cache.json")).expect("there"), "{\"a\":1}");
    // Another archive of the same name, size and time has another link, and a link of older images goes.
    fs::write(root.join(".a b.tar.zst.sha256"), format!("{}\n", "f".repeat(64))).expect("written");
    std::os::unix::fs::symlink(root.join("own.tar"), state.join("own.tar")).expect("an old link");
    assert_eq!(run(), [".cache.json", &own, "ffffffffffffffff-a b.tar.zst", "theirs.tar"]);
    for name in ["a b.tar.zst", ".a b.tar.zst.sha256", "own.tar"] {
        fs::remove_file(root.join(name)).expect("removed");
    }
    assert_eq!(run(), [".cache.json", "theirs.tar"]);
}
