//! Lines of hwdb(7), as systemd's src/basic/fileio.c (`read_line_full`) and src/shared/hwdb-util.c
//! (`import_file`, `insert_data`) take them apart.

/// What may come next.
#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    /// A record.
    None,
    /// More matches of the record, or its first property.
    Matches,
    /// More properties.
    Properties,
}

/// Longer lines end the reading of a file (systemd's `LONG_LINE_MAX`, src/basic/fileio.h).
const LIMIT: usize = 1 << 20;

/// What is left of a text. A line ends with any of `\n`, `\r` and zero, or several that differ; a zero is
/// the last of them.
pub(super) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0;
        if text.is_empty() {
            return None;
        }
        let len = text.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0)).unwrap_or(text.len());
        if len >= LIMIT {
            self.0 = &[];
            return None;
        }
        let mut next = len;
        while let Some(byte @ (b'\n' | b'\r' | 0)) = text.get(next) {
            let ends = &text[len..next];
            if ends.contains(byte) || ends.contains(&0) {
                break;
            }
            next += 1;
        }
        self.0 = &text[next..];
        Some(&text[..len])
    }
}

/// A line without what follows `#` and without space at its end; nothing for a line that is all comment,
/// which unlike an empty one does not end a record.
pub(super) fn strip(line: &[u8]) -> Option<&[u8]> {
    if line.starts_with(b"#") {
        return None;
    }
    let len = line.iter().position(|byte| *byte == b'#').unwrap_or(line.len());
    // isspace(3), which unlike Rust counts the vertical tab.
    let space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let len = line[..len].iter().rposition(|byte| !space(byte)).map_or(0, |last| last + 1);
    Some(&line[..len])
}

/// Key, with the one blank before it, and value of a line that starts with a space; nothing for a line that
/// is passed over.
pub(super) fn property(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&line[..equals], &line[equals + 1..]);
    let blanks = key.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let key = &key[blanks.saturating_sub(1)..];
    (key.len() > 1).then_some((key, value))
}
