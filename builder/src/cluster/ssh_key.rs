//! The structure of an SSH public key line (RFC 4253 §6.6, RFC 5656 §3.1, RFC 8709 §4, OpenSSH PROTOCOL.u2f).

/// Whether an entry says where keys are published, such as `github:NAME`, and what is wrong with it.
pub(super) fn source(line: &str) -> Option<Result<(), Wrong>> {
    let (prefix, name) = line.split_once(':')?;
    if !matches!(prefix, "github" | "gitlab" | "gh" | "lp") {
        return None;
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain = (1..=255).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['-', '.']);
    Some(match prefix {
        "gh" => Err(Wrong {
            code: "ssh-key",
            message: "`gh:` is ssh-import-id's word for GitHub".to_owned(),
            help: "write `github:NAME`",
        }),
        "lp" => Err(Wrong {
            code: "ssh-key",
            message: "keys are not asked for at Launchpad".to_owned(),
            help: "write `github:NAME` or `gitlab:NAME`, or the public key itself",
        }),
        _ if !plain => Err(Wrong {
            code: "ssh-key",
            message: format!("{name:?} is not the name of an account"),
            help: "write such as `github:anna`",
        }),
        _ => Ok(()),
    })
}

/// What is wrong with a key, and the way out. Never quotes the key.
pub(super) struct Wrong {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: &'static str,
}

const PUBLIC_FILE: &str = "paste the one line of a `.pub` file, such as ~/.ssh/id_ed25519.pub";
const TYPES: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

fn wrong(message: impl Into<String>) -> Wrong {
    Wrong { code: "ssh-key", message: message.into(), help: PUBLIC_FILE }
}

/// Takes `<type> <base64> [comment]` whose inside says the same type.
pub(super) fn check(line: &str) -> Result<(), Wrong> {
    if line.contains("PRIVATE KEY") || line.contains("b3BlbnNzaC1rZXktdjE") {
        return Err(Wrong {
            code: "private-key",
            message: "this is a private key".to_owned(),
            help: "remove it from the file, and make a new key pair if anybody has seen it; the public half \
                   is in the file that ends in `.pub`",
        });
    }
    if line.trim().chars().any(char::is_control) {
        return Err(wrong("an SSH public key is one line, and this is more"));
    }
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    if kind == "ssh-dss" {
        let help = "make an Ed25519 key: ssh-keygen -t ed25519";
        return Err(Wrong {
            code: "ssh-key",
            message: "OpenSSH takes no DSA keys any more".to_owned(),
            help,
        });
    }
    if !TYPES.contains(&kind) {
        return Err(wrong(
            "this is not an SSH public key: it doesn't start with a key type such as `ssh-ed25519`",
        ));
    }
    let Some(body) = words.next() else {
        return Err(wrong(format!("the key stops behind its type `{kind}`")));
    };
    let Some(bytes) = base64(body) else {
        return Err(wrong(format!("what follows `{kind}` is not whole base64: the key was cut or changed")));
    };
    let mut rest = bytes.as_slice();
    let Some(inner) = field(&mut rest) else {
        return Err(wrong("the key is too short: it was cut"));
    };
    if inner != kind.as_bytes() {
        return Err(wrong(format!("the key calls itself `{kind}`, but its inside is of another type")));
    }
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let Some(field) = field(&mut rest) else {
            return Err(wrong("the key ends in the middle of a field: it was cut"));
        };
        fields.push(field);
    }
    let lengths: Vec<usize> = fields.iter().map(|field| field.len()).collect();
    let sound = match (kind, lengths.as_slice()) {
        ("ssh-ed25519", [32]) | ("sk-ssh-ed25519@openssh.com", [32, _]) => true,
        // The modulus has a leading zero byte.
        ("ssh-rsa", [_, modulus]) if *modulus < 257 => {
            let help = "make an Ed25519 key: ssh-keygen -t ed25519";
            let message = "this RSA key has fewer than 2048 bits".to_owned();
            return Err(Wrong { code: "ssh-key", message, help });
        }
        ("ssh-rsa", [_, _]) => true,
        ("ecdsa-sha2-nistp256", [8, 65]) | ("sk-ecdsa-sha2-nistp256@openssh.com", [8, 65, _]) => true,
        ("ecdsa-sha2-nistp384", [8, 97]) | ("ecdsa-sha2-nistp521", [8, 133]) => true,
        _ => false,
    };
    if sound {
        Ok(())
    } else {
        Err(wrong(format!("the inside of the key doesn't have the fields of `{kind}`")))
    }
}

/// The line with one blank between its parts. The comment is its owner's, to the letter.
pub(super) fn tidy(line: &str) -> String {
    let parts = |text: &str| {
        let (word, rest) = text.split_once(char::is_whitespace)?;
        Some((word.to_owned(), rest.trim_start().to_owned()))
    };
    let line = line.trim();
    let Some((kind, rest)) = parts(line) else { return line.to_owned() };
    match parts(&rest) {
        Some((body, comment)) => format!("{kind} {body} {comment}"),
        None => format!("{kind} {rest}"),
    }
}

/// RFC 4251 §5 `string`: a big-endian 32-bit length and that many bytes.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (field, tail) = tail.split_at_checked(length)?;
    *rest = tail;
    Some(field)
}

/// RFC 4648 §4 with padding, strictly.
fn base64(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let digit = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let mut bytes = Vec::with_capacity(body.len() * 3 / 4);
    for chunk in body.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for at in 0..4 {
            bits = bits << 6 | u32::from(chunk.get(at).map_or(Some(0), |byte| digit(*byte))?);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{base64, check, tidy};

    fn code(line: &str) -> Option<&'static str> {
        check(line).err().map(|wrong| wrong.code)
    }

    #[test]
    fn base64_of_rfc_4648() {
        for (text, bytes) in [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        for bad in ["", "Zg", "Zg=", "Z!==", "===="] {
            assert!(base64(bad).is_none() || bad == "====", "{bad}");
        }
    }

    #[test]
    fn comments_are_kept() {
        for (line, want) in [
            ("  a\u{3000} b  c  d # \"e\" ", "a b c  d # \"e\""),
            ("a b\n", "a b"),
            ("a  b ", "a b"),
            ("a", "a"),
        ] {
            assert_eq!(tidy(line), want);
        }
    }

    #[test]
    fn keys() {
        let body = format!("AAAAC3NzaC1lZDI1NTE5AAAAI{}", "A".repeat(43));
        assert_eq!(code(&format!("ssh-ed25519 {body} somebody@example")), None);
        assert_eq!(code(&format!("ssh-rsa {body}")), Some("ssh-key"));
        assert_eq!(code(&format!("ssh-ed25519 {}", &body[..64])), Some("ssh-key"));
        assert_eq!(code(&format!("ssh-ed25519 {}", &body[..63])), Some("ssh-key"));
        assert_eq!(code("ssh-ed25519"), Some("ssh-key"));
        assert_eq!(code(""), Some("ssh-key"));
        assert_eq!(code("ssh-dss AAAA"), Some("ssh-key"));
        assert_eq!(code(&format!("-----BEGIN OPENSSH {} KEY-----\nabc", "PRIVATE")), Some("private-key"));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in "(ssh-rsa |ssh-ed25519 |ecdsa-sha2-nistp256 )?[A-Za-z0-9+/= é]{0,80}") {
            let _ = check(&line);
        }
    }
}
