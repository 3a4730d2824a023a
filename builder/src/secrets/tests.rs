//! The file as a whole: round trips, faults, rotation, and what leaks.

mod judged;

use super::{Authority, Error, Former, Held, Identities, Place, Secret, Secrets, What, Wish};
use super::{bundle_hash, is_bootstrap_token};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(7);

fn identity() -> Identities {
    let key = super::make::identity();
    let text = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
    Identities::parse(&text, "a test").unwrap()
}

fn place(folder: &Path) -> Place {
    Place::beside(folder, Vec::new())
}

/// A file for two nodes, and its secrets.
fn written(place: &Place, identities: &Identities) -> Secrets {
    let mut secrets = Secrets::make(CLUSTER, "home").unwrap();
    secrets.add_nodes(["k3s1", "k3s2"]).unwrap();
    secrets.set("restic", Secret::new("correct horse".to_owned())).unwrap();
    Held::take(place).unwrap().save(&mut secrets, identities, Former::Replace).unwrap();
    secrets
}

#[test]
fn authorities_count_within_their_dates_only() {
    const YEAR: i64 = 365 * 86_400;
    let secrets = Secrets::make(CLUSTER, "home").unwrap();
    let (_, until) =
        super::authority::validity(secrets.certificate(Authority::Server).unwrap(), "server-ca").unwrap();
    assert_eq!(secrets.check_validity().unwrap(), None);
    assert_eq!(secrets.check_validity_at(until - 2 * YEAR).unwrap(), None);
    let warning = secrets.check_validity_at(until - YEAR / 2).unwrap().unwrap();
    assert!(warning.contains("ends on 20") && warning.contains("kiln secrets rotate"), "{warning}");
    // After it, and by a clock that begins in 1970.
    for wrong in [until + 1, 0] {
        let error = secrets.check_validity_at(wrong).unwrap_err();
        assert!(matches!(error, Error::Ended { .. }), "{error}");
        assert!(error.to_string().contains("-ca is valid from 20"), "{error}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (place, identities) = (place(folder.path()), identity());
    let secrets = written(&place, &identities);
    let again = Secrets::open(&place, &identities).unwrap();
    assert!(again == secrets);
    assert_eq!(again.get("restic").unwrap().expose(), "correct horse");
    assert_eq!(again.recipients(), identities.recipients());
    assert_eq!(again.digest(), secrets.digest());
    assert_eq!(fs::metadata(&place.file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left beside the file");
    let bytes = fs::read(&place.file).unwrap();
    for (name, value) in again.values() {
        let line = value.expose().lines().find(|line| line.len() > 8 && !line.starts_with("---")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(line), "{name} is readable in the encrypted file");
    }
}

#[test]
fn debug_tells_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let identities = identity();
    let secrets = written(&place(folder.path()), &identities);
    let mut seen = format!("{secrets:?} {:#?} {identities:?}", secrets.node("k3s1").unwrap());
    seen.push_str(&format!("{:?}", secrets.values().collect::<Vec<_>>()));
    seen.push_str(&format!("{:?}", secrets.list().unwrap()));
    for (name, value) in secrets.values() {
        for line in value.expose().lines().filter(|line| line.len() > 4 && !line.starts_with("-----")) {
            assert!(!seen.contains(line), "{name} is in {seen}");
        }
    }
    assert!(!seen.contains("AGE-SECRET-KEY"));
}

#[test]
fn the_wrong_key_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let (mut place, identities) = (place(folder.path()), identity());
    written(&place, &identities);
    let stranger = Identities::find(|_| None).unwrap();
    let fault = Secrets::open(&place, &stranger).unwrap_err();
    assert!(matches!(fault, Error::NoMatchingKey { .. }));
    assert_eq!(
        fault.to_string().replace(&folder.path().display().to_string(), "."),
        "./kiln.secrets.age is encrypted to 1 age key, and no key that is here opens it; looked in KILN_IDENTITY \
         (not set), SOPS_AGE_KEY_FILE (not set), SOPS_AGE_KEY (not set); name the file that holds the right key in \
         KILN_IDENTITY"
    );
    place.recipients = identities.recipients();
    let words = Secrets::open(&place, &identity()).unwrap_err().to_string();
    assert!(words.contains(&identities.recipients()[0]), "{words}");
}

#[test]
fn whoever_writes_must_be_able_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place { recipients: identity().recipients(), ..place(folder.path()) };
    let mut secrets = Secrets::make(CLUSTER, "home").unwrap();
    let held = Held::take(&place).unwrap();
    let fault = held.save(&mut secrets, &identity(), Former::Replace).unwrap_err();
    assert!(matches!(fault, Error::LockedOut { .. }), "{fault}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn damage_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (place, identities) = (place(folder.path()), identity());
    written(&place, &identities);
    let good = fs::read(&place.file).unwrap();
    let middle = good.len() / 2;
    let mut flipped = good.clone();
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let cases: [(&str, &[u8]); 5] = [
        ("cut", &good[..middle]),
        ("flipped", &flipped),
        ("empty", b""),
        ("other", b"hello: world\n"),
        ("binary", &[0xff; 400]),
    ];
    for (name, bytes) in cases {
        fs::write(&place.file, bytes).unwrap();
        let fault = Secrets::open(&place, &identities).unwrap_err();
        assert!(matches!(fault, Error::Damaged { .. }), "{name}: {fault}");
        let held = Held::take(&place).unwrap();
        assert!(held.open(&identities).is_err(), "{name} would be written over");
    }
}

#[test]
fn other_documents_are_refused_without_a_word_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut place, identities) = (place(folder.path()), identity());
    place.recipients = identities.recipients();
    let fault = |text: &str| {
        fs::write(&place.file, super::file::encrypt(text.as_bytes(), &place).unwrap()).unwrap();
        Secrets::open(&place, &identities).unwrap_err()
    };
    assert!(matches!(fault(r#"{"version": 9}"#), Error::OtherVersion { found: 9, .. }));
    let rendered = Secrets::make(CLUSTER, "home").unwrap().document.render().unwrap();
    let rendered = std::str::from_utf8(&rendered).unwrap();
    let words = fault(&rendered.replacen("\"tokens\"", "\"tokns\"", 1)).to_string();
    assert!(words.contains("unknown field `tokns`"), "{words}");
    let words = fault(&rendered.replacen("\"values\": {}", "\"values\": \"hunter2\"", 1)).to_string();
    assert!(words.contains("a value of another form at line") && !words.contains("hunter2"), "{words}");
}

#[test]
fn what_is_there_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (place, identities) = (place(folder.path()), identity());
    let before = written(&place, &identities);
    let mut after = before.clone();
    assert_eq!(after.add_nodes(["k3s1", "k3s3", "k3s2"]).unwrap(), ["k3s3"]);
    assert_ne!(after.digest(), before.digest());
    let old: BTreeSet<_> = before.values().map(|(name, value)| (name, value.expose().to_owned())).collect();
    let new: BTreeSet<_> = after.values().map(|(name, value)| (name, value.expose().to_owned())).collect();
    assert!(old.is_subset(&new));
    assert_eq!(new.len(), old.len() + 2);
}

#[test]
fn rotation_changes_what_it_says_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (place, identities) = (place(folder.path()), identity());
    let before = written(&place, &identities);
    let changed = |wish: Wish| -> Vec<String> {
        let mut after = before.clone();
        let rotated = after.rotate(std::slice::from_ref(&wish)).unwrap();
        assert_eq!(rotated[0].what, wish.what.as_str());
        assert_ne!(after.digest(), before.digest());
        let old: BTreeSet<_> =
            before.values().map(|(name, value)| (name, value.expose().to_owned())).collect();
        let new =
            after.values().filter(|(name, value)| !old.contains(&(name.clone(), value.expose().to_owned())));
        new.map(|(name, _)| name).collect()
    };
    let of = |what| Wish { what, nodes: Vec::new() };
    assert_eq!(changed(of(What::Tokens)), ["server token", "agent token"]);
    assert_eq!(changed(of(What::NodePasswords)), ["k3s1: node password", "k3s2: node password"]);
    let one = Wish { what: What::SshHostKeys, nodes: vec!["k3s2".to_owned()] };
    assert_eq!(changed(one), ["k3s2: SSH host key"]);
    assert_eq!(changed(of(What::ServiceKey)), ["service.key", "former service.key"]);
    let cas = Authority::ALL.map(|authority| format!("{}.key", authority.name()));
    assert_eq!(changed(of(What::Cas)), cas);

    let mut after = before.clone();
    after.rotate(&[of(What::ServiceKey)]).unwrap();
    assert!(after.service_key().expose().ends_with(before.service_key().expose()), "old tokens would break");
    let held = Held::take(&place).unwrap();
    held.save(&mut after, &identities, Former::Keep).unwrap();
    let old = Place { file: super::file::previous(&place.file), recipients: Vec::new() };
    assert!(Secrets::open(&old, &identities).unwrap() == before);
    assert_eq!(fs::metadata(&old.file).unwrap().permissions().mode() & 0o777, 0o600);

    let stranger = Wish { what: What::NodePasswords, nodes: vec!["k3s9".to_owned()] };
    assert!(matches!(after.rotate(&[stranger]), Err(Error::NoNode { node }) if node == "k3s9"));
}

#[test]
fn secrets_have_their_shapes() {
    let mut secrets = Secrets::make(CLUSTER, "home").unwrap();
    secrets.add_nodes(["k3s1"]).unwrap();
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    };
    assert!(hex(secrets.node("k3s1").unwrap().password().expose(), 32));
    let hash = bundle_hash(secrets.certificate(Authority::Server).unwrap(), "").unwrap().to_string();
    for (token, user) in
        [(secrets.server_token().unwrap(), "server"), (secrets.agent_token().unwrap(), "node")]
    {
        let secret = token.expose().strip_prefix(&format!("K10{hash}::{user}:")).unwrap().to_owned();
        assert!(hex(&secret, 64) && !is_bootstrap_token(&secret));
    }
    assert_ne!(secrets.server_token().unwrap().expose()[75..], secrets.agent_token().unwrap().expose()[73..]);
    let all: Vec<String> = secrets.values().map(|(_, value)| value.expose().to_owned()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "two secrets are the same");
}

#[test]
fn names_and_values_are_checked() {
    let mut secrets = Secrets::make(CLUSTER, "home").unwrap();
    let mut set = |name: &str, value: &str| secrets.set(name, Secret::new(value.to_owned()));
    assert!(!set("a.b-c_1", "x").unwrap());
    assert!(set("a.b-c_1", "multi\nline ü {{ # \" '\n").unwrap());
    for name in ["", "a b", "-a", "../x", "ü", &"a".repeat(65)] {
        assert!(matches!(set(name, "x"), Err(Error::NotAName { .. })), "{name}");
    }
    for value in ["", "a\0b", &"a".repeat(super::MAX_VALUE + 1)] {
        assert!(matches!(set("a", value), Err(Error::NotAValue { .. })));
    }
    assert!(matches!(secrets.get("b"), Err(Error::NoValue { .. })));
}

#[test]
fn digests_need_the_key() {
    let (one, two) = (Secrets::make(CLUSTER, "home").unwrap(), Secrets::make(CLUSTER, "home").unwrap());
    assert_eq!(one.keyed_digest(b"guess"), one.keyed_digest(b"guess"));
    assert_ne!(one.keyed_digest(b"guess"), two.keyed_digest(b"guess"));
    assert_ne!(one.keyed_digest(b"guess"), blake3::hash(b"guess").to_string());
}

#[test]
fn ssh_keys_encrypt_and_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut made = Secrets::make(CLUSTER, "home").unwrap();
    made.add_nodes(["k3s1"]).unwrap();
    let node = made.node("k3s1").unwrap();
    let key = Identities::parse(node.ssh_host_key().expose(), "a test").unwrap();
    let line = node.ssh_host_key_public().to_owned();
    let place = Place { recipients: vec![line, identity().recipients()[0].clone()], ..place(folder.path()) };
    Held::take(&place).unwrap().save(&mut made, &key, Former::Replace).unwrap();
    assert!(Secrets::open(&place, &key).unwrap() == made);
    let words = Secrets::open(&place, &identity()).unwrap_err().to_string();
    assert!(words.contains("1 age key and 1 SSH key"), "{words}");
}

#[test]
fn recipients_that_are_none_are_refused_and_private_keys_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let mut secrets = Secrets::make(CLUSTER, "home").unwrap();
    for text in ["age1abc", "ssh-ed25519 AAAA", "ssh-dss AAAA", "anna", "AGE-SECRET-KEY-1HUNTER2", ""] {
        let place = Place { recipients: vec![text.to_owned()], ..place(folder.path()) };
        let held = Held::take(&place).unwrap();
        let fault = held.save(&mut secrets, &identity(), Former::Replace).unwrap_err();
        assert!(matches!(fault, Error::NotARecipient { .. }), "{text}: {fault}");
        assert!(!fault.to_string().contains("HUNTER2"));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn identities_are_looked_for_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config = at("config").into_os_string();
    let environment = |name: &str| (name == "XDG_CONFIG_HOME").then(|| config.clone());
    assert!(Identities::find(environment).unwrap().is_empty());
    let (made, path) = Identities::make_own(environment).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(Identities::make_own(environment).is_err(), "a key was written over");
    let found = Identities::find(environment).unwrap();
    assert_eq!(found.recipients(), made.recipients());
    assert!(found.looked().ends_with("config/kiln/identity.txt (1 key)"), "{}", found.looked());

    let other = super::make::identity();
    let text = age::secrecy::ExposeSecret::expose_secret(&other.to_string()).to_owned();
    fs::write(at("other"), format!("# mine\n\n{text}\n")).unwrap();
    let named = |variable: &'static str| {
        let (config, other) = (config.clone(), at("other").into_os_string());
        Identities::find(move |name| match name {
            "XDG_CONFIG_HOME" => Some(config.clone()),
            name => (name == variable).then(|| other.clone()),
        })
        .unwrap()
        .recipients()
    };
    assert_eq!(named("KILN_IDENTITY"), [other.to_public().to_string()]);
    assert_eq!(named("SOPS_AGE_KEY_FILE"), [other.to_public().to_string(), made.recipients()[0].clone()]);
    for (text, reason) in [
        ("age1abc", "this is a public key; the private one is wanted"),
        ("hunter2", "a line is neither an age identity nor a comment"),
        ("AGE-PLUGIN-YUBIKEY-1", "keys of age plugins are not supported"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n", "it is no SSH private key that can be read"),
    ] {
        let words = Identities::parse(text, "here").unwrap_err().to_string();
        assert_eq!(words, format!("here holds no identity that kiln can use: {reason}"));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// Certificates that are none end in a hash or an error.
    #[test]
    fn any_certificate_is_survived(
        one in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        two in proptest::collection::vec(proptest::sample::select(vec![0x30_u8, 0x82, 0x84, 0xff, 0, 1, 2, 0xa0]), 0..60),
    ) {
        let pem = |der: &[u8]| {
            let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        proptest::prop_assert!(bundle_hash(&(pem(&one) + &pem(&two) + &pem(&one)), "x").is_ok());
    }
}
