//! Unified kernel images assembled from a stub made here, judged by objdump and read back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod tools;

use kiln_formats::io::ReadAt;
use kiln_formats::tree::Content;
use kiln_formats::uki::{self, AssembleError, ParseError, Section};
use proptest::prelude::{any, prop, proptest};
use std::sync::Arc;
use tools::Tool;

/// A stub: MZ, PE headers, `.text` (0x1000, 16 bytes) and `.sbat` (0x2000), 512 and 4096 byte alignment.
struct Stub {
    nt: usize,
    first_raw: u32,
    certificate: Option<u32>,
}

const PLAIN: Stub = Stub { nt: 0x78, first_raw: 0x600, certificate: None };

impl Stub {
    fn bytes(&self) -> Vec<u8> {
        let mut image = vec![0; self.first_raw as usize + 0x400];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &u32::try_from(self.nt).unwrap().to_le_bytes());
        let nt = self.nt;
        put(nt, b"PE\0\0\x64\x86\x02\0");
        put(nt + 8, &1_700_000_000_u32.to_le_bytes());
        put(nt + 20, &240_u16.to_le_bytes());
        put(nt + 22, &0x22e_u16.to_le_bytes());
        let optional = nt + 24;
        put(optional, &[0x0b, 0x02]);
        for (at, value) in [
            (4, 0x200),
            (8, 0x200),
            (16, 0x1000),
            (20, 0x1000),
            (32, 0x1000),
            (36, 0x200),
            (56, 0x3000),
            (60, 0x200),
            (64, 0xdead_beef),
            (108, 16),
        ] {
            put(optional + at, &u32::to_le_bytes(value));
        }
        put(optional + 68, &[10, 0]);
        let table = optional + 240;
        for (at, name, address, flags) in
            [(0, b".text\0\0\0", 0x1000_u32, 0x6000_0020_u32), (1, b".sbat\0\0\0", 0x2000, 0x4000_0040)]
        {
            let header = table + at * 40;
            put(header, name);
            put(header + 8, &16_u32.to_le_bytes());
            put(header + 12, &address.to_le_bytes());
            put(header + 16, &0x200_u32.to_le_bytes());
            put(header + 20, &(self.first_raw + u32::try_from(at).unwrap() * 0x200).to_le_bytes());
            put(header + 36, &flags.to_le_bytes());
        }
        put(self.first_raw as usize, &[0xc3; 16]);
        put(self.first_raw as usize + 0x200, b"sbat,1,SBAT test");
        if let Some(size) = self.certificate {
            let end = u32::try_from(image.len()).unwrap();
            let entry = optional + 112 + 4 * 8;
            image[entry..entry + 4].copy_from_slice(&end.to_le_bytes());
            image[entry + 4..entry + 8].copy_from_slice(&size.to_le_bytes());
            image.resize(image.len() + size as usize, 0xee);
        }
        image
    }
}

fn section(name: &str, bytes: impl Into<Arc<[u8]>>) -> Section<'_> {
    Section { name, content: Content::bytes(bytes) }
}

fn sections() -> Vec<Section<'static>> {
    // A kernel that is a PE image itself wants its SizeOfImage in memory: 0x3000 here.
    let mut kernel = PLAIN.bytes();
    kernel.truncate(0x700);
    vec![
        section(".linux", kernel),
        section(".osrel", *b"ID=debian\n"),
        section(".cmdline", *b"console=ttyS0 quiet"),
        section(".uname", *b"6.12.0"),
        section(".ucode", *b""),
        section(".sbat", *b"sbat,1,other"),
        section(".initrd", vec![5; 100_000]),
    ]
}

fn assemble(stub: &[u8], sections: &[Section<'_>]) -> Result<Vec<u8>, AssembleError> {
    let mut bytes = Vec::new();
    let size = uki::assemble(stub, sections, &mut bytes)?;
    assert_eq!(size, bytes.len() as u64);
    Ok(bytes)
}

/// Frozen: other bytes mean that images made from an old lock are no longer reproduced. Change the number only
/// with a line in the change log.
#[test]
fn bytes_are_frozen() {
    assert_eq!(crc32fast::hash(&assemble(&PLAIN.bytes(), &sections()).unwrap()), 2_003_986_082);
}

#[test]
fn sections_are_read_back() {
    let stub = PLAIN.bytes();
    let bytes = assemble(&stub, &sections()).unwrap();
    assert!(bytes == assemble(&stub, &sections()).unwrap(), "the same input makes the same bytes");
    let source: Arc<dyn ReadAt> = Arc::new(bytes.clone());
    let image = uki::parse(&*source).unwrap();
    let names: Vec<&str> = image.sections.iter().map(|section| section.name.as_str()).collect();
    assert_eq!(names, [".text", ".sbat", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"]);
    assert_eq!(image.machine, 0x8664);
    for wanted in sections().iter().filter(|section| !section.content.is_empty() && section.name != ".sbat") {
        let found = image.section(wanted.name).unwrap();
        let (found_bytes, wanted_bytes) =
            (found.content(&source).read().unwrap(), wanted.content.read().unwrap());
        let (same, padding) = found_bytes.split_at(wanted_bytes.len());
        assert!(same == wanted_bytes && padding.iter().all(|byte| *byte == 0), "{}", wanted.name);
        assert!(padding.is_empty() || wanted.name == ".linux", "{}", wanted.name);
        assert_eq!((found.offset % 0x200, found.virtual_address % 0x1000), (0, 0));
    }
    let sbat = image.section(".sbat").unwrap().content(&source).read().unwrap();
    assert_eq!(sbat, b"sbat,1,SBAT test", "the stub's own is kept");
    let linux = image.section(".linux").unwrap();
    assert_eq!((linux.size, linux.virtual_size), (0x800, 0x3000));
    assert_eq!(image.size_of_image, linux.virtual_address + 0x3000);
    assert_eq!(bytes[PLAIN.first_raw as usize..stub.len()], stub[PLAIN.first_raw as usize..]);
}

/// objdump sees the sections where they are, each with its bytes, and the header fields as they must be.
#[test]
fn objdump_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uki.efi");
    std::fs::write(&path, assemble(&PLAIN.bytes(), &sections()).unwrap()).unwrap();
    let objdump = |args: &[&str]| Tool::new("objdump", "binutils").args(args).args([&path]).run();
    let listing = objdump(&["-h", "-w"]);
    let rows: Vec<Vec<&str>> = listing
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<_>| row.len() > 6)
        .collect();
    let row =
        |name: &str| rows.iter().find(|row| row[1] == name).unwrap_or_else(|| panic!("{name}: {listing}"));
    assert_eq!(row(".osrel")[2..6], ["0000000a", "0000000000003000", "0000000000003000", "00000a00"]);
    assert_eq!(row(".cmdline")[2..6], ["00000013", "0000000000004000", "0000000000004000", "00000c00"]);
    assert_eq!(row(".initrd")[2..6], ["000186a0", "0000000000006000", "0000000000006000", "00001000"]);
    assert_eq!(row(".linux")[3..6], ["000000000001f000", "000000000001f000", "00019800"]);
    assert!(row(".linux").contains(&"CODE,") || row(".linux").contains(&"CODE"), "{listing}");
    assert!(row(".initrd").iter().any(|word| word.starts_with("DATA")), "{listing}");
    assert!(row(".initrd").iter().any(|word| word.starts_with("READONLY")), "{listing}");

    let headers = objdump(&["-p"]);
    let field = |name: &str| {
        let line = headers.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{headers}"));
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(field("CheckSum"), "00000000");
    assert_eq!(field("SizeOfImage"), "00022000");
    assert_eq!(field("SizeOfHeaders"), "00000400");
    assert_eq!(field("SizeOfInitializedData"), format!("{:016x}", 0x200 + 3 * 0x200 + 0x18800));
    assert!(
        field("Time/Date").contains("1970") || headers.contains("This is a reproducible build"),
        "{headers}"
    );
    let dump = objdump(&["-s", "-j", ".cmdline"]);
    assert!(dump.contains("console=ttyS0 qu"), "{dump}");
}

#[test]
fn room_for_headers_is_checked() {
    // 0x78 + 24 + 240 + 2 * 40 = 0x1d8: exactly one more header fits below 0x200.
    let tight = Stub { first_raw: 0x200, ..PLAIN }.bytes();
    assemble(&tight, &sections()[1..2]).unwrap();
    match assemble(&tight, &sections()) {
        Err(AssembleError::NoRoom { room: 1, wanted: 5 }) => {}
        other => panic!("{other:?}"),
    }
    // Bytes that someone put behind the table are not overwritten.
    let mut used = PLAIN.bytes();
    used[0x1d8 + 45] = 1;
    assert!(matches!(assemble(&used, &sections()), Err(AssembleError::NoRoom { room: 1, wanted: 5 })));
}

#[test]
fn a_signature_is_dropped() {
    let signed = Stub { certificate: Some(1000), ..PLAIN };
    assert_eq!(
        assemble(&signed.bytes(), &sections()).unwrap(),
        assemble(&PLAIN.bytes(), &sections()).unwrap()
    );
    let mut odd = signed.bytes();
    odd.extend([0; 64]);
    assert!(matches!(assemble(&odd, &sections()), Err(AssembleError::BadStub(_))));
}

#[test]
fn bad_sections_are_refused() {
    let refused = |sections: &[Section<'_>]| assemble(&PLAIN.bytes(), sections).unwrap_err().to_string();
    assert!(refused(&[section(".muchtoolong", *b"x")]).contains("at most 8 bytes"));
    assert!(refused(&[section("", *b"x")]).contains("1 to 8 bytes"));
    assert!(refused(&[section(".text", *b"x")]).contains("already"));
    assert!(refused(&[section(".uname", *b"x"), section(".uname", *b"y")]).contains("already"));
    assert!(matches!(assemble(b"MZ", &[]), Err(AssembleError::NotAStub(_))));
}

#[derive(Debug)]
struct Endless;

impl ReadAt for Endless {
    fn read_exact_at(&self, buf: &mut [u8], _: u64) -> std::io::Result<()> {
        buf.fill(0);
        Ok(())
    }
    fn size(&self) -> std::io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[test]
fn four_gigabytes_are_the_end() {
    for len in [u64::from(u32::MAX) - 0x2fff, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let content = Content::Extern { source: Arc::new(Endless), offset: 0, len };
        let error = assemble(&PLAIN.bytes(), &[Section { name: ".initrd", content }]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "section .initrd would end beyond the 4 GiB that a PE image can describe"
        );
    }
}

#[test]
fn a_cut_image_is_named() {
    let mut bytes = assemble(&PLAIN.bytes(), &sections()).unwrap();
    bytes.truncate(0x19800);
    match uki::parse(&bytes) {
        Err(ParseError::Truncated { name, size: 0x19800 }) => assert_eq!(name, ".linux"),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(tools::cases(500))]

    #[test]
    fn parser_survives_random_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        if let Some(start) = bytes.first_chunk_mut() {
            *start = *b"MZ";
        }
        let _ = uki::parse(&bytes);
        let _ = uki::assemble(&bytes, &[], &mut std::io::sink());
    }

    #[test]
    fn stub_headers_may_be_anything(
        edits in prop::collection::vec((0_usize..0x200, any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        certificate in prop::option::of(0_u32..100),
    ) {
        let mut bytes = Stub { certificate, ..PLAIN }.bytes();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = uki::parse(&bytes);
        let _ = uki::assemble(&bytes, &sections(), &mut std::io::sink());
    }
}
