//! The `ar` container as deb(5) uses it: a magic line, then members with a 60 byte header each, padded to
//! even sizes; names end with spaces, or with a slash when GNU ar wrote them.

use super::Error;
use std::io::{ErrorKind, Read};

/// Reads the magic line.
pub(super) fn magic(source: &mut impl Read) -> Result<(), Error> {
    let mut magic = [0; 8];
    match fill(source, &mut magic)? {
        8 if &magic == b"!<arch>\n" => Ok(()),
        _ => Err(Error::NotADeb("it does not begin with the ar magic")),
    }
}

/// A member whose body is read through it.
pub(super) struct Member<'a, R> {
    pub(super) name: String,
    pub(super) size: u64,
    left: u64,
    /// The source ended inside the body.
    pub(super) cut: bool,
    source: &'a mut R,
}

impl<'a, R: Read> Member<'a, R> {
    /// The member whose header comes next.
    pub(super) fn next(source: &'a mut R) -> Result<Self, Error> {
        let mut header = [0; 60];
        let got = fill(source, &mut header)?;
        if got < header.len() {
            let member = if got == 0 { "the list of members" } else { "the header of a member" };
            let missing = (header.len() - got) as u64;
            return Err(Error::Truncated { member: member.to_owned(), missing, size: 60 });
        }
        if &header[58..] != b"`\n" {
            return Err(Error::NotADeb("a member's header does not end as ar(5) says"));
        }
        let field =
            |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).unwrap_or("").trim_end();
        let size = field(48..58);
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::NotADeb("a member's size is not a number"));
        }
        let size = size.parse().map_err(|_| Error::NotADeb("a member's size is not a number"))?;
        let name = field(0..16);
        let name = name.strip_suffix('/').unwrap_or(name).to_owned();
        Ok(Self { name, size, left: size, cut: false, source })
    }

    /// The next member that is `wanted` with or without a suffix. Members whose name begins with an
    /// underscore are passed over, as deb(5) allows; the version member is, too.
    pub(super) fn find(source: &'a mut R, wanted: &'static str) -> Result<Self, Error> {
        loop {
            let (name, size) = {
                let member = Member::next(&mut *source)?;
                (member.name, member.size)
            };
            let mut member = Member { name, size, left: size, cut: false, source: &mut *source };
            if member.name.starts_with('_') || member.name == "debian-binary" {
                member.skip_rest()?;
                continue;
            }
            if !member.name.starts_with(wanted) {
                return Err(Error::Missing { wanted, found: member.name });
            }
            let Member { name, .. } = member;
            return Ok(Member { name, size, left: size, cut: false, source });
        }
    }

    /// How the source was cut short, when it was.
    pub(super) fn truncated(&self) -> Option<Error> {
        self.cut.then(|| Error::Truncated { member: self.name.clone(), missing: self.left, size: self.size })
    }

    /// Reads to the member's padded end.
    pub(super) fn skip_rest(&mut self) -> Result<(), Error> {
        let mut buf = [0; 4096];
        loop {
            match self.read(&mut buf) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.truncated().unwrap_or(Error::Read(error))),
            }
        }
        if self.size % 2 == 1 {
            // Some writers leave out the padding after the last member.
            fill(self.source, &mut [0])?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Member<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        if want == 0 {
            return Ok(0);
        }
        let got = self.source.read(&mut buf[..want])?;
        if got == 0 {
            self.cut = true;
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// Reads until `buf` is full or the source ends; returns the number of bytes.
fn fill(source: &mut impl Read, buf: &mut [u8]) -> Result<usize, Error> {
    let mut at = 0;
    while at < buf.len() {
        match source.read(&mut buf[at..]) {
            Ok(0) => break,
            Ok(got) => at += got,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
    Ok(at)
}
