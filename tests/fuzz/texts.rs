//! Parsers of what archives, mirrors and people write.

use crate::engine::Target;
use kiln::archive::keyring::{DEBIAN, Keyring, Trust};
use kiln::archive::release::Release;
use kiln::archive::{index, relation, version};
use kiln::cluster::{self, user_data};
use kiln::lock::{Lock, Url};
use kiln::secrets::{Identities, sops};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn nothing(_: &mut Vec<u8>) {}

/// What is text; a parser of texts is never given anything else.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder for what is read from files.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = kiln_tests::shared().join("fuzz");
        fs::create_dir_all(folder.join("own")).unwrap();
        folder
    })
}

fn cluster_file(bytes: &[u8]) {
    let _ =
        cluster::parse(bytes, Path::new("cluster.yaml"), folder()).map(|loaded| loaded.warnings.summary());
}

const OWN: &str = "\
apiVersion: kiln/v1
cluster: { name: small }
base: { distribution: debian, suite: trixie }
users: [{ name: ops, ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 ops] }]
overlays: [{ ./own: { a: 1 } }]
nodes: [{ name: one, role: agent, network: { address: 192.0.2.1/24, gateway: 192.0.2.254 } }]
";

/// An `overlay.yaml` of a stranger.
fn overlay(bytes: &[u8]) {
    fs::write(folder().join("own/overlay.yaml"), bytes).unwrap();
    cluster_file(OWN.as_bytes());
}

fn own_user_data(bytes: &[u8]) {
    let _ = user_data::parse(&text(bytes));
}

fn release(bytes: &[u8]) {
    let _ = Release::open_untrusted(bytes);
}

fn keyring(bytes: &[u8]) {
    let _ = Keyring::parse(bytes, Trust::All);
    let _ = Keyring::parse(bytes, Trust::Pinned(DEBIAN));
}

fn packages(bytes: &[u8]) {
    let text = text(bytes);
    let Ok(packages) = index::parse(&text) else { return };
    for package in packages {
        let _ = relation::parse(package.depends);
    }
}

fn relations(bytes: &[u8]) {
    let text = text(bytes);
    let _ = relation::parse(&text);
    let _ = version::Version::parse(&text).map(|version| version.to_string());
    let _ = Url::parse(&text).map(|url| url.file_name());
    let _ = cluster::parse_size(&text);
}

fn lock(bytes: &[u8]) {
    let _ = Lock::parse(&text(bytes), Path::new("kiln.lock")).map(|lock| lock.render());
}

fn sops_file(bytes: &[u8]) {
    for ending in ["yaml", "json", "env"] {
        let path = folder().join(format!("secrets.{ending}"));
        fs::write(&path, bytes).unwrap();
        let _ = sops::File::open(&path, &Identities::default());
    }
}

fn identities(bytes: &[u8]) {
    let _ = Identities::parse(&text(bytes), "here");
}

const RELEASE: &str = "\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Suite: stable
Codename: trixie
Date: Sat, 12 Sep 2026 07:55:41 UTC
SHA256:
 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-amd64/Packages
-----BEGIN PGP SIGNATURE-----

wnUEABYKAB0WIQQ0NTY3ODk6Ozw9Pj9AQUJDREVGRwUCZVPxAAAKCRBERUZHSElK
S0xNTk8A/1FSU1RVVldYWVpbXF1eX2BhYmNkZWZnaGlqa2xtbm9wAQBxcnN0dXZ3
=abcd
-----END PGP SIGNATURE-----
";

const PACKAGE: &str = "\
Package: htop
Version: 1:3.4.1-5+b1
Architecture: amd64
Depends: libc6 (>= 2.38), a | b (<< 1~), c:any [amd64 !arm64]
Provides: top (= 1)
Size: 12
Installed-Size: 30
Filename: pool/main/h/htop.deb
SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
Description: text
 more

";

const SOPS: &str = "\
password: ENC[AES256_GCM,data:AAAA,iv:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,tag:AAAAAAAAAAAAAAAAAAAAAA==,type:str]
sops:
    age:
        - recipient: age1x
          enc: |
            -----BEGIN AGE ENCRYPTED FILE-----
            YWdl
            -----END AGE ENCRYPTED FILE-----
    lastmodified: \"2026-09-12T07:55:41Z\"
    mac: ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]
    version: 3.11.0
";

/// All of them.
pub(crate) fn targets() -> Vec<Target> {
    let top = kiln_tests::top();
    let mut clusters = vec![cluster::EXAMPLE.into()];
    let overlays = fs::read_dir(top.join("overlays")).unwrap().flatten();
    let overlays: Vec<Vec<u8>> =
        overlays.filter_map(|it| fs::read(it.path().join("overlay.yaml")).ok()).collect();
    clusters.extend(examples(&top.join("templates")));
    let words: Vec<Vec<u8>> =
        ["a (>= 1.0), b | c", "1:2.0~rc1-3+b1", "https://user@h:1/a%2Bb", "20GiB"].map(Into::into).into();
    let user_data = "#cloud-config\nbootcmd: [[ls, -l]]\nwrite_files: &a\n- { path: /x, content: !!binary AAAA, owner: \"a:b\" }\nx: *a\n<<: { y: 2025-02-30 }\n";
    let host = kiln::execute::locking::HOST_KEYRINGS.iter().filter_map(|path| fs::read(path).ok());
    let mut keyrings: Vec<Vec<u8>> = host.collect();
    keyrings.push(RELEASE.into());
    let locked = r#"{"version":1,"source_date":1,"suites":[{"archive":"debian","name":"trixie","date":"2026-09-12T07:55:41Z","in_release":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}],"roots":[{"architecture":"amd64","request":["a"],"packages":[]}],"charts":{"a":"1"}}"#;
    let json = r#"{"a":"ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:int]","sops":{"version":"3.11.0","mac":"x","lastmodified":"y"}}"#;
    let identity = "# key\nAGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n-----END OPENSSH PRIVATE KEY-----\n";
    let target = |name, seeds, feed| Target { name, seeds, mend: nothing, feed };
    vec![
        target("cluster.yaml", clusters, cluster_file),
        target("overlay.yaml", overlays, overlay),
        target("user-data", vec![user_data.into()], own_user_data),
        target("InRelease", vec![RELEASE.into()], release),
        target("keyring", keyrings, keyring),
        target("Packages", vec![PACKAGE.repeat(3).into()], packages),
        target("words", words, relations),
        target("kiln.lock", vec![locked.into()], lock),
        target(
            "sops",
            vec![SOPS.into(), json.into(), "a=ENC[AES256_GCM,data:AA==]\nsops_version=3.11.0\n".into()],
            sops_file,
        ),
        target("identities", vec![identity.into()], identities),
    ]
}

/// All cluster files below a folder.
fn examples(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => examples(&path),
            false => fs::read(&path).ok().filter(|_| path.ends_with("cluster.yaml")).into_iter().collect(),
        })
        .collect()
}
