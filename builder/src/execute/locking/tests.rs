use super::{Base, LockRequest, RootRequest, fetch_packages, lock};
use crate::archive::fixture::{MADE, Manner, Signer};
use crate::cache::Cache;
use crate::digest::Sha256;
use crate::fetch::Silent;
use crate::fetch::mirrors::{Mirrors, Sources};
use crate::fetch::server::{Mishap, Server};
use crate::lock::{Lock, Package, Suite};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOW: i64 = MADE + 3600;
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 UTC";

/// A package of the archive that tests make: its control fields; its file holds them, too.
struct Deb {
    name: &'static str,
    version: &'static str,
    fields: &'static str,
}

impl Deb {
    fn file(&self) -> String {
        format!("pool/main/{}_{}_amd64.deb", self.name, self.version)
    }
    fn bytes(&self) -> Vec<u8> {
        format!("{} {} {}", self.name, self.version, self.fields).repeat(100).into_bytes()
    }
    fn stanza(&self) -> String {
        let (bytes, fields) = (self.bytes(), self.fields);
        format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nInstalled-Size: 7\n{fields}Filename: {}\nSize: {}\nSHA256: {}\n\n",
            self.name,
            self.version,
            self.file(),
            bytes.len(),
            Sha256::of(&bytes)
        )
    }
}

const TRIXIE: [Deb; 5] = [
    Deb { name: "base-files", version: "13", fields: "Essential: yes\nPre-Depends: awk\n" },
    Deb { name: "mawk", version: "1", fields: "Priority: required\nProvides: awk\n" },
    Deb { name: "tool", version: "2", fields: "Depends: libtool (>= 1)\n" },
    Deb { name: "libtool", version: "1", fields: "" },
    Deb { name: "broken", version: "1", fields: "Depends: libtool (>= 9)\n" },
];
const SECURITY: [Deb; 1] = [Deb { name: "libtool", version: "1+deb13u1", fields: "" }];

/// Suites by (folder, codename) with what they hold.
fn suites() -> [(&'static str, &'static str, &'static [Deb]); 3] {
    [
        ("debian", "trixie", &TRIXIE),
        ("debian", "trixie-updates", &[]),
        ("debian-security", "trixie-security", &SECURITY),
    ]
}

fn xz(text: &str) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Puts an archive on a server, signed by `signer`.
fn publish(server: &Server, signer: &Signer) {
    for (archive, suite, debs) in suites() {
        let text: String = debs.iter().map(Deb::stanza).collect();
        let packed = xz(&text);
        let folder = "main/binary-amd64";
        let release = format!(
            "Suite: {suite}\nCodename: {suite}\nDate: {DATE}\nSHA256:\n {} {} {folder}/Packages\n {} {} {folder}/Packages.xz\n",
            Sha256::of(text.as_bytes()),
            text.len(),
            Sha256::of(&packed),
            packed.len()
        );
        let dists = format!("{archive}/dists/{suite}");
        server.put(&format!("{dists}/InRelease"), signer.sign(&release, Manner::default()));
        server.put(&format!("{dists}/{folder}/by-hash/SHA256/{}", Sha256::of(&packed)), packed.clone());
        server.put(&format!("{dists}/{folder}/Packages.xz"), packed);
        debs.iter().for_each(|deb| server.put(&format!("{archive}/{}", deb.file()), deb.bytes()));
    }
}

struct Scene {
    folder: tempfile::TempDir,
    cache: Cache,
    keyring: PathBuf,
    allow_expired: bool,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let keyring = folder.path().join("keyring.gpg");
    fs::write(&keyring, Signer::new(1).keyring()).unwrap();
    Scene { folder, cache, keyring, allow_expired: false }
}

fn root(names: &[&str]) -> RootRequest {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    RootRequest { architecture: "amd64".to_owned(), names, exclude: Vec::new(), base: Base::Essential }
}

fn mirrors(places: &[String]) -> Mirrors {
    Mirrors::gather(Sources {
        environment: None,
        named: places,
        base: Path::new("/"),
        apt: None,
        public: false,
    })
    .unwrap()
}

fn both(server: &Server) -> Vec<String> {
    vec![server.at("debian"), server.at("debian-security")]
}

impl Scene {
    fn lock(&self, mirrors: &Mirrors, roots: &[RootRequest]) -> Result<Lock, String> {
        self.lock_after(None, mirrors, roots)
    }
    fn lock_after(
        &self,
        previous: Option<&Lock>,
        mirrors: &Mirrors,
        roots: &[RootRequest],
    ) -> Result<Lock, String> {
        let request = LockRequest {
            allow_expired: self.allow_expired,
            suite: "trixie",
            components: &["main"],
            roots,
            mirrors,
            keyring: Some(self.keyring.as_path()),
            previous,
            host_keyrings: &[],
        };
        lock(&request, &self.cache, &Silent, NOW).map_err(|fault| fault.to_string())
    }
    fn fetch(&self, lock: &Lock, mirrors: &Mirrors) -> Result<BTreeMap<Sha256, PathBuf>, String> {
        fetch_packages(lock, mirrors, &self.cache, &Silent).map_err(|fault| fault.to_string())
    }
}

fn locked(deb: &Deb, archive: &str, wanted_by: &[&str]) -> Package {
    Package {
        name: deb.name.to_owned(),
        version: deb.version.to_owned(),
        architecture: "amd64".to_owned(),
        archive: archive.to_owned(),
        file: deb.file(),
        size: deb.bytes().len() as u64,
        installed_kib: 7,
        sha256: Sha256::of(&deb.bytes()),
        wanted_by: wanted_by.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn locked_fetched_and_then_offline() {
    let (scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(1));
    let mirrors = mirrors(&both(&server));
    let lock = scene.lock(&mirrors, &[root(&["tool", "tool"])]).unwrap();
    let suite = |(archive, name, _): &(&str, &str, &[Deb])| Suite {
        archive: (*archive).to_owned(),
        name: (*name).to_owned(),
        date: "2023-11-14T22:13:20Z".to_owned(),
        in_release: Sha256::of(&server.bytes(&format!("{archive}/dists/{name}/InRelease"))),
        expired: None,
    };
    assert_eq!(lock.suites, suites().iter().map(suite).collect::<Vec<_>>());
    assert_eq!((lock.source_date, lock.roots.len()), (MADE, 1));
    assert_eq!(lock.roots[0].request, ["tool"]);
    let wanted = [
        locked(&TRIXIE[0], "debian", &["base"]),
        locked(&SECURITY[0], "debian-security", &["tool"]),
        locked(&TRIXIE[1], "debian", &["base-files"]),
        locked(&TRIXIE[2], "debian", &["requested"]),
    ];
    assert_eq!(lock.roots[0].packages, wanted);
    assert_eq!(scene.lock(&mirrors, &[root(&["tool"])]).unwrap().render().unwrap(), lock.render().unwrap());

    let files = scene.fetch(&lock, &mirrors).unwrap();
    assert_eq!(files.len(), 4);
    assert!(files.iter().all(|(digest, path)| Sha256::of(&fs::read(path).unwrap()) == *digest));
    server.log();
    assert_eq!(scene.fetch(&lock, &mirrors).unwrap(), files);
    assert!(server.log().is_empty(), "with everything in the cache nobody is asked");
    drop(server);
    assert_eq!(scene.fetch(&lock, &Mirrors::default()).unwrap(), files);
}

#[test]
fn a_release_by_somebody_else() {
    let (scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(2));
    let (ours, theirs) = (Signer::new(1), Signer::new(2));
    assert_eq!(
        scene.lock(&mirrors(&both(&server)), &[root(&["tool"])]).unwrap_err(),
        format!(
            "cannot get the release file of trixie: {}: it is signed by {}, and none of these keys is trusted; \
             trusted are {}, {}",
            server.at("debian/dists/trixie/InRelease"),
            theirs.subkey_fingerprint(),
            ours.fingerprint(),
            ours.subkey_fingerprint()
        )
    );
}

#[test]
fn a_stale_mirror_is_passed_over() {
    let (scene, stale, good) = (scene(), Server::new(), Server::new());
    let signer = Signer::new(1);
    publish(&stale, &signer);
    publish(&good, &signer);
    let old = format!(
        "Suite: x\nCodename: trixie-security\nDate: {DATE}\nValid-Until: Tue, 14 Nov 2023 22:20:00 UTC\nSHA256:\n {} 0 x\n",
        Sha256::of(b"")
    );
    let path = "debian-security/dists/trixie-security/InRelease";
    stale.put(path, signer.sign(&old, Manner::default()));
    let roots = [root(&["tool"])];
    assert_eq!(
        scene.lock(&mirrors(&both(&stale)), &roots).unwrap_err(),
        format!(
            "cannot get the release file of trixie-security: {}: it was valid until 2023-11-14T22:20:00Z, and now it is \
             2023-11-14T23:13:20Z; the mirror is stale, or the clock of this machine is wrong; where it is meant to stand \
             still, `kiln lock --allow-expired` takes it",
            stale.at(path)
        )
    );
    let lock = scene.lock(&mirrors(&[both(&stale), both(&good)].concat()), &roots).unwrap();
    assert_eq!(lock.roots[0].packages.len(), 4);
}

/// By the user's word alone, and written down; a mirror that moves comes first all the same.
#[test]
fn a_mirror_that_stands_still() {
    let (mut scene, stale, good) = (scene(), Server::new(), Server::new());
    let signer = Signer::new(1);
    publish(&stale, &signer);
    publish(&good, &signer);
    let path = "debian-security/dists/trixie-security/InRelease";
    let release = String::from_utf8(stale.bytes(path)).unwrap();
    let text = release.split("\n\n").nth(1).unwrap().split("\n-----").next().unwrap();
    let old = text.replacen("SHA256:", "Valid-Until: Tue, 14 Nov 2023 22:20:00 UTC\nSHA256:", 1);
    stale.put(path, signer.sign(&format!("{old}\n"), Manner::default()));
    let roots = [root(&["tool"])];
    scene.allow_expired = true;
    let lock = scene.lock(&mirrors(&both(&stale)), &roots).unwrap();
    assert_eq!(lock.suites[2].expired.as_deref(), Some("2023-11-14T22:20:00Z"));
    assert_eq!(
        lock.stands_still().unwrap(),
        "the lock is made from a mirror that stands still, as `kiln lock --allow-expired` says: trixie-security (valid until \
         2023-11-14T22:20:00Z); security updates since then are not in it"
    );
    let text = lock.render().unwrap();
    assert_eq!(Lock::parse(&text, Path::new("kiln.lock")).unwrap(), lock);
    // Nor does a newer lock stand in the way: whoever steps back says so.
    let mut newer = lock.clone();
    newer.suites[0].date = "2024-01-01T00:00:00Z".to_owned();
    assert_eq!(scene.lock_after(Some(&newer), &mirrors(&both(&stale)), &roots).unwrap(), lock);
    let lock = scene.lock(&mirrors(&[both(&stale), both(&good)].concat()), &roots).unwrap();
    assert_eq!((lock.suites[2].expired.clone(), lock.stands_still()), (None, None));
    // A wrong key is no question of time.
    publish(&stale, &Signer::new(2));
    assert!(scene.lock(&mirrors(&both(&stale)), &roots).unwrap_err().contains("it is signed by"));
}

/// Indices that unpack to much are left, whatever their release says of them.
#[test]
fn an_index_that_unpacks_to_much() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let packed = folder.path().join("Packages.xz");
    let mut encoder = liblzma::write::XzEncoder::new(fs::File::create(&packed).unwrap(), 0);
    let zeros = vec![b'\n'; 1 << 20];
    (0..160).for_each(|_| std::io::Write::write_all(&mut encoder, &zeros).unwrap());
    encoder.finish().unwrap();
    for size in [None, Some(1 << 40)] {
        let content = size.map(|size| super::Listed { size, sha256: Sha256::of(b"") });
        let fault = super::read_index(&packed, content, &cache).unwrap().unwrap_err();
        assert_eq!(fault, "it decompresses to more than 134217728 bytes");
    }
    // A dictionary of 1.5 GiB, which a stream may ask for in twelve bytes.
    let mut wants = xz("Package: x\n");
    let mut options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
    options.dict_size(1536 << 20);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    if let Ok(stream) = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::None) {
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        std::io::Write::write_all(&mut encoder, b"Package: x\n").unwrap();
        wants = encoder.finish().unwrap();
    }
    fs::write(&packed, &wants).unwrap();
    let fault = super::read_index(&packed, None, &cache).unwrap().unwrap_err();
    assert!(fault.starts_with("it does not decompress: "), "{fault}");
}

/// A release that is older than the one that the lock has is a stale mirror's, signed well as it is.
#[test]
fn no_way_back() {
    let (scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(1));
    let (mirrors, roots) = (mirrors(&both(&server)), [root(&["tool"])]);
    let mut previous = scene.lock(&mirrors, &roots).unwrap();
    assert_eq!(scene.lock_after(Some(&previous), &mirrors, &roots).unwrap(), previous);
    previous.suites[2].date = "2023-11-14T22:13:21Z".to_owned();
    assert_eq!(
        scene.lock_after(Some(&previous), &mirrors, &roots).unwrap_err(),
        format!(
            "cannot get the release file of trixie-security: {}: it is of 2023-11-14T22:13:20Z, and the lock was made \
             from the one of 2023-11-14T22:13:21Z; the mirror is stale; where it is meant to stand still, `kiln lock \
             --allow-expired` takes it",
            server.at("debian-security/dists/trixie-security/InRelease")
        )
    );
}

#[test]
fn a_tampered_index() {
    let (scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(1));
    let path = "debian/dists/trixie/main/binary-amd64/Packages.xz";
    let good = server.bytes(path);
    let mut bad = good.clone();
    bad[20] ^= 1;
    let by_hash = format!("debian/dists/trixie/main/binary-amd64/by-hash/SHA256/{}", Sha256::of(&good));
    server.put(path, bad.clone());
    server.put(&by_hash, bad.clone());
    let reason = format!("its bytes have SHA-256 {}, wanted is {}", Sha256::of(&bad), Sha256::of(&good));
    let roots = [root(&["tool"])];
    assert_eq!(
        scene.lock(&mirrors(&both(&server)), &roots).unwrap_err(),
        format!(
            "cannot get main/binary-amd64/Packages.xz of trixie: {}: {reason}; {}: {reason}",
            server.at(&by_hash),
            server.at(path)
        )
    );
    // A mirror without by-hash folders is as good as any.
    server.put(path, good);
    server.remove(&by_hash);
    assert!(scene.lock(&mirrors(&both(&server)), &roots).is_ok());
}

#[test]
fn requests_without_answer() {
    let (scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(1));
    let lock = |names: &[&str]| scene.lock(&mirrors(&both(&server)), &[root(names)]).unwrap_err();
    assert_eq!(
        lock(&["toll"]),
        "there is no package toll; near it are tool, in trixie, trixie-updates, trixie-security (amd64)"
    );
    assert_eq!(
        lock(&["broken"]),
        "broken 1 depends on libtool (>= 9), but trixie-security has libtool 1+deb13u1 and trixie has libtool 1; \
         broken was requested"
    );
    let arm = RootRequest { architecture: "arm64".to_owned(), ..root(&[]) };
    assert_eq!(
        scene.lock(&mirrors(&both(&server)), &[arm]).unwrap_err(),
        "suite trixie has no main packages for arm64"
    );
}

#[test]
fn packages_from_the_mirror_that_has_them_whole() {
    let (scene, one, two) = (scene(), Server::new(), Server::new());
    publish(&one, &Signer::new(1));
    publish(&two, &Signer::new(1));
    let lock = scene.lock(&mirrors(&both(&one)), &[root(&["tool"])]).unwrap();
    let (gone, cut) = (format!("debian/{}", TRIXIE[2].file()), format!("debian/{}", TRIXIE[1].file()));
    one.put(&cut, &TRIXIE[1].bytes()[..100]);
    let size = TRIXIE[1].bytes().len();
    assert_eq!(
        scene.fetch(&lock, &mirrors(&both(&one))).unwrap_err(),
        format!(
            "cannot get mawk 1 (amd64): {}: the connection was cut after 100 of {size} bytes",
            one.at(&cut)
        )
    );
    one.remove(&gone);
    one.mishap(&format!("debian/{}", TRIXIE[0].file()), Mishap::BusyFor(1));
    assert_eq!(scene.fetch(&lock, &mirrors(&[both(&one), both(&two)].concat())).unwrap().len(), 4);
}

#[test]
fn keyrings_that_are_none() {
    let (mut scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(1));
    let mirrors = mirrors(&both(&server));
    scene.keyring = scene.folder.path().join("nowhere.gpg");
    assert_eq!(
        scene.lock(&mirrors, &[root(&[])]).unwrap_err(),
        format!("keyring {}: No such file or directory (os error 2)", scene.keyring.display())
    );
    // Without a keyring at hand the archive's own is asked for; this archive has none.
    let request = LockRequest {
        allow_expired: false,
        suite: "trixie",
        components: &["main"],
        roots: &[root(&[])],
        mirrors: &mirrors,
        keyring: None,
        previous: None,
        host_keyrings: &[&scene.keyring],
    };
    assert_eq!(
        lock(&request, &scene.cache, &Silent, NOW).unwrap_err().to_string(),
        "keyring of debian-archive-keyring in trixie: there is no such package; \
         install debian-archive-keyring, or name a keyring in the cluster file (base.keyring)"
    );
}

/// A real package, made by dpkg-deb.
fn make_deb(folder: &Path, name: &str, fields: &str) -> PathBuf {
    let tree = folder.join("tree").join(name);
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.join("usr/share/doc")).unwrap();
    fs::write(tree.join("usr/share/doc").join(name), name).unwrap();
    let control = format!(
        "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n{fields}Description: a test\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let debs = folder.join("debs");
    fs::create_dir_all(&debs).unwrap();
    let path = debs.join(format!("{name}_1_all.deb"));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&path);
    let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output();
    let output = output.expect("this test makes packages with dpkg-deb: install the Debian package dpkg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

#[test]
fn a_folder_of_packages_with_the_network_unplugged() {
    let scene = scene();
    let folder = scene.folder.path();
    make_deb(folder, "app", "Depends: lib (>= 1)\n");
    let path = make_deb(folder, "lib", "Filename: ../../etc/passwd\nSize: 1\n");
    let mirrors = mirrors(&[folder.join("debs").display().to_string()]);
    let lock = scene.lock(&mirrors, &[root(&["app"])]).unwrap();
    let [app, lib] = &lock.roots[0].packages[..] else { panic!("{lock:?}") };
    assert_eq!(
        (app.name.as_str(), app.archive.as_str(), app.file.as_str()),
        ("app", "local", "app_1_all.deb")
    );
    assert_eq!((lib.file.as_str(), lib.sha256), ("lib_1_all.deb", Sha256::of(&fs::read(&path).unwrap())));
    assert_eq!((lock.source_date, lock.suites[0].date.as_str()), (MADE, "2023-11-14T22:13:20Z"));
    assert_eq!(scene.fetch(&lock, &mirrors).unwrap().len(), 2);
    assert_eq!(
        scene.lock(&mirrors, &[root(&["app"])]).unwrap(),
        lock,
        "the second time from kept control data"
    );

    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 60]).unwrap();
    let fault = scene.lock(&mirrors, &[root(&["app"])]).unwrap_err();
    let wanted = format!("{}: the package is cut short inside data.tar.xz: ", path.display());
    assert!(fault.starts_with(&wanted), "{fault}");
}

/// A folder beside an archive adds to it, and serves packages that the archive has.
#[test]
fn a_folder_beside_an_archive() {
    let (scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(1));
    let folder = scene.folder.path();
    make_deb(folder, "app", "Depends: tool\n");
    let debs = folder.join("debs");
    let name = TRIXIE[2].file().replace("pool/main/", "");
    let mirrors = mirrors(&[both(&server), vec![debs.display().to_string()]].concat());
    let lock = scene.lock(&mirrors, &[root(&["app"])]).unwrap();
    let archives: Vec<_> = lock.roots[0].packages.iter().map(|package| package.archive.as_str()).collect();
    assert_eq!(archives, ["local", "debian", "debian-security", "debian", "debian"]);
    fs::write(debs.join(name), TRIXIE[2].bytes()).unwrap();
    server.remove(&format!("debian/{}", TRIXIE[2].file()));
    assert_eq!(scene.fetch(&lock, &mirrors).unwrap().len(), 5);
}

/// A copy of an archive tree on this machine.
#[test]
fn an_archive_tree_in_a_folder() {
    let (scene, server) = (scene(), Server::new());
    publish(&server, &Signer::new(1));
    let root_folder = scene.folder.path().join("mirror");
    for (archive, suite, debs) in suites() {
        let dists = format!("{archive}/dists/{suite}");
        let mut paths = vec![format!("{dists}/InRelease"), format!("{dists}/main/binary-amd64/Packages.xz")];
        paths.extend(debs.iter().map(|deb| format!("{archive}/{}", deb.file())));
        for path in paths {
            let file = root_folder.join(&path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, server.bytes(&path)).unwrap();
        }
    }
    drop(server);
    let places = ["debian", "debian-security"].map(|archive| root_folder.join(archive).display().to_string());
    let mirrors = mirrors(&places);
    let lock = scene.lock(&mirrors, &[root(&["tool"])]).unwrap();
    assert_eq!(scene.fetch(&lock, &mirrors).unwrap().len(), 4);
}
