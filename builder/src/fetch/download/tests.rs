use super::{Error, Fetcher, Wanted};
use crate::cache::Cache;
use crate::digest::Sha256;
use crate::fetch::Progress;
use crate::fetch::http::Patience;
use crate::fetch::mirrors::Location;
use crate::fetch::server::{Mishap, Server, nobody};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// Remembers what it is told.
#[derive(Default)]
struct Told(Mutex<(u64, u64, Vec<String>)>);

impl Progress for Told {
    fn begin(&self, _: usize, bytes: u64) {
        self.0.lock().unwrap().0 = bytes;
    }
    fn advance(&self, bytes: u64) {
        self.0.lock().unwrap().1 += bytes;
    }
    fn message(&self, text: &str) {
        self.0.lock().unwrap().2.push(text.to_owned());
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    cache: Cache,
    told: Told,
    server: Server,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    Scene { _folder: folder, cache, told: Told::default(), server: Server::new() }
}

const PATIENCE: Patience = Patience {
    timeout: Duration::from_secs(5),
    tries: 3,
    pause: Duration::from_millis(1),
    grace: Duration::from_secs(60),
};

fn bytes() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

impl Scene {
    fn fetcher(&self) -> Fetcher<'_> {
        Fetcher::new(&self.cache, &self.told, PATIENCE)
    }
    fn wanted(&self, paths: &[&str]) -> Wanted {
        let from = paths.iter().map(|path| Location::Http(self.server.at(path))).collect();
        Wanted {
            name: "a 1 (all)".to_owned(),
            from,
            size: Some(bytes().len() as u64),
            sha256: Sha256::of(&bytes()),
        }
    }
    /// Nothing is under its final name that should not be.
    fn holds(&self, wanted: &Wanted) -> bool {
        self.cache.get(&wanted.sha256, None).unwrap().is_some()
    }
}

fn is_right(path: &Path) -> bool {
    std::fs::read(path).unwrap() == bytes()
}

#[test]
fn fetched_once() {
    let scene = scene();
    scene.server.put("a", bytes());
    let wanted = scene.wanted(&["a"]);
    let paths = scene.fetcher().files(&[wanted.clone(), wanted.clone()]).unwrap();
    assert!(is_right(&paths[0]) && paths[0] == paths[1]);
    assert_eq!(scene.server.log(), ["a"]);
    assert_eq!(scene.fetcher().files(&[wanted]).unwrap().len(), 1);
    assert!(scene.server.log().is_empty(), "what is in the cache is not asked for");
    assert_eq!(scene.told.0.lock().unwrap().1, bytes().len() as u64);
}

#[test]
fn a_cut_connection_is_resumed() {
    let scene = scene();
    scene.server.put("a", bytes());
    scene.server.mishap("a", Mishap::CutAfterFor(1000, 1));
    assert!(is_right(&scene.fetcher().file(&scene.wanted(&["a"])).unwrap()));
    assert_eq!(scene.server.log(), ["a", "a from 1000"]);
}

#[test]
fn a_cut_download_is_resumed_by_the_next_run_and_at_another_mirror() {
    let scene = scene();
    scene.server.put("a", bytes());
    scene.server.put("b", bytes());
    scene.server.mishap("a", Mishap::CutAfter(1000));
    let wanted = scene.wanted(&["a"]);
    assert_eq!(
        scene.fetcher().file(&wanted).unwrap_err().to_string(),
        format!(
            "cannot get a 1 (all): {}: the connection was cut after 3000 bytes (Peer disconnected)",
            scene.server.at("a")
        )
    );
    assert!(!scene.holds(&wanted));
    assert_eq!(scene.server.log(), ["a", "a from 1000", "a from 2000"]);
    assert!(is_right(&scene.fetcher().file(&scene.wanted(&["b"])).unwrap()));
    assert_eq!(scene.server.log(), ["b from 3000"]);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let scene = scene();
    scene.server.put("a", bytes());
    scene.server.put("b", bytes());
    scene.server.mishap("a", Mishap::CutAfter(1000));
    scene.server.mishap("b", Mishap::NoRanges);
    assert!(is_right(&scene.fetcher().file(&scene.wanted(&["a", "b"])).unwrap()));
}

#[test]
fn busy_servers_are_asked_again() {
    let scene = scene();
    scene.server.put("a", bytes());
    scene.server.mishap("a", Mishap::BusyFor(2));
    assert!(is_right(&scene.fetcher().file(&scene.wanted(&["a"])).unwrap()));
    assert_eq!(scene.server.log().len(), 3);
}

#[test]
fn the_next_mirror_has_it() {
    let scene = scene();
    let mut wrong = bytes();
    wrong[5] ^= 1;
    scene.server.put("wrong", wrong.clone());
    scene.server.put("right", bytes());
    let wanted = scene.wanted(&["gone", "wrong", "right"]);
    assert!(is_right(&scene.fetcher().file(&wanted).unwrap()));
    assert_eq!(scene.server.log(), ["gone", "wrong", "right"]);
    let told = scene.told.0.lock().unwrap().2.clone();
    let at = |path| scene.server.at(path);
    assert_eq!(
        told,
        [
            format!("a 1 (all): {}: it has no such file (HTTP 404)", at("gone")),
            format!(
                "a 1 (all): {}: its bytes have SHA-256 {}, wanted is {}",
                at("wrong"),
                Sha256::of(&wrong),
                wanted.sha256
            ),
        ]
    );
}

#[test]
fn a_digest_mismatch_names_file_mirror_and_digests() {
    let scene = scene();
    scene.server.put("a", vec![7; bytes().len()]);
    let wanted = scene.wanted(&["a"]);
    assert_eq!(
        scene.fetcher().file(&wanted).unwrap_err().to_string(),
        format!(
            "cannot get a 1 (all): {}: its bytes have SHA-256 {}, wanted is {}",
            scene.server.at("a"),
            Sha256::of(&vec![7; bytes().len()]),
            wanted.sha256
        )
    );
    assert!(!scene.holds(&wanted));
}

/// The first mirror's wrong beginning must not spoil the second mirror's right end.
#[test]
fn a_wrong_beginning_is_thrown_away() {
    let scene = scene();
    scene.server.put("wrong", vec![7; bytes().len()]);
    scene.server.mishap("wrong", Mishap::CutAfter(1000));
    scene.server.put("right", bytes());
    assert!(is_right(&scene.fetcher().file(&scene.wanted(&["wrong", "right"])).unwrap()));
}

#[test]
fn too_long_and_too_short() {
    let scene = scene();
    scene.server.put("long", [bytes(), vec![0]].concat());
    scene.server.put("short", &bytes()[..1000]);
    let size = bytes().len();
    let fault = scene.fetcher().file(&scene.wanted(&["long"])).unwrap_err().to_string();
    assert!(fault.ends_with(&format!("it sends more than {size} bytes")), "{fault}");
    let fault = scene.fetcher().file(&scene.wanted(&["short"])).unwrap_err().to_string();
    assert!(fault.ends_with(&format!("the connection was cut after 1000 of {size} bytes")), "{fault}");
    assert!(!scene.holds(&scene.wanted(&[])));
}

#[test]
fn nowhere_to_ask() {
    let scene = scene();
    let wanted = Wanted { from: Vec::new(), ..scene.wanted(&[]) };
    assert_eq!(
        scene.fetcher().file(&wanted).unwrap_err().to_string(),
        "cannot get a 1 (all): no mirror has it; name one in the cluster file or in KILN_MIRROR"
    );
    for (status, told) in
        [(403, "it answers HTTP 403 Forbidden"), (500, "it answers HTTP 500 Internal Server Error")]
    {
        scene.server.mishap("a", Mishap::Status(status));
        let fault = scene.fetcher().file(&scene.wanted(&["a"])).unwrap_err().to_string();
        assert_eq!(fault, format!("cannot get a 1 (all): {}: {told}", scene.server.at("a")));
    }
}

/// A server that is not there is waited for once, not once for each file.
#[test]
fn a_dead_server_is_remembered() {
    let scene = scene();
    let dead = nobody();
    let wanted =
        |name: &str| Wanted { from: vec![Location::Http(format!("{dead}/{name}"))], ..scene.wanted(&[]) };
    let fetcher = scene.fetcher();
    assert_eq!(
        fetcher.file(&wanted("a")).unwrap_err().to_string(),
        format!("cannot get a 1 (all): {dead}/a: it refuses the connection")
    );
    assert_eq!(
        fetcher.file(&wanted("b")).unwrap_err().to_string(),
        format!("cannot get a 1 (all): {dead}/b: it could not be reached before")
    );
}

#[test]
fn a_silent_server_is_left() {
    let scene = scene();
    scene.server.put("a", bytes());
    scene.server.mishap("a", Mishap::Slow(2000));
    let patience = Patience { timeout: Duration::from_millis(100), tries: 1, ..PATIENCE };
    let fault = Fetcher::new(&scene.cache, &scene.told, patience).file(&scene.wanted(&["a"])).unwrap_err();
    assert_eq!(fault.to_string(), format!("cannot get a 1 (all): {}: it fell silent", scene.server.at("a")));
}

#[test]
fn a_server_that_drips_is_left() {
    let scene = scene();
    scene.server.put("a", bytes());
    scene.server.put("b", bytes());
    scene.server.mishap("a", Mishap::Drip(100));
    let patience = Patience { grace: Duration::from_millis(300), ..PATIENCE };
    let began = std::time::Instant::now();
    let path = Fetcher::new(&scene.cache, &scene.told, patience).file(&scene.wanted(&["a", "b"])).unwrap();
    assert!(is_right(&path) && began.elapsed() < Duration::from_secs(10));
    let told = scene.told.0.lock().unwrap().2.join("");
    assert!(told.contains("it is too slow: "), "{told}");
}

#[test]
fn the_first_failure_ends_the_others() {
    let scene = scene();
    let missing = |at: u8| Wanted {
        name: format!("missing {at}"),
        sha256: Sha256::of(&[at]),
        size: Some(1),
        ..scene.wanted(&["gone"])
    };
    let list: Vec<_> = (0..50).map(missing).collect();
    let fault = scene.fetcher().files(&list).unwrap_err();
    assert!(matches!(&fault, Error::Nowhere { name, .. } if name.starts_with("missing ")), "{fault}");
    assert!(scene.server.log().len() < 50);
}

/// Two runs with one cache: each file is asked for once in all.
#[test]
fn runs_at_the_same_time_share() {
    let scene = scene();
    let contents: Vec<Vec<u8>> = (0..20_u8).map(|at| vec![at; 50_000]).collect();
    let wanted: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(at, bytes)| {
            scene.server.put(&format!("f{at}"), bytes.clone());
            let from = vec![Location::Http(scene.server.at(&format!("f{at}")))];
            Wanted { name: format!("f{at}"), from, size: Some(50_000), sha256: Sha256::of(bytes) }
        })
        .collect();
    let other = Cache::open(scene.cache.root()).unwrap();
    let told = Told::default();
    std::thread::scope(|scope| {
        scope.spawn(|| Fetcher::new(&other, &told, PATIENCE).files(&wanted).unwrap());
        let paths = scene.fetcher().files(&wanted).unwrap();
        assert!(paths.iter().zip(&contents).all(|(path, bytes)| std::fs::read(path).unwrap() == *bytes));
    });
    assert_eq!(scene.server.log().len(), 20);
}

#[test]
fn files_of_this_machine() {
    let scene = scene();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.deb");
    let wanted = Wanted { from: vec![Location::File(path.clone())], ..scene.wanted(&[]) };
    assert_eq!(
        scene.fetcher().file(&wanted).unwrap_err().to_string(),
        format!("cannot get a 1 (all): {}: there is no such file", path.display())
    );
    std::fs::write(&path, bytes()).unwrap();
    assert!(is_right(&scene.fetcher().file(&wanted).unwrap()));
}

#[test]
fn fresh_bytes_from_the_first_place_that_is_accepted() {
    let scene = scene();
    scene.server.put("one", "one");
    scene.server.put("two", "two");
    let from = ["gone", "one", "two"].map(|path| Location::Http(scene.server.at(path)));
    let accept = |bytes: Vec<u8>, _: &Location| match &bytes[..] {
        b"two" => Ok(bytes),
        _ => Err("it is not two".to_owned()),
    };
    assert_eq!(scene.fetcher().fresh("it", (&from, 3), accept).unwrap(), b"two");
    let fault = scene.fetcher().fresh("it", (&from[..2], 3), accept).unwrap_err().to_string();
    assert!(fault.ends_with("/one: it is not two"), "{fault}");
    let fault = scene.fetcher().fresh("it", (&from[1..], 2), accept).unwrap_err().to_string();
    assert!(fault.ends_with("/two: it sends more than 2 bytes"), "{fault}");
}

#[test]
fn a_file_without_a_digest_is_taken_whole_or_not_at_all() {
    let scene = scene();
    let at = |path: &str| Location::Http(scene.server.at(path));
    scene.server.put("a", bytes());
    scene.server.mishap("a", Mishap::CutAfterFor(1000, 1));
    let taken = scene.fetcher().unpinned("a 1", &[at("none"), at("a")]).unwrap();
    assert_eq!((taken.size, taken.sha256, taken.from), (bytes().len() as u64, Sha256::of(&bytes()), at("a")));
    let path = scene.cache.get(&taken.sha256, Some(taken.size)).unwrap().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), bytes());
    assert_eq!(scene.server.log(), ["none", "a", "a"]);

    scene.server.put("b", b"0123456789".to_vec());
    scene.server.mishap("b", Mishap::CutAfter(5));
    let fault = scene.fetcher().unpinned("b 1", &[at("b")]).unwrap_err().to_string();
    assert!(fault.contains("the connection was cut after 5 "), "{fault}");
    assert!(scene.cache.get(&Sha256::of(b"01234"), None).unwrap().is_none());
    let partial = std::fs::read_dir(scene.cache.root().join("partial")).unwrap().count();
    assert_eq!(partial, 0);
}

#[test]
fn a_size_is_asked_for_without_the_file() {
    let scene = scene();
    let at = |path: &str| Location::Http(scene.server.at(path));
    scene.server.put("a", bytes());
    let size = scene.fetcher().size("a 1", &[at("none"), at("a")]).unwrap();
    assert_eq!(size, Some(bytes().len() as u64));
    scene.server.mishap("a", Mishap::NoLength);
    assert_eq!(scene.fetcher().size("a 1", &[at("a")]).unwrap(), None);
    assert!(scene.fetcher().size("a 1", &[at("none")]).is_err());
}
