//! Packages made here, whole, cut and mangled.

use super::{Control, Error, Limits, index, read};
use crate::tree::{Kind, Tree};
use proptest::prelude::{ProptestConfig, any, proptest};
use std::io::Write;
use std::sync::Arc;

fn header(name: &str, kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(5);
    header.set_mtime(1234);
    header.set_size(size as u64);
    header
}

fn data_tar() -> Vec<u8> {
    let long = format!("./usr/{}/file", "n".repeat(200));
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(
        &{
            let mut h = header("./", tar::EntryType::Directory, 0);
            h.set_cksum();
            h
        },
        &b""[..],
    )
    .unwrap();
    tar.append_data(&mut header("usr/x", tar::EntryType::Regular, 5), "usr/x", &b"hello"[..]).unwrap();
    tar.append_data(&mut header("y", tar::EntryType::Regular, 2), &long[2..], &b"hi"[..]).unwrap();
    tar.append_link(&mut header("usr/l", tar::EntryType::Symlink, 0), "usr/l", "x").unwrap();
    tar.append_link(&mut header("usr/h", tar::EntryType::Link, 0), "usr/h", "./usr/x").unwrap();
    tar.append_pax_extensions([("SCHILY.xattr.user.a", &b"v"[..]), ("mtime", b"9.25")]).unwrap();
    tar.append_data(&mut header("usr/p", tar::EntryType::Regular, 1), "usr/p", &b"p"[..]).unwrap();
    let mut device = header("dev/null", tar::EntryType::Char, 0);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    tar.append_data(&mut device, "dev/null", &b""[..]).unwrap();
    tar.into_inner().unwrap()
}

fn control_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in [("control", "Package: x\n"), ("postinst", "#!/bin/sh\n")] {
        tar.append_data(&mut header(name, tar::EntryType::Regular, text.len()), name, text.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, "100644", bytes.len()).unwrap();
        out.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

fn package() -> Vec<u8> {
    ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", &xz(&control_tar())),
        ("data.tar.zst", &zst(&data_tar())),
    ])
}

fn open(deb: &[u8]) -> Result<(Control, Tree), Error> {
    let mut unpacked = Vec::new();
    let control = read(&mut &*deb, &mut unpacked, &Limits { control: 1 << 20, data: 1 << 20, threads: 1 })?;
    Ok((control, index(Arc::new(unpacked))?))
}

#[test]
fn every_kind_of_entry_is_read() {
    let (control, tree) = open(&package()).unwrap();
    assert_eq!(control.text("control").unwrap(), "Package: x\n");
    assert_eq!(control.files["postinst"].mode, 0o755);
    let content = |path: &str| match &tree.get(path).unwrap().kind {
        Kind::File(content) => content.read().unwrap(),
        other => panic!("{path} is {other:?}"),
    };
    assert_eq!(content("usr/x"), b"hello");
    assert_eq!(content(&format!("usr/{}/file", "n".repeat(200))), b"hi");
    assert!(matches!(&tree.get("usr/l").unwrap().kind, Kind::Symlink(to) if **to == *b"x"));
    assert!(matches!(&tree.get("usr/h").unwrap().kind, Kind::HardLink(to) if **to == *b"usr/x"));
    assert!(matches!(tree.get("dev/null").unwrap().kind, Kind::CharDevice { major: 1, minor: 3 }));
    let meta = &tree.get("usr/p").unwrap().meta;
    assert_eq!((meta.mtime.secs, meta.mtime.nanos, meta.gid), (9, 250_000_000, 5));
    assert_eq!(meta.xattrs.get(&b"user.a"[..]).map(|value| &**value), Some(&b"v"[..]));
    assert!(matches!(tree.get("").unwrap().kind, Kind::Directory));
}

#[test]
fn all_compressions_agree() {
    let (control, data) = (control_tar(), data_tar());
    let (control_xz, control_zst, data_xz) = (xz(&control), zst(&control), xz(&data));
    for (c, d) in [
        (("control.tar", &control), ("data.tar", &data)),
        (("control.tar.zst", &control_zst), ("data.tar.xz/", &data_xz)),
        (("control.tar.xz", &control_xz), ("data.tar", &data)),
    ] {
        let deb = ar(&[("debian-binary", b"2.0\n"), ("_extra", b"odd"), (c.0, c.1), (d.0, d.1)]);
        assert_eq!(open(&deb).unwrap().1.len(), 7, "{} {}", c.0, d.0);
    }
}

#[test]
fn a_cut_package_says_where() {
    let deb = package();
    for cut in 8..deb.len() - 1 {
        let error = open(&deb[..cut]).unwrap_err();
        assert!(matches!(error, Error::Truncated { .. }), "cut at {cut}: {error}");
    }
    let message = open(&deb[..deb.len() - 2]).unwrap_err().to_string();
    assert!(message.starts_with("the package is cut short inside data.tar.zst: "), "{message}");
}

#[test]
fn bad_packages_are_refused() {
    let (control, data) = (control_tar(), data_tar());
    let with = |members: &[(&str, &[u8])]| open(&ar(members)).unwrap_err().to_string();
    let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
    assert_eq!(with(&[("debian-binary", b"3.0\n")]), "Debian package format \"3.0\" is not known (2.0 is)");
    assert!(with(&[version, ("data.tar", &data)]).contains("no control.tar"));
    assert!(with(&[version, ("control.tar.gz", &control)]).contains("control.tar.gz is packed in a way"));
    assert!(
        with(&[version, ("control.tar", &control), ("data.tar.xz", b"garbage!")])
            .contains("does not decompress")
    );
    let bomb = zst(&vec![0; 2 << 20]);
    assert!(
        with(&[version, ("control.tar", &control), ("data.tar.zst", &bomb)]).contains("more than 1048576")
    );
    assert!(matches!(open(b"MZ").unwrap_err(), Error::NotADeb(_)));
    let mut escaping = tar::Builder::new(Vec::new());
    let mut evil = header("x", tar::EntryType::Regular, 0);
    evil.as_mut_bytes()[..4].copy_from_slice(b"../x");
    evil.set_cksum();
    escaping.append(&evil, &b""[..]).unwrap();
    let escaping = escaping.into_inner().unwrap();
    assert!(with(&[version, ("control.tar", &control), ("data.tar", &escaping)]).contains("leaves the tree"));
    let half = &data[..1536 + 512 + 1];
    assert!(open(&ar(&[version, ("control.tar", &control), ("data.tar", half)])).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn mangled_packages_never_panic(at in any::<proptest::sample::Index>(), byte in any::<u8>(), plain in any::<bool>()) {
        let (control, data) = (control_tar(), data_tar());
        let mut deb = match plain {
            true => ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)]),
            false => package(),
        };
        let at = at.index(deb.len());
        deb[at] = byte;
        let _ = open(&deb);
    }

    #[test]
    fn mangled_archives_never_panic(edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8), noise in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut tar = data_tar();
        for (at, byte) in edits {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        if let Ok(tree) = index(Arc::new(tar)) {
            for (_, entry) in tree.iter() {
                if let Kind::File(content) = &entry.kind {
                    let _ = content.read();
                }
            }
        }
        let _ = index(Arc::new(noise.clone()));
        let _ = open(&noise);
    }
}

/// Blocks of 4 KiB, as `xz -T` writes them: only their sizes in the headers let threads share the work.
fn xz_in_blocks(bytes: &[u8]) -> Vec<u8> {
    let mut builder = liblzma::stream::MtStreamBuilder::new();
    let stream = builder.threads(2).block_size(4096).preset(6).encoder().unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn threads_do_not_change_what_is_unpacked() {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    let (first, second) = bytes.split_at(300_000);
    let padded = [xz_in_blocks(first), vec![0; 8], xz_in_blocks(second), vec![0; 4]].concat();
    let deb_of = |data: &[u8]| {
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &xz(&control_tar())), ("data.tar.xz", data)])
    };
    let unpack = |deb: &[u8], threads, data| {
        let mut unpacked = Vec::new();
        read(&mut &*deb, &mut unpacked, &Limits { control: 1 << 20, data, threads }).map(|_| unpacked)
    };
    for packed in [xz(&bytes), xz_in_blocks(&bytes), padded] {
        let deb = deb_of(&packed);
        for threads in [1, 2, 5] {
            assert!(unpack(&deb, threads, 1 << 20).unwrap() == bytes, "{threads} threads");
            let error = unpack(&deb, threads, 399_999).unwrap_err();
            assert!(matches!(error, Error::TooLarge { .. }), "{threads} threads: {error}");
            let error = unpack(&deb[..deb.len() - 50_000], threads, 1 << 20).unwrap_err();
            assert!(matches!(error, Error::Truncated { .. }), "{threads} threads: {error}");
            let mut damaged = deb.clone();
            let middle = deb.len() / 2;
            damaged[middle] ^= 1;
            let error = unpack(&damaged, threads, 1 << 20).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{threads} threads: {error}");
        }
    }
}
