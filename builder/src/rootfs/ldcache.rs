//! /etc/ld.so.cache in glibc's format 1.1 (`sysdeps/generic/dl-cache.h`): which shared library a name means.
//! Libraries in `glibc-hwcaps` folders are left to the dynamic linker's own search.

use super::Error;
use super::formats::tree::{Content, Kind};
use super::root::Root;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Directories that are searched beside those of /etc/ld.so.conf.d.
const SYSTEM: [&str; 2] = ["/lib", "/usr/lib"];
/// Links followed before a path counts as a loop, as in the kernel.
const LINKS: usize = 40;

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let flags = match root.options.architecture.as_str() {
        "amd64" => 0x0303_u32,
        "arm64" => 0x0a03,
        _ => return Ok(()),
    };
    let mut directories = Vec::new();
    for name in root.names("etc/ld.so.conf.d").into_iter().filter(|name| name.ends_with(".conf")) {
        for line in root.text(&format!("etc/ld.so.conf.d/{name}"))?.unwrap_or_default().lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.starts_with('/') {
                directories.push(line.to_owned());
            }
        }
    }
    if directories.is_empty() {
        return Ok(());
    }
    directories.extend(SYSTEM.map(str::to_owned));
    let mut seen = Vec::new();
    let mut entries: Vec<(String, String)> = Vec::new();
    for directory in directories {
        // The merged /usr gives one directory two names; the first counts.
        let real = root.real(&format!("{directory}/x"));
        if seen.contains(&real) {
            continue;
        }
        let folder = real.trim_end_matches("/x").to_owned();
        seen.push(real);
        let mut found = BTreeMap::new();
        for file in root.names(&folder).into_iter().filter(|name| is_library(name)) {
            if let Some(name) = library(root, &folder, &file)? {
                found.insert(name, ());
            }
        }
        entries.extend(found.into_keys().map(|name| (format!("{directory}/{name}"), name)));
    }
    entries.sort_by(|a, b| compare(b.1.as_bytes(), a.1.as_bytes()));
    root.put_file("etc/ld.so.cache", bytes(&entries, flags), 0o644);
    Ok(())
}

fn is_library(name: &str) -> bool {
    (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so")
}

/// The name under which the dynamic linker asks for `folder/file`: its DT_SONAME; the file's own when it has
/// none, or when it is a link to a file that bears the soname itself.
fn library(root: &Root<'_>, folder: &str, file: &str) -> Result<Option<String>, Error> {
    let path = format!("{folder}/{file}");
    let Some((real, content)) = resolve(root, &path) else { return Ok(None) };
    let read = |source| Error::Read { path: path.clone(), source };
    let Some(elf) = soname(content).map_err(read)? else { return Ok(None) };
    let soname = elf.unwrap_or_else(|| file.to_owned());
    let base = real.rsplit('/').next().unwrap_or(&real);
    let link = real != path && (base == soname || (base.ends_with(".so") && soname.starts_with(base)));
    Ok(Some(if link { file.to_owned() } else { soname }))
}

/// The regular file that a path means, links followed.
fn resolve<'a>(root: &'a Root<'_>, path: &str) -> Option<(String, &'a Content)> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match &root.tree.get(&path)?.kind {
            Kind::File(content) => return Some((path, content)),
            Kind::HardLink(to) => path = String::from_utf8(to.to_vec()).ok()?,
            Kind::Symlink(to) => {
                let to = std::str::from_utf8(to).ok()?;
                let from = if to.starts_with('/') {
                    ""
                } else {
                    path.rsplit_once('/').map_or("", |(folder, _)| folder)
                };
                let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
                for part in to.split('/').filter(|part| !part.is_empty() && *part != ".") {
                    match part {
                        ".." => drop(parts.pop()),
                        part => parts.push(part),
                    }
                }
                path = root.real(&parts.join("/"));
            }
            _ => return None,
        }
    }
    None
}

/// `None` for what is no 64-bit little-endian shared object, `Some(None)` for one without DT_SONAME.
fn soname(content: &Content) -> std::io::Result<Option<Option<String>>> {
    let at = |offset: u64, len: usize| -> std::io::Result<Option<Vec<u8>>> {
        if offset.checked_add(len as u64).is_none_or(|end| end > content.len()) {
            return Ok(None);
        }
        let mut buf = vec![0; len];
        content.read_exact_at(&mut buf, offset)?;
        Ok(Some(buf))
    };
    let Some(header) = at(0, 64)? else { return Ok(None) };
    if header[..6] != *b"\x7fELF\x02\x01" || number(&header, 16, 2) != 3 {
        return Ok(None);
    }
    let (offset, count) = (number(&header, 32, 8), number(&header, 56, 2));
    let Some(headers) = at(offset, usize::try_from(count * 56).unwrap_or(0))? else { return Ok(None) };
    // Type, offset, address, size in the file of each program header.
    let segments: Vec<_> = headers
        .chunks_exact(56)
        .map(|h| (number(h, 0, 4), number(h, 8, 8), number(h, 16, 8), number(h, 32, 8)))
        .collect();
    let Some((_, offset, _, size)) = segments.iter().find(|(kind, ..)| *kind == 2) else {
        return Ok(Some(None));
    };
    let Some(dynamic) = at(*offset, usize::try_from((*size).min(1 << 20)).unwrap_or(0))? else {
        return Ok(None);
    };
    let tag = |wanted| dynamic.chunks_exact(16).find(|e| number(e, 0, 8) == wanted).map(|e| number(e, 8, 8));
    let (Some(name), Some(table)) = (tag(14), tag(5)) else { return Ok(Some(None)) };
    let address = table.saturating_add(name);
    let inside = |(kind, _, start, size): &&(u64, u64, u64, u64)| {
        *kind == 1 && address >= *start && address - *start < *size
    };
    let Some((_, offset, start, _)) = segments.iter().find(inside) else { return Ok(None) };
    let offset = offset.saturating_add(address - start);
    let len = usize::try_from(content.len().saturating_sub(offset).min(256)).unwrap_or(0);
    let Some(bytes) = at(offset, len)? else { return Ok(None) };
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(Some(String::from_utf8_lossy(text).into_owned())))
}

/// A little-endian number of at most eight bytes; the caller has checked that they are there.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes.iter().skip(at).take(len).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The order that the dynamic linker's binary search relies on: runs of digits compare as numbers and come
/// after everything else.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match (digits(a), digits(b)) {
        (0, 0) => match (a.first(), b.first()) {
            (Some(x), Some(y)) if x == y => compare(&a[1..], &b[1..]),
            (x, y) => x.cmp(&y),
        },
        (_, 0) => Ordering::Greater,
        (0, _) => Ordering::Less,
        (x, y) => {
            let value =
                |text: &[u8]| text.iter().fold(0_u64, |v, d| v.saturating_mul(10) + u64::from(d - b'0'));
            value(&a[..x]).cmp(&value(&b[..y])).then_with(|| compare(&a[x..], &b[y..]))
        }
    }
}

/// The file: header of 48 bytes, 24 for each library, strings; offsets count from the start.
fn bytes(entries: &[(String, String)], flags: u32) -> Vec<u8> {
    // A path ends with its name: one string serves both.
    let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let base = 48 + 24 * entries.len();
    let (mut libraries, mut strings) = (Vec::new(), Vec::new());
    for (path, name) in entries {
        let value = base + strings.len();
        libraries.extend(flags.to_le_bytes());
        libraries.extend(word(value + path.len() - name.len()));
        libraries.extend(word(value));
        libraries.extend([0; 12]);
        strings.extend(path.as_bytes());
        strings.push(0);
    }
    let mut out = b"glibc-ld.so.cache1.1".to_vec();
    out.extend(word(entries.len()));
    out.extend(word(strings.len()));
    // Little-endian; no extensions.
    out.extend([2, 0, 0, 0]);
    out.extend([0; 16]);
    out.extend(libraries);
    out.extend(strings);
    out
}

#[cfg(test)]
mod tests {
    use super::{bytes, compare};
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn names_compare_as_the_linker_does() {
        for (a, b, order) in [
            ("libx.so.2", "libx.so.10", Less),
            ("libx.so.1", "libx.so.a", Greater),
            ("libx.so", "libx.so.1", Less),
            ("libx.so.1", "libx.so.1", Equal),
            ("libx.so.01", "libx.so.1", Equal),
        ] {
            assert_eq!(compare(a.as_bytes(), b.as_bytes()), order, "{a} {b}");
        }
    }

    #[test]
    fn one_library_has_these_offsets() {
        let file = bytes(&[("/lib/libx.so.1".to_owned(), "libx.so.1".to_owned())], 0x303);
        assert_eq!(file.len(), 48 + 24 + 15);
        assert_eq!(&file[20..29], &[1, 0, 0, 0, 15, 0, 0, 0, 2]);
        assert_eq!(&file[48..60], &[3, 3, 0, 0, 77, 0, 0, 0, 72, 0, 0, 0]);
        assert_eq!(&file[77..87], b"libx.so.1\0");
    }
}
