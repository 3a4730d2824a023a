//! Text as it stands in a YAML document or in a shell's line, so that what reads it sees the same text.

use std::fmt::Write as _;

/// Characters that YAML 1.1 or 1.2 calls unprintable, or a line break (YAML 1.1 §5.4, YAML 1.2.2 §5.1).
fn unprintable(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// A double-quoted scalar. What is unprintable, or a line break to some reader, is escaped; the rest stands as it is.
/// Escapes of one code unit only: YAML knows no surrogate pairs.
pub(super) fn quote(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            // Writing to a string does not fail.
            _ if unprintable(c) => drop(write!(text, "\\u{:04x}", u32::from(c))),
            _ => text.push(c),
        }
    }
    text.push('"');
}

/// The key of a mapping: plain where every reader takes it for text, else quoted.
pub(super) fn key(text: &mut String, key: &str) {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let word = matches!(
        key.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(inner) && !word {
        text.push_str(key);
    } else {
        quote(text, key);
    }
}

/// A value that people read as it is: a literal block scalar (YAML 1.2.2 §8.1.2) whose lines stand `indent` spaces from
/// the left, or, where a reader would not give back the same text, a quoted one.
pub(super) fn literal(value: &str, indent: usize) -> String {
    let whole = value.ends_with('\n') && !value.ends_with("\n\n") && !value.starts_with([' ', '\n']);
    let fits = whole
        && indent > 0
        && value.chars().all(|c| c == '\n' || !unprintable(c))
        // A line of blanks alone may come back empty from a reader that trims.
        && !value.lines().any(|line| line.ends_with(' '));
    if !fits {
        let mut text = String::new();
        quote(&mut text, value);
        return text;
    }
    let mut text = String::from("|");
    for line in value.lines() {
        text.push('\n');
        if !line.is_empty() {
            text.extend(std::iter::repeat_n(' ', indent));
            text.push_str(line);
        }
    }
    text
}

/// One word for a POSIX shell (XCU §2.2.2), and for systemd's environment files (systemd.exec(5)), where nothing but
/// the quote itself means anything between single quotes. systemd takes a quote behind a backslash for the beginning of
/// unquoted text, so the quote stands between double quotes.
pub(super) fn shell(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    use super::{literal, shell};

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Document {
        content: String,
    }

    #[test]
    fn literals_are_readable() {
        assert_eq!(literal("a: 1\n\n  # b\n", 4), "|\n    a: 1\n\n      # b");
        assert_eq!(literal("no newline", 4), "\"no newline\"");
    }

    #[test]
    fn a_shell_gives_words_back() {
        for text in ["", "a b", "it's", "$HOME `id` \"x\" \\ \n#"] {
            let printed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", shell(text))])
                .output()
                .expect("sh");
            assert_eq!(String::from_utf8_lossy(&printed.stdout), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn literals_come_back(content in proptest::prop_oneof![
            "[ a-c#:\n\t'\"{}|>%&*!-]{0,40}", "(\\PC|[\n ]){0,30}\n", "(.|[\u{0}-\u{ff}\u{2028}\u{feff}\n]){0,12}",
        ]) {
            let text = format!("content: {}\n", literal(&content, 2));
            let document: Document = serde_saphyr::from_str(&text).expect("parsed");
            proptest::prop_assert_eq!(document, Document { content });
        }
    }
}
