//! Addresses, as far as they can be wrong before anybody dials them (RFC 3986, and what Go's `net/url` refuses).

use crate::cluster::words;
use std::net::{IpAddr, Ipv6Addr};

/// What an address is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url<'a> {
    pub(crate) scheme: &'a str,
    /// What stands ahead of the `@`.
    pub(crate) user: Option<&'a str>,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
    /// All from the first slash or question mark behind the host.
    pub(crate) rest: &'a str,
}

impl<'a> Url<'a> {
    /// The parts of `text`, or why it is no address. No reason has a part of `text` that may be a password.
    pub(crate) fn parse(text: &'a str) -> Result<Self, &'static str> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("it has a blank or a control character");
        }
        let Some((scheme, after)) = text.split_once("://") else {
            return Err("it has no scheme, such as `https://`");
        };
        if after.contains('#') {
            return Err(
                "it has a `#`, behind which nothing is sent: in a name or password it is written `%23`",
            );
        }
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| !user.chars().all(user_character)) {
            return Err("its name or password has a character that must be escaped with `%`");
        }
        if !escapes(text) {
            return Err("it has a `%` without two hexadecimal digits behind it: `%` itself is written `%25`");
        }
        let (host, port) = if let Some(inner) = place.strip_prefix('[') {
            let Some((host, after)) = inner.split_once(']') else { return Err("its bracket is not closed") };
            if host.parse::<Ipv6Addr>().is_err() {
                return Err("what is in its brackets is no IPv6 address");
            }
            (host, after)
        } else {
            let colon = place.find(':').unwrap_or(place.len());
            let (host, after) = place.split_at(colon);
            if place.parse::<Ipv6Addr>().is_ok() {
                return Err("its IPv6 address needs brackets: `[2001:db8::1]`");
            }
            host_name(host)?;
            (host, after)
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            // Go takes a colon without a number.
            Some("") => None,
            Some(digits) if digits.len() < 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(
                digits
                    .parse::<u16>()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or("its port is not one of 1 to 65535")?,
            ),
            _ if scheme == "ssh" => {
                return Err("its port is no number: with `ssh://` a slash stands behind the host");
            }
            _ => return Err("its port is no number: what is in a name or password is escaped with `%`"),
        };
        Ok(Self { scheme, user, host, port, rest })
    }
}

/// Go's `validUserinfo`.
fn user_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)
}

fn escapes(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit))
}

fn host_name(host: &str) -> Result<(), &'static str> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // Names of the resolver's, not of RFC 1123: underscores are met in them.
    let plain = name.replace('_', "-");
    match words::domain(&plain) {
        _ if host.is_empty() => Err("it has no host"),
        _ if host.parse::<IpAddr>().is_ok() || name == "localhost" => Ok(()),
        Err(_) => Err("its host is neither a name nor an address"),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn addresses_are_taken_apart() {
        let url = Url::parse("http://ops:p%23s@[fd00::1]:3128/a?b").expect("an address");
        let expected =
            Url { scheme: "http", user: Some("ops:p%23s"), host: "fd00::1", port: Some(3128), rest: "/a?b" };
        assert_eq!(url, expected);
        for text in
            ["https://a.example", "https://localhost:80", "oci://ghcr.io/a/b", "ssh://git@host:22/x.git"]
        {
            assert!(Url::parse(text).is_ok(), "{text}");
        }
        let bad = [
            "host",
            "git@host:x.git",
            "http://",
            "http://ops:pa#ss@proxy:3128",
            "http://ops:pa/ss@proxy:3128",
            "http://ops:pa ss@proxy",
            "http://proxy:99999",
            "http://proxy:0",
            "http://a%zz.b",
            "http://fd00::1",
            "http://[fd00::1",
            "http://[x]",
            "http://-a",
            "ssh://git@github.com:me/x.git",
            "http://a:%@proxy",
            "http://o\"s:a@proxy",
        ];
        for text in bad {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
