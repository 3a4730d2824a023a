//! The proxies that the host's apt uses (apt.conf(5), apt-transport-http(1)).

use std::fs;
use std::path::Path;

/// The values of `Acquire::http::Proxy` and `Acquire::https::Proxy` below the folder of apt's configuration, read in apt's
/// order, the last word counts. `DIRECT`, and what is no address, is none.
pub(in crate::fetch) fn proxies(folder: &Path) -> [Option<String>; 2] {
    let mut parts: Vec<_> = fs::read_dir(folder.join("apt.conf.d"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && path.extension().is_none_or(|ending| ending == "conf"))
        .collect();
    parts.sort();
    parts.push(folder.join("apt.conf"));
    let mut found = [None, None];
    for text in parts.iter().filter_map(|path| fs::read_to_string(path).ok()) {
        for (name, value) in settings(&text) {
            let at = match name.to_ascii_lowercase().as_str() {
                "acquire::http::proxy" => 0,
                "acquire::https::proxy" => 1,
                _ => continue,
            };
            found[at] = Some(value).filter(|value| value.starts_with("http://"));
        }
    }
    found
}

/// Names with `::` between their parts, and values.
fn settings(text: &str) -> Vec<(String, String)> {
    let (mut found, mut scopes, mut words) = (Vec::new(), Vec::<String>::new(), Vec::<String>::new());
    for token in tokens(text) {
        match token.as_str() {
            "{" => scopes.push(std::mem::take(&mut words).concat()),
            "}" => drop(scopes.pop()),
            ";" => {
                if let [name, value] = words.as_slice() {
                    let name = scopes.iter().chain([name]).cloned().collect::<Vec<_>>().join("::");
                    found.push((name, value.trim_matches('"').to_owned()));
                }
                words.clear();
            }
            _ => words.push(token),
        }
    }
    found
}

/// Words, texts in quotes, braces and semicolons, without comments.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") || first == '#' {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            let len = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
            tokens.push(rest[..len].to_owned());
            len
        } else {
            let ends = |c: char| c.is_whitespace() || "{};\"".contains(c);
            let len = if ends(first) { 1 } else { rest.find(ends).unwrap_or(rest.len()) };
            tokens.push(rest[..len].to_owned());
            len
        };
        rest = rest[len..].trim_start();
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::proxies;

    #[test]
    fn as_apt_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let parts = folder.path().join("apt.conf.d");
        std::fs::create_dir(&parts).unwrap();
        let write = |name: &str, text: &str| std::fs::write(parts.join(name), text).unwrap();
        assert_eq!(proxies(folder.path()), [None, None]);
        write(
            "10a",
            "// Acquire::http::Proxy \"http://comment:1\";\nAcquire::http::Proxy \"http://one:3128/\";\n",
        );
        assert_eq!(proxies(folder.path()), [Some("http://one:3128/".to_owned()), None]);
        write(
            "20b.conf",
            "Acquire { http { Proxy \"http://two:3128\"; Timeout \"3\"; }; /* x */ HTTPS::proxy \"http://s:1\"; };",
        );
        write("30c.dpkg-old", "Acquire::http::Proxy \"http://old:1\";");
        let two = [Some("http://two:3128".to_owned()), Some("http://s:1".to_owned())];
        assert_eq!(proxies(folder.path()), two);
        std::fs::write(folder.path().join("apt.conf"), "Acquire::http::Proxy \"DIRECT\";").unwrap();
        assert_eq!(proxies(folder.path())[0], None);
        write("40d", "{ } } ; \" unclosed { Acquire");
        assert_eq!(proxies(folder.path())[0], None);
    }
}
