use super::{Origin, Placing, Request, fetch, lock, place};
use crate::cache::Cache;
use crate::cluster::Location;
use crate::digest::Sha256;
use crate::fetch::Silent;
use crate::fetch::artefacts::Places;
use crate::fetch::server::{Mishap, Server};
use crate::lock::{Lock, VERSION};
use crate::plan::Artefact;
use crate::render;
use kiln_formats::tree::{Content, Entry, Kind, Timestamp, Tree};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

const BYTES: &[u8] = b"the program";
const PATH: &str = "dl/v1.36.2%2Bk3s1/k3s%2Bx";

struct Scene {
    folder: tempfile::TempDir,
    cache: Cache,
    server: Server,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    fs::create_dir(folder.path().join("copies")).unwrap();
    Scene { folder, cache, server: Server::new() }
}

impl Scene {
    /// What an overlay wants from the server.
    fn wanted(&self, sums: Option<&str>) -> render::Artefact {
        render::Artefact {
            overlay: "k3s".to_owned(),
            name: "k3s".to_owned(),
            architecture: "amd64",
            url: self.server.at(PATH),
            sums: sums.map(|sums| self.server.at(sums)),
            member: None,
            path: "/usr/bin/k3s".to_owned(),
            mode: 0o755,
        }
    }
    fn copies(&self) -> PathBuf {
        self.folder.path().join("copies")
    }
    fn places(&self) -> Places {
        Places::gather(None, &[Location::Folder(self.copies())]).unwrap()
    }
    fn copy(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.copies().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    /// Locks, and says whose word the digest is, without where the server and the folder are.
    fn lock(
        &self,
        wanted: &render::Artefact,
        previous: Option<&Lock>,
    ) -> Result<(lock::Artefact, Origin), String> {
        let (wanted, places) = ([wanted.clone()], self.places());
        let request = Request { wanted: &wanted, places: &places, previous };
        let mut locked =
            lock(&request, &self.cache, &Silent).map_err(|fault| self.shown(fault.to_string()))?;
        let locked = locked.pop().unwrap();
        let origin = match locked.origin {
            Origin::Sums(place) => Origin::Sums(self.shown(place)),
            Origin::Folder(place) => Origin::Folder(self.shown(place)),
            origin => origin,
        };
        Ok((locked.artefact, origin))
    }
    fn fetch(&self, locked: &lock::Artefact) -> Result<(), String> {
        let artefacts = [artefact(locked.clone(), None)];
        fetch(&artefacts, &self.places(), &self.cache, &Silent).map_err(|fault| self.shown(fault.to_string()))
    }
    fn shown(&self, text: String) -> String {
        text.replace(&self.server.at(""), "http://host/").replace(self.copies().to_str().unwrap(), "copies")
    }
    fn placing(&self) -> Placing<'_> {
        Placing { cache: &self.cache, time: Timestamp { secs: 7, nanos: 0 }, fresh: false }
    }
}

fn sums(name: &str, bytes: &[u8]) -> String {
    format!("{}  other\n{}  {name}\n", Sha256::of(b"other"), Sha256::of(bytes))
}

fn artefact(locked: lock::Artefact, member: Option<&str>) -> Artefact {
    Artefact { path: "/usr/bin/k3s".to_owned(), member: member.map(str::to_owned), mode: 0o755, locked }
}

fn held(locked: lock::Artefact) -> Lock {
    Lock {
        version: VERSION,
        source_date: 0,
        suites: vec![],
        roots: vec![],
        artefacts: vec![locked],
        charts: Default::default(),
        ssh_keys: Default::default(),
    }
}

const NOWHERE: &str =
    "; `artefacts` in the cluster file and KILN_ARTEFACTS name folders and mirrors that have such files";

#[test]
fn a_published_digest_is_matched_by_the_decoded_name_and_the_size_asked_for() {
    let scene = scene();
    scene.server.put(PATH, BYTES);
    scene.server.put("dl/sums.txt", sums("k3s+x", BYTES));
    let wanted = scene.wanted(Some("dl/sums.txt"));
    let (locked, origin) = scene.lock(&wanted, None).unwrap();
    assert_eq!((locked.size, locked.sha256), (BYTES.len() as u64, Sha256::of(BYTES)));
    assert_eq!(origin, Origin::Sums("http://host/dl/sums.txt".to_owned()));
    assert_eq!(scene.server.log(), ["dl/sums.txt", PATH]);
    assert!(scene.cache.get(&locked.sha256, None).unwrap().is_none(), "a lock alone needs no download");

    scene.fetch(&locked).unwrap();
    assert_eq!(scene.server.log(), [PATH]);
    scene.fetch(&locked).unwrap();
    assert_eq!(scene.server.log(), [""; 0]);
    // The lock before knows the size already.
    let again = scene.lock(&wanted, Some(&held(locked.clone()))).unwrap().0;
    assert_eq!((again, scene.server.log()), (locked, vec!["dl/sums.txt".to_owned()]));
}

#[test]
fn a_wrong_digest_is_refused_and_a_digest_that_is_not_there_is_told() {
    let scene = scene();
    scene.server.put(PATH, b"not it at all".to_vec());
    scene.server.put("sums", sums("k3s+x", BYTES));
    let locked = lock::Artefact {
        sha256: Sha256::of(BYTES),
        ..scene.lock(&scene.wanted(Some("sums")), None).unwrap().0
    };
    let (got, want) = (Sha256::of(b"not it at all"), Sha256::of(BYTES));
    assert_eq!(
        scene.fetch(&locked).unwrap_err(),
        format!(
            "cannot get the artefact k3s (amd64): copies/dl/v1.36.2+k3s1/k3s+x: there is no such file; copies/k3s+x: there \
             is no such file; http://host/{PATH}: its bytes have SHA-256 {got}, wanted is {want}{NOWHERE}"
        )
    );
    scene.server.put("sums", sums("k3s", BYTES));
    assert_eq!(
        scene.lock(&scene.wanted(Some("sums")), None).unwrap_err(),
        format!(
            "cannot get the digest of the artefact k3s (amd64): copies/sums: there is no such file; copies/sums: there is \
             no such file; http://host/sums: it names no SHA-256 digest for k3s+x{NOWHERE}"
        )
    );
}

#[test]
fn a_server_that_does_not_say_the_size_is_asked_for_the_file() {
    let scene = scene();
    scene.server.put(PATH, BYTES);
    scene.server.mishap(PATH, Mishap::NoLength);
    scene.server.put("sums", Sha256::of(BYTES).to_string());
    let (locked, _) = scene.lock(&scene.wanted(Some("sums")), None).unwrap();
    assert_eq!(locked.size, BYTES.len() as u64);
    assert!(scene.cache.get(&locked.sha256, Some(locked.size)).unwrap().is_some());
}

#[test]
fn a_folder_comes_before_the_published_address() {
    let scene = scene();
    // By its digests.
    scene.copy("dl/v1.36.2+k3s1/k3s+x", BYTES);
    scene.copy("sums", sums("k3s+x", BYTES));
    let wanted = scene.wanted(Some("dl/sums"));
    let (locked, origin) = scene.lock(&wanted, None).unwrap();
    assert_eq!((locked.size, locked.sha256), (BYTES.len() as u64, Sha256::of(BYTES)));
    assert_eq!(origin, Origin::Sums("copies/sums".to_owned()));
    // By its own, where nothing stands beside it; the path tells versions apart and goes before the name.
    fs::remove_file(scene.copies().join("sums")).unwrap();
    scene.copy("k3s+x", b"another version");
    let (locked, origin) = scene.lock(&wanted, None).unwrap();
    assert_eq!(locked.sha256, Sha256::of(BYTES));
    assert_eq!(origin, Origin::Folder("copies/dl/v1.36.2+k3s1/k3s+x".to_owned()));
    fs::remove_dir_all(scene.copies().join("dl")).unwrap();
    let (locked, _) = scene.lock(&scene.wanted(None), None).unwrap();
    assert_eq!(locked.sha256, Sha256::of(b"another version"));
    scene.fetch(&locked).unwrap();
    assert_eq!(scene.server.log(), [""; 0]);
    // What changes in a folder changes the lock.
    scene.copy("k3s+x", b"a third version");
    let (newer, _) = scene.lock(&scene.wanted(None), Some(&held(locked))).unwrap();
    assert_eq!(newer.sha256, Sha256::of(b"a third version"));
}

#[test]
fn digests_of_a_folder_that_do_not_name_the_file_are_no_word_for_it() {
    let scene = scene();
    scene.copy("k3s+x", BYTES);
    scene.copy("sums", sums("another", BYTES));
    scene.server.put("dl/sums", sums("k3s+x", b"what was published"));
    scene.server.put(PATH, b"what was published".to_vec());
    let (locked, origin) = scene.lock(&scene.wanted(Some("dl/sums")), None).unwrap();
    assert_eq!(origin, Origin::Sums("http://host/dl/sums".to_owned()));
    // The folder's file is another, and is passed over.
    scene.fetch(&locked).unwrap();
    assert_eq!(locked.sha256, Sha256::of(b"what was published"));
}

#[test]
fn what_was_trusted_once_is_not_fetched_again() {
    let scene = scene();
    let wanted = scene.wanted(None);
    let before = lock::Artefact {
        name: "k3s".to_owned(),
        architecture: "amd64".to_owned(),
        url: wanted.url.clone(),
        size: 3,
        sha256: Sha256::of(b"old"),
    };
    let (locked, origin) = scene.lock(&wanted, Some(&held(before.clone()))).unwrap();
    assert_eq!((locked, origin), (before, Origin::Before));
    // Over plain http nothing is trusted on first use.
    assert!(scene.lock(&wanted, None).is_err());
    assert_eq!(scene.server.log(), [""; 0]);
}

fn tarball(names: &[&str]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        let mut header = tar::Header::new_gnu();
        header.set_size(name.len() as u64);
        builder.append_data(&mut header, name, name.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn packed(ending: &str, bytes: &[u8]) -> Vec<u8> {
    match ending {
        "tgz" | "tar.gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "tar.xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "tar.zst" => zstd::encode_all(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn kept(cache: &Cache, url: &str, bytes: &[u8]) -> lock::Artefact {
    cache.insert(bytes).unwrap();
    lock::Artefact {
        name: "k3s".to_owned(),
        architecture: "amd64".to_owned(),
        url: url.to_owned(),
        size: bytes.len() as u64,
        sha256: Sha256::of(bytes),
    }
}

fn content(tree: &Tree) -> &Content {
    let entry = tree.get("usr/bin/k3s").unwrap();
    assert_eq!((entry.meta.mode, entry.meta.mtime.secs, entry.meta.uid), (0o755, 7, 0));
    match &entry.kind {
        Kind::File(content) => content,
        kind => panic!("{kind:?}"),
    }
}

#[test]
fn a_plain_file_is_laid_from_where_it_is() {
    let scene = scene();
    let mut tree = Tree::new();
    let locked = kept(&scene.cache, "https://h/k3s", BYTES);
    place(&mut tree, &artefact(locked, None), &scene.placing()).unwrap();
    assert!(matches!(content(&tree), Content::Extern { offset: 0, .. }));
    assert_eq!(content(&tree).read().unwrap(), BYTES);
    assert_eq!(tree.get("usr").unwrap().meta.mtime.secs, 7);
}

#[test]
fn a_member_of_every_kind_of_archive() {
    let scene = scene();
    for ending in ["tar", "tgz", "tar.gz", "tar.xz", "tar.zst"] {
        let bytes = packed(ending, &tarball(&["a/other", "./a/tool", "z"]));
        let locked = kept(&scene.cache, &format!("https://h/a.{ending}"), &bytes);
        // The second time it is in the cache.
        for member in ["a/tool", "./a/tool", "a/tool"] {
            let mut tree = Tree::new();
            place(&mut tree, &artefact(locked.clone(), Some(member)), &scene.placing()).unwrap();
            assert_eq!(content(&tree).read().unwrap(), b"./a/tool", "{ending}");
        }
    }
}

#[test]
fn a_missing_member_is_told_with_what_is_near() {
    let scene = scene();
    let bytes = packed("tgz", &tarball(&["tool_1.2/tool", "tool_1.2/toold", "README", "tool_1.2/systemd/x"]));
    let locked = kept(&scene.cache, "https://h/a.tgz", &bytes);
    let refused = |locked: &lock::Artefact| {
        place(&mut Tree::new(), &artefact(locked.clone(), Some("tool_1.1/tool")), &scene.placing())
            .unwrap_err()
            .to_string()
    };
    let text = "the artefact k3s has no file tool_1.1/tool in it; what it has is called tool_1.2/tool, tool_1.2/toold, \
                tool_1.2/systemd/x, README";
    assert_eq!(refused(&locked), text);
    assert_eq!(refused(&locked), text, "a failure must not be kept");
    let empty = kept(&scene.cache, "https://h/a.tar", &tarball(&[]));
    assert_eq!(refused(&empty), "the artefact k3s has no file tool_1.1/tool in it; it has no files at all");
    let broken = kept(&scene.cache, "https://h/b.tgz", b"<html>");
    assert!(refused(&broken).starts_with("the artefact k3s cannot be unpacked: "), "{}", refused(&broken));
    let cut = kept(&scene.cache, "https://h/c.tgz", &bytes[..bytes.len() / 2]);
    assert!(refused(&cut).starts_with("the artefact k3s cannot be unpacked: "), "{}", refused(&cut));
}

#[test]
fn nothing_is_laid_through_a_link_or_over_a_folder() {
    let scene = scene();
    let locked = kept(&scene.cache, "https://h/k3s", BYTES);
    let refused = |path: &str, entry: Entry| {
        let mut tree = Tree::new();
        tree.insert(path, entry);
        place(&mut tree, &artefact(locked.clone(), None), &scene.placing()).unwrap_err().to_string()
    };
    let text = "the artefact k3s cannot be /usr/bin/k3s in the image: ";
    assert_eq!(refused("usr/bin", Entry::symlink("x")), format!("{text}/usr/bin is a symbolic link there"));
    assert_eq!(refused("usr", Entry::file(*b"x")), format!("{text}/usr is no folder there"));
    assert_eq!(refused("usr/bin/k3s", Entry::directory()), format!("{text}/usr/bin/k3s is a folder there"));
}

#[test]
fn what_the_cache_has_lost_is_told() {
    let scene = scene();
    let locked = kept(&scene.cache, "https://h/k3s", BYTES);
    fs::remove_file(scene.cache.get(&locked.sha256, None).unwrap().unwrap()).unwrap();
    let fault = place(&mut Tree::new(), &artefact(locked, None), &scene.placing()).unwrap_err();
    assert_eq!(fault.to_string(), "the artefact k3s is not in the cache any more: build again");
}

/// A name that is as long as memory, in an archive of a few kilobytes.
#[test]
fn an_archive_with_a_name_without_end() {
    let scene = scene();
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let archive = [&header.as_bytes()[..], &vec![b'a'; 64 << 20]].concat();
    let locked = kept(&scene.cache, "https://h/a.tgz", &packed("tgz", &archive));
    let artefact = artefact(locked, Some("tool"));
    let fault = place(&mut Tree::new(), &artefact, &scene.placing()).unwrap_err().to_string();
    assert!(fault.contains("a name in it is too long"), "{fault}");
}
