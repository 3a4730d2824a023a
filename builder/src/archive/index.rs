//! Package indices: what the resolver and the lock need of every stanza of a `Packages` file, borrowed from
//! its text (a Debian suite has some 70,000 stanzas).

use super::control::{Stanza, stanzas};
use super::relation::is_name;
use super::version::Version;

/// `Multi-Arch` of a package (deb-control(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MultiArch {
    /// Not said, or `no`.
    #[default]
    No,
    /// Satisfies dependencies of every architecture.
    Foreign,
    /// May be installed beside itself for another architecture.
    Same,
    /// A dependency on `name:any` takes it from any architecture.
    Allowed,
}

/// `Priority` of a package (Policy §2.5), the more important the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Without it the system breaks.
    Required,
    /// What one expects of a Unix.
    Important,
    /// A character-mode system.
    Standard,
    /// The rest, and what is not known.
    #[default]
    Optional,
}

/// A package of an index. Relationships are text as yet: most packages are never looked at.
#[derive(Debug, Clone)]
pub struct Package<'a> {
    /// `Package`.
    pub name: &'a str,
    /// `Version`.
    pub version: Version<'a>,
    /// `Architecture`.
    pub architecture: &'a str,
    /// `Multi-Arch`.
    pub multi_arch: MultiArch,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Priority`.
    pub priority: Priority,
    /// `Pre-Depends`.
    pub pre_depends: &'a str,
    /// `Depends`.
    pub depends: &'a str,
    /// `Conflicts`.
    pub conflicts: &'a str,
    /// `Breaks`.
    pub breaks: &'a str,
    /// `Provides`.
    pub provides: &'a str,
    /// `Filename`: path below the archive's address.
    pub file: &'a str,
    /// `Size` of the file in bytes.
    pub size: u64,
    /// `Installed-Size` in KiB.
    pub installed_kib: u64,
    /// `SHA256` of the file, 64 hexadecimal digits as written.
    pub sha256: &'a str,
}

/// A stanza that is no package of an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stanza {number}{}: {}", if name.is_empty() { String::new() } else { format!(" (package {name:?})") }, match value {
    Some(value) => format!("{value:?} is no {field}"),
    None => format!("there is no {field}"),
})]
pub struct BadStanza {
    /// Which stanza, from 1.
    pub number: usize,
    /// `Package`, as far as it was read.
    pub name: String,
    /// The field at fault.
    pub field: &'static str,
    /// What it holds, when it is there.
    pub value: Option<String>,
}

/// Reads a `Packages` file.
pub fn parse(text: &str) -> Result<Vec<Package<'_>>, BadStanza> {
    let mut packages = Vec::with_capacity(text.len() / 900);
    for (at, stanza) in stanzas(text).enumerate() {
        packages.push(package(stanza).map_err(|fault| BadStanza { number: at + 1, ..fault })?);
    }
    Ok(packages)
}

fn package(stanza: Stanza<'_>) -> Result<Package<'_>, BadStanza> {
    let (mut name, mut version, mut architecture, mut file, mut sha256) = ("", None, "", "", "");
    let (mut size, mut installed_kib, mut essential) = (None, 0, false);
    let (mut multi_arch, mut priority) = (MultiArch::No, Priority::Optional);
    let (mut pre_depends, mut depends, mut conflicts, mut breaks, mut provides) = ("", "", "", "", "");
    for (field, value) in stanza.fields() {
        match field {
            "Package" => name = value,
            "Version" => version = Some(value),
            "Architecture" => architecture = value,
            "Multi-Arch" => {
                multi_arch = match value {
                    "foreign" => MultiArch::Foreign,
                    "same" => MultiArch::Same,
                    "allowed" => MultiArch::Allowed,
                    _ => MultiArch::No,
                }
            }
            "Essential" => essential = value == "yes",
            "Priority" => {
                priority = match value {
                    "required" => Priority::Required,
                    "important" => Priority::Important,
                    "standard" => Priority::Standard,
                    _ => Priority::Optional,
                }
            }
            "Pre-Depends" => pre_depends = value,
            "Depends" => depends = value,
            "Conflicts" => conflicts = value,
            "Breaks" => breaks = value,
            "Provides" => provides = value,
            "Filename" => file = value,
            "Size" => size = Some(value),
            "Installed-Size" => installed_kib = value.parse().unwrap_or(0),
            "SHA256" => sha256 = value,
            _ => {}
        }
    }
    let fault = |field, value: Option<&str>| BadStanza {
        number: 0,
        name: name.to_owned(),
        field,
        value: value.filter(|value| !value.is_empty()).map(str::to_owned),
    };
    if !is_name(name) {
        return Err(BadStanza { name: String::new(), ..fault("Package", Some(name)) });
    }
    if !is_name(architecture) {
        return Err(fault("Architecture", Some(architecture)));
    }
    if !is_path(file) {
        return Err(fault("Filename", Some(file)));
    }
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(fault("SHA256", Some(sha256)));
    }
    let version = version.and_then(Version::parse).ok_or_else(|| fault("Version", version))?;
    let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| fault("Size", size))?;
    Ok(Package {
        name,
        version,
        architecture,
        multi_arch,
        essential,
        priority,
        pre_depends,
        depends,
        conflicts,
        breaks,
        provides,
        file,
        size,
        installed_kib,
        sha256,
    })
}

/// Whether a `Filename` stays below the archive: it becomes part of addresses and of paths of local mirrors.
fn is_path(text: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let graphic = |byte: u8| byte.is_ascii_graphic() && !b"?#\\".contains(&byte);
    text.split('/').all(part) && text.bytes().all(graphic)
}

#[cfg(test)]
mod tests {
    use super::{MultiArch, Priority, parse};
    use proptest::proptest;

    fn stanza(name: &str) -> String {
        let digest = "0123456789abcdef".repeat(4);
        format!(
            "Package: {name}\nVersion: 1-2\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 5\nSHA256: {digest}\n"
        )
    }

    #[test]
    fn what_is_kept() {
        let more =
            "Multi-Arch: allowed\nEssential: yes\nPriority: required\nInstalled-Size: 12\nDepends: b,\n c\n";
        let text = stanza("a") + more + "\n" + &stanza("b");
        let packages = parse(&text).unwrap();
        assert_eq!(packages.len(), 2);
        let a = &packages[0];
        assert_eq!((a.name, a.version.as_str(), a.size, a.installed_kib), ("a", "1-2", 5, 12));
        assert_eq!((a.multi_arch, a.priority, a.essential), (MultiArch::Allowed, Priority::Required, true));
        assert_eq!((a.depends, packages[1].depends), ("b,\n c", ""));
    }

    #[test]
    fn faults_are_named() {
        let good = stanza("a") + "\n" + &stanza("b");
        for (from, to, message) in [
            ("Package: b\n", "", "stanza 2: there is no Package"),
            ("Package: b", "Package: b/c", r#"stanza 2: "b/c" is no Package"#),
            (
                "Version: 1-2\nArchitecture: amd64\nFilename: pool/a.deb\nSize: 5\nSHA256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n\n",
                "\n",
                r#"stanza 1 (package "a"): there is no Architecture"#,
            ),
            ("pool/a.deb", "pool/../a.deb", r#"stanza 1 (package "a"): "pool/../a.deb" is no Filename"#),
            ("pool/a.deb", "/pool/a.deb", r#"stanza 1 (package "a"): "/pool/a.deb" is no Filename"#),
            ("Size: 5", "Size: -5", r#"stanza 1 (package "a"): "-5" is no Size"#),
            ("Version: 1-2", "Version: 1 2", r#"stanza 1 (package "a"): "1 2" is no Version"#),
            (
                "SHA256: 0",
                "SHA256: ",
                r#"stanza 1 (package "a"): "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" is no SHA256"#,
            ),
        ] {
            assert!(good.contains(from), "{from}");
            assert_eq!(parse(&good.replacen(from, to, 1)).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(fields in proptest::collection::vec(("(Package|Version|Size|SHA256|Filename|X)", "[a-b0-9:./ \n\u{e9}-]{0,20}"), 0..12)) {
            let text: String = fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
            let _ = parse(&text);
        }
    }
}
