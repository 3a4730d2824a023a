//! What other users of the machine that builds can see of it.

use super::lab;
use super::lab::needle;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Arguments and environments of every process that there is, as far as this user may look.
fn look(seen: &mut BTreeSet<Vec<u8>>) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            // Most entries are no processes, and processes end.
            if let Ok(bytes) = fs::read(entry.path().join(file)) {
                seen.insert(bytes);
            }
        }
    }
}

/// Runs a command to its end; what could be seen of all processes meanwhile.
fn watched(command: &mut Command, input: &str) -> BTreeSet<Vec<u8>> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let own = format!("/proc/{}/cmdline", child.id());
    let mut seen = BTreeSet::new();
    look(&mut seen);
    let arguments = fs::read(own).unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    while child.try_wait().unwrap().is_none() {
        look(&mut seen);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success(), "{command:?}");
    assert!(seen.contains(&arguments), "{command:?} was not seen");
    seen
}

/// While secrets are made, set, put into seeds and built into images, nobody sees one in a process list.
#[test]
fn no_process_of_the_builder_is_told_a_secret() {
    let built = lab();
    let folder = tempfile::tempdir_in(kiln_tests::shared()).unwrap();
    for name in ["cluster.yaml", "kiln.lock"] {
        fs::copy(built.top.join(name), folder.path().join(name)).unwrap();
    }
    for name in ["lab", "artefacts"] {
        std::os::unix::fs::symlink(built.top.join(name), folder.path().join(name)).unwrap();
    }
    fs::copy(&built.key, folder.path().join("identity")).unwrap();
    let fresh = lab::Lab { top: folder.path().to_owned(), key: built.key.clone() };

    let value = "a value that nobody may see";
    let mut seen = BTreeSet::new();
    for (words, input) in [
        (&["secrets", "init"][..], ""),
        (&["secrets", "set", "restic"], value),
        (&["secrets", "list"], ""),
        (&["seed", "-o", "seeds"], ""),
        (&["seed", "-o", "stock", "--for", "stock"], ""),
        (&["build", "-o", "dist"], ""),
    ] {
        seen.append(&mut watched(fresh.kiln().args(words), input));
    }
    let secrets = fresh.secrets();
    assert!(secrets.iter().any(|secret| secret == value));
    for secret in &secrets {
        let needle = needle(secret).as_bytes();
        assert!(
            !seen.iter().any(|bytes| bytes.windows(needle.len()).any(|part| part == needle)),
            "a process was told a secret"
        );
    }
}
