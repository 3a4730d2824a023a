//! A user with a folder: an identity of age that is the run's SSH key, and artefacts where they are published.

use crate::nodes::{digest, key_pair};
use kiln_tests::{binary, die, kiln, said};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a release of k3s has for nodes without a way out.
const IMAGES: &str = "k3s-airgap-images-amd64.tar.zst";

/// The key pair of the user of a folder, which is made when it is not there; it opens the cluster's secrets, too.
pub(crate) fn identity(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let key = key_pair(folder, "key");
    let _ = fs::remove_file(folder.join("identity"));
    fs::copy(&key, folder.join("identity")).unwrap();
    key
}

/// `kiln` in that folder with its user's identity, and without anybody else's.
pub(crate) fn kiln_in(folder: &Path) -> Command {
    let mut command = kiln();
    command.current_dir(folder).env("HOME", folder).env("KILN_IDENTITY", folder.join("identity"));
    command
}

/// Runs a command that is given `input`; it must succeed. What it printed, its messages last.
pub(crate) fn done(command: &mut Command, input: &str) -> String {
    let output = fed(command, input);
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

/// The same, with what it printed apart from its messages.
pub(crate) fn fed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| die(&format!("{command:?}: {e}")));
    // Who needs nothing may have ended before it is there.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    output
}

/// Puts the stand-in for k3s into a folder of artefacts, as that release of k3s, with digests beside it.
pub(crate) fn publish_k3s(artefacts: &Path, version: &str) {
    let standin = binary().with_file_name("k3s-standin");
    if !standin.is_file() {
        die(&format!("{} is missing: run `cargo test --no-run --workspace` first", standin.display()));
    }
    publish(artefacts, version, (&standin, None));
}

/// Puts a k3s and its images into a folder of artefacts, as that release; without images some that nobody reads.
pub(crate) fn publish(artefacts: &Path, version: &str, (k3s, images): (&Path, Option<&Path>)) {
    let release = artefacts.join("k3s-io/k3s/releases/download").join(version);
    fs::create_dir_all(&release).unwrap();
    let copy = |from: &Path, name: &str| {
        fs::copy(from, release.join(name)).unwrap_or_else(|e| die(&format!("{}: {e}", from.display())))
    };
    copy(k3s, "k3s");
    match images {
        Some(images) => drop(copy(images, IMAGES)),
        None => fs::write(release.join(IMAGES), b"the images of nobody").unwrap(),
    }
    let sums = ["k3s", IMAGES].map(|name| format!("{}  {name}\n", digest(&release.join(name))));
    fs::write(release.join("sha256sum-amd64.txt"), sums.concat()).unwrap();
}
