//! Backups, by Debian's own restic through the overlay's own files and script.

#[allow(unreachable_pub, reason = "the builder's own tests use it, too")]
#[path = "../../builder/tests/judges/package.rs"]
mod package;

use kiln::cluster::settings::Secret;
use kiln::render::{Vault, files};
use kiln_tests::{Ended, said, succeed, tool, top};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// trixie's restic, which nodes have, fetched once as Kiln fetches packages: the host's may be an older one, with other exit
/// statuses.
fn restic() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(fetched) {
        Ok(path) => Some(path),
        Err(reason) => {
            eprintln!("SKIPPED: no restic of trixie: {reason}");
            assert!(std::env::var("KILN_JUDGES").is_err(), "KILN_JUDGES wants every judge: {reason}");
            None
        }
    }
}

fn fetched() -> Result<PathBuf, String> {
    package::unpacked(&top().join("target/kiln-tests"), "restic", "usr/bin/restic")
}

/// What the cluster's secrets are here.
#[derive(Debug)]
struct Known(BTreeMap<&'static str, String>);

impl Vault for Known {
    fn reveal(&self, secret: &Secret) -> Result<String, String> {
        let Secret::Stored(name) = secret else { return Err("unknown".to_owned()) };
        self.0.get(name.as_str()).cloned().ok_or_else(|| "unknown".to_owned())
    }
    fn own(&self, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
    fn public(&self, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
    fn digest(&self, _: &[u8]) -> String {
        String::new()
    }
}

/// A repository, and roots of nodes whose backup `home` goes there.
struct Rig {
    folder: tempfile::TempDir,
    restic: &'static Path,
    repository: String,
}

impl Rig {
    /// Of two nodes with this said of their backups beside name, repository and password.
    fn new(backup: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("folder");
        let repository = folder.path().join("repository").display().to_string();
        Self::at(folder, repository, backup)
    }

    fn at(folder: tempfile::TempDir, repository: String, backup: &str) -> Option<Self> {
        let rig = Self { folder, restic: restic()?, repository };
        rig.tell(backup);
        Some(rig)
    }

    /// Writes what the overlay says of this backup into the roots of both nodes.
    fn tell(&self, backup: &str) {
        let text = format!(
            "apiVersion: kiln/v1\ncluster: {{ name: home, k3s: {{ version: v1.34.3+k3s1 }} }}\nusers: [{{ name: ops, password_hash: $y$j9T$abc$def }}]\n\
             overlays: [{{ name: backup-restic, backups: [{{ name: home, repository: {{ secret: where }}, password: {{ secret: password }}, \
             environment: {{ AWS_ACCESS_KEY_ID: {{ secret: password }}, AWS_SECRET_ACCESS_KEY: {{ secret: password }} }}, {backup} }}] }}]\n\
             nodes: [{{ name: one, role: server, network: {{ address: 10.0.0.1/24 }} }}, {{ name: two, role: server }}, {{ name: three, role: server }}]\n"
        );
        let loaded =
            kiln::cluster::parse(text.as_bytes(), Path::new("cluster.yaml"), Path::new("/nonexistent"));
        let cluster = loaded.map_or_else(|error| panic!("{error}: {error:?}"), |loaded| loaded.cluster);
        let secrets = [("where", self.repository.clone()), ("password", "it's \"secret\" $x".to_owned())];
        let vault: Arc<dyn Vault> = Arc::new(Known(secrets.into()));
        for node in cluster.nodes.iter().filter(|node| node.name != "three") {
            let root = self.root(&node.name);
            // k3s' own files need secrets that nobody has here.
            let mut node = node.clone();
            node.overlays.retain(|overlay| overlay.name == "backup-restic");
            for file in files(&cluster, &node, &vault).expect("rendered") {
                let path = root.join(&file.path[1..]);
                fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                fs::write(&path, file.text).expect("written");
            }
            self.program(&node.name, "hostname", &format!("echo {}", node.name));
            let link = root.join("bin/restic");
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(self.restic, link).expect("linked");
        }
        open(self.folder.path());
    }

    fn root(&self, node: &str) -> PathBuf {
        self.folder.path().join(node)
    }

    fn program(&self, node: &str, name: &str, body: &str) {
        let path = self.root(node).join("bin").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("changed");
    }

    fn write(&self, node: &str, path: &str, text: &str) -> PathBuf {
        let path = self.root(node).join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    /// What the unit starts, as it starts it.
    fn unit(&self, node: &str) -> Command {
        let overlay = top().join("overlays/backup-restic/files");
        let unit = fs::read_to_string(overlay.join("usr/lib/systemd/system/kiln-backup@.service"))
            .expect("the unit");
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a program");
        let script = start.strip_suffix(" %i").expect("its instance");
        let root = self.root(node);
        let line = format!(
            "set -eua; . '{}/etc/kiln/backup/home.env'; exec '{}{script}' home",
            root.display(),
            overlay.display()
        );
        let mut command = as_nobody("sh");
        command.args(["-c", &line]).env("KILN_ROOT", &root).env("RESTIC_CACHE_DIR", root.join("cache"));
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", root.join("bin").display()));
        command.env("KILN_ANSWER", "5").env("KILN_WAIT", "60").env("KILN_PAUSE", "1").env("KILN_LOCKS", "1m");
        command
    }

    fn run(&self, node: &str) -> Output {
        self.unit(node).output().expect("sh")
    }

    fn start(&self, node: &str) -> Child {
        self.unit(node).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh")
    }

    /// restic alone, as a person on the node calls it.
    fn by_hand(&self, arguments: &[&str]) -> Command {
        let mut command = as_nobody(self.restic.to_str().expect("UTF-8"));
        command
            .args(arguments)
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_PASSWORD", "it's \"secret\" $x");
        command.env("RESTIC_CACHE_DIR", self.folder.path().join("one/cache"));
        command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        command
    }

    fn snapshots(&self) -> Vec<serde_json::Value> {
        let text = succeed(&mut self.by_hand(&["snapshots", "--json", "--no-lock"]));
        serde_json::from_str(&text).expect("JSON")
    }
}

/// Nothing is unreadable to root.
fn as_nobody(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = tool("setpriv", "util-linux");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", program]);
    command
}

/// Lets everybody into a test's folder.
fn open(folder: &Path) {
    succeed(Command::new("chmod").args(["-R", "a+rwX"]).arg(folder));
}

const KEEP: &str = "paths: [/home, /srv], keep: { last: 1 }";

fn homes(rig: &Rig) {
    for node in ["one", "two"] {
        rig.write(node, "home/a", node);
        rig.write(node, "srv/b", node);
    }
    open(rig.folder.path());
}

#[test]
fn a_repository_is_made_and_kept_in_order() {
    let Some(rig) = Rig::new(KEEP) else { return };
    homes(&rig);
    let output = rig.run("one");
    assert!(output.status.success(), "{}", said(&output));
    // Other paths are the same backup: the old snapshot goes, as `last: 1` says.
    rig.tell("paths: [/srv], keep: { last: 1 }");
    let output = rig.run("one");
    assert!(output.status.success(), "{}", said(&output));
    let snapshots = rig.snapshots();
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["tags"], serde_json::json!(["kiln-home"]));
    assert_eq!(snapshots[0]["hostname"], "one");
}

#[test]
fn a_killed_run_is_in_nobodys_way() {
    let Some(rig) = Rig::new(KEEP) else { return };
    homes(&rig);
    assert!(rig.run("one").status.success());
    // It holds its lock while it waits for what never comes.
    let mut killed = rig
        .by_hand(&["backup", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("restic");
    let locks = rig.folder.path().join("repository/locks");
    let begin = Instant::now();
    while fs::read_dir(&locks).expect("locks").count() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "restic takes no lock");
        std::thread::sleep(Duration::from_millis(50));
    }
    killed.kill().expect("killed");
    killed.wait().expect("gone");
    assert!(
        !rig.by_hand(&["forget", "--keep-last=1", "--prune"]).status().expect("restic").success(),
        "the lock does not hold"
    );
    let output = rig.run("one");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(rig.snapshots().len(), 1);
}

#[test]
fn what_can_not_be_read_fails_and_the_rest_is_kept() {
    let Some(rig) = Rig::new(KEEP) else { return };
    homes(&rig);
    assert!(rig.run("one").status.success());
    let closed = rig.write("one", "home/closed", "secret");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("changed");
    let output = rig.run("one");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert_eq!(rig.snapshots().len(), 1, "old ones are thinned all the same");
    fs::remove_file(closed).expect("removed");
    fs::remove_dir_all(rig.root("one").join("srv")).expect("removed");
    let output = rig.run("one");
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("/srv is not there"), "{}", said(&output));
    let text = succeed(&mut rig.by_hand(&["ls", "latest", "--no-lock"]));
    assert!(text.contains("/home/a") && !text.contains("/srv"), "{text}");
    fs::remove_dir_all(rig.root("one").join("home")).expect("removed");
    let output = rig.run("one");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(rig.snapshots().len(), 1, "nothing was kept, and nothing went");
}

/// The node that is first in the cluster file makes it, whoever comes first.
#[test]
fn two_nodes_share_a_repository() {
    for _ in 0..3 {
        let Some(rig) = Rig::new(KEEP) else { return };
        homes(&rig);
        let two = rig.start("two");
        let one = rig.start("one");
        for (name, child) in [("one", one), ("two", two)] {
            let output = child.wait_with_output().expect("ended");
            assert!(output.status.success(), "{name}: {}", said(&output));
        }
        assert_eq!(fs::read_dir(rig.folder.path().join("repository/keys")).expect("keys").count(), 1);
        assert_eq!(rig.snapshots().len(), 2);
        succeed(&mut rig.by_hand(&["check"]));
    }
    let Some(rig) = Rig::new(KEEP) else { return };
    homes(&rig);
    let output = rig.unit("two").env("KILN_WAIT", "1").output().expect("sh");
    assert_eq!(output.status.code(), Some(10), "{}", said(&output));
    assert!(said(&output).contains("one has not made the repository"), "{}", said(&output));
    assert!(!rig.folder.path().join("repository").exists());
}

/// A store that speaks S3 as far as restic does, without any bucket.
const STORE: &str = r#"
import http.server, re, sys, urllib.parse
buckets, objects = set(), {}
class Store(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): pass
    def answer(self, status, body=b'', **headers):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name.replace('_', '-'), value)
        if 'Content_Length' not in headers: self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(body)
    def body(self):
        raw = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if 'STREAMING' not in (self.headers.get('x-amz-content-sha256') or ''): return raw
        out = b''
        while raw:
            head, raw = raw.split(b'\r\n', 1)
            size = int(head.split(b';')[0], 16)
            if size == 0: break
            out, raw = out + raw[:size], raw[size + 2:]
        return out
    def ask(self):
        url = urllib.parse.urlsplit(self.path)
        _, bucket, *rest = urllib.parse.unquote(url.path).split('/', 2)
        return bucket, rest[0] if rest else '', urllib.parse.parse_qs(url.query, keep_blank_values=True)
    def missing(self, code='NoSuchKey'):
        self.answer(404, b'' if self.command == 'HEAD' else f'<Error><Code>{code}</Code></Error>'.encode())
    def do_GET(self):
        bucket, key, query = self.ask()
        if bucket not in buckets: return self.missing('NoSuchBucket')
        if 'location' in query: return self.answer(200, b'<LocationConstraint/>')
        if not key:
            prefix = query.get('prefix', [''])[0]
            found = [k for k in objects if k.startswith(bucket + '/' + prefix)]
            items = ''.join(f'<Contents><Key>{k.split("/", 1)[1]}</Key><Size>{len(objects[k])}</Size></Contents>' for k in found)
            return self.answer(200, f'<ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(found)}</KeyCount><IsTruncated>false</IsTruncated>{items}</ListBucketResult>'.encode())
        data = objects.get(bucket + '/' + key)
        if data is None: return self.missing()
        status, more = 200, {}
        span = re.match(r'bytes=(\d+)-(\d*)', self.headers.get('Range') or '')
        whole = len(data)
        if span:
            first, last = int(span[1]), int(span[2] or whole - 1)
            status, data = 206, data[first:last + 1]
            more['Content_Range'] = f'bytes {first}-{last}/{whole}'
        self.answer(status, data, ETag='"x"', Last_Modified='Mon, 01 Jan 2024 00:00:00 GMT', Content_Length=str(len(data)), **more)
    do_HEAD = do_GET
    def do_PUT(self):
        bucket, key, _ = self.ask()
        data = self.body()
        if not key: buckets.add(bucket)
        elif bucket not in buckets: return self.missing('NoSuchBucket')
        else: objects[bucket + '/' + key] = data
        self.answer(200, ETag='"x"')
    def do_DELETE(self):
        bucket, key, _ = self.ask()
        objects.pop(bucket + '/' + key, None)
        self.answer(204)
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Store)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// restic asks for a bucket that is not there again and again, for a quarter of an hour: the backup makes it and is done.
#[test]
fn a_bucket_is_made() {
    use std::io::BufRead as _;
    let mut command = kiln_tests::debian_python("python3");
    let mut store = Ended(command.args(["-c", STORE]).stdout(Stdio::piped()).spawn().expect("python3"));
    let mut line = String::new();
    std::io::BufReader::new(store.0.stdout.take().expect("its output"))
        .read_line(&mut line)
        .expect("its port");
    let folder = tempfile::tempdir().expect("folder");
    let repository = format!("s3:http://127.0.0.1:{}/backups/home", line.trim());
    let Some(rig) = Rig::at(folder, repository, KEEP) else { return };
    homes(&rig);
    let begin = Instant::now();
    let output = rig.run("one");
    assert!(output.status.success(), "{}", said(&output));
    assert!(begin.elapsed() < Duration::from_secs(60), "it took {:?}", begin.elapsed());
    assert_eq!(rig.snapshots().len(), 1);
    let output = rig.run("two");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(rig.snapshots().len(), 2);
}

/// A copy of SQLite is of one moment, whatever is written meanwhile, and it was restored.
#[test]
fn a_datastore_of_sqlite_is_kept_whole() {
    let Some(rig) = Rig::new("datastore: true, keep: { last: 2 }") else { return };
    let store = rig.write("one", "var/lib/rancher/k3s/server/db/state.db", "");
    rig.write("one", "var/lib/rancher/k3s/server/token", "K10abc");
    rig.write("one", "var/lib/rancher/k3s/server/cred/passwd", "x");
    open(rig.folder.path());
    // Two tables that every transaction changes alike, as fast as it can be done.
    let writer = "import sqlite3, sys\nd = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\nd.execute('pragma journal_mode=wal')\n\
                  d.execute('create table a(x)'); d.execute('create table b(x)')\nprint('ready', flush=True)\nn = 0\n\
                  while True:\n n += 1\n d.execute('begin immediate'); d.execute('insert into a values(?)', ('x' * 1000,)); d.execute('insert into b values(?)', (n,)); d.execute('commit')\n";
    let mut command = as_nobody("/usr/bin/python3");
    command.args(["-c", writer]).arg(&store).stdout(Stdio::piped());
    let mut writing = Ended(command.spawn().expect("python3"));
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(writing.0.stdout.take().expect("output")),
        &mut line,
    )
    .expect("ready");
    std::thread::sleep(Duration::from_millis(500));
    let output = rig.run("one");
    assert!(output.status.success(), "{}", said(&output));
    drop(writing);
    // As `docs/overlays.md` says it is done.
    let target = rig.folder.path().join("restored");
    fs::create_dir(&target).expect("made");
    open(&target);
    succeed(rig.by_hand(&["restore", "latest", "--target"]).arg(&target));
    let copy = target.join(&rig.root("one").display().to_string()[1..]).join("var/lib/kiln/backup/home");
    let ask = "pragma integrity_check; select count(*) > 10 from a; select (select count(*) from a) = (select count(*) from b), (select max(x) from b) = (select count(*) from b);";
    let told = succeed(tool("sqlite3", "sqlite3").arg(copy.join("state.db")).arg(ask));
    assert_eq!(told.trim(), "ok\n1\n1|1");
    assert_eq!(fs::read_to_string(copy.join("token")).expect("the token"), "K10abc");
    assert!(copy.join("cred/passwd").exists());
}

/// etcd has snapshots of its own; where there is neither, the backup fails.
#[test]
fn the_datastore_is_the_one_that_there_is() {
    let Some(rig) = Rig::new("datastore: true, keep: { last: 2 }") else { return };
    rig.write("one", "run/x", "");
    open(rig.folder.path());
    let output = rig.run("one");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("neither etcd nor SQLite"), "{}", said(&output));
    rig.write("one", "var/lib/rancher/k3s/server/db/etcd/member/x", "");
    rig.program("one", "k3s", "[ \"$1 $2\" = 'etcd-snapshot save' ] && while [ \"$1\" != --dir ]; do shift; done && echo whole >\"$2/kiln-home-one-1\"");
    open(rig.folder.path());
    let output = rig.run("one");
    assert!(output.status.success(), "{}", said(&output));
    let text = succeed(&mut rig.by_hand(&["ls", "latest", "--no-lock"]));
    assert!(text.contains("/var/lib/kiln/backup/home/kiln-home-one-1"), "{text}");
}

/// What is taken for a schedule or a span of time, systemd takes.
#[test]
fn schedules_are_systemds() {
    let right = [
        "daily",
        "Mon..Fri 03:00",
        "*-*-* 00/6:30:00 UTC",
        "Sat *-*-1..7 18:00:00 Europe/Berlin",
        "*-02~03",
        "mon,fri 3:00",
        "*:0/15",
        "2027-1-1",
        "weekly",
    ];
    let wrong = [
        "every day at 3",
        "03:00 daily",
        "25:00",
        "3:60",
        "*:*/5",
        "Fri..Mon 3:00",
        "12",
        "*-13-1",
        "mon.. 3:00",
        "3 o'clock",
        "@x",
        "*-*-1/40",
    ];
    let spans = ["30min", "1h 15s", "1.5h", "90", "2 weeks"];
    let no_spans = ["half an hour", "1x", "min", "1..5h", "-5min"];
    let cases = [("calendar", "schedule", &right[..], true), ("calendar", "schedule", &wrong[..], false)];
    let cases = cases.into_iter().chain([
        ("timespan", "random_delay", &spans[..], true),
        ("timespan", "random_delay", &no_spans[..], false),
    ]);
    for (verb, setting, texts, good) in cases {
        for text in texts {
            let judged = tool("systemd-analyze", "systemd")
                .args([verb, "--", text])
                .output()
                .expect("systemd-analyze");
            assert_eq!(judged.status.success(), good, "systemd, of {text:?}: {}", said(&judged));
            let file = format!(
                "apiVersion: kiln/v1\ncluster: {{ name: home }}\nnodes: [{{ name: a, overlays: [{{ name: backup-restic, backups: [{{ name: a, repository: {{ secret: a }}, \
                 password: {{ secret: b }}, paths: [/home], {setting}: \"{text}\" }}] }}] }}]\n"
            );
            let taken =
                kiln::cluster::parse(file.as_bytes(), Path::new("a.yaml"), Path::new("/nonexistent")).is_ok();
            assert_eq!(taken, good, "kiln, of {text:?}");
        }
    }
}
