//! Packages from the cache to trees, on many threads: decompressed once, kept decompressed.

use crate::cache::{self, Cache};
use crate::lock;
use crate::rootfs::Unpacked;
use kiln_formats::deb::{self, Control, Limits};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that go to the file at once.
const CHUNK: usize = 1 << 18;
/// A package of so many bytes is unpacked with all threads: alone, the kernel would take as long as the rest.
const LARGE: u64 = 32 << 20;

/// Why a package was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The package file is not a sound package.
    #[error("{package}: {}: {source}", path.display())]
    Package {
        /// Name and version.
        package: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: deb::Error,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The package is not in the cache, although it was fetched.
    #[error("{0} is not in the cache any more: was the cache emptied while kiln ran? run the command again")]
    Gone(String),
}

/// Unpacks `packages` with `threads` threads, largest first, and gives them in their order. With `fresh`, what an
/// earlier run unpacked is written anew instead of read.
pub fn unpack(
    packages: &[lock::Package],
    cache: &Cache,
    threads: usize,
    fresh: bool,
) -> Result<Vec<Unpacked>, Error> {
    let mut order: Vec<usize> = (0..packages.len()).collect();
    // The kernel alone at the end would leave the other threads idle.
    order.sort_by_key(|at| std::cmp::Reverse(packages[*at].size));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(packages.len()));
    let work = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = one(&packages[*at], cache, (threads, fresh));
            if result.is_err() {
                next.store(order.len(), Ordering::Relaxed);
            }
            results.lock().unwrap_or_else(PoisonError::into_inner).push((*at, result));
        }
    };
    std::thread::scope(|scope| {
        (0..threads.clamp(1, packages.len().max(1))).for_each(|_| drop(scope.spawn(work)))
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn one(package: &lock::Package, cache: &Cache, (threads, fresh): (usize, bool)) -> Result<Unpacked, Error> {
    let label = format!("{} {}", package.name, package.version);
    let Some(path) = cache.get(&package.sha256, Some(package.size))? else { return Err(Error::Gone(label)) };
    let failed = |source| Error::Package { package: label.clone(), path: path.clone(), source };
    let threads = if package.size < LARGE { 1 } else { u32::try_from(threads.max(1)).unwrap_or(1) };
    let limits = Limits { threads, ..Limits::default() };
    let open = || File::open(&path).map_err(|error| failed(deb::Error::Read(error)));
    let (control, data) = match (!fresh).then(|| cache.unpacked(&package.sha256)).flatten() {
        Some(data) => {
            let control = deb::read_control(&mut BufReader::new(open()?), &limits).map_err(failed)?;
            (control, data)
        }
        None => {
            let mut source = BufReader::new(open()?);
            let mut result: Option<Result<Control, deb::Error>> = None;
            let stored = cache.store_unpacked(&package.sha256, |file| {
                let mut target = BufWriter::with_capacity(CHUNK, file);
                match deb::read(&mut source, &mut target, &limits) {
                    // A full disk is the cache's to tell.
                    Err(deb::Error::Write(error)) => return Err(error),
                    other => result = Some(other),
                }
                match &result {
                    Some(Ok(_)) => target.flush(),
                    _ => Err(io::ErrorKind::InvalidData.into()),
                }
            });
            match result {
                Some(Err(error)) => return Err(failed(error)),
                Some(Ok(control)) => (control, stored?),
                // The cache failed before or while the data was written.
                None => {
                    stored?;
                    return Err(Error::Gone(label));
                }
            }
        }
    };
    let tree = deb::index(Arc::new(data)).map_err(failed)?;
    Ok(Unpacked {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        control,
        tree,
    })
}

#[cfg(test)]
mod tests {
    use super::unpack;
    use crate::cache::Cache;
    use crate::digest::Sha256;
    use crate::lock;
    use std::path::Path;

    /// A ustar archive (POSIX.1-2017 pax, "ustar Interchange Format") of one file.
    fn tar(name: &str, text: &str) -> Vec<u8> {
        let mut header = vec![0_u8; 512];
        let mut field =
            |at: usize, value: &str| header[at..at + value.len()].copy_from_slice(value.as_bytes());
        field(0, name);
        field(100, "0000644\0");
        field(108, "0000000\0");
        field(116, "0000000\0");
        field(124, &format!("{:011o}\0", text.len()));
        field(136, "00000000000\0");
        field(148, "        ");
        field(156, "0");
        field(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header.extend(text.as_bytes());
        header.resize(header.len().next_multiple_of(512) + 1024, 0);
        header
    }

    /// A package (deb(5)) whose members are not compressed.
    fn package(text: &str) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        let members = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", tar("control", "")),
            ("data.tar", tar("file", text)),
        ];
        for (name, body) in members {
            bytes.extend(format!("{name:<16}0           0     0     100644  {:<10}`\n", body.len()).bytes());
            bytes.extend(body);
        }
        bytes
    }

    fn text(packages: &[lock::Package], cache: &Cache, fresh: bool) -> String {
        let unpacked = unpack(packages, cache, 1, fresh).unwrap();
        let crate::rootfs::Unpacked { tree, .. } = &unpacked[0];
        let kiln_formats::tree::Kind::File(content) = &tree.get("file").unwrap().kind else {
            panic!("no file")
        };
        String::from_utf8(content.read().unwrap()).unwrap()
    }

    fn in_cache(root: &Path, shelf: &str, digest: &Sha256) -> std::path::PathBuf {
        let name = digest.to_string();
        root.join(shelf).join(&name[..2]).join(name)
    }

    #[test]
    fn a_fresh_build_unpacks_again_and_any_other_reads_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let bytes = package("packed");
        cache.insert(&bytes).unwrap();
        let sha256 = Sha256::of(&bytes);
        let packages = [lock::Package {
            name: "p".into(),
            version: "1".into(),
            architecture: "all".into(),
            archive: "debian".into(),
            file: "p.deb".into(),
            size: bytes.len() as u64,
            installed_kib: 1,
            sha256,
            wanted_by: Vec::new(),
        }];
        assert_eq!(text(&packages, &cache, false), "packed");
        cache.settle().unwrap();
        std::fs::write(in_cache(folder.path(), "unpacked", &sha256), tar("file", "spoilt")).unwrap();
        assert_eq!(text(&packages, &cache, false), "spoilt");
        assert_eq!(text(&packages, &cache, true), "packed");
        assert_eq!(text(&packages, &cache, false), "packed", "the fresh one is kept");
    }
}
