//! What `kiln secrets` says, word for word: `tests/secrets/<name>.snap`; and that it says no secret.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const CLUSTER: &str = "apiVersion: kiln/v1\ncluster: {name: home}\nusers: [{name: anna, password_hash: $6$saltsalt$abcdefgh}]\n";
const NODES: &str = "nodes: [{name: k3s1}, {name: k3s2}]\n";

/// A folder with a cluster file, and a home beside it.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().expect("folder"));
        fs::create_dir(site.work()).expect("made");
        site.nodes(NODES);
        site
    }
    fn work(&self) -> std::path::PathBuf {
        self.0.path().join("work")
    }
    fn nodes(&self, nodes: &str) {
        fs::write(self.work().join("cluster.yaml"), format!("{CLUSTER}{nodes}")).expect("written");
    }
    fn file(&self) -> std::path::PathBuf {
        self.work().join("kiln.secrets.age")
    }
    fn kiln(&self, words: &str, input: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command.arg("secrets").args(words.split(' ')).current_dir(self.work()).env_clear();
        command.env("HOME", self.0.path().join("home"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kiln ran");
        // It may have ended without asking.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        child.wait_with_output().expect("kiln ended")
    }
    /// Exit status, stdout and stderr, without what differs from run to run.
    fn told(&self, words: &str, input: &str) -> String {
        let output = self.kiln(words, input);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let status = output.status.code().expect("not killed");
        let all = format!(
            "$ kiln secrets {words}\n{out}{}{err}(status {status})\n",
            if err.is_empty() { "" } else { "--\n" }
        );
        let all = all.replace(&self.0.path().display().to_string(), "...");
        let words = all.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | ';'));
        words.map(steady).collect()
    }
    /// The decrypted document, by the outside tool where it is here.
    fn values(&self) -> Option<Vec<String>> {
        let identity = self.0.path().join("home/.config/kiln/identity.txt");
        let mut age = Command::new("age");
        let output = age.arg("-d").arg("-i").arg(identity).arg(self.file()).output().ok()?;
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the document");
        let mut values = Vec::new();
        collect(&document, &mut values);
        Some(values)
    }
}

/// Keys, fingerprints and dates by their kind.
fn steady(word: &str) -> String {
    let end = word.len() - word.chars().next_back().map_or(0, char::len_utf8);
    let (body, rest) = if word.ends_with(|c: char| c.is_whitespace() || "\",;".contains(c)) {
        word.split_at(end)
    } else {
        (word, "")
    };
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let body = if body.starts_with("age1") && body.len() == 62 {
        "age1<key>"
    } else if body.starts_with("SHA256:") && body.len() == 50 {
        "SHA256:<print>"
    } else if body.len() == 64 && hex(body) {
        "<print>"
    } else if body.len() == 20 && body.ends_with('Z') {
        "<date>"
    } else {
        body
    };
    format!("{body}{rest}")
}

fn collect(value: &serde_json::Value, values: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => values.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, values)),
        serde_json::Value::Object(entries) => entries.values().for_each(|value| collect(value, values)),
        _ => {}
    }
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("secrets");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn the_life_of_a_file() {
    let site = Site::new();
    let mut told = String::new();
    let mut say = |words: &str, input: &str| told.push_str(&format!("{}\n", site.told(words, input)));
    say("list", "");
    say("set restic", "hunter2\n");
    say("init", "");
    let first = fs::read(site.file()).expect("there");
    say("init", "");
    assert_eq!(fs::read(site.file()).expect("there"), first, "a second run wrote");
    say("set restic", "hunter2\n");
    say("set restic", "hunter3\n");
    site.nodes("nodes: [{name: k3s2}, {name: k3s3}]\n");
    say("init", "");
    say("list", "");
    snapshot("life", &told);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&site.file()), 0o600);
    assert_eq!(mode(&site.0.path().join("home/.config/kiln/identity.txt")), 0o600);
    assert_eq!(mode(&site.0.path().join("home/.config/kiln")), 0o700);
    let left: Vec<_> = fs::read_dir(site.work()).expect("there").collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn rotation_says_what_it_does() {
    let site = Site::new();
    assert!(site.kiln("init", "").status.success());
    let before = fs::read(site.file()).expect("there");
    let mut told = String::new();
    for words in [
        "rotate cas",
        "rotate tokens service-key node-passwords",
        "rotate tokns",
        "rotate node-passwords k3s9",
        "rotate tokens k3s1",
        "rotate cas cas",
    ] {
        told.push_str(&format!("{}\n", site.told(words, "")));
    }
    assert_eq!(fs::read(site.file()).expect("there"), before, "something was written without --yes");
    for words in [
        "rotate node-passwords k3s2 ssh-host-keys",
        "rotate tokens service-key cas --yes",
        "rotate --json ssh-host-keys k3s1",
    ] {
        let before = fs::read(site.file()).expect("there");
        told.push_str(&format!("{}\n", site.told(words, "")));
        assert_ne!(fs::read(site.file()).expect("there"), before, "{words}");
        assert_eq!(fs::read(site.work().join("kiln.secrets.age.previous")).expect("kept"), before, "{words}");
    }
    snapshot("rotate", &told);
}

#[test]
fn a_file_that_does_not_open_is_not_written_over() {
    let site = Site::new();
    assert!(site.kiln("init", "").status.success());
    let good = fs::read(site.file()).expect("there");
    let mut told = String::new();
    let mut refuse = |words: &str| {
        let before = fs::read(site.file()).expect("there");
        told.push_str(&format!("{}\n", site.told(words, "hunter2")));
        assert_eq!(fs::read(site.file()).expect("there"), before, "{words}");
    };
    fs::write(site.file(), &good[..good.len() / 2]).expect("cut");
    refuse("init");
    fs::write(site.file(), "hello\n").expect("written");
    refuse("init");
    fs::write(site.file(), &good).expect("written");
    fs::rename(site.0.path().join("home"), site.0.path().join("other home")).expect("moved");
    refuse("init");
    refuse("set restic");
    refuse("rotate cas --yes");
    fs::rename(site.0.path().join("other home"), site.0.path().join("home")).expect("moved");
    refuse("init --recipient anna");
    refuse("init --recipient age14he4tcpy498npzmdcdr2p2wj49q3lmtcxue945a2pggzdnunr3kqm4wdn9");
    refuse("set no/name");
    let cluster = format!("{}{NODES}", CLUSTER.replace("home", "work"));
    fs::write(site.work().join("cluster.yaml"), cluster).expect("written");
    refuse("init");
    fs::remove_file(site.work().join("cluster.yaml")).expect("removed");
    refuse("init");
    snapshot("refused", &told);
}

/// Whatever is said, with `--verbose` too, no value is in it; the outside tool tells the values.
#[test]
fn no_secret_is_said() {
    let site = Site::new();
    let mut told = String::new();
    let mut say = |words: &str, input: &str| {
        let output = site.kiln(words, input);
        told.push_str(&String::from_utf8_lossy(&output.stdout));
        told.push_str(&String::from_utf8_lossy(&output.stderr));
    };
    say("init --verbose", "");
    let Some(mut values) = site.values() else {
        eprintln!("SKIPPED: age is not installed, so nobody tells what must not be said");
        return;
    };
    let mut say_all = |words: &str, input: &str| {
        say(words, input);
        values.extend(site.values().expect("age ran once"));
    };
    say_all("set restic --verbose", "correct horse\nbattery\n");
    say_all("rotate node-passwords ssh-host-keys --verbose", "");
    say_all("rotate tokens cas service-key --yes --json", "");
    say_all("list --json", "");
    say_all("list", "");
    let harmless = |text: &str| text.len() < 20 || text.starts_with("age1") || text.ends_with('Z');
    let mut looked_for = 0;
    for line in values
        .iter()
        .flat_map(|value| value.lines())
        .filter(|line| line.len() > 6 && !line.starts_with("-----"))
    {
        if line == "correct horse" || !harmless(line) {
            looked_for += 1;
            assert!(!told.contains(line), "{line} is in {told}");
        }
    }
    assert!(looked_for > 100, "only {looked_for} lines of secrets were looked for");
}

/// The value as it came; a lone line without its newline.
#[test]
fn values_arrive_unchanged() {
    let site = Site::new();
    assert!(site.kiln("init", "").status.success());
    for (input, kept) in [
        ("one\n", "one"),
        ("one", "one"),
        ("one\r\n", "one"),
        ("-----BEGIN\nkey\n", "-----BEGIN\nkey\n"),
        (" ' \" {{ # ü \\ ", " ' \" {{ # ü \\ "),
    ] {
        assert!(site.kiln("set value", input).status.success());
        let Some(values) = site.values() else {
            eprintln!("SKIPPED: age is not installed, so nobody tells what was kept");
            return;
        };
        assert!(values.iter().any(|value| value == kept), "{input:?}");
    }
    assert_eq!(site.kiln("set value", "").status.code(), Some(1));
    assert_eq!(site.kiln("set value", &"a".repeat((64 << 10) + 1)).status.code(), Some(1));
    assert!(site.kiln("set value", &"a".repeat(64 << 10)).status.success());
}
