use super::{Edit, Removal, SECTOR, Whereabouts};
use crate::choose::tests::handoff;
use crate::handoff::Handoff;
use crate::iscsi::{Chap, Credentials, Initiator, Iscsi, Lun, ServedLun, Target, credential_fault};
use crate::policy::FileSystem;
use crate::secret::Secret;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
const TARGET: &str = r#"{"name": "iqn.2025-01.home:y", "listen": "0.0.0.0", "port": 3260, "store": {"folder": "/srv/luns"}, "luns": []}"#;

/// A document whose LUN and target have these names and passwords: the first two of the LUN, the others of initiators.
fn document(words: &[(String, String)]) -> Handoff {
    let mut words = words
        .iter()
        .map(|(user, password)| Credentials { user: user.clone(), password: Secret::new(password.as_str()) });
    let mut chap = || words.next().map(|initiator| Chap { initiator, target: words.next() });
    let lun = Lun {
        name: "storage".to_owned(),
        host: "10.0.0.1".to_owned(),
        port: 3260,
        target: "iqn.2025-01.home:x".to_owned(),
        lun: 0,
        chap: chap(),
        mount_point: "/storage".to_owned(),
        filesystem: FileSystem::Ext4,
        mount_options: vec!["noatime".to_owned()],
        format: true,
        partition: Uuid::from_u128(1),
        uuid: Uuid::from_u128(2),
        longhorn: None,
    };
    let mut initiators = Vec::new();
    while let Some(chap) = chap() {
        initiators.push(Initiator { name: "iqn.1993-08.org.debian:01:b".to_owned(), chap: Some(chap) });
    }
    initiators.push(Initiator { name: "iqn.1993-08.org.debian:01:c".to_owned(), chap: None });
    let served =
        ServedLun { name: "one".to_owned(), lun: 0, bytes: 1 << 20, serial: Uuid::from_u128(3), initiators };
    let mut target: Target = serde_json::from_str(TARGET).unwrap();
    target.luns.push(served);
    let mut handoff = handoff(&[], &[]);
    // Where names of others look like keys of ours.
    handoff.cluster.name = "\"password\": \"user\"".to_owned();
    handoff.credentials = Some(Whereabouts::Seed);
    handoff.iscsi = Some(Iscsi {
        initiator: "iqn.1993-08.org.debian:01:a".to_owned(),
        luns: vec![lun],
        target: Some(target),
    });
    handoff
}

fn of(handoff: &Handoff) -> Vec<Credentials> {
    handoff.iscsi.iter().flat_map(Iscsi::credentials).cloned().collect()
}

fn words(texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().map(|text| (format!("user {text}"), (*text).to_owned())).collect()
}

fn apply(bytes: &mut [u8], edits: &[Edit], written: impl Fn(usize) -> bool) {
    for edit in edits {
        for (at, byte) in (edit.at..).zip(&edit.bytes).filter(|(at, _)| written(*at)) {
            bytes[at] = *byte;
        }
    }
}

/// What CHAP takes, quotes and backslashes more often than chance would have them.
fn hostile() -> impl Strategy<Value = String> {
    let character = prop_oneof![Just('"'), Just('\\'), Just('u'), Just('n'), prop::char::range(' ', '~')];
    prop::collection::vec(character, 1..=255)
        .prop_map(String::from_iter)
        .prop_filter("CHAP takes it", |text| credential_fault(text).is_none())
}

proptest! {
    /// Power fails while a step is written: of its sectors some are new and some old, and whatever begins there, the
    /// document can be read, and says rightly where the passwords are. The next boot ends what was begun.
    #[test]
    fn a_cut_leaves_a_document_that_says_where_they_are(
        texts in prop::collection::vec((hostile(), hostile()), 1..6),
        step in 0_usize..3,
        sectors: u64,
        shift in 0_usize..SECTOR,
    ) {
        let document = document(&texts);
        let whole = document.to_bytes();
        let removal = Removal::find(&whole).unwrap().unwrap();
        assert_eq!((removal.whereabouts, removal.done), (Whereabouts::Seed, false));
        assert_eq!(removal.credentials, of(&document));
        let mut bytes = whole.clone();
        let steps = removal.steps(ID);
        for edits in &steps[..step] {
            apply(&mut bytes, edits, |_| true);
        }
        // Sectors of any alignment are harder than a disk's: the marker alone counts on a file's beginning.
        let shift = if step == 0 { 0 } else { shift };
        apply(&mut bytes, &steps[step], |at| sectors >> ((at + shift) / SECTOR % 64) & 1 == 1);
        assert_eq!(bytes.len(), whole.len());

        let found = Handoff::parse(&bytes).unwrap();
        match found.credentials.unwrap() {
            Whereabouts::Seed => assert_eq!((step, &found), (0, &document)),
            Whereabouts::Node(id) => {
                assert_eq!(id, ID);
                assert!(of(&found).iter().all(|one| one.user.is_empty() && one.password.reveal().is_empty()));
                assert_eq!(of(&found).len(), texts.len());
            }
        }

        let again = Removal::find(&bytes).unwrap().unwrap();
        for edits in again.steps(ID) {
            apply(&mut bytes, &edits, |_| true);
        }
        let end = Removal::find(&bytes).unwrap().unwrap();
        assert!(end.done && end.whereabouts == Whereabouts::Node(ID));
        let mut bare = Handoff::parse(&bytes).unwrap();
        assert_eq!(bare, found_bare(&document));
        // Written anew, as the boot hands it on, it is read as the same.
        bare.credentials = Some(Whereabouts::Node(ID));
        assert_eq!(Handoff::parse(&bare.to_bytes()).unwrap(), bare);
        let text = String::from_utf8(bytes).unwrap();
        for (user, password) in &texts {
            for secret in [user, password] {
                let quoted = serde_json::to_string(secret).unwrap();
                assert!(secret.len() < 12 || !text.contains(quoted.trim_matches('"')));
            }
        }
    }

    #[test]
    fn hostile_documents_never_panic(at in 0_usize..3000, byte: u8, cut in 0_usize..3200, text in hostile()) {
        let mut bytes = document(&[(text.clone(), text)]).to_bytes();
        if let Some(old) = bytes.get_mut(at) {
            *old = byte;
        }
        bytes.truncate(cut);
        let _ = Removal::find(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = super::strings(&bytes);
    }
}

/// What is left of a document at the end.
fn found_bare(document: &Handoff) -> Handoff {
    let mut bare = document.clone();
    bare.credentials = Some(Whereabouts::Node(ID));
    for one in bare.iscsi.iter_mut().flat_map(Iscsi::credentials_mut) {
        *one = Credentials { user: String::new(), password: Secret::new("") };
    }
    bare
}

#[test]
fn both_forms_of_the_marker_have_one_length() {
    let forms = [Whereabouts::Seed, Whereabouts::Node(ID)].map(String::from);
    assert_eq!(forms[0].len(), forms[1].len());
    assert_eq!(forms[1], "node:0123456789abcdef0123456789abcdef");
    for (text, want) in forms.iter().zip([Whereabouts::Seed, Whereabouts::Node(ID)]) {
        assert_eq!(Whereabouts::try_from(text.clone()), Ok(want));
    }
    for bad in ["", "node", "node:", "node:0123", "seed:0123456789abcdef0123456789abcdef", "disk:0"] {
        assert!(Whereabouts::try_from(bad.to_owned()).is_err(), "{bad}");
    }
    assert!(Whereabouts::try_from(forms[1].to_uppercase()).is_err());
}

/// A document of a kiln that knew nothing of this has its passwords, and keeps them.
#[test]
fn a_document_without_a_marker_is_read_as_ever() {
    let mut handoff = document(&words(&["one", "two"]));
    handoff.credentials = None;
    let bytes = handoff.to_bytes();
    assert!(!String::from_utf8_lossy(&bytes).contains("credentials"));
    assert_eq!(Handoff::parse(&bytes).unwrap(), handoff);
    assert!(Removal::find(&bytes).unwrap().is_none());
}

#[test]
fn a_password_that_is_none_is_refused_while_the_seed_has_it() {
    for bad in ["", "größe", "a\nb"] {
        let mut handoff = document(&words(&["one", bad]));
        assert!(Handoff::parse(&handoff.to_bytes()).is_err(), "{bad}");
        handoff.credentials = None;
        assert!(Handoff::parse(&handoff.to_bytes()).is_err(), "{bad}");
    }
}

/// In another form the same document has its marker across two sectors: it is not touched.
#[test]
fn a_marker_in_two_sectors_is_not_trusted() {
    let text = String::from_utf8(document(&words(&["one"])).to_bytes()).unwrap();
    let at = text.find("\"seed:").unwrap();
    let blanks = " ".repeat(SECTOR - at - 10);
    let moved = format!("{}{blanks}{}", &text[..at], &text[at..]);
    assert!(Handoff::parse(moved.as_bytes()).is_ok());
    assert!(Removal::find(moved.as_bytes()).is_err());
    assert!(Removal::find(text.as_bytes()).unwrap().is_some());
}
