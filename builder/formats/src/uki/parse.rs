//! Reading the headers of a PE32+ image.

use crate::io::{ReadAt, Window};
use crate::tree::Content;
use object::LittleEndian as LE;
use object::pe::{ImageDosHeader, ImageNtHeaders64, ImageSectionHeader};
use object::read::pe::ImageNtHeaders as _;
use std::io;
use std::sync::Arc;

/// Headers lie at the start; no linker makes larger ones.
const HEADERS_MAX: u64 = 1 << 20;

/// Why bytes cannot be read as a PE image.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// No PE32+ headers.
    #[error("not a 64-bit PE image: {0}")]
    NotAnImage(object::read::Error),
    /// A section's bytes are not in the file.
    #[error("section {name} of the PE image goes past the end of the file ({size} bytes)")]
    Truncated {
        /// The section.
        name: String,
        /// The file's size in bytes.
        size: u64,
    },
    /// The source could not be read.
    #[error("reading the PE image: {0}")]
    Io(#[from] io::Error),
}

impl From<object::read::Error> for ParseError {
    fn from(error: object::read::Error) -> Self {
        Self::NotAnImage(error)
    }
}

/// A PE image's sections, and what its headers say of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `Machine` of the COFF header: 0x8664 for x86-64, 0xaa64 for arm64.
    pub machine: u16,
    /// `SizeOfImage`: bytes of memory that the firmware sets aside.
    pub size_of_image: u32,
    /// In the order of the section table.
    pub sections: Vec<FoundSection>,
}

/// A section of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSection {
    /// Such as `.cmdline`.
    pub name: String,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes of content: without the padding to the file alignment, and without memory that has no bytes in
    /// the file. The padding of a kernel, which has more memory than bytes, cannot be told apart and counts.
    pub size: u64,
    /// Address in memory, from the start of the image.
    pub virtual_address: u32,
    /// Bytes in memory.
    pub virtual_size: u32,
}

impl Image {
    /// The first section of this name.
    pub fn section(&self, name: &str) -> Option<&FoundSection> {
        self.sections.iter().find(|section| section.name == name)
    }
}

impl FoundSection {
    /// The section's bytes in `source`, the file that was parsed.
    pub fn content(&self, source: &Arc<dyn ReadAt>) -> Content {
        Content::Extern { source: Arc::clone(source), offset: self.offset, len: self.size }
    }
    /// As [`FoundSection::content`], as a source of its own (to read the archives in `.initrd`).
    pub fn window(&self, source: &Arc<dyn ReadAt>) -> Window {
        Window::new(Arc::clone(source), self.offset, self.size)
    }
}

/// Reads the headers of a 64-bit PE image.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(source: &dyn ReadAt) -> Result<Image, ParseError> {
    let size = source.size()?;
    let mut head = vec![0; usize::try_from(size.min(HEADERS_MAX)).unwrap_or_default()];
    source.read_exact_at(&mut head, 0)?;
    let (nt, table) = headers(&head)?;
    let sections = table.iter().map(|header| found(header, size)).collect::<Result<_, _>>()?;
    Ok(Image {
        machine: nt.file_header.machine.get(LE).0,
        size_of_image: nt.optional_header.size_of_image.get(LE),
        sections,
    })
}

/// The headers at the start of `head`, and the section table.
pub(super) fn headers(
    head: &[u8],
) -> Result<(&ImageNtHeaders64, &[ImageSectionHeader]), object::read::Error> {
    let mut offset = u64::from(ImageDosHeader::parse(head)?.nt_headers_offset());
    let (nt, _) = ImageNtHeaders64::parse(head, &mut offset)?;
    let table = nt.sections(head, offset)?;
    let sections = table.iter().as_slice();
    Ok((nt, sections))
}

fn found(header: &ImageSectionHeader, file: u64) -> Result<FoundSection, ParseError> {
    let virtual_size = header.virtual_size.get(LE);
    let section = FoundSection {
        name: String::from_utf8_lossy(header.raw_name()).into_owned(),
        offset: u64::from(header.pointer_to_raw_data.get(LE)),
        size: u64::from(header.size_of_raw_data.get(LE).min(virtual_size)),
        virtual_address: header.virtual_address.get(LE),
        virtual_size,
    };
    match section.size > 0 && section.offset + section.size > file {
        true => Err(ParseError::Truncated { name: section.name, size: file }),
        false => Ok(section),
    }
}
