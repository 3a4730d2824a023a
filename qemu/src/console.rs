//! A console's bytes as text: escape sequences gone, one line a line.

/// How many lines an error shows.
const TAIL: usize = 40;

/// Where the reader is in an escape sequence (ECMA-48, section 5.4; OSC as xterm ends it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte.
    Intermediate,
    /// After ESC [.
    Control,
    /// After ESC ], until BEL or ST.
    Command,
    /// After ESC within a command.
    CommandEscape,
}

/// What a console has said so far.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    state: State,
    /// Bytes of the character that is not complete yet.
    partial: Vec<u8>,
    text: String,
    /// Up to here everything was looked at.
    cursor: usize,
}

impl Transcript {
    /// Takes bytes as they come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                // CAN and SUB end a sequence, ESC begins the next one.
                (State::Text | State::Escape | State::Intermediate | State::Control, 0x1b) => State::Escape,
                (State::Command, 0x1b) => State::CommandEscape,
                (_, 0x18 | 0x1a) => State::Text,
                (State::Text, _) => {
                    self.character(byte);
                    State::Text
                }
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::Command,
                (State::Escape | State::Intermediate, 0x20..=0x2f) => State::Intermediate,
                // A line end inside a torn sequence is a line end.
                (State::Escape | State::Intermediate | State::Control, b'\r' | b'\n') => {
                    self.character(byte);
                    State::Text
                }
                (State::Escape | State::Intermediate, _) => State::Text,
                (State::Control, 0x40..=0x7e) => {
                    // Moving elsewhere, as CUP, HVP, CNL, VPA and clearing do, ends what stood before.
                    if matches!(byte, b'H' | b'f' | b'E' | b'd' | b'J') {
                        self.end_line();
                    }
                    State::Text
                }
                (State::Control, _) => State::Control,
                (State::Command, 0x07) => State::Text,
                (State::Command, _) => State::Command,
                (State::CommandEscape, b'\\') => State::Text,
                (State::CommandEscape, _) => State::Command,
            };
        }
    }

    fn character(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\r' => self.end_line(),
            b'\t' => self.text.push('\t'),
            0x00..=0x1f | 0x7f => {}
            0x20..=0x7e => {
                self.flush();
                self.text.push(char::from(byte));
            }
            _ => {
                self.partial.push(byte);
                // At most four bytes make a character.
                if std::str::from_utf8(&self.partial).is_ok() || self.partial.len() >= 4 {
                    self.flush();
                }
            }
        }
    }

    fn flush(&mut self) {
        if !self.partial.is_empty() {
            self.text.push_str(&String::from_utf8_lossy(&self.partial));
            self.partial.clear();
        }
    }

    /// A line end, unless the line is empty: terminals get CR, CR LF and jumps for one.
    fn end_line(&mut self) {
        self.flush();
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// The first of `patterns` in what was not looked at yet: where it begins and which one it is. Of several at
    /// one place the first in the list counts. What was looked at is not searched again.
    pub(crate) fn find(&self, patterns: &[&str]) -> Option<(usize, usize)> {
        let rest = &self.text[self.cursor..];
        let found =
            patterns.iter().enumerate().filter_map(|(which, pattern)| Some((rest.find(pattern)?, which)));
        found.min().map(|(at, which)| (self.cursor + at, which))
    }

    /// The line around a place, once its end has come; with `partial`, also before.
    pub(crate) fn line(&self, at: usize, partial: bool) -> Option<&str> {
        let begin = self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        match self.text[at..].find('\n') {
            Some(length) => Some(&self.text[begin..at + length]),
            None => partial.then(|| &self.text[begin..]),
        }
    }

    /// Everything up to `at` was looked at.
    pub(crate) fn advance(&mut self, at: usize) {
        self.cursor = at.min(self.text.len());
    }

    /// Everything so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let lines: Vec<&str> = self.text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Transcript;

    fn of(bytes: &[u8]) -> String {
        let mut whole = Transcript::default();
        whole.push(bytes);
        // However the bytes are cut, the text is the same.
        let mut cut = Transcript::default();
        bytes.iter().for_each(|byte| cut.push(&[*byte]));
        assert_eq!(whole.text(), cut.text());
        whole.text().to_owned()
    }

    #[test]
    fn escape_sequences_are_gone() {
        for (bytes, text) in [
            ("plain\r\ntext\n".as_bytes(), "plain\ntext\n"),
            (b"[\x1b[0;32m  OK  \x1b[0m] Started\r\r\n", "[  OK  ] Started\n"),
            (b"a\x1b]104\x07b\x1b]0;title\x1b\\c", "abc"),
            (b"\x1b[!p\x1b[?7h\x1b(Bx\x1b=y", "xy"),
            (b"one\x1b[2J\x1b[01;01Htwo", "one\ntwo"),
            (b"\r  left 10 s \r  left 9 s \n", "  left 10 s \n  left 9 s \n"),
            ("grün €\n".as_bytes(), "grün €\n"),
            (b"x\xffy", "x\u{fffd}y"),
            (b"\x1b[31", ""),
            (b"\x1b\r\nnext", "next"),
        ] {
            assert_eq!(of(bytes), text, "{bytes:?}");
        }
    }

    #[test]
    fn the_first_place_wins_then_the_first_pattern() {
        let mut transcript = Transcript::default();
        transcript.push(b"kiln: 1.0 begin\nkiln: 2.0 end\nlogin: ");
        assert_eq!(transcript.find(&["end", "kiln: ", "kiln: 1"]), Some((0, 1)));
        assert_eq!(transcript.line(0, false), Some("kiln: 1.0 begin"));
        transcript.advance(6);
        let (at, which) = transcript.find(&["kiln: "]).unwrap();
        assert_eq!((transcript.line(at, false), which), (Some("kiln: 2.0 end"), 0));
        let (at, _) = transcript.find(&["login: "]).unwrap();
        assert_eq!(transcript.line(at, false), None);
        assert_eq!(transcript.line(at, true), Some("login: "));
        transcript.advance(usize::MAX);
        assert_eq!(transcript.find(&["login: "]), None);
    }

    #[test]
    fn the_tail_is_short() {
        let mut transcript = Transcript::default();
        (0..100).for_each(|number| transcript.push(format!("line {number}\n\n").as_bytes()));
        let tail = transcript.tail();
        assert!(tail.starts_with("line 60\n") && tail.ends_with("line 99"), "{tail}");
    }
}
