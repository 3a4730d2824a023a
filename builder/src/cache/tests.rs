use super::{Cache, Check, Claim, Error};
use crate::digest::Sha256;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

fn cache() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("deep/kiln")).unwrap();
    (folder, cache)
}

#[test]
fn where_it_is() {
    let place = |xdg: Option<&str>, home: Option<&str>| {
        let get = |name: &str| if name == "HOME" { home } else { xdg }.map(PathBuf::from);
        Cache::place(get).map_err(|fault| fault.to_string())
    };
    assert_eq!(place(Some("/x"), Some("/h")), Ok("/x/kiln".into()));
    assert_eq!(place(None, Some("/h")), Ok("/h/.cache/kiln".into()));
    assert_eq!(place(Some("relative"), Some("/h")), Ok("/h/.cache/kiln".into()));
    assert_eq!(
        place(Some(""), None),
        Err("no place for the cache is known: set XDG_CACHE_HOME or HOME to a folder with an absolute path"
            .into())
    );
}

#[test]
fn sizes_are_checked_and_digests_on_request() {
    let (_folder, cache) = cache();
    let digest = Sha256::of(b"hello");
    assert_eq!(cache.get(&digest, None).unwrap(), None);
    let path = cache.insert(b"hello").unwrap();
    assert_eq!(path, cache.root().join(format!("sha256/{}/{digest}", &digest.to_string()[..2])));
    assert_eq!(cache.get(&digest, Some(5)).unwrap(), Some(path.clone()));
    fs::write(&path, b"hullo").unwrap();
    assert_eq!(cache.get(&digest, Some(5)).unwrap(), Some(path.clone()));
    let strict = cache.clone().with_check(Check::Digest);
    assert_eq!(strict.get(&digest, Some(5)).unwrap(), None);
    assert!(!path.exists());
    cache.insert(b"hello").unwrap();
    fs::write(&path, b"hel").unwrap();
    assert_eq!(cache.get(&digest, Some(5)).unwrap(), None);
    assert!(!path.exists());
}

#[test]
fn blobs_appear_whole_or_not_at_all() {
    let (_folder, cache) = cache();
    let key = "0123456789abcdef";
    assert!(cache.blob(key).is_none());
    let cut = cache.store_blob(key, |file| {
        file.write_all(b"half")?;
        Err(io::Error::other("power cut"))
    });
    let path = cache.root().join("blobs/01").join(key);
    assert_eq!(cut.unwrap_err().to_string(), format!("cannot write {}: power cut", path.display()));
    assert!(cache.blob(key).is_none() && !path.exists());
    assert_eq!(fs::read_dir(cache.root().join("partial")).unwrap().count(), 0);
    let mut stored = cache.store_blob(key, |file| file.write_all(b"whole")).unwrap();
    let mut text = String::new();
    stored.read_to_string(&mut text).unwrap();
    assert_eq!(text, "whole");
    assert!(cache.blob(key).is_some() && cache.unpacked(&Sha256::of(b"")).is_none());
}

/// Until all of a run was flushed nobody else sees what it built; and a run that fails leaves nothing.
#[test]
fn what_is_not_on_the_disk_has_no_name() {
    let (_folder, cache) = cache();
    let package = Sha256::of(b"package");
    cache.store_blob("aa", |file| file.write_all(b"blob")).unwrap();
    cache.store_unpacked(&package, |file| file.write_all(b"tar")).unwrap();
    assert!(cache.clone().blob("aa").is_some() && cache.unpacked(&package).is_some(), "this run's own");
    let other = Cache::open(cache.root()).unwrap();
    assert!(other.blob("aa").is_none() && other.unpacked(&package).is_none());
    cache.settle().unwrap();
    assert!(other.blob("aa").is_some() && other.unpacked(&package).is_some());
    cache.store_blob("bb", |file| file.write_all(b"blob")).unwrap();
    drop(cache);
    assert!(other.blob("bb").is_none());
    assert_eq!(fs::read_dir(other.root().join("partial")).unwrap().count(), 0);
}

#[test]
fn what_killed_runs_left_goes_and_what_a_living_one_writes_stays() {
    let (_folder, cache) = cache();
    let partial = cache.root().join("partial");
    fs::write(partial.join(".tmpKILLED"), b"half").unwrap();
    let download = Sha256::of(b"a download that goes on");
    fs::write(partial.join(download.to_string()), b"a down").unwrap();
    let living = cache.incoming().unwrap();
    cache.store_blob("aa", |file| file.write_all(b"blob")).unwrap();
    Cache::open(cache.root()).unwrap();
    assert!(!partial.join(".tmpKILLED").exists());
    assert!(living.path().exists() && partial.join(download.to_string()).exists());
    cache.settle().unwrap();
    assert!(cache.blob("aa").is_some());
}

/// The lock's size may be wrong, and then the lock is.
#[test]
fn a_wrong_size_costs_no_download() {
    let (_folder, cache) = cache();
    let (digest, path) = (Sha256::of(b"hello"), cache.insert(b"hello").unwrap());
    assert!(cache.has(&digest, 5).unwrap() && !cache.has(&digest, 6).unwrap());
    assert_eq!(cache.get(&digest, Some(6)).unwrap(), None);
    assert!(path.exists());
    fs::write(&path, b"hel").unwrap();
    assert!(!cache.has(&digest, 5).unwrap() && path.exists(), "asking changes nothing");
}

#[test]
fn an_index_of_the_right_size_and_zeros_is_none() {
    let (_folder, cache) = cache();
    let digest = Sha256::of(b"Package: a\n");
    cache.store_index(&digest, b"Package: a\n").unwrap();
    assert!(cache.index(&digest, 11).is_some());
    let name = digest.to_string();
    fs::write(cache.root().join("indexes").join(&name[..2]).join(&name), [0; 11]).unwrap();
    assert!(cache.index(&digest, 11).is_none());
}

/// /dev/full answers every write as a full disk does.
#[test]
fn a_full_disk_is_told() {
    let (_folder, cache) = cache();
    let full = cache.store_blob("00", |_| File::options().write(true).open("/dev/full")?.write_all(b"x"));
    let path = cache.root().join("blobs/00/00");
    assert_eq!(
        full.unwrap_err().to_string(),
        format!(
            "the disk that holds {} is full; make room, or set XDG_CACHE_HOME to a folder with more",
            path.display()
        )
    );
}

#[test]
fn names_cannot_leave_the_cache() {
    let (_folder, cache) = cache();
    let blob = cache.store_blob("../../etc", |file| file.write_all(b"x"));
    cache.settle().unwrap();
    assert!(blob.is_ok() && cache.root().join("blobs/__/______etc").is_file());
}

#[test]
fn an_unusable_place_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let fault = Cache::open(&file).unwrap_err();
    assert!(matches!(&fault, Error::Io { action: "create", path, .. } if path.starts_with(&file)), "{fault}");
}

/// Two who want the same bytes: the second waits for the first and finds its work done.
#[test]
fn the_second_waits_and_reuses() {
    let (_folder, cache) = cache();
    let digest = Sha256::of(b"bytes");
    let Claim::Mine(mut mine) = cache.claim(&digest, Some(5)).unwrap() else {
        panic!("nothing is there yet")
    };
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| cache.claim(&digest, Some(5)).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!second.is_finished());
        mine.file().write_all(b"bytes").unwrap();
        let path = mine.finish().unwrap();
        (second.join().unwrap(), path)
    });
    let (Claim::Here(found), path) = second else { panic!("the first has finished") };
    assert_eq!(found, path);
    // The waiter had opened the file that was moved, or made an empty one; neither spoils what is there.
    assert_eq!(fs::read(path).unwrap(), b"bytes");
}

/// The first gives up: the second goes on from where it was.
#[test]
fn a_cut_download_is_taken_over() {
    let (_folder, cache) = cache();
    let digest = Sha256::of(b"bytes");
    let Claim::Mine(mut mine) = cache.claim(&digest, None).unwrap() else { panic!("nothing is there yet") };
    mine.file().write_all(b"by").unwrap();
    drop(mine);
    let Claim::Mine(mut mine) = cache.claim(&digest, None).unwrap() else { panic!("it is not finished") };
    let mut text = String::new();
    mine.file().read_to_string(&mut text).unwrap();
    assert_eq!(text, "by");
}

/// A cache with built things of 1 MiB each, the first unused for longest, and a download that is older still.
fn filled(ages: &[(&str, u64)]) -> (tempfile::TempDir, Cache, SystemTime) {
    let (folder, cache) = cache();
    let now = super::now();
    for (key, hours) in ages {
        let stored = cache.store_blob(key, |file| file.write_all(&vec![1; 1 << 20])).unwrap();
        cache.settle().unwrap();
        stored.set_modified(now - Duration::from_secs(hours * 3600)).unwrap();
    }
    let download = File::open(cache.insert(b"download").unwrap()).unwrap();
    download.set_modified(now - Duration::from_secs(90 * 24 * 3600)).unwrap();
    (folder, cache, now)
}

#[test]
fn the_longest_unused_goes_first() {
    let (_folder, cache, now) = filled(&[("aa", 3), ("bb", 9), ("cc", 1)]);
    assert_eq!(cache.trim(3 << 20, now).unwrap(), super::Trimmed { files: 0, removed: 0, kept: 3 << 20 });
    assert_eq!(
        cache.trim(2 << 20, now).unwrap(),
        super::Trimmed { files: 1, removed: 1 << 20, kept: 2 << 20 }
    );
    assert!(cache.blob("bb").is_none());
    // Looking a thing up is using it.
    assert!(cache.blob("aa").is_some());
    assert_eq!(cache.trim(1 << 20, now).unwrap().files, 1);
    assert!(cache.blob("aa").is_some() && cache.blob("cc").is_none());
    assert!(cache.get(&Sha256::of(b"download"), None).unwrap().is_some(), "downloads are never trimmed");
}

#[test]
fn what_this_run_used_stays_and_what_is_open_can_be_read() {
    let (_folder, cache, now) = filled(&[("aa", 3), ("bb", 9)]);
    let mut open = cache.blob("aa").unwrap();
    let unfinished = cache.root().join("blobs/aa/.tmp123");
    fs::write(&unfinished, b"of another run").unwrap();
    assert_eq!(cache.trim(0, now).unwrap().files, 1);
    assert!(unfinished.exists() && cache.blob("aa").is_some());
    assert_eq!(cache.trim(0, super::now() + Duration::from_secs(1)).unwrap().kept, 0);
    assert!(cache.blob("aa").is_none());
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
}
