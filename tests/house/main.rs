//! The rules of the house, made executable: which way imports go, where `unsafe` may stand, what no file
//! may say. See `docs/architecture.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "target" || name == ".git" || name == "dist" {
            continue;
        }
        if path.is_dir() {
            files(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&top().join(below), ".rs", &mut found);
    found.sort();
    assert!(!found.is_empty(), "no source below {below}: has the folder moved?");
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The members that a member may name as a normal or build dependency.
const MEMBERS: &[(&str, &[&str])] = &[
    ("builder/formats", &[]),
    ("firmware/contract", &[]),
    ("qemu", &[]),
    ("firmware/firstboot", &["kiln-contract", "kiln-formats"]),
    ("builder", &["kiln-contract", "kiln-formats", "kiln-qemu"]),
    ("tests", &["kiln", "kiln-contract", "kiln-formats", "kiln-qemu"]),
];

#[test]
fn members_depend_one_way() {
    for (member, allowed) in MEMBERS {
        let manifest = fs::read_to_string(top().join(member).join("Cargo.toml")).unwrap();
        let normal = manifest.split("[dev-dependencies]").next().unwrap();
        let dependencies = normal.split("[dependencies]").nth(1).unwrap_or_default();
        for line in dependencies.lines() {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if name == "kiln" || name.starts_with("kiln-") {
                assert!(allowed.contains(&name), "{member} may not depend on {name}");
            }
        }
    }
}

/// The storeys of `builder/src`, from the top. A module imports from storeys below its own only.
const STOREYS: &[&[&str]] = &[
    &["main", "lib"],
    &["cli"],
    &["verbs"],
    &["execute"],
    &["plan"],
    &["fetch", "archive", "rootfs", "render", "boot", "image"],
    &["lock", "cache", "secrets"],
    &["cluster"],
    &["diag", "digest", "progress"],
];

fn storey(module: &str) -> usize {
    let known = STOREYS.iter().position(|modules| modules.contains(&module));
    known.unwrap_or_else(|| panic!("builder/src/{module} has no storey: give it one in tests/house and docs"))
}

#[test]
fn builder_modules_import_downwards() {
    let root = top().join("builder/src");
    for (path, text) in sources("builder/src") {
        let inner = path.strip_prefix(&root).unwrap();
        let first = inner.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let from = first.trim_end_matches(".rs").to_owned();
        if from == "lib" || from == "main" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for part in code.split("crate::").skip(1) {
                let to: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if to.is_empty()
                    || to == from
                    || !root.join(&to).exists() && !root.join(format!("{to}.rs")).exists()
                {
                    continue;
                }
                let place = format!("{}:{}", path.display(), number + 1);
                assert!(storey(&to) > storey(&from), "{place}: {from} may not import {to}");
            }
        }
    }
}

#[test]
fn unsafe_has_one_room() {
    for member in ["builder", "firmware", "qemu", "tests"] {
        for (path, text) in sources(member) {
            if path.ends_with("firmware/firstboot/src/sys.rs") {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
                let quoted = code.contains('"');
                let found = words.contains("unsafe") && !quoted;
                assert!(!found, "{}:{}: unsafe belongs in firstboot's sys.rs", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn no_junk_rooms_and_no_globs() {
    for member in ["builder", "firmware", "qemu", "tests"] {
        for (path, text) in sources(member) {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let parent = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            for junk in ["util", "utils", "common", "helpers", "misc"] {
                assert!(stem != junk && parent != junk, "{}: give it a name that tells", path.display());
            }
            for (number, line) in text.lines().enumerate() {
                let glob = line.trim_start().starts_with("use ") && line.contains("::*");
                let prelude = line.contains("prelude::*");
                assert!(!glob || prelude, "{}:{}: a glob import", path.display(), number + 1);
            }
        }
    }
}

/// Addresses that must come from the user, the environment or the host, never from the source.
#[test]
fn no_private_address_or_path() {
    let host = ["deb", "debian", "org"].join(".");
    // The folder that this is built in says where somebody works.
    let here = top().display().to_string();
    let mut all = Vec::new();
    for ending in [".rs", ".toml", ".md", ".yaml", ".yml", ".j2", ".snap", "run"] {
        files(&top(), ending, &mut all);
    }
    for path in all {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        assert!(!text.contains(&host), "{} names the host's own mirror", path.display());
        assert!(here.len() < 4 || !text.contains(&format!("{here}/")), "{} names {here}", path.display());
    }
}

/// The top level is what the plan of the house says, and nothing that a build left behind is tracked.
#[test]
fn the_top_level_is_as_named() {
    let listed =
        kiln_tests::succeed(kiln_tests::tool("git", "git").args(["ls-files", "-z"]).current_dir(top()));
    let tracked: Vec<&str> = listed.split('\0').filter(|path| !path.is_empty()).collect();
    assert!(tracked.len() > 100, "git lists {} files only", tracked.len());
    let tops: BTreeSet<&str> = tracked.iter().filter_map(|path| path.split('/').next()).collect();
    let named = [
        ".ci",
        ".github",
        ".gitignore",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "builder",
        "clippy.toml",
        "deny.toml",
        "docs",
        "firmware",
        "overlays",
        "qemu",
        "rustfmt.toml",
        "templates",
        "tests",
    ];
    for name in tops {
        assert!(named.contains(&name), "{name} has no place at the top level");
    }
    for path in tracked {
        let size = fs::symlink_metadata(top().join(path)).map_or(0, |meta| meta.len());
        assert!(size < 256 << 10, "{path} has {size} bytes: is it somebody's binary?");
    }
}
