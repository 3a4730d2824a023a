//! dpkg's database: what `dpkg -l`, `dpkg -V` and scanners read. Formats are those of dpkg's own files under
//! /var/lib/dpkg (deb-control(5), deb-triggers(5) and the admindir's layout).

use super::Error;
use super::formats::tree::{Kind, Path};
use super::root::{Package, Root};
use md5::{Digest, Md5};
use std::collections::BTreeMap;

const DB: &str = "var/lib/dpkg";

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    if !root.has("dpkg") && root.packages.is_empty() {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..root.packages.len()).collect();
    order.sort_by(|a, b| root.packages[*a].unpacked.name.cmp(&root.packages[*b].unpacked.name));
    let mut status = String::new();
    let mut files: Vec<(String, Vec<u8>, u16)> = vec![("info/format".to_owned(), b"1\n".to_vec(), 0o644)];
    let mut triggers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for at in order {
        let package = &root.packages[at];
        let info = package.info_name();
        status.push_str(&paragraph(package)?);
        files.push((format!("info/{info}.list"), list(package), 0o644));
        for (name, file) in &package.unpacked.control.files {
            if name != "control" {
                files.push((format!("info/{info}.{name}"), file.bytes.clone(), file.mode));
            }
        }
        interests(package, &info, &mut triggers);
    }
    for (name, mode) in [
        ("available", 0o644),
        ("diversions", 0o644),
        ("lock", 0o640),
        ("lock-frontend", 0o640),
        ("triggers/Lock", 0o600),
        ("triggers/Unincorp", 0o644),
    ] {
        files.push((name.to_owned(), Vec::new(), mode));
    }
    files.push(("status".to_owned(), status.into_bytes(), 0o644));
    files.push(("statoverride".to_owned(), root.overrides.concat().into_bytes(), 0o644));
    let architecture = format!("{}\n", root.options.architecture).into_bytes();
    files.push(("arch".to_owned(), architecture.clone(), 0o644));
    files.push(("arch-native".to_owned(), architecture, 0o644));
    files.extend(
        triggers
            .into_iter()
            .map(|(name, lines)| (format!("triggers/{name}"), lines.concat().into_bytes(), 0o644)),
    );
    for folder in ["alternatives", "info", "parts", "triggers", "updates"] {
        root.put_directory(&format!("{DB}/{folder}"), 0o755);
    }
    for (name, bytes, mode) in files {
        root.put_file(&format!("{DB}/{name}"), bytes, mode);
    }
    Ok(())
}

/// The order in which dpkg writes the fields that it knows; others follow in the package's own.
const FIELDS: [&str; 24] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
];

/// The paragraph of a package in `status`: its control file, Status and Conffiles added.
fn paragraph(package: &Package<'_>) -> Result<String, Error> {
    let conffiles = conffiles(package)?;
    let mut fields: Vec<(&str, &str)> = vec![("Status", "install ok installed"), ("Conffiles", &conffiles)];
    fields.extend(package.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    fields.retain(|(_, value)| !value.is_empty());
    let place = |name: &str| match name {
        "Description" => FIELDS.len(),
        name => FIELDS.iter().position(|field| *field == name).unwrap_or(FIELDS.len() + 1),
    };
    fields.sort_by_key(|(name, _)| place(name));
    let mut text = String::new();
    for (name, value) in fields {
        let space = if value.starts_with('\n') { "" } else { " " };
        text.push_str(&format!("{name}:{space}{value}\n"));
    }
    text.push('\n');
    Ok(text)
}

/// The Conffiles field: paths with the MD5 of what the package ships.
fn conffiles(package: &Package<'_>) -> Result<String, Error> {
    let Some(listed) = package.unpacked.control.text("conffiles") else { return Ok(String::new()) };
    let mut lines = String::new();
    for path in listed.lines().map(str::trim).filter(|path| path.starts_with('/')) {
        let Some(entry) = package.unpacked.tree.get(&path[1..]) else { continue };
        if let Kind::File(content) = &entry.kind {
            let bytes =
                content.read().map_err(|source| Error::Read { path: path[1..].to_owned(), source })?;
            lines.push_str(&format!("\n {path} {}", hex(&Md5::digest(bytes))));
        }
    }
    Ok(lines)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The paths of a package as dpkg lists them: absolute, directories too, `/.` for the root.
fn list(package: &Package<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    let line =
        |path: &Path| if path.is_empty() { b"/.\n".to_vec() } else { [b"/", &path[..], b"\n"].concat() };
    package.paths.iter().for_each(|path| text.extend(line(path)));
    text
}

/// What the package wants to be told of: files go to one list, names to files of their own.
fn interests(package: &Package<'_>, info: &str, triggers: &mut BTreeMap<String, Vec<String>>) {
    let Some(text) = package.unpacked.control.text("triggers") else { return };
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { continue };
        let suffix = match verb {
            "interest" | "interest-await" => "",
            "interest-noawait" => "/noawait",
            _ => continue,
        };
        if name.starts_with('/') {
            triggers.entry("File".to_owned()).or_default().push(format!("{name} {info}{suffix}\n"));
        } else {
            triggers.entry(name.to_owned()).or_default().push(format!("{info}{suffix}\n"));
        }
    }
}
