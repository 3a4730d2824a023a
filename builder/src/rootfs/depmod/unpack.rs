//! Modules lie in the tree as they are, or packed with xz or zstd.

use liblzma::stream::{Action, Status, Stream};
use std::io::{Error, ErrorKind, Read, Result};

/// No module comes near; what claims to be larger is an attack or an accident (bytes).
const LARGEST: usize = 512 << 20;
/// Memory for a decoder: the kernel's own is built for far less (bytes).
const MEMORY: u64 = 128 << 20;

const SUFFIXES: [&str; 3] = [".ko", ".ko.xz", ".ko.zst"];

/// True for the names that Debian's kmod takes for modules (it is built without gzip).
pub(super) fn is_module(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    SUFFIXES.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix.as_bytes()))
}

/// Unpacks one module after another into the same buffer.
#[derive(Default)]
pub(super) struct Unpacker {
    buffer: Vec<u8>,
}

impl Unpacker {
    /// The module's bytes, from what lies at `path`.
    pub(super) fn unpack<'a>(&'a mut self, path: &str, packed: &'a [u8]) -> Result<&'a [u8]> {
        self.buffer.clear();
        if path.ends_with(".xz") {
            self.xz(packed)?;
        } else if path.ends_with(".zst") {
            let decoder = zstd::Decoder::with_buffer(packed)?;
            decoder.take(LARGEST as u64 + 1).read_to_end(&mut self.buffer)?;
            if self.buffer.len() > LARGEST {
                return Err(too_large());
            }
        } else {
            return Ok(packed);
        }
        Ok(&self.buffer)
    }

    fn xz(&mut self, mut packed: &[u8]) -> Result<()> {
        let mut stream = Stream::new_stream_decoder(MEMORY, 0)?;
        loop {
            if self.buffer.len() == self.buffer.capacity() {
                if self.buffer.len() >= LARGEST {
                    return Err(too_large());
                }
                self.buffer.reserve(self.buffer.len().max(1 << 20));
            }
            let before = (stream.total_in(), stream.total_out());
            let status = stream.process_vec(packed, &mut self.buffer, Action::Finish)?;
            let eaten = stream.total_in() - before.0;
            packed = &packed[usize::try_from(eaten).map_or(packed.len(), |eaten| eaten.min(packed.len()))..];
            match status {
                Status::StreamEnd => return Ok(()),
                _ if eaten == 0
                    && stream.total_out() == before.1
                    && self.buffer.len() < self.buffer.capacity() =>
                {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                _ => {}
            }
        }
    }
}

fn too_large() -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("it unpacks to more than {LARGEST} bytes"))
}
