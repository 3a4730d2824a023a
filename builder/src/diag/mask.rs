//! Hides secrets in a source text before anybody shows a line of it. It works on text, not on YAML, so
//! that a file that doesn't even parse gives nothing away.

/// `source` with private keys, age identities and password hashes replaced by `*`, byte for byte: offsets
/// and line breaks stay.
pub(super) fn mask(source: &str) -> String {
    let mut bytes = source.as_bytes().to_vec();
    armoured_keys(source, &mut bytes);
    tokens(source, &mut bytes);
    password_values(source, &mut bytes);
    terminal_controls(&mut bytes);
    // Only whole characters are overwritten, each of their bytes with an ASCII one.
    String::from_utf8(bytes).unwrap_or_default()
}

/// A message in the same way, and not longer than anybody reads.
pub(super) fn mask_message(message: &str) -> String {
    const LONGEST: usize = 400;
    let mut bytes = message.as_bytes().to_vec();
    armoured_keys(message, &mut bytes);
    tokens(message, &mut bytes);
    let masked = String::from_utf8(bytes).unwrap_or_default();
    let masked = masked.replace(char::is_control, "?");
    match masked.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &masked[..end]),
        None => masked,
    }
}

fn hide(bytes: &mut [u8], start: usize, end: usize) {
    for byte in &mut bytes[start..end] {
        if !matches!(*byte, b'\n' | b'\r') {
            *byte = b'*';
        }
    }
}

/// What a terminal would take for an order. Continuation bytes of UTF-8 are none: C1 controls, as two bytes,
/// end in 0x80 to 0x9f behind 0xc2, and become two question marks.
fn terminal_controls(bytes: &mut [u8]) {
    for at in 0..bytes.len() {
        let (byte, before) = (bytes[at], at.checked_sub(1).map(|at| bytes[at]));
        if (byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t')) || byte == 0x7f {
            bytes[at] = b'?';
        } else if before == Some(0xc2) && (0x80..0xa0).contains(&byte) {
            bytes[at - 1] = b'?';
            bytes[at] = b'?';
        }
    }
}

/// From `-----BEGIN … PRIVATE KEY-----` to the end of the line that has `-----END`, or to the file's end.
fn armoured_keys(source: &str, bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = source[at..].find("PRIVATE KEY") {
        let word = at + found;
        let line = source[..word].rfind('\n').map_or(0, |newline| newline + 1);
        let start = source[line..word].find("-----").map_or(line, |dashes| line + dashes);
        let end = source[word..].find("-----END").map_or(source.len(), |tail| {
            let tail = word + tail;
            source[tail..].find('\n').map_or(source.len(), |newline| tail + newline)
        });
        hide(bytes, start, end);
        at = end.max(word + 1);
        if at >= source.len() {
            break;
        }
        while !source.is_char_boundary(at) {
            at += 1;
        }
    }
}

/// Secrets that are one word: age identities, the body of an OpenSSH private key, crypt(5) hashes.
fn tokens(source: &str, bytes: &mut [u8]) {
    let mut start = 0;
    let between = |c: char| c.is_whitespace() || "\"'`,:=()[]{}".contains(c);
    for token in source.split_inclusive(between) {
        let word = token.trim_end_matches(between);
        let hash = word.starts_with('$') && word[1..].find('$').is_some_and(|at| (1..10).contains(&at));
        // "openssh-key-v1" in base64.
        if hash
            || word.to_ascii_uppercase().contains("AGE-SECRET-KEY-")
            || word.contains("b3BlbnNzaC1rZXktdjE")
        {
            hide(bytes, start, start + word.len());
        }
        start += token.len();
    }
}

/// Words in names of keys whose values nobody else should see. `password_hash` may be a password by mistake.
const SECRET_WORDS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "auth_key",
    "auth-key",
    "authkey",
    "access_key",
    "api_key",
    "apikey",
    "private",
    "secret_",
    "secret-",
    "credential",
];

/// Where the value of the first key of `line` (in small letters) begins whose name tells that it is a secret, and where
/// that key begins. A reference to a secret is none.
fn secret_value(line: &str) -> Option<(usize, usize)> {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    for (colon, _) in line.match_indices(':') {
        let before = line[..colon].trim_end_matches([' ', '"', '\'']);
        let start = before
            .rfind(|c| !name(c))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let key = &before[start..];
        let secret = SECRET_WORDS.iter().any(|word| key.contains(word)) || key.ends_with("psk");
        let value = line[colon + 1..].trim_start();
        let reference = value.strip_prefix('{').map(str::trim_start).is_some_and(|inner| {
            ["secret:", "sops:", "file:", "env:"].iter().any(|word| inner.starts_with(word))
        });
        // `password_authentication: no` is a setting, and so is a path.
        let setting =
            matches!(value.trim_end().trim_end_matches([',', '}', ' ']), "true" | "false" | "yes" | "no");
        if secret && !reference && !setting {
            return Some((start, colon + 1));
        }
    }
    None
}

/// Whatever stands behind a key whose name tells that it is a secret; on
/// the same line, and on those below that are indented further than the key, or the next one if there is
/// nothing behind the key.
fn password_values(source: &str, bytes: &mut [u8]) {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut start = 0;
    // Column of the key whose value may go on, and whether it has begun.
    let mut open: Option<(usize, bool)> = None;
    for line in source.split_inclusive('\n') {
        let text_end = line.trim_end().len();
        let lower = line.to_ascii_lowercase();
        if let Some((column, begun)) = open.filter(|_| text_end > 0) {
            if indent(line) > column || !begun {
                hide(bytes, start + indent(line), start + text_end.max(indent(line)));
                open = Some((column, true));
            } else {
                open = None;
            }
        }
        if let Some((key, value)) = secret_value(&lower) {
            let value = value + indent(&line[value..]);
            hide(bytes, start + value, start + text_end.max(value));
            open = Some((key, value < text_end));
        }
        start += line.len();
    }
}

/// The same text with stars in these places. Every byte keeps its place.
pub(super) fn spans<'a>(source: &str, spans: impl Iterator<Item = &'a super::Span>) -> String {
    let mut bytes = source.as_bytes().to_vec();
    for span in spans {
        let (start, end) = (span.start.min(bytes.len()), span.end.min(bytes.len()));
        for byte in bytes.get_mut(start..end).into_iter().flatten().filter(|byte| **byte != b'\n') {
            *byte = b'*';
        }
    }
    // Spans are whole characters: what is left is text.
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn secrets_vanish_and_offsets_stay() {
        let begin = format!("-----BEGIN OPENSSH {} KEY-----", "PRIVATE");
        let source = format!(
            "ssh_keys:\n  - |\n    {begin}\n    c2VjcmV0\n    -----END OPENSSH KEY-----\nname: é\n\
             password_hash: hunter2\npassword_hash:\n\n  hunter2\n  hunter2\nother: [\"$6$salt$hash\"]\n"
        );
        let masked = mask(&source);
        assert_eq!(masked.len(), source.len());
        for secret in ["c2VjcmV0", "hunter2", "salt", "BEGIN"] {
            assert!(!masked.contains(secret), "{secret} is still in {masked}");
        }
        assert!(masked.contains(
            "name: é\npassword_hash: *******\npassword_hash:\n\n  *******\n  *******\nother: [\"***"
        ));
    }

    #[test]
    fn keys_that_sound_like_secrets_are_hidden_in_any_form() {
        for source in [
            "auth_key: hunter2",
            "  - { name: tailscale, auth_key: hunter2, x: hunter2",
            "\"auth-key\" : 'hunter2",
            "AWS_SECRET_ACCESS_KEY: hunter2",
            "webhook-token: >-\n  hunter2\n  hunter2",
            "psk: hunter2",
            "passphrase: \"hunter2",
        ] {
            let masked = mask(source);
            assert!(!masked.contains("hunter2"), "{masked}");
            assert_eq!(masked.len(), source.len());
        }
        for source in
            ["token: { secret: mine }", "ssh_keys: [mine]", "password_authentication: false", "name: mine"]
        {
            assert_eq!(mask(source), source);
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_keeps_length(text in "(PRIVATE KEY|-----END|password_hash:|\\$6\\$|é|\"|\n|\r| |x|İ){0,40}") {
            proptest::prop_assert_eq!(mask(&text).len(), text.len());
        }
    }
}
