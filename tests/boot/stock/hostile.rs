//! Values that people type and that formats trip over, on every way by which text gets to a node; and what came of them.

use crate::cable::write;
use crate::ssh::{With, ask};
use crate::user::fed;
use kiln_tests::{debian_python, said, succeed, tool};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

/// One line with what YAML, JSON, shells, jinja, printf, mail and crypt take for theirs.
pub(super) const WORD: &str = r#"a  'q' "d" # {{ x }} {% y %} {# z #} %s %% \n \ $HOME ${x} `id` $(id) - [*] !t &a *b | > @c ~ =20 é 漢 🦀 :"#;
/// A name of a file.
const NAME: &str = r#"n 'q' "d" # {x} %s \n $HOME é 🦀:"#;
/// A password that the second user has.
pub(super) const PASSWORD: &str = r#"p'q"d #{{ x }}%s\n$HOME `id` é 漢"#;
/// Where Kiln and cloud-init put what is the test's.
const PLACE: &str = "/etc/probe";

/// Several lines, with what readers trim, join or normalise.
fn lines() -> String {
    format!("{WORD}\n\n\tleft by a tab\n  two blanks: right  \n---\n# {WORD}\n'''\n\"\"\"\nEOF\r\n{WORD}\n")
}

/// 4 KiB of lines to the byte.
fn long() -> String {
    let mut text = String::new();
    while text.len() + lines().len() < 4095 {
        text += &lines();
    }
    text += &"x".repeat(4095 - text.len());
    text + "\n"
}

/// The settings that the cluster file gives the overlay.
pub(super) fn settings() -> Value {
    json!({
        "name": "./mine", "text": long(), "word": WORD, "password": {"secret": "hostile"},
        "notes": [{"name": NAME, "text": long()}, {"name": "short", "text": lines()}],
    })
}

/// The value of the secret `hostile`.
pub(super) fn secret() -> String {
    long()
}

/// The overlay, and the user's own files for cloud-init, in this folder. The artefact is the web server's at that port.
pub(super) fn write_files(top: &Path, port: u16) {
    let mine = top.join("mine");
    let files = mine.join("files");
    for folder in ["seed/etc/probe", "files/etc/probe", "files/usr/lib/kiln", "files/usr/lib/systemd/system"]
    {
        fs::create_dir_all(mine.join(folder)).unwrap();
    }
    // Where k3s would be fetched to: the join is another test's.
    fs::create_dir_all(files.join("usr/bin")).unwrap();
    program(&files.join("usr/bin/k3s"), "#!/bin/sh\nexec sleep infinity\n");
    let overlay = json!({
        "modules": ["dummy"],
        "enable": ["probe.service"],
        "settings": {
            "text": {"type": "text", "required": true},
            "word": {"type": "text", "required": true},
            "password": {"type": "secret", "required": true},
            "notes": {"type": "list", "items": {"type": "object", "fields": {"name": {"type": "text"}, "text": {"type": "text"}}}},
        },
        "artefacts": [{
            "name": "probe", "url": format!("http://192.168.86.2:{port}/artefacts/probe.tar"),
            "sums": "https://files.invalid/sums", "member": "bin/probe", "path": "/usr/bin/probe",
        }],
        "seed": [
            {"path": "/etc/probe/text.yaml", "mode": "0640"},
            {"path": "/etc/probe/text.env"},
            {"path": "/etc/probe/secret", "template": "seed/secret.j2"},
            {"path": "/etc/probe/{{ item.name }}.txt", "each": "overlay.notes", "template": "seed/note.j2"},
        ],
    });
    write(&mine.join("overlay.yaml"), &overlay.to_string());
    write(&mine.join("seed/etc/probe/text.yaml.j2"), "text: {{ overlay.text }}\nw: [{{ overlay.word }}]\n");
    write(&mine.join("seed/etc/probe/text.env.j2"), "TEXT={{ overlay.text }}\nWORD={{ overlay.word }}\n");
    write(&mine.join("seed/secret.j2"), "{{ overlay.password | verbatim }}");
    write(&mine.join("seed/note.j2"), "{{ item.text | verbatim }}");
    write(&files.join("etc/probe/literal"), &long());
    fs::write(files.join("etc/probe/bytes"), bytes()).unwrap();
    let link = files.join("etc/probe/link");
    let _ = fs::remove_file(&link);
    symlink(NAME, link).unwrap();
    program(&files.join("usr/lib/kiln/probe-said"), &said_program());
    write(
        &files.join("usr/lib/systemd/system/probe.service"),
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/probe\n[Install]\nWantedBy=multi-user.target\n",
    );
    let own = json!({"write_files": [
        {"path": format!("/var/lib/probe/{NAME}"), "permissions": "0604", "owner": "ops:ops", "defer": true, "content": long()},
        {"path": "/etc/apt/sources.list.d/probe.list", "content": format!("deb [trusted=yes] http://192.168.86.2:{port}/archive ./\n")},
    ]});
    write(&top.join("own.yaml"), &format!("#cloud-config\n{own}\n"));
    write(
        &top.join("own.sh"),
        &format!("#!/bin/sh\ncat > /var/lib/probe/script <<'STOP'\n{}STOP\n", long().replace('\r', "")),
    );
}

fn said_program() -> String {
    format!("#!/bin/sh\nexit 0\n{}", long())
}

fn bytes() -> Vec<u8> {
    (0..=u8::MAX).cycle().take(1000).collect()
}

/// A program; the executable bit is what an overlay keeps of its mode.
pub(super) fn program(path: &Path, text: &str) {
    write(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What came to the node behind that port: every file, its mode and its owner, and the user with the password.
pub(super) fn unchanged(port: u16, key: &Path) {
    let answer = |command: &str| {
        let output = ask(port, &With::Key(key), command);
        assert!(output.status.success(), "{command}: {}", said(&output));
        output.stdout
    };
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("probe.tar");
    fs::write(&archive, answer("sudo -n tar -C / -cf - etc/probe var/lib/probe usr/lib/kiln/probe-said"))
        .unwrap();
    succeed(
        tool("tar", "tar")
            .args(["--same-owner", "--numeric-owner", "-p", "-C"])
            .arg(folder.path())
            .arg("-xf")
            .arg(&archive),
    );
    let ops = String::from_utf8(answer("id -u")).unwrap().trim().parse::<u32>().unwrap();
    let at = |path: &str| folder.path().join(path.trim_start_matches('/'));
    let place = |name: &str| format!("{PLACE}/{name}");
    for (path, bytes, mode, owner) in [
        (place("literal"), long().into_bytes(), 0o644, 0),
        (place("bytes"), bytes(), 0o644, 0),
        ("/usr/lib/kiln/probe-said".to_owned(), said_program().into_bytes(), 0o755, 0),
        (place("secret"), secret().into_bytes(), 0o600, 0),
        (place(&format!("{NAME}.txt")), long().into_bytes(), 0o644, 0),
        (place("short.txt"), lines().into_bytes(), 0o644, 0),
        (format!("/var/lib/probe/{NAME}"), long().into_bytes(), 0o604, ops),
        ("/var/lib/probe/script".to_owned(), long().replace('\r', "").into_bytes(), 0o644, 0),
    ] {
        let file = at(&path);
        let came = fs::read(&file).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(String::from_utf8_lossy(&came), String::from_utf8_lossy(&bytes), "{path}");
        assert_eq!(came, bytes, "{path}");
        let meta = fs::metadata(&file).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (mode, owner), "{path}");
    }
    assert_eq!(fs::read_link(at(&place("link"))).unwrap(), Path::new(NAME));
    assert_eq!(fs::metadata(at(&place("text.yaml"))).unwrap().mode() & 0o7777, 0o640);
    // Others read the quoted ones: PyYAML, and a shell.
    let python =
        "import sys, yaml; d = yaml.safe_load(open(sys.argv[1])); sys.stdout.write(d['text'] + d['w'][0])";
    let read = succeed(debian_python("python3-yaml").args(["-c", python]).arg(at(&place("text.yaml"))));
    assert_eq!(read, long() + WORD);
    let mut shell = Command::new("sh");
    shell.args(["-c", ". \"$1\"; printf %s \"$TEXT$WORD\"", "sh"]).arg(at(&place("text.env")));
    assert_eq!(succeed(&mut shell), long() + WORD);

    let keys = String::from_utf8(answer("cat ~/.ssh/authorized_keys")).unwrap();
    assert_eq!(keys.trim_end_matches('\n'), public_key(key));
    let su = |password: &str| {
        let word = format!("'{}'", password.replace('\'', r"'\''"));
        ask(port, &With::Key(key), &format!("printf '%s\\n' {word} | su hashed -c 'id -un'"))
    };
    let right = su(PASSWORD);
    assert_eq!(String::from_utf8_lossy(&right.stdout), "hashed\n", "{}", said(&right));
    let wrong = su("p");
    assert!(!wrong.status.success(), "{}", said(&wrong));
}

/// The line that lets the key in, with a comment of the user's.
pub(super) fn public_key(key: &Path) -> String {
    let line = fs::read_to_string(key.with_extension("pub")).unwrap();
    let words: Vec<&str> = line.split_whitespace().take(2).collect();
    format!("{} {WORD}", words.join(" "))
}

/// A crypt(5) hash of [`PASSWORD`], always the same.
pub(super) fn password_hash() -> String {
    let mut openssl = tool("openssl", "openssl");
    openssl.args(["passwd", "-6", "-salt", "kilnkiln", "-stdin"]);
    String::from_utf8(fed(&mut openssl, &format!("{PASSWORD}\n")).stdout).unwrap().trim().to_owned()
}
