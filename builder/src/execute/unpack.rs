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

/// Unpacks `packages` with `threads` threads, largest first, and gives them in their order. `done` is told the
/// size in bytes of each package file that is through.
pub fn unpack(
    packages: &[lock::Package],
    cache: &Cache,
    threads: usize,
    done: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Unpacked>, Error> {
    let mut order: Vec<usize> = (0..packages.len()).collect();
    // The kernel alone at the end would leave the other threads idle.
    order.sort_by_key(|at| std::cmp::Reverse(packages[*at].size));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(packages.len()));
    let work = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = one(&packages[*at], cache);
            if result.is_err() {
                next.store(order.len(), Ordering::Relaxed);
            }
            done(packages[*at].size);
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

fn one(package: &lock::Package, cache: &Cache) -> Result<Unpacked, Error> {
    let label = format!("{} {}", package.name, package.version);
    let Some(path) = cache.get(&package.sha256, Some(package.size))? else { return Err(Error::Gone(label)) };
    let failed = |source| Error::Package { package: label.clone(), path: path.clone(), source };
    let open = || File::open(&path).map_err(|error| failed(deb::Error::Read(error)));
    let (control, data) = match cache.unpacked(&package.sha256) {
        Some(data) => {
            let control =
                deb::read_control(&mut BufReader::new(open()?), &Limits::default()).map_err(failed)?;
            (control, data)
        }
        None => {
            let mut source = BufReader::new(open()?);
            let mut result: Option<Result<Control, deb::Error>> = None;
            let stored = cache.store_unpacked(&package.sha256, |file| {
                let mut target = BufWriter::with_capacity(CHUNK, file);
                match deb::read(&mut source, &mut target, &Limits::default()) {
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
