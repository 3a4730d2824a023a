//! Addresses that artefacts are published at, and what a folder or mirror calls the same file.

use percent_encoding::percent_decode_str;

/// An address that Kiln fetches from: http or https, a host, and a path that ends with the name of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'a> {
    text: &'a str,
    path: &'a str,
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAUrl(&'static str);

impl<'a> Url<'a> {
    /// Reads an address (RFC 3986 §3).
    pub fn parse(text: &'a str) -> Result<Self, NotAUrl> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or(NotAUrl("an address begins with https:// or http://"))?;
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '#' | '\\')) {
            return Err(NotAUrl("it has a blank, `#` or `\\` in it: write those as %20, %23 and %5C"));
        }
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.contains(['@', '?']) {
            return Err(NotAUrl("a host is wanted behind the scheme, without a user name"));
        }
        let path = path.split('?').next().unwrap_or_default();
        let url = Self { text, path };
        let parts = url.decoded().ok_or(NotAUrl("its path is not UTF-8 text"))?;
        let plain = |part: &String| {
            !matches!(part.as_str(), "" | "." | "..") && !part.contains(|c: char| c == '/' || c.is_control())
        };
        match parts.iter().all(plain) {
            true => Ok(url),
            false => Err(NotAUrl("its path must be plain names and end with that of a file")),
        }
    }

    /// The whole address.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// True for https.
    pub fn is_secure(&self) -> bool {
        self.text.starts_with("https://")
    }

    /// The path below the host as it is written, without a leading slash and without a query.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The last part of the path, as it is written.
    pub fn name(&self) -> &'a str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// The path below the host as a folder has it: `download/v1.36.2+k3s1/k3s` for `download/v1.36.2%2Bk3s1/k3s`.
    pub fn file_path(&self) -> String {
        self.decoded().unwrap_or_default().join("/")
    }

    /// The name of the file, decoded.
    pub fn file_name(&self) -> String {
        self.decoded().and_then(|mut parts| parts.pop()).unwrap_or_default()
    }

    fn decoded(&self) -> Option<Vec<String>> {
        let decode = |part| Some(percent_decode_str(part).decode_utf8().ok()?.into_owned());
        self.path.split('/').map(decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn a_release_file_has_its_name_decoded() {
        let url = Url::parse("https://host/k3s/v1.36.2%2Bk3s1/k3s%2Barm?raw=1").unwrap();
        assert_eq!(url.path(), "k3s/v1.36.2%2Bk3s1/k3s%2Barm");
        assert_eq!((url.name(), url.file_name().as_str()), ("k3s%2Barm", "k3s+arm"));
        assert_eq!(url.file_path(), "k3s/v1.36.2+k3s1/k3s+arm");
        assert!(url.is_secure() && !Url::parse("http://host/a").unwrap().is_secure());
    }

    #[test]
    fn what_leads_out_of_a_folder_is_no_address() {
        for text in [
            "ftp://host/a",
            "https:///a",
            "https://host",
            "https://host/",
            "https://host/a/",
            "https://me:pass@host/a",
            "https://host/a b",
            "https://host/../a",
            "https://host/%2e%2E/a",
            "https://host/a%2Fb",
            "https://host/a%00",
            "https://host/%ff",
            "https://host/a#b",
            "https://host?a/b",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
