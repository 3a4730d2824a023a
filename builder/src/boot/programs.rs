//! The programs of the initramfs, taken from the root with everything that they need to run.

use super::initramfs::add;
use super::{Error, Program, file};
use kiln_formats::elf;
use kiln_formats::path;
use kiln_formats::tree::{Content, Entry, Kind, Tree};
use std::collections::BTreeSet;

/// Files of one Debian package, by their paths below the root.
struct Source {
    package: &'static str,
    programs: &'static [&'static str],
    /// Libraries that a program opens by name while it runs, which its headers don't tell.
    libraries: &'static [&'static str],
    /// Anything that is read.
    files: &'static [&'static str],
}

/// What every first boot runs.
const ALWAYS: [Source; 2] = [
    Source { package: "util-linux", programs: &["usr/sbin/blkid"], libraries: &[], files: &[] },
    Source {
        package: "e2fsprogs",
        programs: &["usr/sbin/e2fsck", "usr/sbin/mke2fs", "usr/sbin/resize2fs"],
        libraries: &[],
        files: &["etc/mke2fs.conf"],
    },
];

const XFS: [Source; 1] =
    [Source { package: "xfsprogs", programs: &["usr/sbin/mkfs.xfs"], libraries: &[], files: &[] }];

const LUKS: [Source; 2] = [
    Source { package: "cryptsetup-bin", programs: &["usr/sbin/cryptsetup"], libraries: &[], files: &[] },
    // glibc opens it when a thread ends early, as those do that derive a key from a passphrase.
    Source { package: "libgcc-s1", programs: &[], libraries: &["libgcc_s.so.1"], files: &[] },
];

/// libsystemd-shared opens the libraries of the TPM's software stack by name, and those open the one that talks to
/// /dev/tpmrm0 (systemd 257, src/shared/tpm2-util.c).
const TPM2: [Source; 6] = [
    Source {
        package: "systemd-cryptsetup",
        programs: &["usr/bin/systemd-cryptenroll"],
        libraries: &["cryptsetup/libcryptsetup-token-systemd-tpm2.so"],
        files: &[],
    },
    Source { package: "libcryptsetup12", programs: &[], libraries: &["libcryptsetup.so.12"], files: &[] },
    Source {
        package: "libtss2-esys-3.0.2-0t64",
        programs: &[],
        libraries: &["libtss2-esys.so.0"],
        files: &[],
    },
    Source { package: "libtss2-mu-4.0.1-0t64", programs: &[], libraries: &["libtss2-mu.so.0"], files: &[] },
    Source { package: "libtss2-rc0t64", programs: &[], libraries: &["libtss2-rc.so.0"], files: &[] },
    Source {
        package: "libtss2-tcti-device0t64",
        programs: &[],
        libraries: &["libtss2-tcti-device.so.0"],
        files: &[],
    },
];

const fn sources(program: Program) -> &'static [Source] {
    match program {
        Program::Xfs => &XFS,
        Program::Luks => &LUKS,
        Program::Tpm2 => &TPM2,
    }
}

/// Where the dynamic loader of Debian's amd64 looks when a file names no folder of its own (ld.so(8)); `lib` leads to
/// `usr/lib` in every root.
const FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// Adds the programs to the initramfs; the paths of those that were added, sorted.
pub(super) fn add_all(
    root: &Tree,
    asked: &BTreeSet<Program>,
    initramfs: &mut Tree,
) -> Result<Vec<String>, Error> {
    let mut programs = Vec::new();
    for source in ALWAYS.iter().chain(asked.iter().flat_map(|program| sources(*program))) {
        let mut copy = Copy { root, initramfs, package: source.package, open: Vec::new() };
        for program in source.programs {
            copy.program(program)?;
            programs.push((*program).to_owned());
        }
        for library in source.libraries {
            let path = format!("{}/{library}", FOLDERS[0]);
            copy.wanted(&path)?;
            copy.open.push(path.into_bytes());
        }
        copy.closure()?;
        for path in source.files {
            let content = copy.wanted(path)?.clone();
            add(copy.initramfs, *path, Entry::new(Kind::File(content), 0o644));
        }
    }
    programs.sort();
    Ok(programs)
}

/// Copying what one package's programs need.
struct Copy<'a, 'b> {
    root: &'a Tree,
    initramfs: &'b mut Tree,
    package: &'static str,
    /// Paths whose own needs have not been looked at.
    open: Vec<Vec<u8>>,
}

impl<'a> Copy<'a, '_> {
    fn wanted(&self, path: &str) -> Result<&'a Content, Error> {
        file(self.root, path).ok_or_else(|| Error::Missing { path: path.to_owned(), package: self.package })
    }

    fn program(&mut self, path: &str) -> Result<(), Error> {
        let object = read(path.as_bytes(), self.wanted(path)?)?;
        if object.is_none_or(|object| object.machine != elf::X86_64) {
            return Err(Error::NoProgram { path: path.to_owned(), package: self.package });
        }
        self.open.push(path.as_bytes().to_vec());
        Ok(())
    }

    /// Copies the open files, then all that these need, and so on.
    fn closure(&mut self) -> Result<(), Error> {
        while let Some(path) = self.open.pop() {
            if self.initramfs.contains(&path) {
                continue;
            }
            let Some((real, content)) = path::file(self.root, &path) else { continue };
            if real != path {
                // The name that the loader asks for, directly beside or above what it leads to.
                let target = [b"/", &real[..]].concat();
                add(self.initramfs, &path, Entry::symlink(&target));
            }
            if self.initramfs.contains(&real) {
                continue;
            }
            add(self.initramfs, &real, Entry::new(Kind::File(content.clone()), 0o755));
            let Some(object) = read(&real, content)? else { continue };
            if let Some(interpreter) = object.interpreter {
                let at = self.find_file(&interpreter);
                self.open.push(at.ok_or_else(|| self.lacks(&interpreter, &real))?);
            }
            let dynamic = object.dynamic.unwrap_or_default();
            let own = own_folders(&dynamic, &real);
            for name in dynamic.needed {
                let at = self.library(&name, &own, object.machine)?;
                self.open.push(at.ok_or_else(|| self.lacks(&name, &real))?);
            }
        }
        Ok(())
    }

    /// The path of `path` with links among its directories followed, so that it names an entry of both trees.
    fn find_file(&self, path: &[u8]) -> Option<Vec<u8>> {
        let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let folder = path::directory(self.root, &path[..at])?;
        let found = [&folder[..], b"/", &path[at + 1..]].concat();
        path::file(self.root, &found).map(|_| found)
    }

    /// Where the loader finds a library: in the first folder that has it for this machine.
    fn library(&self, name: &[u8], own: &[Vec<u8>], machine: u16) -> Result<Option<Vec<u8>>, Error> {
        if name.contains(&b'/') {
            return Ok(self.find_file(name));
        }
        for folder in own.iter().map(Vec::as_slice).chain(FOLDERS.map(str::as_bytes)) {
            let Some(found) = self.find_file(&[folder, b"/", name].concat()) else { continue };
            let Some((_, content)) = path::file(self.root, &found) else { continue };
            if read(&found, content)?.is_some_and(|object| object.machine == machine) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn lacks(&self, library: &[u8], needed_by: &[u8]) -> Error {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Error::Library { library: text(library), needed_by: text(needed_by), package: self.package }
    }
}

/// The folders that a file names itself; `$ORIGIN` is its own.
fn own_folders(dynamic: &elf::Dynamic, path: &[u8]) -> Vec<Vec<u8>> {
    let own = &path[..path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)];
    let folders = dynamic.run_path.iter().flat_map(|list| list.split(|byte| *byte == b':'));
    let folders = folders.filter(|folder| !folder.is_empty());
    folders
        .map(|folder| match folder.strip_prefix(b"$ORIGIN").or_else(|| folder.strip_prefix(b"${ORIGIN}")) {
            Some(rest) => [own, rest].concat(),
            None => folder.to_vec(),
        })
        .collect()
}

fn read(path: &[u8], content: &Content) -> Result<Option<elf::Object>, Error> {
    let fault = |source| Error::Read { path: String::from_utf8_lossy(path).into_owned(), source };
    elf::read(content).map_err(fault)
}

#[cfg(test)]
mod tests;
