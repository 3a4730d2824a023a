//! A user's own overlay with a file for each entry of a list.

use crate::rendering::PLAIN;
use kiln::render::{File, Vault, files};
use std::fs;
use std::sync::Arc;

/// The files of a node with an overlay that makes one for each of `names`, a list in YAML.
fn made(seed: &str, names: &str) -> Result<Vec<File>, String> {
    let folder = tempfile::tempdir().expect("folder");
    let own = folder.path().join("own");
    fs::create_dir_all(own.join("seed")).expect("made");
    let names_setting = "names: { type: list, items: { type: any } }, key: { type: secret }";
    let document = format!("settings: {{ {names_setting} }}\nseed: [{seed}]\n");
    fs::write(own.join("overlay.yaml"), document).expect("written");
    fs::write(own.join("seed/each.j2"), "{{ item }}{% if item == 'b' %}{{ overlay.key }}{% endif %}\n")
        .expect("written");
    let path = folder.path().join("cluster.yaml");
    let text = format!(
        "{{apiVersion: kiln/v1, cluster: {{name: own}}, nodes: [{{name: node}}], \
         overlays: [{{name: ./own, names: {names}, key: {{secret: k}}}}]}}"
    );
    fs::write(&path, text).expect("written");
    let cluster = crate::rendering::load(&path);
    let vault: Arc<dyn Vault> = Arc::new(PLAIN);
    files(&cluster, &cluster.nodes[0], &vault).map_err(|error| error.to_string())
}

const EACH: &str =
    r#"{ path: "/etc/own/{{ item }}.conf", each: overlay.names, when: item != "c", template: seed/each.j2 }"#;

#[test]
fn there_is_a_file_for_each() {
    let files = made(EACH, "[a, b, c, d]").expect("files");
    let seen: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.mode, file.text.as_str())).collect();
    let expected = [
        ("/etc/own/a.conf", 0o644, "a\n"),
        // The secret is in this one only.
        ("/etc/own/b.conf", 0o600, "b<<the secret k>>\n"),
        ("/etc/own/d.conf", 0o644, "d\n"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(made(EACH, "[]"), Ok(Vec::new()));
}

/// A secret that becomes part of an entry is one in the entry's file, too, and never a name.
#[test]
fn what_is_made_of_a_secret_is_secret() {
    let each = r#"{ path: "/etc/own/{{ loop_name }}", each: "[overlay.key ~ '!']", template: seed/each.j2 }"#;
    let each = each.replace("{{ loop_name }}", "{{ 'x' }}");
    let files = made(&each, "[]").expect("files");
    assert_eq!((files[0].mode, files[0].secret), (0o600, true));
    assert_eq!(files[0].text, "<<the secret k>>!\n");
    let error =
        made(r#"{ path: "/etc/own/{{ overlay.key }}", each: overlay.names, template: seed/each.j2 }"#, "[a]");
    assert!(error.expect_err("refused").contains("prints a secret"));
}

/// What an entry is called never leads to another folder.
#[test]
fn an_entry_stays_in_its_folder() {
    for name in ["a/b", "../b", "/etc/shadow"] {
        let error = made(EACH, &format!("[{name}]")).expect_err(name);
        let expected = format!(
            "the template /etc/own/{{{{ item }}}}.conf of the overlay own: \"/etc/own/{name}.conf\" is not the path of a file there"
        );
        assert_eq!(error, expected);
    }
    assert!(made(EACH, r#"["a\nb"]"#).is_err());
    let folder = EACH.replace(".conf", "");
    assert!(made(&folder, "[..]").is_err() && made(&folder, "['']").is_err());
}

#[test]
fn what_is_no_list_is_refused() {
    let error =
        made(EACH, "[a]").and_then(|_| made(&EACH.replace("overlay.names", "overlay.names | length"), "[a]"));
    let expected =
        "the template `each` of /etc/own/{{ item }}.conf of the overlay own: what it asks for is not a list";
    assert_eq!(error, Err(expected.to_owned()));
}
