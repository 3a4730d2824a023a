//! Files that are encrypted here by the published rules, and files by the `sops` tool where it is installed.

use super::super::{Identities, Place, Secrets, file, make};
use super::{Error, File, read};
use aes_gcm::aead::consts::U32;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInPlace as _, AesGcm, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha512};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const MODIFIED: &str = "2026-01-02T03:04:05Z";

/// A file in the making.
struct Sample {
    key: [u8; 32],
    mac: Sha512,
    count: u8,
}

impl Sample {
    fn new() -> Self {
        Self { key: [9; 32], mac: Sha512::new(), count: 0 }
    }
    fn seal(&mut self, kind: &str, plain: &str, place: &str) -> String {
        self.count += 1;
        let nonce = [self.count; 32];
        let mut data = plain.as_bytes().to_vec();
        let cipher: AesGcm<Aes256, U32> = AesGcm::new_from_slice(&self.key).unwrap();
        let tag =
            cipher.encrypt_in_place_detached(Nonce::from_slice(&nonce), place.as_bytes(), &mut data).unwrap();
        let [data, nonce, tag] = [&data[..], &nonce[..], &tag[..]].map(|bytes| STANDARD.encode(bytes));
        format!("ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:{kind}]")
    }
    /// A value that is encrypted, and part of the digest.
    fn value(&mut self, kind: &str, plain: &str, place: &str) -> String {
        self.mac.update(plain);
        self.seal(kind, plain, place)
    }
    /// A value that stays readable, and is part of the digest in this form.
    fn plain(&mut self, plain: &str) {
        self.mac.update(plain);
    }
    fn mac(&mut self) -> String {
        let digest: String = self.mac.clone().finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        self.seal("str", &digest, MODIFIED)
    }
    fn data_key(&self, recipient: &str) -> String {
        let place = Place { file: PathBuf::new(), recipients: vec![recipient.to_owned()] };
        String::from_utf8(file::encrypt(&self.key, &place).unwrap()).unwrap()
    }
    /// The `sops` section of a YAML file, with these lines more.
    fn section(&mut self, identities: &Identities, more: &str) -> String {
        let recipient = &identities.recipients()[0];
        let key = self.data_key(recipient).replace('\n', "\n            ");
        format!(
            "sops:\n    age:\n        - recipient: {recipient}\n          enc: |\n            {}\n    \
             lastmodified: \"{MODIFIED}\"\n    mac: {}\n{more}    version: 3.10.2\n",
            key.trim_end(),
            self.mac()
        )
    }
}

fn identities() -> Identities {
    let key = make::identity();
    Identities::parse(age::secrecy::ExposeSecret::expose_secret(&key.to_string()), "a test").unwrap()
}

fn open(text: &str, identities: &Identities) -> Result<File, Error> {
    File::parse(Path::new("s.yaml"), text.as_bytes(), identities)
}

fn get(file: &File, key: &str) -> String {
    file.get(key).unwrap().expose().to_owned()
}

/// Every type, nesting, a list, a readable value, an empty one, and a comment.
fn yaml(identities: &Identities) -> String {
    let mut sample = Sample::new();
    let mut text = format!("token: {}\n", sample.value("str", "hunter2: \"ü\"\n", "token:"));
    text.push_str("#ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:comment]\n");
    text.push_str(&format!("port: {}\n", sample.value("int", "6443", "port:")));
    text.push_str(&format!("on: {}\nempty: \"\"\nnothing: null\n", sample.value("bool", "True", "on:")));
    text.push_str(&format!("ratio: {}\n", sample.value("float", "0.5", "ratio:")));
    text.push_str("port_unencrypted: 0x10\n");
    sample.plain("16");
    text.push_str(&format!(
        "stringData:\n    tls.crt: {}\n    list:\n        - {}\n        - name: {}\n",
        sample.value("str", "pem", "stringData:tls.crt:"),
        sample.value("str", "first", "stringData:list:"),
        sample.value("str", "second", "stringData:list:name:"),
    ));
    text.push_str(&sample.section(identities, ""));
    text
}

#[test]
fn values_are_found() {
    let identities = identities();
    let file = open(&yaml(&identities), &identities).unwrap();
    let found = [
        ("token", "hunter2: \"ü\"\n"),
        ("port", "6443"),
        ("ratio", "0.5"),
        ("empty", ""),
        ("stringData.tls.crt", "pem"),
        ("stringData.list.0", "first"),
        ("stringData.list.1.name", "second"),
    ];
    for (key, value) in found {
        assert_eq!(get(&file, key), value, "{key}");
    }
    for key in ["tokens", "token.x", "stringData", "stringData.list.2", "sops.mac", ""] {
        assert!(matches!(file.get(key), Err(Error::NoValue { .. })), "{key}");
    }
    assert_eq!(
        file.get("tokens").unwrap_err().to_string(),
        "s.yaml has no value `tokens`; it has token, port, on, empty, nothing, ratio, port_unencrypted, stringData"
    );
    assert!(!format!("{file:?}").contains("hunter2"));
}

#[test]
fn what_was_changed_is_refused() {
    let identities = identities();
    let good = yaml(&identities);
    let line = |start: &str| good.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
    let value = |start: &str| line(start).split_once(": ").unwrap().1;
    let cases = [
        ("readable value", good.replace("0x10", "0x11")),
        ("removed", good.replace(&format!("{}\n", line("ratio:")), "")),
        ("emptied", good.replace(value("token:"), "\"\"")),
        ("added", good.replace("empty: \"\"", "empty: \"\"\nmore_unencrypted: x")),
        ("another date", good.replace(MODIFIED, "2026-01-02T03:04:06Z")),
    ];
    for (name, text) in cases {
        let fault = open(&text, &identities).unwrap_err();
        assert!(matches!(fault, Error::Changed { .. }), "{name}: {fault}");
    }
    let cases = [
        ("moved", good.replace(value("token:"), value("tls.crt:"))),
        ("flipped", good.replace("token: ENC[AES256_GCM,data:", "token: ENC[AES256_GCM,data:AAAA")),
        ("readable", good.replace(value("token:"), "hunter3")),
        ("a number", good.replace(value("port:"), "6443")),
    ];
    for (name, text) in cases {
        let fault = open(&text, &identities).unwrap_err();
        assert!(matches!(fault, Error::Value { .. }), "{name}: {fault}");
        assert!(!fault.to_string().contains("hunter"), "{fault}");
    }
}

#[test]
fn the_wrong_key_is_told_so() {
    let identities = identities();
    let text = yaml(&identities);
    let words = open(&text, &Identities::default()).unwrap_err().to_string();
    assert!(words.starts_with(&format!("s.yaml is encrypted to {}, and no key", identities.recipients()[0])));
}

#[test]
fn rules_say_what_is_encrypted() {
    let identities = identities();
    let make = |more: &str, only: bool| {
        let mut sample = Sample::new();
        if only {
            sample.mac.update(sha2::Sha256::digest(b"sops"));
        } else {
            sample.plain("v1");
        }
        let secret = sample.value("str", "hunter2", "stringData:key:");
        let text = format!("apiVersion: v1\nstringData:\n    key: {secret}\n");
        text + &sample.section(&identities, more)
    };
    for more in [
        "    encrypted_regex: ^(data|stringData)$\n",
        "    unencrypted_regex: ^apiV\n",
        "    encrypted_suffix: Data\n",
        "    unencrypted_suffix: Version\n",
    ] {
        assert_eq!(
            get(&open(&make(more, false), &identities).unwrap(), "stringData.key"),
            "hunter2",
            "{more}"
        );
    }
    let more = "    encrypted_regex: ^(data|stringData)$\n    mac_only_encrypted: true\n";
    let text = make(more, true).replace("apiVersion: v1", "apiVersion: v2");
    let file = open(&text, &identities).unwrap();
    assert_eq!((get(&file, "apiVersion").as_str(), get(&file, "stringData.key").as_str()), ("v2", "hunter2"));
    let words = |more: &str| open(&make(more, false), &identities).unwrap_err().to_string();
    let cases = [
        ("    encrypted_comment_regex: x\n", "`encrypted_comment_regex`: kiln reads no comments"),
        ("    encrypted_regex: \"(\"\n", "the pattern of `encrypted_regex` is not understood"),
        ("    encrypted_regex: a\n    encrypted_suffix: b\n", "more than one rule for what is encrypted"),
        ("    key_groups: []\n", "a data key that is shared out to several key groups"),
    ];
    for (more, said) in cases {
        assert_eq!(words(more), format!("s.yaml needs what kiln does not have: {said}"));
    }
}

#[test]
fn json_dotenv_and_whole_files() {
    let identities = identities();
    let recipient = &identities.recipients()[0];
    let mut sample = Sample::new();
    let z = sample.value("str", "hunter2", "z:");
    sample.plain("1.5");
    let a = sample.value("str", "\u{1f600}", "a:");
    let (key, mac) = (sample.data_key(recipient), sample.mac());
    let section = serde_json::json!({
        "age": [{"recipient": recipient, "enc": key}], "lastmodified": MODIFIED, "mac": mac, "version": "3.10.2",
    });
    let text = format!("{{\"z\": \"{z}\", \"n_unencrypted\": 1.50, \"a\": \"{a}\", \"sops\": {section}}}");
    let file = open(&text, &identities).unwrap();
    assert_eq!((get(&file, "z").as_str(), get(&file, "a").as_str()), ("hunter2", "\u{1f600}"));

    let mut sample = Sample::new();
    let one = sample.value("str", "two\nlines", "ONE:");
    let (key, mac) = (sample.data_key(recipient).replace('\n', "\\n"), sample.mac());
    let text = format!(
        "#ENC[x]\nONE={one}\nsops_age__list_0__map_enc={key}\nsops_age__list_0__map_recipient={recipient}\n\
         sops_lastmodified={MODIFIED}\nsops_mac={mac}\nsops_unencrypted_suffix=_unencrypted\nsops_version=3.10.2\n"
    );
    assert_eq!(get(&open(&text, &identities).unwrap(), "ONE"), "two\nlines");
}

#[test]
fn what_is_no_sops_file_is_told_so() {
    let identities = identities();
    let words = |text: &str| open(text, &identities).unwrap_err().to_string();
    assert_eq!(
        words("token: hunter2\n"),
        "s.yaml is not encrypted by SOPS: it has no `sops` section; `sops encrypt --in-place s.yaml` encrypts it"
    );
    assert_eq!(
        words("sops:\n    pgp: [{fp: x}]\n"),
        "s.yaml needs what kiln does not have: a key of PGP or of a cloud; it has no age recipient: `sops rotate \
         --in-place --add-age <age1...>`"
    );
    for text in ["{\"a\": hunter2", "a: [hunter2", "\thunter2", "- hunter2\n", ""] {
        assert!(!words(text).contains("hunter2"), "{}", words(text));
    }
    assert!(words("a: 1\nsops:\n    age: [{recipient: a, enc: b}]\n").contains("has no `mac`"));
}

/// The secrets document in a SOPS file is read in place of the age file.
#[test]
fn a_secrets_file_by_sops_is_read() {
    let identities = identities();
    let mut made = Secrets::make(uuid::Uuid::from_u128(1), "home").unwrap();
    made.add_nodes(["k3s1"]).unwrap();
    let plain: serde_json::Value = serde_json::from_slice(&made.document.render().unwrap()).unwrap();
    let mut sample = Sample::new();
    let mut sealed = encrypt(&plain, &mut sample, &mut Vec::new());
    let section = serde_json::json!({
        "age": [{"recipient": identities.recipients()[0], "enc": sample.data_key(&identities.recipients()[0])}],
        "lastmodified": MODIFIED, "mac": sample.mac(), "version": "3.10.2",
    });
    sealed.as_object_mut().unwrap().insert("sops".to_owned(), section);
    let folder = tempfile::tempdir().unwrap();
    let place = Place { file: folder.path().join("kiln.secrets.sops.yaml"), recipients: Vec::new() };
    fs::write(&place.file, serde_json::to_string_pretty(&sealed).unwrap()).unwrap();
    assert!(Secrets::open(&place, &identities).unwrap() == made);
    let fault = super::super::Held::take(&place).unwrap().open(&identities).unwrap_err();
    assert!(matches!(fault, super::super::Error::ReadOnly { .. }), "{fault}");
}

fn encrypt(value: &serde_json::Value, sample: &mut Sample, path: &mut Vec<String>) -> serde_json::Value {
    use serde_json::Value;
    let place = format!("{}:", path.join(":"));
    match value {
        Value::String(text) if text.is_empty() => value.clone(),
        Value::String(text) => sample.value("str", text, &place).into(),
        Value::Number(number) => sample.value("int", &number.to_string(), &place).into(),
        Value::Array(items) => items.iter().map(|item| encrypt(item, sample, path)).collect(),
        Value::Object(entries) => {
            let mut sealed = serde_json::Map::new();
            for (key, value) in entries {
                path.push(key.clone());
                sealed.insert(key.clone(), encrypt(value, sample, path));
                path.pop();
            }
            sealed.into()
        }
        other => other.clone(),
    }
}

/// Files that the real tool makes: every form, and a rule.
#[test]
fn files_of_the_sops_tool_are_read() {
    // Not --version, which asks GitHub for a newer one.
    if Command::new("sops").arg("--help").stdin(Stdio::null()).output().is_err() {
        eprintln!("SKIPPED: sops is not installed, so no file of its own is read");
        return;
    }
    let identities = identities();
    let folder = tempfile::tempdir().unwrap();
    let yaml =
        "apiVersion: v1\n# a comment\nstringData:\n  key: hunter2\n  more: [1, 2.5, true, null, \"\"]\n";
    let cases: [(&str, &str, &[&str], &str); 5] = [
        ("a.yaml", yaml, &[], "stringData.key"),
        ("b.yaml", yaml, &["--encrypted-regex", "^(data|stringData)$"], "stringData.key"),
        ("c.json", "{\"z\": 12345, \"a\": {\"key\": \"hunter2\"}}", &[], "a.key"),
        ("d.env", "ONE=1\nKEY=hunter2\n", &[], "KEY"),
        ("e.txt", "hunter2", &[], "data"),
    ];
    for (name, text, more, key) in cases {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut sops = Command::new("sops");
        sops.args(["-e", "-i", "--age", &identities.recipients()[0]]).args(more).arg(&path);
        let output = sops.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(read(&path, key, &identities).unwrap().expose(), "hunter2", "{name}");
    }

    // What people keep in such files, for two of them; and one bit of it changed.
    let key = "-----BEGIN KEY-----\nb3Bl bnNz\n\n  aC1rZXk=  \n-----END KEY-----\n";
    let word = "quotes ' and \", # {{ x }} % \\n \u{e9}\u{6f22}\u{1f980}";
    let text = serde_json::json!({ "keys": [{ "id": key }, { "id": word }], "seen_unencrypted": "yes" });
    let both = format!("{},{}", self::identities().recipients()[0], identities.recipients()[0]);
    for name in ["f.yaml", "g.json"] {
        let path = folder.path().join(name);
        fs::write(&path, text.to_string()).unwrap();
        let mut sops = Command::new("sops");
        let output =
            sops.args(["-e", "-i", "--age", &both]).arg(&path).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        for (at, wanted) in [("keys.0.id", key), ("keys.1.id", word), ("seen_unencrypted", "yes")] {
            assert_eq!(read(&path, at, &identities).unwrap().expose(), wanted, "{name}: {at}");
        }
        let changed = fs::read_to_string(&path).unwrap().replace("yes", "no");
        assert!(File::parse(&path, changed.as_bytes(), &identities).is_err(), "{name}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// Any text ends in an error that can be said.
    #[test]
    fn any_text_is_survived(
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..24),
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
    ) {
        let text = [parts.concat().as_bytes(), &bytes].concat();
        for text in [text.as_slice(), parts.concat().as_bytes()] {
            let fault = File::parse(Path::new("x"), text, &Identities::default()).unwrap_err();
            proptest::prop_assert!(!fault.to_string().contains("hunter2"));
        }
    }
}

const PARTS: &[&str] = &[
    "sops:\n",
    "    ",
    "age:\n",
    "- recipient: a\n",
    "enc: hunter2\n",
    "mac: hunter2\n",
    "lastmodified: x\n",
    "a: ",
    "{",
    "}",
    "\"sops\": ",
    "[",
    "]",
    ",",
    ": ",
    "\n",
    "ENC[AES256_GCM,data:YQ==,iv:YQ==,tag:YQ==,type:str]",
    "sops_mac=hunter2\n",
    "KEY=hunter2\n",
    "sops_age__list_0__map_enc=",
    "&a ",
    "*a",
    "!!binary ",
    "---\n",
    "hunter2",
    "\t",
    "\u{feff}",
    "0x",
    "2026-01-02",
    "1e999",
    "\"",
    "'",
    "|\n",
];
