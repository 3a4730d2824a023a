//! Public keys that a file is encrypted to.

use super::Error;

/// A parsed recipient.
pub(super) enum Recipient {
    X25519(age::x25519::Recipient),
    Ssh(age::ssh::Recipient),
}

impl Recipient {
    /// `age1...`, or the line of an SSH public key with or without its comment.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let wrong = |reason| Err(Error::NotARecipient { text: shown(text), reason });
        if text.starts_with("AGE-SECRET-KEY") || text.contains("PRIVATE KEY") {
            // Not even a part of it is repeated.
            let reason = "this is a private key, which must not stand here";
            return Err(Error::NotARecipient { text: "...".to_owned(), reason });
        }
        if text.starts_with("age1") {
            return text.parse().map(Self::X25519).or_else(|_| wrong("the age key was cut or changed"));
        }
        if text.starts_with("ssh-") {
            // A comment behind the key is no part of it.
            let words: Vec<&str> = text.split_whitespace().take(2).collect();
            return words.join(" ").parse().map(Self::Ssh).or_else(|_| wrong("the SSH key cannot be read"));
        }
        wrong("it begins like neither kind")
    }
    pub(super) fn as_age(&self) -> &dyn age::Recipient {
        match self {
            Self::X25519(key) => key,
            Self::Ssh(key) => key,
        }
    }
}

fn shown(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("{start}...") } else { start }
}

/// Says whom an age file is encrypted to. Its header (age-encryption.org/v1) names the kind of each recipient and,
/// for SSH keys, four bytes of a digest; it does not name age keys. So `known`, the caller's list, is repeated where
/// it can be.
pub(super) fn describe(header: &[u8], known: &[String]) -> String {
    let text = String::from_utf8_lossy(header);
    let stanzas = text.lines().take_while(|line| !line.starts_with("---"));
    let kinds = stanzas.filter_map(|line| line.strip_prefix("-> ")?.split(' ').next());
    // Kinds that nobody knows are strewn in, so that readers stay able to skip them.
    let kinds: Vec<&str> = kinds.filter(|kind| !kind.ends_with("-grease")).collect();
    let count = |wanted: &dyn Fn(&str) -> bool| kinds.iter().filter(|kind| wanted(kind)).count();
    let (age, ssh) = (count(&|kind| kind == "X25519"), count(&|kind| kind.starts_with("ssh-")));
    let other = kinds.iter().filter(|kind| **kind != "X25519" && !kind.starts_with("ssh-")).count();
    let say = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    };
    let kinds: Vec<String> =
        [say(age, "age key"), say(ssh, "SSH key"), say(other, "recipient of another kind")]
            .into_iter()
            .flatten()
            .collect();
    let kinds = kinds.join(" and ");
    if known.is_empty() { kinds } else { format!("{kinds} (recipients as listed: {})", known.join(", ")) }
}
