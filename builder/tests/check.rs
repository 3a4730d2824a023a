//! What `kiln check` says of bad files, word for word: `tests/check/<name>.snap`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod bad_files;

use bad_files::networks::interfaces;
use bad_files::{HEAD, NODE, USER};
use std::path::Path;
use std::process::{Command, Output};

fn kiln(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .output()
        .expect("kiln ran")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The stderr of `kiln check` on a file with these bytes, and its exit status.
fn check(bytes: &[u8]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("cluster.yaml"), bytes).expect("written");
    let output = kiln(folder.path(), &["check"]);
    (text(&output.stderr), output.status.code())
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("check");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn every_bad_file_gets_its_words() {
    for (name, file) in bad_files::all() {
        let (stderr, status) = check(file.as_bytes());
        let no_errors = matches!(
            name,
            "no-login" | "disk-warnings" | "iscsi-warnings" | "iscsi-thin" | "secrets-in-plain-text"
        );
        assert_eq!(status, Some(i32::from(!no_errors)), "{name}: {stderr}");
        for secret in ["c2VjcmV0", "hunter2", "BEGIN"] {
            assert!(!stderr.contains(secret), "{name} gives a secret away: {stderr}");
        }
        let steers = stderr.chars().any(|c| c.is_control() && c != '\n');
        assert!(!steers, "{name} steers the terminal: {stderr:?}");
        assert!(
            stderr.is_ascii() || file.contains('ö'),
            "{name}: not ASCII without a UTF-8 locale: {stderr}"
        );
        snapshot(name, &stderr);
    }
}

/// What lies below a disk's place can't be written while the disk is missing, nor anything behind it.
#[test]
fn a_seed_that_writes_to_a_disk_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let own = "#cloud-config\nwrite_files:\n  - { path: /srv/data/x, content: x }\n";
    std::fs::write(folder.path().join("own.yaml"), own).expect("written");
    let node = |role: &str, place: &str| {
        let disk = format!("{{ name: d, match: {{ transport: virtio }}, use: mount, mount_point: {place} }}");
        format!(
            "apiVersion: kiln/v1\ncluster: {{ name: c, k3s: {{ version: v1.36.2+k3s1 }}, endpoint: 192.0.2.1 }}\n{USER}user_data: ./own.yaml\n\
             nodes:\n  - {{ name: s, role: server, network: {{ address: 192.0.2.1/24 }} }}\n  \
             - {{ name: n, role: {role}, network: {{ address: 192.0.2.2/24 }}, disks: {{ data: [{disk}] }} }}\n"
        )
    };
    for (role, place, lost) in [
        ("agent", "/srv/data", "own.yaml (`write_files`) writes /srv/data/x"),
        ("none", "/srv", ""),
        ("agent", "/var/lib/rancher", ""),
    ] {
        std::fs::write(folder.path().join("cluster.yaml"), node(role, place)).expect("written");
        let output = kiln(folder.path(), &["check"]);
        let said = text(&output.stderr);
        println!("{said}");
        assert_eq!(said.contains("error"), place.starts_with("/srv"), "{place}: {said}");
        assert!(said.contains(lost), "{place}: {said}");
    }
}

/// The user's own files for cloud-init.
#[test]
fn own_user_data_is_looked_at() {
    let folder = tempfile::tempdir().expect("folder");
    let cases = [
        ("none", "nothing says what this is\n"),
        ("list", "#cloud-config\n- a\n"),
        ("broken", "#cloud-config\na: [hunter2\nb: }\n"),
        ("twice", "#cloud-config\na: 1\na: 2\n"),
        ("jinja", "## template: jinja\n#cloud-config\n"),
        ("mail", "Content-Type: multipart/mixed\n"),
        ("owned", "#cloud-config\nhostname: x\ngrowpart: {mode: auto}\ncloud_final_modules: []\n"),
        ("packages", "#cloud-config\npackages: [htop]\napt: {}\n"),
        ("fine", "#cloud-config\n"),
    ];
    let nodes: String =
        cases.iter().map(|(name, _)| format!("  - {{name: {name}, user_data: ./{name}.yaml}}\n")).collect();
    for (name, text) in cases {
        std::fs::write(folder.path().join(format!("{name}.yaml")), text).expect("written");
    }
    let file = format!("{HEAD}{USER}user_data: missing.yaml\nnodes:\n{nodes}");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("hunter2"), "{stderr}");
    snapshot("user-data", &stderr);
}

/// Words in such files that cloud-init's reader or one of its modules fails at, which lose more than themselves.
#[test]
fn own_user_data_is_tried() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |entry: &str| format!("write_files:\n  - {entry}\n");
    let cases = [
        ("equals", "runcmd: [=]\n".to_owned()),
        ("merge", "runcmd: [<<]\n".to_owned()),
        ("date", "a: {b: 2025-02-30}\n".to_owned()),
        ("time", "2025-02-03 24:00:00: b\n".to_owned()),
        ("digits", "a: 0x_\n".to_owned()),
        ("tag", "a: !vault x\n".to_owned()),
        ("number", "a: !!int x\n".to_owned()),
        ("set", "a: !!set {b, c}\n".to_owned()),
        ("keys", "runcmds: []\nyum_repos: {}\nfoo: 1\n".to_owned()),
        (
            "elsewhere",
            "locale: C\nkeyboard: {layout: us}\nmounts: []\nswap: {}\nssh_import_id: []\npackage_update: true\n".to_owned(),
        ),
        ("kinds", "runcmd: reboot\nwrite_files: {}\nchpasswd: []\ntimezone: Mars/Base One\n".to_owned()),
        ("commands", "runcmd: [echo a: b, 1, yes, [touch, /a], [[a]], touch /b]\n".to_owned()),
        ("owner", file("{path: /var/lib/app/token, owner: \"anna:staff\", content: x}")),
        ("stranger", file("{path: /etc/app, owner: \"ops:ops\", content: x}")),
        ("deferred", file("{path: /etc/app, owner: \"anna:www-data\", defer: true, content: x}")),
        ("made", file("{path: /etc/app, owner: ops, defer: true}") + "users: [default, {name: ops}]\n"),
        ("places", ["/usr/share/app", "/boot/x", "/etc", "/run/x", "etc/x", "/etc/../usr/x", "/var/lib/dpkg/status"].map(|path| file(&format!("{{path: {path}, content: x}}"))).join("").replace("\nwrite_files:", "")),
        ("fine", ["/etc/a", "/usr/local/bin/a", "/srv/a", "/root/a", "/home/anna/a"].map(|path| file(&format!("{{path: {path}, content: x}}"))).join("").replace("\nwrite_files:", "")),
        ("permissions", ["0644", "644", "\"0o755\"", "\"755\"", "rwx", "\"0888\"", "[6]", "1.5"].map(|mode| file(&format!("{{path: /etc/a, permissions: {mode}}}"))).join("").replace("\nwrite_files:", "")),
        ("content", ["12", "yes", "[a]", "text", "\"12\"", "2025-01-02"].map(|text| file(&format!("{{path: /etc/a, content: {text}, encoding: b46}}"))).join("").replace("\nwrite_files:", "")),
        ("groups", "groups: [anna, {carl: [anna]}]\nusers: [default, {name: bert, groups: \"adm, dora\"}, {name: carl, groups: [carl]}, {name: dora}, {name: emil, groups: emil, no_user_group: true}]\n".to_owned()),
    ];
    let nodes: String =
        cases.iter().map(|(name, _)| format!("  - {{name: {name}, user_data: ./{name}.yaml}}\n")).collect();
    for (name, text) in cases {
        let text = format!("#cloud-config\n{text}");
        std::fs::write(folder.path().join(format!("{name}.yaml")), text).expect("written");
    }
    std::fs::write(folder.path().join("cluster.yaml"), format!("{HEAD}{USER}nodes:\n{nodes}"))
        .expect("written");
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    for fine in ["fine", "deferred", "made"] {
        assert!(!stderr.contains(&format!("{fine}.yaml: ")), "{fine}: {stderr}");
    }
    snapshot("user-data-tried", &stderr);
}

/// A Wi-Fi card most likely needs firmware, and a password in plain text is told.
#[test]
fn wifi_is_warned_about() {
    let folder = tempfile::tempdir().expect("folder");
    let file = interfaces(&["wlan0: {dhcp: true, wifi: {ssid: home, password: hunter22}}"]);
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0));
    snapshot("wifi-warnings", &text(&output.stderr));
}

/// A file with thousands of faults is answered with the first of them, and at once.
#[test]
fn nobody_reads_ten_thousand_faults() {
    let keys: String = (0..10_000).map(|at| format!("key{at}: 1\n")).collect();
    let (stderr, status) = check(format!("{HEAD}{USER}{NODE}{keys}").as_bytes());
    assert_eq!(status, Some(1));
    assert_eq!(stderr.matches("has no key").count(), 100);
    assert!(stderr.contains("and 9900 more, which `--json` lists\n\nerror: 10000 errors in cluster.yaml"));
}

#[test]
fn bytes_that_are_not_text() {
    let (stderr, status) = check(b"apiVersion: kiln/v1\nname: \xff\xfe\n");
    assert_eq!(status, Some(1));
    snapshot("not-utf-8", &stderr);
}

#[test]
fn an_overlay_of_ones_own() {
    let folder = tempfile::tempdir().expect("folder");
    let file = format!("{HEAD}{USER}{NODE}overlays: [./mine, ./bad, ./none]\n");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    for (name, document) in
        [("mine", Some("packages: [tmux]\n")), ("bad", Some("packges: [tmux]\n")), ("none", None)]
    {
        std::fs::create_dir(folder.path().join(name)).expect("made");
        if let Some(document) = document {
            std::fs::write(folder.path().join(name).join("overlay.yaml"), document).expect("written");
        }
    }
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    snapshot("own-overlay", &text(&output.stderr));
}

#[test]
fn json_lists_all_faults() {
    let folder = tempfile::tempdir().expect("folder");
    let file = format!("{HEAD}{USER}nodes:\n  - name: Node\n    rol: agent\n    sector_size: 7\n");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let faults: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let codes: Vec<_> =
        faults.as_array().expect("a list").iter().map(|fault| fault["code"].as_str()).collect();
    assert_eq!(codes, [Some("host-name"), Some("unknown-key"), Some("sector-size")]);
    let keys = ["file", "line", "column", "severity", "code", "message", "help"];
    assert!(keys.iter().all(|key| faults[0].get(key).is_some()), "{faults}");
    assert_eq!((&faults[1]["line"], &faults[1]["column"]), (&6.into(), &5.into()));
}

/// What the user asked for is no warning, and not told with `--quiet`.
#[test]
fn a_note_is_no_fault() {
    let folder = tempfile::tempdir().expect("folder");
    let (_, file) = bad_files::all().into_iter().find(|(name, _)| *name == "iscsi-thin").expect("the case");
    std::fs::write(folder.path().join("cluster.yaml"), file).expect("written");
    let output = kiln(folder.path(), &["check", "--quiet"]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        text(&output.stdout),
        "no fault and 1 note in cluster.yaml: cluster home with server, user, other\n"
    );
    let output = kiln(folder.path(), &["check", "--json"]);
    let faults: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&faults[0]["severity"], &faults[0]["code"]), (&"note".into(), &"iscsi-thin".into()));
}

#[test]
fn a_terminal_that_can_more_gets_more() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("cluster.yaml"), format!("{HEAD}{USER}nodes: []\n")).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(["check", "--color", "always"]).current_dir(folder.path());
    let output = command.env_clear().env("LANG", "C.UTF-8").output().expect("kiln ran");
    let stderr = text(&output.stderr);
    assert!(stderr.contains('\u{1b}') && stderr.contains('╭'), "{stderr}");
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let output = kiln(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: there is no cluster.yaml here: name the file with `-f`, or let `kiln init` write one\n"
    );
    let output = kiln(folder.path(), &["check", "-f", "other.yaml"]);
    assert_eq!(
        text(&output.stderr),
        "error: cannot read other.yaml\n  because No such file or directory (os error 2)\n"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// Any bytes end in a cluster or in faults that can be drawn.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        survive(&bytes);
    }

    /// And so do bytes that are nearly a cluster file.
    #[test]
    fn nearly_right_files_are_survived(
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..24),
    ) {
        survive(format!("{HEAD}{}", parts.concat()).as_bytes());
        survive(parts.concat().as_bytes());
    }
}

const PARTS: &[&str] = &[
    "nodes:",
    "\n",
    "  ",
    "- ",
    "name: ",
    "node-1",
    "é😀",
    "\u{2028}",
    "\u{feff}",
    "\t",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "# x",
    "---\n",
    "...\n",
    "? ",
    "<<: ",
    "null",
    "~",
    "0x",
    "1e9",
    "users: ",
    "ssh_keys: ",
    "password_hash: x",
    "base: ",
    "root_size: ",
    "99999999999999999999TiB",
    "mirrors: ",
    "artefacts: ",
    "http://",
    "network: ",
    "address: ",
    "10.0.0.1/0",
    "::/128",
    "PRIVATE KEY",
    "-----END",
    "overlays: ",
    "disks: ",
    "data: ",
    "match: {",
    "use: mount",
    "mount_point: /",
    "count: 9",
    "min_size: ",
    "./",
    "\r\n",
    "\0",
];

fn survive(bytes: &[u8]) {
    let Err(kiln::cluster::Error::Faults(report)) =
        kiln::cluster::parse(bytes, Path::new("x.yaml"), Path::new("/nonexistent"))
    else {
        return;
    };
    assert!(report.has_errors());
    let plain = report.render(&kiln::diag::Style::default());
    assert!(plain.contains("x.yaml:"), "no place in {plain}");
    report.render(&kiln::diag::Style { colour: true, unicode: true, width: 40 });
    kiln::diag::json([&report]);
}
