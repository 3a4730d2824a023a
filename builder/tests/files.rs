//! The files that Kiln brings or writes, and the schema that editors hold them to.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

fn kiln(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
    command.args(args).current_dir(folder).env_clear().env("HOME", folder).env("USER", "anna");
    command.output().expect("kiln ran")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 anna: #1";

#[test]
fn init_takes_the_users_keys_and_never_overwrites() {
    let folder = tempfile::tempdir().expect("folder");
    let ssh = folder.path().join(".ssh");
    std::fs::create_dir(&ssh).expect("made");
    std::fs::write(ssh.join("id_ed25519.pub"), format!("{KEY}\n")).expect("written");
    std::fs::write(ssh.join("broken.pub"), "nothing\n").expect("written");
    let output = kiln(folder.path(), &["init", "site"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("`anna` may log in with the key of ") && said.contains("id_ed25519.pub"), "{said}");
    assert!(!said.contains("broken"), "{said}");

    let path = folder.path().join("site/cluster.yaml");
    let loaded = kiln::cluster::load(&path).expect("sound");
    assert!(loaded.warnings.faults().is_empty());
    assert_eq!(loaded.cluster.nodes[0].users[0].ssh_keys, [KEY]);

    let before = std::fs::read(&path).expect("read");
    let again = kiln(folder.path(), &["init", "site"]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(
        text(&again.stderr),
        "error: site/cluster.yaml is there already and stays as it is: name another folder, or move it away\n"
    );
    assert_eq!(std::fs::read(&path).expect("read"), before);
}

#[test]
fn init_without_keys_warns_and_check_takes_the_file() {
    let folder = tempfile::tempdir().expect("folder");
    let output = kiln(folder.path(), &["init"]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("warning: no public key in ~/.ssh"), "{}", text(&output.stderr));
    let output = kiln(folder.path(), &["check"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "1 warning in cluster.yaml: cluster home with node-1\n");
}

/// Every key of the schema has its words in the starter file, and a description.
#[test]
fn the_starter_file_explains_every_key() {
    let folder = tempfile::tempdir().expect("folder");
    kiln(folder.path(), &["init"]);
    let starter = std::fs::read_to_string(folder.path().join("cluster.yaml")).expect("read");
    let schema = serde_json::to_value(kiln::cluster::file::schema()).expect("JSON");
    let definitions = schema["$defs"].as_object().expect("definitions").values().chain([&schema]);
    let mut seen = 0;
    for definition in definitions {
        let Some(properties) = definition.get("properties").and_then(|value| value.as_object()) else {
            continue;
        };
        assert_eq!(definition["additionalProperties"], false, "{definition}");
        for (key, property) in properties {
            assert!(starter.contains(&format!("{key}:")), "{key} is not in the starter file");
            assert!(property.get("description").is_some(), "{key} has no description");
            seen += 1;
        }
    }
    assert!(seen > 35, "only {seen} keys");
}

/// What the starter file shows of disks is a sound section once it is no comment any more.
#[test]
fn the_disks_of_the_starter_file_are_sound() {
    let folder = tempfile::tempdir().expect("folder");
    kiln(folder.path(), &["init"]);
    let starter = std::fs::read_to_string(folder.path().join("cluster.yaml")).expect("read");
    let (before, rest) = starter.split_once("\n# disks:\n").expect("the section");
    let (section, after) = rest.split_once("\n\n# What memory").expect("its end");
    let section: String =
        section.lines().map(|line| format!("{}\n", line.strip_prefix("# ").expect("a comment"))).collect();
    let path = folder.path().join("cluster.yaml");
    // The words that its comment lists, too.
    let words = section.lines().filter_map(|line| line.trim_start().strip_prefix("#   "));
    let words: String = words.map(|word| format!("        {word}\n")).collect();
    assert_eq!(words.lines().count(), 10);
    let few = "{ model: Samsung SSD 870*, min_size: 400GB, max_size: 600GB }";
    assert!(section.contains(few));
    for section in [section.clone(), section.replace(few, &format!("\n{words}"))] {
        std::fs::write(&path, format!("{before}\ndisks:\n{section}\n# What memory{after}")).expect("written");
        let disks = match kiln::cluster::load(&path) {
            Ok(loaded) => loaded.cluster.nodes[0].disks.clone(),
            Err(error) => panic!("{error:?}"),
        };
        assert_eq!((disks.slots().count(), disks.erase.len(), disks.swap), (3, 1, Some(4 << 30)));
    }
}

#[test]
fn the_example_is_sound_and_is_what_it_says() {
    let loaded = kiln::cluster::example().expect("sound");
    assert!(loaded.warnings.faults().is_empty());
    let cluster = loaded.cluster;
    let packages = cluster.packages(&cluster.nodes[0]);
    for package in ["htop", "open-iscsi", "nfs-common", "cryptsetup-bin", "dmsetup", "sudo"] {
        assert!(packages.contains(package), "{package}");
    }
    let modules: BTreeSet<_> =
        cluster.nodes[0].overlays.iter().flat_map(|overlay| &overlay.modules).collect();
    assert_eq!(modules.into_iter().collect::<Vec<_>>(), ["dm_crypt", "iscsi_tcp", "nfs"]);
    assert_eq!(packages, cluster.packages(&cluster.nodes[1]));
}

/// What looks at a thin pool before it is used is where there is one, and nowhere else.
#[test]
fn thin_luns_bring_their_package() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("cluster.yaml");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 example@kiln";
    for (word, brought) in [("thin: true", true), ("thin: false", false), ("port: 3260", false)] {
        let text = format!(
            "apiVersion: kiln/v1\ncluster: {{name: home}}\noverlays: [iscsi-target]\n\
             users: [{{name: ops, ssh_keys: [{key}]}}]\nnodes:\n- name: store\n  \
             disks: {{data: [{{name: data, match: {{serial: a}}, use: lvm}}]}}\n  iscsi_target:\n    \
             volume_group: data\n    {word}\n    \
             luns: [{{name: one, size: 1GB, initiators: [\"iqn.2025-01.home:a.b\"]}}]\n"
        );
        std::fs::write(&path, text).expect("written");
        let cluster = match kiln::cluster::load(&path) {
            Ok(loaded) => loaded.cluster,
            Err(error) => panic!("{error:?}"),
        };
        let packages = cluster.packages(&cluster.nodes[0]);
        assert_eq!(packages.contains("thin-provisioning-tools"), brought, "{word}");
    }
}

#[test]
fn nodes_are_selected_by_name() {
    let cluster = kiln::cluster::example().expect("sound").cluster;
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let nodes = cluster.select(&names).map_err(|error| error.to_string())?;
        Ok::<_, String>(nodes.into_iter().map(|node| node.name.as_str()).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]), Ok(vec!["k3s1", "k3s2"]));
    assert_eq!(names(&["k3s2", "k3s1", "k3s2"]), Ok(vec!["k3s1", "k3s2"]));
    assert_eq!(
        names(&["k3s3"]),
        Err("the cluster has no node \"k3s3\": did you mean `k3s1`? its nodes are k3s1, k3s2".to_owned())
    );
}

/// Someone else's validator: python3-jsonschema. Skipped, aloud, where it isn't.
#[test]
fn the_schema_agrees_with_check() {
    let folder = tempfile::tempdir().expect("folder");
    let probe = Command::new("python3").args(["-c", "import jsonschema"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no jsonschema for python3 (Debian package python3-jsonschema)");
        return;
    }
    kiln(folder.path(), &["init"]);
    let starter = std::fs::read_to_string(folder.path().join("cluster.yaml")).expect("read");
    let head = "apiVersion: kiln/v1\ncluster: {name: home}\n";
    let cases = [
        (kiln::cluster::EXAMPLE.to_owned(), true),
        (starter, true),
        (
            format!("{head}nodes: [{{name: a, packages: null, sector_size: 4096, network: {{dhcp: true}}}}]"),
            true,
        ),
        (
            format!(
                "{head}nodes: [{{name: a}}]\nbase: {{firmware: [x-y], scripts: {{grub: skip}}, mirrors: [a, {{url: b}}]}}"
            ),
            true,
        ),
        (format!("{head}nodes: [{{name: a}}]\noverlays: [longhorn, {{name: longhorn}}]"), true),
        (format!("{head}nodes: []"), false),
        (format!("{head}nodes: [{{nam: a}}]"), false),
        (format!("{head}nodes: [{{name: a, role: master}}]"), false),
        (format!("{head}nodes: [{{name: A}}]"), false),
        (format!("{head}nodes: [{{name: a, sector_size: 7}}]"), false),
        (format!("{head}nodes: [{{name: a}}]\nbase: {{firmware: some}}"), false),
        (format!("{head}nodes: [{{name: a}}]\nbase: {{root_size: 5}}"), false),
        ("apiVersion: kiln/v2\ncluster: {name: home}\nnodes: [{name: a}]".to_owned(), false),
    ];
    let schema = folder.path().join("schema.json");
    std::fs::write(&schema, kiln(folder.path(), &["schema"]).stdout).expect("written");
    for (file, sound) in cases {
        let instance: serde_json::Value = serde_saphyr::from_str(&file).expect("YAML");
        let path = folder.path().join("instance.json");
        std::fs::write(&path, instance.to_string()).expect("written");
        let script = "import json,sys,jsonschema\ns=json.load(open(sys.argv[1]))\n\
            jsonschema.Draft202012Validator.check_schema(s)\njsonschema.Draft202012Validator(s).validate(json.load(open(sys.argv[2])))";
        let output = Command::new("python3")
            .args(["-c", script])
            .arg(&schema)
            .arg(&path)
            .output()
            .expect("python3 ran");
        assert_eq!(output.status.success(), sound, "{file}\n{}", text(&output.stderr));
    }
}

#[test]
fn completions_and_man_pages_know_every_verb() {
    let folder = tempfile::tempdir().expect("folder");
    let verbs = ["init", "check", "schema", "lock", "plan", "build", "inspect", "boot", "completions", "man"];
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&kiln(folder.path(), &["completions", shell]).stdout);
        assert!(verbs.iter().all(|verb| script.contains(verb)), "{shell}");
    }
    assert!(kiln(folder.path(), &["man", "pages"]).status.success());
    for verb in verbs {
        assert!(folder.path().join(format!("pages/kiln-{verb}.1")).is_file(), "{verb}");
    }
    assert!(folder.path().join("pages/kiln.1").is_file());
}
