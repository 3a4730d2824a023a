//! Appending sections to a stub.

use super::{LINUX, SBAT, parse::headers};
use crate::stream::copy;
use crate::tree::Content;
use object::LittleEndian as LE;
use object::pe::{
    IMAGE_DIRECTORY_ENTRY_SECURITY, IMAGE_SCN_CNT_CODE, IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ,
    IMAGE_SIZEOF_FILE_HEADER, IMAGE_SIZEOF_SECTION_HEADER, IMAGE_SIZEOF_SHORT_NAME, ImageDataDirectory,
    ImageDosHeader, ImageNtHeaders64, ImageSectionHeader,
};
use object::pod;
use std::io::{self, Write};

/// Bytes from the PE signature to the optional header: the signature and the COFF file header.
const FILE_HEADER_END: usize = 4 + IMAGE_SIZEOF_FILE_HEADER;

/// A section to append.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    /// At most eight bytes, such as `.cmdline`.
    pub name: &'a str,
    /// What it holds.
    pub content: Content,
}

/// Why an image cannot be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The stub is no PE32+ image.
    #[error("the stub is not a 64-bit PE image: {0}")]
    NotAStub(object::read::Error),
    /// The stub's headers contradict themselves or it has something that cannot be kept.
    #[error("the stub cannot be extended: {0}")]
    BadStub(&'static str),
    /// The section table cannot grow.
    #[error("the stub's headers have room for {room} more sections; {wanted} are wanted")]
    NoRoom {
        /// Sections that fit.
        room: usize,
        /// Sections to append.
        wanted: usize,
    },
    /// A section name is empty, too long, or taken.
    #[error("section {name:?}: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Sizes in a PE image have 32 bits.
    #[error("section {name} would end beyond the 4 GiB that a PE image can describe")]
    TooLarge {
        /// The section.
        name: String,
    },
    /// Reading a section's content, or writing the image, failed.
    #[error("section {name}: {source}")]
    Io {
        /// The section.
        name: String,
        /// What failed.
        source: io::Error,
    },
}

impl From<object::read::Error> for AssembleError {
    fn from(error: object::read::Error) -> Self {
        Self::NotAStub(error)
    }
}

/// Writes `stub` extended by `sections` to `out` and returns the image's size in bytes.
///
/// Sections keep their order, but `.linux` goes last; empty ones are left out, and `.sbat` is when the stub
/// has one. A signature of the stub is dropped, checksum and time stamp are zero.
///
/// # Errors
/// See [`AssembleError`]. Nothing is written before the headers are known to be good.
pub fn assemble(stub: &[u8], sections: &[Section<'_>], out: &mut impl Write) -> Result<u64, AssembleError> {
    let (_, table) = headers(stub)?;
    let layout = Layout::of(stub)?;
    let taken = |name: &str| table.iter().any(|header| header.raw_name() == name.as_bytes());
    let (mut wanted, last): (Vec<_>, Vec<_>) = sections
        .iter()
        .filter(|section| !(section.content.is_empty() || section.name == SBAT && taken(SBAT)))
        .partition(|section| section.name != LINUX);
    wanted.extend(last);
    for (at, section) in wanted.iter().enumerate() {
        check_name(section.name, taken(section.name) || wanted[..at].iter().any(|s| s.name == section.name))?;
    }

    let mut image = stub.to_vec();
    layout.drop_signature(&mut image)?;
    let mut end = End { file: image.len() as u64, memory: layout.memory_end };
    let mut new = Vec::with_capacity(wanted.len());
    for section in &wanted {
        new.push(layout.place(section, &mut end)?);
    }
    layout.extend(&mut image, &new, end.memory)?;

    let stub_io = |source| AssembleError::Io { name: "of the stub".to_owned(), source };
    out.write_all(&image).map_err(stub_io)?;
    let mut written = image.len() as u64;
    for (section, header) in wanted.iter().zip(&new) {
        let (offset, raw) = (header.pointer_to_raw_data.get(LE), header.size_of_raw_data.get(LE));
        let io = |source| AssembleError::Io { name: section.name.to_owned(), source };
        zeros(u64::from(offset) - written, out).map_err(io)?;
        copy(&section.content, out).map_err(io)?;
        zeros(u64::from(raw) - section.content.len(), out).map_err(io)?;
        written = u64::from(offset) + u64::from(raw);
    }
    Ok(written)
}

fn zeros(count: u64, out: &mut impl Write) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), count), out).map(drop)
}

fn check_name(name: &str, taken: bool) -> Result<(), AssembleError> {
    let why = match () {
        () if name.is_empty() || name.contains('\0') => "a section's name is 1 to 8 bytes without NUL",
        () if name.len() > IMAGE_SIZEOF_SHORT_NAME => "a section's name is at most 8 bytes",
        () if taken => "there is a section of this name already",
        () => return Ok(()),
    };
    Err(AssembleError::BadName { name: name.to_owned(), why })
}

/// What the stub's headers say of places and alignments.
struct Layout {
    file_alignment: u32,
    section_alignment: u32,
    /// Offset of the PE signature.
    nt: usize,
    /// Offset of the first free section header.
    table_end: usize,
    /// Where the first section begins, in the file or in memory, whichever is lower: what headers may grow to.
    first_data: usize,
    /// End of the last section in memory.
    memory_end: u64,
}

/// The next free byte in the file and in memory.
struct End {
    file: u64,
    memory: u64,
}

impl Layout {
    fn of(stub: &[u8]) -> Result<Self, AssembleError> {
        let (headers, table) = headers(stub)?;
        let optional = &headers.optional_header;
        let (file_alignment, section_alignment) =
            (optional.file_alignment.get(LE), optional.section_alignment.get(LE));
        if !file_alignment.is_power_of_two() || !section_alignment.is_power_of_two() {
            return Err(AssembleError::BadStub("its alignments are not powers of two"));
        }
        let data = table.iter().filter(|header| header.size_of_raw_data.get(LE) > 0);
        let first_data = data
            .flat_map(|header| [header.pointer_to_raw_data.get(LE), header.virtual_address.get(LE)])
            .min()
            .ok_or(AssembleError::BadStub("it has no section with data"))?;
        let memory_end = table
            .iter()
            .map(|header| u64::from(header.virtual_address.get(LE)) + u64::from(header.virtual_size.get(LE)))
            .max()
            .unwrap_or_default();
        let nt = usize::try_from(ImageDosHeader::parse(stub)?.nt_headers_offset()).unwrap_or(usize::MAX);
        let optional_size = usize::from(headers.file_header.size_of_optional_header.get(LE));
        let table_end = nt + FILE_HEADER_END + optional_size + size_of_val(table);
        let first_data = usize::try_from(first_data).unwrap_or(usize::MAX).min(stub.len());
        if table_end > first_data {
            return Err(AssembleError::BadStub("its section table overlaps its first section"));
        }
        Ok(Self { file_alignment, section_alignment, nt, table_end, first_data, memory_end })
    }

    /// Cuts off a signature, which would be wrong from now on ("PE Format", The Attribute Certificate Table:
    /// its address is an offset in the file, and it ends the file).
    fn drop_signature(&self, image: &mut Vec<u8>) -> Result<(), AssembleError> {
        let bad = || AssembleError::BadStub("its certificate table is not at its end");
        let (headers, directories) = pod::from_bytes_mut::<ImageNtHeaders64>(&mut image[self.nt..])
            .map_err(|()| AssembleError::BadStub("its headers are cut short"))?;
        let count = headers.optional_header.number_of_rva_and_sizes.get(LE);
        if usize::try_from(count).is_ok_and(|count| count <= IMAGE_DIRECTORY_ENTRY_SECURITY) {
            return Ok(());
        }
        let (directories, _) =
            pod::slice_from_bytes_mut::<ImageDataDirectory>(directories, IMAGE_DIRECTORY_ENTRY_SECURITY + 1)
                .map_err(|()| AssembleError::BadStub("its data directories are cut short"))?;
        let entry = &mut directories[IMAGE_DIRECTORY_ENTRY_SECURITY];
        let (start, size) = (entry.virtual_address.get(LE), entry.size.get(LE));
        if start == 0 && size == 0 {
            return Ok(());
        }
        entry.virtual_address.set(LE, 0);
        entry.size.set(LE, 0);
        let start = usize::try_from(start).map_err(|_| bad())?;
        let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size)).ok_or_else(bad)?;
        if start < self.first_data || end.next_multiple_of(8) < image.len() || end > image.len() {
            return Err(bad());
        }
        image.truncate(start);
        Ok(())
    }

    /// Adds the headers of `new` sections, which end at `memory_end`, to the table of `image`.
    fn extend(
        &self,
        image: &mut [u8],
        new: &[ImageSectionHeader],
        memory_end: u64,
    ) -> Result<(), AssembleError> {
        let free = &mut image[self.table_end..self.first_data];
        let room =
            free.iter().position(|byte| *byte != 0).unwrap_or(free.len()) / IMAGE_SIZEOF_SECTION_HEADER;
        let bytes = pod::bytes_of_slice(new);
        if new.len() > room {
            return Err(AssembleError::NoRoom { room, wanted: new.len() });
        }
        free[..bytes.len()].copy_from_slice(bytes);

        let (headers, _) = pod::from_bytes_mut::<ImageNtHeaders64>(&mut image[self.nt..])
            .map_err(|()| AssembleError::BadStub("its headers are cut short"))?;
        let bad = |_| AssembleError::BadStub("its sizes go beyond 32 bits");
        let raw = |code: bool| -> u64 {
            let of_kind = new
                .iter()
                .filter(|header| (header.characteristics.get(LE).0 & IMAGE_SCN_CNT_CODE.0 != 0) == code);
            of_kind.map(|header| u64::from(header.size_of_raw_data.get(LE))).sum()
        };
        let (file, optional) = (&mut headers.file_header, &mut headers.optional_header);
        let sections = usize::from(file.number_of_sections.get(LE)) + new.len();
        file.number_of_sections.set(LE, u16::try_from(sections).map_err(bad)?);
        file.time_date_stamp.set(LE, 0);
        let code = u64::from(optional.size_of_code.get(LE)) + raw(true);
        optional.size_of_code.set(LE, u32::try_from(code).map_err(bad)?);
        let data = u64::from(optional.size_of_initialized_data.get(LE)) + raw(false);
        optional.size_of_initialized_data.set(LE, u32::try_from(data).map_err(bad)?);
        let memory = memory_end.next_multiple_of(u64::from(self.section_alignment));
        optional.size_of_image.set(LE, u32::try_from(memory).map_err(bad)?);
        // The loader reads no further than SizeOfHeaders; a stub's may end with its own table.
        let table = u32::try_from(self.table_end + bytes.len()).map_err(bad)?;
        let table = table.checked_next_multiple_of(self.file_alignment).unwrap_or(u32::MAX);
        let old = optional.size_of_headers.get(LE);
        optional.size_of_headers.set(LE, old.max(table));
        optional.check_sum.set(LE, 0);
        Ok(())
    }

    /// The header of a section that follows what ends at `end`.
    fn place(&self, section: &Section<'_>, end: &mut End) -> Result<ImageSectionHeader, AssembleError> {
        let too_large = || AssembleError::TooLarge { name: section.name.to_owned() };
        let narrow = |value: u64| u32::try_from(value).map_err(|_| too_large());
        let len = section.content.len();
        let offset = end.file.next_multiple_of(u64::from(self.file_alignment));
        let raw = len.checked_next_multiple_of(u64::from(self.file_alignment)).ok_or_else(too_large)?;
        let address = end.memory.next_multiple_of(u64::from(self.section_alignment));
        let (memory, kind) = match section.name == LINUX {
            true => (len.max(size_of_kernel(&section.content)), IMAGE_SCN_CNT_CODE),
            false => (len, IMAGE_SCN_CNT_INITIALIZED_DATA),
        };
        end.file = offset.checked_add(raw).ok_or_else(too_large)?;
        end.memory = address.checked_add(memory).ok_or_else(too_large)?;
        narrow(end.file)?;
        narrow(end.memory.next_multiple_of(u64::from(self.section_alignment)))?;
        let mut header = ImageSectionHeader::default();
        header.name[..section.name.len()].copy_from_slice(section.name.as_bytes());
        header.virtual_size.set(LE, narrow(memory)?);
        header.virtual_address.set(LE, narrow(address)?);
        header.size_of_raw_data.set(LE, narrow(raw)?);
        header.pointer_to_raw_data.set(LE, narrow(offset)?);
        header.characteristics.set(LE, kind | IMAGE_SCN_MEM_READ);
        Ok(header)
    }
}

/// `SizeOfImage` of a kernel that is a PE image itself: what it needs in memory when it runs in place. 0 when
/// it is none.
fn size_of_kernel(kernel: &Content) -> u64 {
    let mut head = vec![0; usize::try_from(kernel.len().min(64 << 10)).unwrap_or_default()];
    let readable = kernel.read_exact_at(&mut head, 0).is_ok();
    let size = |(nt, _): (&ImageNtHeaders64, _)| u64::from(nt.optional_header.size_of_image.get(LE));
    if readable { headers(&head).map_or(0, size) } else { 0 }
}
