//! CHAP names and passwords of the handoff document, and how they are taken out of it where it lies. No byte moves and no
//! length changes, so the file system's own structures stay as they are, and a cut anywhere leaves a document that can be read:
//! first a marker in one sector says that the node has them, then their bytes are overwritten.

use crate::handoff::{self, Handoff};
use crate::iscsi::{Credentials, Iscsi};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use uuid::Uuid;

/// Where a node keeps what was taken out of its seed, readable by root alone.
pub const PATH: &str = "/var/lib/kiln/chap.json";
/// What is written over them. Behind a backslash it is an escape of JSON (RFC 8259, section 7), and alone it is a letter: a
/// string can be overwritten in any order once the second byte of each of its escapes is this one.
const FILLER: u8 = b'n';
/// What a disk writes as a whole or not at all, in bytes. Larger sectors are multiples of it, and a file begins with one.
const SECTOR: usize = 512;

/// Where CHAP names and passwords are. Each form has as many bytes as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Whereabouts {
    /// In the document.
    Seed,
    /// On the node, in the file at [`PATH`] that has this identifier. What the document has in their place is void.
    Node(Uuid),
}

impl From<Whereabouts> for String {
    fn from(whereabouts: Whereabouts) -> Self {
        match whereabouts {
            Whereabouts::Seed => format!("seed:{}", Uuid::nil().simple()),
            Whereabouts::Node(id) => format!("node:{}", id.simple()),
        }
    }
}

impl TryFrom<String> for Whereabouts {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WANT: &str = "`seed:` or `node:` and 32 lower-case hexadecimal digits are what it can be";
        let (word, id) = text.split_once(':').ok_or(WANT)?;
        let id = Uuid::try_parse(id).map_err(|_| WANT)?;
        let whereabouts = if word == "node" { Self::Node(id) } else { Self::Seed };
        // The one way to write it: its length is what counts.
        if String::from(whereabouts) == text { Ok(whereabouts) } else { Err(WANT) }
    }
}

impl Iscsi {
    /// All names and passwords, in the order of the document.
    pub fn credentials(&self) -> impl Iterator<Item = &Credentials> {
        let served = self.target.iter().flat_map(|target| &target.luns).flat_map(|lun| &lun.initiators);
        let chaps = self.luns.iter().map(|lun| &lun.chap).chain(served.map(|initiator| &initiator.chap));
        chaps.flatten().flat_map(|chap| std::iter::once(&chap.initiator).chain(&chap.target))
    }

    /// The same, to be changed.
    pub fn credentials_mut(&mut self) -> impl Iterator<Item = &mut Credentials> {
        let served =
            self.target.iter_mut().flat_map(|target| &mut target.luns).flat_map(|lun| &mut lun.initiators);
        let chaps =
            self.luns.iter_mut().map(|lun| &mut lun.chap).chain(served.map(|initiator| &mut initiator.chap));
        chaps.flatten().flat_map(|chap| std::iter::once(&mut chap.initiator).chain(&mut chap.target))
    }
}

/// Why nothing can be taken out of a document.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not good.
    #[error(transparent)]
    Document(#[from] handoff::Error),
    /// What is to be overwritten was not found where it must be.
    #[error("its CHAP names and passwords are not where they can be overwritten")]
    Shape,
}

/// Bytes to write at a place of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Bytes from its beginning.
    pub at: usize,
    /// What stands there then.
    pub bytes: Vec<u8>,
}

/// What a document has to lose.
#[derive(Debug)]
pub struct Removal {
    /// Where they are by the document's own word.
    pub whereabouts: Whereabouts,
    /// What is to be kept on the node first; nothing of use when the node has them already.
    pub credentials: Vec<Credentials>,
    /// Nothing is left to overwrite.
    pub done: bool,
    marker: Range<usize>,
    texts: Vec<Range<usize>>,
    escapes: Vec<usize>,
}

impl Removal {
    /// Looks through the bytes of a document. Nothing when it has no CHAP names and passwords, or is older than this
    /// procedure.
    pub fn find(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let handoff = Handoff::parse(bytes)?;
        let (Some(whereabouts), Some(iscsi)) = (handoff.credentials, &handoff.iscsi) else { return Ok(None) };
        let credentials: Vec<Credentials> = iscsi.credentials().cloned().collect();
        let strings = strings(bytes);
        let of = |key: &'static str| strings.iter().filter(move |string| string.key == key.as_bytes());
        let marker = of("credentials").map(|string| string.value.clone()).next().ok_or(Error::Shape)?;
        let texts: Vec<Range<usize>> = strings
            .iter()
            .filter(|string| matches!(string.key, b"user" | b"password"))
            .map(|string| string.value.clone())
            .collect();
        let read = |range: &Range<usize>| {
            serde_json::from_slice::<String>(bytes.get(range.start - 1..=range.end).unwrap_or_default())
        };
        let is = |(pair, want): (&[Range<usize>], &Credentials)| {
            let mut found = pair.iter().map(read);
            let mut is_next =
                |want: &str| found.next().is_some_and(|text| text.is_ok_and(|text| text == want));
            is_next(&want.user) && is_next(want.password.reveal())
        };
        let in_seed = whereabouts == Whereabouts::Seed;
        if texts.len() != 2 * credentials.len()
            || in_seed && !texts.chunks(2).zip(&credentials).all(is)
            || marker.len() != String::from(whereabouts).len()
            || marker.start / SECTOR != (marker.end - 1) / SECTOR
        {
            return Err(Error::Shape);
        }
        let of_range = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default().iter();
        let done = !in_seed && texts.iter().flat_map(of_range).all(|byte| *byte == FILLER);
        let escapes = strings.into_iter().filter(|string| texts.contains(&string.value));
        let escapes = escapes.flat_map(|string| string.escapes).collect();
        Ok(Some(Self { whereabouts, credentials, done, marker, texts, escapes }))
    }

    /// What to write so that the document points to the node's file `id` and holds nothing else of use. Each step must be on
    /// the medium before the next one begins; within a step the order does not matter, and all of it can be done again.
    pub fn steps(&self, id: Uuid) -> [Vec<Edit>; 3] {
        let marker = Edit { at: self.marker.start, bytes: String::from(Whereabouts::Node(id)).into_bytes() };
        let escape = |at: &usize| Edit { at: *at, bytes: vec![FILLER] };
        let text = |text: &Range<usize>| Edit { at: text.start, bytes: vec![FILLER; text.len()] };
        [vec![marker], self.escapes.iter().map(escape).collect(), self.texts.iter().map(text).collect()]
    }
}

/// A string that is the value of a key.
struct Text<'a> {
    /// As it is written.
    key: &'a [u8],
    /// Between the quotes.
    value: Range<usize>,
    /// The second byte of each escape in it.
    escapes: Vec<usize>,
}

/// All of them in a document, which is JSON.
fn strings(bytes: &[u8]) -> Vec<Text<'_>> {
    let mut found = Vec::new();
    // The string before, and whether a colon and nothing else came after it.
    let mut before: Option<(Range<usize>, bool)> = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let start = at + 1;
                let mut escapes = Vec::new();
                at = start;
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    if bytes.get(at) == Some(&b'\\') {
                        at += 1;
                        escapes.push(at);
                    }
                    at += 1;
                }
                let value = start..at;
                match before.take() {
                    Some((key, true)) => {
                        let key = bytes.get(key).unwrap_or_default();
                        found.push(Text { key, value, escapes });
                    }
                    _ => before = Some((value, false)),
                }
            }
            b':' => before = before.map(|(key, _)| (key, true)),
            byte if byte.is_ascii_whitespace() => {}
            _ => before = None,
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests;
