//! Decompressing many packages at once, largest first, so that no thread ends with the kernel alone.

use super::formats::deb::{self, Control, Limits};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A package to unpack.
#[derive(Debug, Clone)]
pub struct Job {
    /// The `.deb`.
    pub deb: PathBuf,
    /// Where the unpacked `data.tar` goes; an existing file is overwritten.
    pub unpacked: PathBuf,
}

/// A package could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", deb.display())]
pub struct Failed {
    /// The `.deb`.
    pub deb: PathBuf,
    /// Why.
    pub source: deb::Error,
}

/// Unpacks every job on `threads` threads and gives the control archives in the jobs' order. `done` is called
/// from the workers after each package with its number.
///
/// # Errors
/// The failure of the first job in order that failed; files of other jobs may have been written by then.
pub fn unpack_all(
    jobs: &[Job],
    threads: NonZeroUsize,
    done: &(dyn Fn(usize) + Sync),
) -> Result<Vec<Control>, Failed> {
    let size = |job: &Job| std::fs::metadata(&job.deb).map_or(0, |meta| meta.len());
    let mut order: Vec<(u64, usize)> = jobs.iter().enumerate().map(|(at, job)| (size(job), at)).collect();
    order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Control, Failed>>>> =
        jobs.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((_, at)) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = unpack(&jobs[*at]);
            if result.is_err() {
                // The others need not be tried: the whole is lost.
                next.store(order.len(), Ordering::Relaxed);
            }
            if let Ok(mut slot) = results[*at].lock() {
                *slot = Some(result);
            }
            done(*at);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut controls = Vec::with_capacity(jobs.len());
    let mut missing = false;
    for result in results {
        match result.into_inner().ok().flatten() {
            Some(Ok(control)) => controls.push(control),
            Some(Err(failed)) => return Err(failed),
            None => missing = true,
        }
    }
    debug_assert!(!missing, "a job was left out although none failed");
    Ok(controls)
}

fn unpack(job: &Job) -> Result<Control, Failed> {
    let failed = |source| Failed { deb: job.deb.clone(), source };
    let mut source = BufReader::new(File::open(&job.deb).map_err(|error| failed(deb::Error::Read(error)))?);
    let target = File::create(&job.unpacked).map_err(|error| failed(deb::Error::Write(error)))?;
    let mut target = BufWriter::with_capacity(1 << 18, target);
    let control = deb::read(&mut source, &mut target, &Limits::default()).map_err(failed)?;
    target.flush().map_err(|error| failed(deb::Error::Write(error)))?;
    Ok(control)
}

#[cfg(test)]
mod tests {
    use super::{Job, unpack_all};
    use std::num::NonZeroUsize;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A package without control members and files: two empty tar archives, the second of `blocks` blocks.
    fn deb(blocks: usize) -> Vec<u8> {
        let mut out = b"!<arch>\n".to_vec();
        for (name, body) in [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", vec![0; 1024]),
            ("data.tar", vec![0; 512 * blocks]),
        ] {
            out.extend(format!("{name:<16}{:<32}{:<10}`\n", 0, body.len()).bytes());
            out.extend(body);
        }
        out
    }

    #[test]
    fn every_package_is_unpacked_once_whatever_the_threads() {
        let folder = tempfile::tempdir().unwrap();
        let jobs: Vec<Job> = (2..9)
            .map(|blocks| {
                let at = folder.path().join(blocks.to_string());
                std::fs::write(&at, deb(blocks)).unwrap();
                Job { deb: at.clone(), unpacked: at.with_extension("tar") }
            })
            .collect();
        for threads in [1, 3, 50] {
            let done = AtomicUsize::new(0);
            let threads = NonZeroUsize::new(threads).unwrap();
            let count = |_| {
                done.fetch_add(1, Ordering::Relaxed);
            };
            assert_eq!(unpack_all(&jobs, threads, &count).unwrap().len(), 7);
            assert_eq!(done.into_inner(), 7);
            for (at, job) in jobs.iter().enumerate() {
                assert_eq!(std::fs::metadata(&job.unpacked).unwrap().len(), 512 * (at as u64 + 2));
            }
        }
    }

    #[test]
    fn a_bad_package_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("cut.deb");
        let whole = deb(4);
        std::fs::write(&at, &whole[..whole.len() - 100]).unwrap();
        let job = Job { deb: at, unpacked: folder.path().join("x") };
        let failed = unpack_all(&[job], NonZeroUsize::MIN, &|_| {}).unwrap_err().to_string();
        assert!(
            failed.ends_with(
                "cut.deb: the package is cut short inside data.tar: 100 of 2048 bytes are missing"
            ),
            "{failed}"
        );
    }
}
