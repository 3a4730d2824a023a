use super::{Error, Expected, Listed, Release, show_date};
use crate::archive::fixture::{MADE, Manner, Signer};
use crate::archive::keyring::{self, Keyring, Trust};
use crate::digest::Sha256;
use pgp::crypto::hash::HashAlgorithm;
use proptest::proptest;

const NOW: i64 = MADE + 3600;

fn text(more: &str) -> String {
    let digest = Sha256::of(b"index");
    format!(
        "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Tue, 14 Nov 2023 22:13:20 UTC\n{more}MD5Sum:\n \
         0123 5 main/binary-amd64/Packages\nSHA256:\n {digest}        5 main/binary-amd64/Packages\n"
    )
}

fn open(in_release: &[u8], keyring: &Keyring) -> Result<Release, Error> {
    Release::open(in_release, Expected { suite: "trixie", keyring, now: NOW, expired: false })
}

fn message(in_release: &[u8], keyring: &Keyring) -> String {
    open(in_release, keyring).unwrap_err().to_string()
}

fn keyring_of(signer: &Signer) -> Keyring {
    Keyring::parse(&signer.keyring(), Trust::All).unwrap()
}

#[test]
fn signed_by_primary_or_subkey() {
    let signer = Signer::new(1);
    for keyring in [signer.keyring(), signer.armored_keyring()] {
        let keyring = Keyring::parse(&keyring, Trust::All).unwrap();
        assert_eq!(keyring.keys().len(), 2);
        for by_subkey in [false, true] {
            let in_release = signer.sign(&text(""), Manner { by_subkey, ..Manner::default() });
            let release = open(&in_release, &keyring).unwrap();
            assert_eq!(
                (release.codename.as_str(), release.suite.as_str(), release.date),
                ("trixie", "stable", MADE)
            );
            let listed = Listed { size: 5, sha256: Sha256::of(b"index") };
            assert_eq!(release.files.get("main/binary-amd64/Packages"), Some(&listed));
            let print = if by_subkey { signer.subkey_fingerprint() } else { signer.fingerprint() };
            assert_eq!(release.signed_by, format!("{print} (Test key 1 <test@example.org>)"));
        }
    }
}

#[test]
fn unknown_key() {
    let (ours, theirs) = (Signer::new(1), Signer::new(2));
    let in_release = theirs.sign(&text(""), Manner::default());
    assert_eq!(
        message(&in_release, &keyring_of(&ours)),
        format!(
            "it is signed by {}, and none of these keys is trusted; trusted are {}, {}",
            theirs.subkey_fingerprint(),
            ours.fingerprint(),
            ours.subkey_fingerprint()
        )
    );
}

#[test]
fn tampered() {
    let signer = Signer::new(1);
    let keyring = keyring_of(&signer);
    let in_release = String::from_utf8(signer.sign(&text(""), Manner::default())).unwrap();
    let fault = format!(
        "it was changed after it was signed: the signature by {} (Test key 1 <test@example.org>) does not fit the text",
        signer.subkey_fingerprint()
    );
    let changed = in_release.replacen("        5 main", "        6 main", 1);
    assert_ne!(changed, in_release);
    assert_eq!(message(changed.as_bytes(), &keyring), fault);
    // What stands around the signed part must not be read: it is refused or has no effect.
    let before = format!("Codename: sid\n\n{in_release}");
    assert!(matches!(open(before.as_bytes(), &keyring), Err(Error::NotSigned { .. })));
    let after = format!("{in_release}\nCodename: sid\n");
    assert!(matches!(open(after.as_bytes(), &keyring), Err(Error::NotSigned { .. })));
}

#[test]
fn a_good_signature_beside_an_unknown_one_counts() {
    let (ours, theirs) = (Signer::new(1), Signer::new(2));
    let mut keys = theirs.keyring();
    keys.extend(ours.keyring());
    let keyring = Keyring::parse(&keys, Trust::All).unwrap();
    assert_eq!(keyring.keys().len(), 4);
    assert!(open(&ours.sign(&text(""), Manner::default()), &keyring).is_ok());
}

#[test]
fn keys_and_signatures_end() {
    let signer = Signer::new(1).ending_after(3600);
    let in_release = signer.sign(&text(""), Manner { by_subkey: false, ..Manner::default() });
    let key = format!("{} (Test key 1 <test@example.org>)", signer.fingerprint());
    let ended = "the signature by KEY does not count any more: it ended on 2023-11-14T23:13:20Z";
    assert_eq!(message(&in_release, &keyring_of(&signer)), ended.replace("KEY", &key));
    let expected = Expected { suite: "trixie", keyring: &keyring_of(&signer), now: NOW - 1, expired: false };
    assert!(Release::open(&in_release, expected).is_ok(), "a second before it still counts");

    let signer = Signer::new(1);
    let manner = Manner { by_subkey: false, lifetime: Some(3600), ..Manner::default() };
    let in_release = signer.sign(&text(""), manner);
    assert_eq!(message(&in_release, &keyring_of(&signer)), ended.replace("KEY", &key));
}

/// A subkey dies with its primary key, whatever its own binding says.
#[test]
fn a_subkey_ends_with_its_certificate() {
    let signer = Signer::new(1).ending_after(3600);
    let in_release = signer.sign(&text(""), Manner::default());
    assert!(matches!(open(&in_release, &keyring_of(&signer)), Err(Error::EndedKey { .. })));
}

#[test]
fn weak_digests_do_not_count() {
    let signer = Signer::rsa(1);
    let manner = Manner { by_subkey: false, digest: HashAlgorithm::Sha1, ..Manner::default() };
    let in_release = signer.sign(&text(""), manner);
    assert_eq!(
        message(&in_release, &keyring_of(&signer)),
        format!(
            "the signature by {} (Test key 1 <test@example.org>) uses SHA1, which can be forged",
            signer.fingerprint()
        )
    );
}

#[test]
fn a_subkey_of_another_certificate_is_no_key() {
    let signer = Signer::new(1);
    let keyring = Keyring::parse(&signer.keyring_with_unbound_subkey(), Trust::All).unwrap();
    assert_eq!(keyring.keys().len(), 1);
}

#[test]
fn only_pinned_keys_of_a_keyring_count() {
    let fault = Keyring::parse(&Signer::new(1).keyring(), Trust::Pinned(keyring::DEBIAN)).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "none of the 1 keys of this keyring is a known Debian archive key that can sign"
    );
    let fault = Keyring::parse(b"", Trust::All).unwrap_err().to_string();
    assert!(fault.starts_with("this is no OpenPGP keyring ("), "{fault}");
    let fault = Keyring::parse(b"<html>Sign in</html>", Trust::All).unwrap_err().to_string();
    assert!(fault.starts_with("this is no OpenPGP keyring ("), "{fault}");
}

#[test]
fn dates_and_suite() {
    let signer = Signer::new(1);
    let keyring = keyring_of(&signer);
    let sign = |text: &str| signer.sign(text, Manner::default());
    assert_eq!(
        message(&sign(&text("Valid-Until: Tue, 14 Nov 2023 23:13:19 UTC\n")), &keyring),
        "it was valid until 2023-11-14T23:13:19Z, and now it is 2023-11-14T23:13:20Z; \
         the mirror is stale, or the clock of this machine is wrong; where it is meant to stand still, \
         `kiln lock --allow-expired` takes it"
    );
    assert!(open(&sign(&text("Valid-Until: Tue, 14 Nov 2023 23:13:20 UTC\n")), &keyring).is_ok());
    assert_eq!(
        message(&sign(&text("").replace("14 Nov 2023 22", "14 Nov 2024 22").replace("Tue", "Thu")), &keyring),
        "it is dated 2024-11-14T22:13:20Z, and now it is 2023-11-14T23:13:20Z: the clock of this machine is wrong"
    );
    let expected = |suite| Expected { suite, keyring: &keyring, now: NOW, expired: false };
    let in_release = sign(&text(""));
    assert!(Release::open(&in_release, expected("stable")).is_ok());
    assert_eq!(
        Release::open(&in_release, expected("bookworm")).unwrap_err().to_string(),
        "it is of suite trixie (stable), and bookworm was asked for"
    );
}

#[test]
fn fields_that_are_missing_or_bad() {
    let signer = Signer::new(1);
    let keyring = keyring_of(&signer);
    for (from, to, wanted) in [
        ("Codename: trixie\n", "", "there is no Codename"),
        ("Date: ", "Data: ", "there is no Date"),
        ("14 Nov", "34 Nov", r#""Tue, 34 Nov 2023 22:13:20 UTC" is no Date"#),
        ("SHA256:", "SHA1:", "there is no SHA256"),
        ("        5 main", "        5 ../main", "is no line of SHA256"),
        ("        5 main", "        -5 main", "is no line of SHA256"),
    ] {
        let fault = message(&signer.sign(&text("").replacen(from, to, 1), Manner::default()), &keyring);
        assert!(fault.ends_with(wanted), "{fault}");
    }
    for not_signed in [&b""[..], b"<html>", b"\xff", b"-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n"] {
        assert!(matches!(open(not_signed, &keyring), Err(Error::NotSigned { .. })));
    }
    assert_eq!(show_date(i64::MAX), i64::MAX.to_string());
}

proptest! {
    /// Bytes changed anywhere never panic, and never pass unless the text stays the same.
    #[test]
    fn changed_bytes(at in 0_usize..900, byte: u8) {
        let signer = Signer::new(1);
        let mut in_release = signer.sign(&text(""), Manner::default());
        let at = at % in_release.len();
        in_release[at] = byte;
        if let Ok(release) = open(&in_release, &keyring_of(&signer)) {
            assert_eq!(release.files.len(), 1);
            assert_eq!(release.date, MADE);
        }
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        assert!(open(&bytes, &Keyring::default()).is_err());
        let _ = Keyring::parse(&bytes, Trust::All);
    }
}

/// What the OpenPGP library would take minutes over it does not see.
#[test]
fn what_is_longer_than_any_release_is_not_looked_at() {
    let (begin, hash) = ("-----BEGIN PGP SIGNED MESSAGE-----\n", "Hash: SHA256\n");
    let end = "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n=AAAA\n-----END PGP SIGNATURE-----\n";
    let lines = |line: &str, count: usize| line.repeat(count);
    for (file, words) in [
        (format!("{begin}{hash}\n{}{end}", lines("a\n", 50_000)), "it has too many lines, or too long ones"),
        (format!("{begin}{hash}\n{}{end}", lines("\r", 50_000)), "it has too many lines, or too long ones"),
        (format!("{begin}{hash}\n{}\n{end}", lines("a", 5000)), "it has too many lines, or too long ones"),
        (format!("{begin}{}\na\n{end}", lines(hash, 9)), "it has too many headers"),
        (format!("{begin}{hash}\na\n{end}{}", lines("AAAA\n", 7000)), "its signatures are too long"),
        (format!("{begin}{hash}\na\n"), "it has no signature"),
        (lines("a\n", 10), "it does not begin as one"),
    ] {
        let fault = open(file.as_bytes(), &Keyring::default()).unwrap_err().to_string();
        assert!(fault.starts_with(&format!("it is no signed release file ({words})")), "{fault}");
        let fault = Release::open_untrusted(file.as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(words), "{fault}");
    }
}
