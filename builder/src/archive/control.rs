//! Control files: stanzas of fields, as deb822(5) and Debian Policy §5.1 have them, read without copying.

/// One stanza: the lines between two blank ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stanza<'a>(&'a str);

/// The stanzas of a document, empty ones left out.
pub fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\n', '\r']);
        if rest.is_empty() {
            return None;
        }
        let (stanza, after) = rest.split_once("\n\n").unwrap_or((rest, ""));
        rest = after;
        Some(Stanza(stanza))
    })
}

impl<'a> Stanza<'a> {
    /// The fields in their order: name and value. A value goes over several lines when the following ones
    /// begin with a blank; it then holds their line breaks. Lines that are no field and comments are left out.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let mut end = rest.find('\n').unwrap_or(rest.len());
                let first = &rest[..end];
                while rest[end..].starts_with("\n ") || rest[end..].starts_with("\n\t") {
                    end = rest[end + 1..].find('\n').map_or(rest.len(), |at| end + 1 + at);
                }
                let field = &rest[..end];
                rest = rest.get(end + 1..).unwrap_or("");
                if let Some(colon) = first.find(':').filter(|_| !first.starts_with(['#', ' ', '\t'])) {
                    return Some((&field[..colon], field[colon + 1..].trim()));
                }
            }
            None
        })
    }

    /// The value of a field; names are compared without regard to case (Policy §5.1).
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::stanzas;
    use proptest::proptest;

    #[test]
    fn fields_continue_over_lines() {
        let text = "\n\nPackage: a\nDescription: short\n long: not a field\n .\n\tmore\n# no field\nSize:  7 \n\n\nnonsense\nPackage:b";
        let all: Vec<Vec<_>> = stanzas(text).map(|stanza| stanza.fields().collect()).collect();
        let first =
            vec![("Package", "a"), ("Description", "short\n long: not a field\n .\n\tmore"), ("Size", "7")];
        assert_eq!(all, vec![first, vec![("Package", "b")]]);
        assert_eq!(stanzas(text).next().and_then(|stanza| stanza.get("SIZE")), Some("7"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[a-c:#\\n\\t \\r\u{e9}]{0,60}") {
            for stanza in stanzas(&text) {
                assert!(stanza.fields().all(|(name, _)| !name.contains('\n')));
            }
        }
    }
}
