//! Equal inputs, equal bytes: whatever the folder, the time, the user and the number of threads.

use kiln_tests::{binary, example, kiln, root_or_skip, said, shared, succeed, tool};
use std::fs;
use std::path::{Path, PathBuf};

/// Every built file below `dist` with its digest; what is beside the images for the next build is left out.
pub(crate) fn digests(dist: &Path) -> Vec<String> {
    let script = "find . -path ./.kiln -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let said = succeed(tool("sh", "dash").arg("-c").arg(script).current_dir(dist));
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    assert!(lines.len() >= 11, "two nodes have eleven files: {lines:?}");
    lines
}

/// A folder with the example's lock, and another cache that holds the same packages.
fn elsewhere(name: &str) -> (PathBuf, PathBuf) {
    let folder = shared().join(name);
    let _ = fs::remove_dir_all(&folder);
    let cache = folder.join("cache/kiln");
    fs::create_dir_all(&cache).unwrap();
    example();
    fs::copy(shared().join("example/kiln.lock"), folder.join("kiln.lock")).unwrap();
    succeed(
        tool("cp", "coreutils").arg("-a").arg(shared().join("cache/kiln/sha256")).arg(cache.join("sha256")),
    );
    (folder.clone(), folder.join("cache"))
}

#[test]
fn another_folder_and_one_thread_make_the_same_bytes() {
    let (folder, cache) = elsewhere("a folder with spaces and ü");
    let shelf = cache.join("kiln/blobs");
    let old = shelf.join("ab/abcdef");
    fs::create_dir_all(old.parent().unwrap()).unwrap();
    fs::write(&old, vec![1; 3 << 20]).unwrap();
    succeed(tool("touch", "coreutils").args(["-d", "2020-01-01"]).arg(&old));
    let mut command = kiln();
    command.env("XDG_CACHE_HOME", cache).env("KILN_CACHE_LIMIT", "1MiB");
    command.args(["build", "-v", "--fresh", "--threads", "1", "-o", "other"]);
    let output = command.current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(digests(&folder.join("other")), digests(example()));
    // What earlier builds left made way; what this one made is too much for the limit, and stays.
    let words = "cache: removed 3.0 MiB that were unused for longest, ";
    assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{}", said(&output));
    assert!(!old.exists());
    let listed = succeed(tool("find", "findutils").arg(&shelf).args(["-type", "f"]));
    assert!(listed.lines().count() > 2, "{listed}");
    fs::remove_dir_all(folder).unwrap();
}

/// As a user without privileges, in an empty environment, without a network.
#[test]
fn another_user_without_network_makes_the_same_bytes() {
    if !root_or_skip("a build as another user, without network and environment") {
        return;
    }
    let (folder, _) = elsewhere("unprivileged");
    // The shared folder may be below a home that only its owner can enter.
    let place = std::env::temp_dir().join(format!("kiln-unprivileged-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    succeed(tool("cp", "coreutils").arg("-a").arg(&folder).arg(place.join("site")));
    fs::copy(binary(), place.join("kiln")).unwrap();
    succeed(tool("chown", "coreutils").args(["-R", "65534:65534"]).arg(&place));
    let (site, cache) = (place.join("site"), place.join("site/cache"));
    let mut command = tool("unshare", "util-linux");
    command.args([
        "--net",
        "--",
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
    ]);
    command.args(["env", "-i"]).arg(format!("XDG_CACHE_HOME={}", cache.display()));
    command.arg(place.join("kiln")).args(["build", "--threads", "2"]).current_dir(&site);
    succeed(&mut command);
    assert_eq!(digests(&site.join("dist")), digests(example()));
    fs::remove_dir_all(place).unwrap();
    fs::remove_dir_all(folder).unwrap();
}
