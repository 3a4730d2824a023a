use super::{Location, Mirrors, Sources};
use std::fs;
use std::path::Path;

fn shown(locations: &[Location]) -> Vec<String> {
    locations.iter().map(Location::to_string).collect()
}

fn gather(environment: Option<&str>, named: &[&str], base: &Path) -> Result<Mirrors, String> {
    let named: Vec<String> = named.iter().map(|mirror| (*mirror).to_owned()).collect();
    let apt = base.join("apt");
    let sources = Sources { environment, named: &named, base, apt: Some(&apt), public: true };
    Mirrors::gather(sources).map_err(|fault| fault.to_string())
}

#[test]
fn order_of_places() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("apt/sources.list.d");
    fs::create_dir_all(&parts).unwrap();
    fs::write(
        folder.path().join("apt/sources.list"),
        "# deb http://off.example/debian trixie main\n\
         deb [arch=amd64 signed-by=/x] http://list.example/debian/ trixie main\n\
         deb-src http://src.example/debian trixie main\n\
         deb cdrom:[Debian]/ trixie main\n\
         deb https://other.example/ubuntu noble main\n",
    )
    .unwrap();
    fs::write(parts.join("b.list"), "deb http://user:secret@list.example/debian-security x main\n").unwrap();
    fs::write(
        parts.join("a.sources"),
        "Types: deb\n# URIs: http://comment.example/debian\nURIs: http://one.example/debian\n  http://two.example/debian\nSuites: bookworm\n\n\
         Types: deb\nEnabled: no\nURIs: http://off.example/debian\n\n\
         Types: deb-src\nURIs: http://src.example/debian\n",
    )
    .unwrap();
    fs::write(parts.join("c.list.disabled"), "deb http://off.example/debian x main\n").unwrap();
    let mirrors =
        gather(Some("http://env.example/debian,"), &["https://named.example/x/debian/"], folder.path())
            .unwrap();
    assert_eq!(
        shown(&mirrors.locations("debian", "p")),
        [
            "http://env.example/debian/p",
            "https://named.example/x/debian/p",
            "http://list.example/debian/p",
            "http://one.example/debian/p",
            "http://two.example/debian/p",
            "http://ftp.debian.org/debian/p",
        ]
    );
    let security = mirrors.package_locations("debian-security", "pool/a.deb", 1_757_663_741);
    assert_eq!(
        shown(&security),
        [
            "http://list.example/debian-security/pool/a.deb",
            "http://security.debian.org/debian-security/pool/a.deb",
            "http://snapshot.debian.org/archive/debian-security/20250912T195541Z/pool/a.deb",
        ]
    );
    assert!(matches!(&security[0], Location::Http(address) if address.contains("user:secret@")));
}

#[test]
fn no_apt_sources_at_all() {
    let mirrors = gather(None, &[], Path::new("/does/not/exist")).unwrap();
    assert_eq!(shown(&mirrors.locations("debian", "p")), ["http://ftp.debian.org/debian/p"]);
}

#[test]
fn folders() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    fs::create_dir_all(base.join("tree/debian/dists")).unwrap();
    fs::create_dir_all(base.join("odd/dists")).unwrap();
    fs::create_dir_all(base.join("debs")).unwrap();
    fs::write(base.join("debs/a_1_all.deb"), b"").unwrap();
    let mirrors = gather(None, &["debs"], base).unwrap();
    assert!(mirrors.folders_only);
    let file = base.join("debs/a_1_all.deb");
    assert_eq!(
        mirrors.package_locations("debian", "pool/main/a/a_1_all.deb", 0)[0],
        Location::File(file.clone())
    );
    assert_eq!(mirrors.package_locations("local", "a_1_all.deb", 0), [Location::File(file)]);
    let places = format!("./debs,file://{}/tree/debian,debian-security=odd", base.display());
    let mirrors = gather(Some(&places), &[], base).unwrap();
    assert!(!mirrors.folders_only);
    assert_eq!(mirrors.locations("debian", "p")[0], Location::File(base.join("tree/debian/p")));
    assert_eq!(mirrors.locations("debian-security", "p")[0], Location::File(base.join("odd/p")));
}

#[test]
fn faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("odd/dists")).unwrap();
    for (mirror, message) in [
        (
            "http://me:secret@mirror.example/stuff",
            "mirror http://mirror.example/stuff: its last part is neither debian nor debian-security; \
             write debian=http://mirror.example/stuff or debian-security=http://mirror.example/stuff",
        ),
        (
            "odd",
            "mirror odd: its last part is neither debian nor debian-security; write debian=odd or debian-security=odd",
        ),
        ("nowhere", "mirror nowhere: there is no such folder"),
        (
            "ftp://me:secret@mirror.example/debian",
            "mirror ftp://mirror.example/debian: an address begins with http://, https:// or file://, a folder with / or ./",
        ),
    ] {
        assert_eq!(gather(None, &[mirror], folder.path()).unwrap_err(), message);
    }
}
