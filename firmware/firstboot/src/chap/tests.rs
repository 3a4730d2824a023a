use super::{Found, Kept, VERSION, is_in, keep, move_out, read, restore, steps, take};
use crate::disks::tests::handoff;
use kiln_contract::credentials::Whereabouts;
use kiln_contract::handoff::Handoff;
use kiln_contract::iscsi::{Chap, Credentials, Initiator, Iscsi, ServedLun, Target};
use kiln_contract::secret::Secret;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const PASSWORDS: [&str; 4] =
    ["plain-password-1", r#"with "quotes" and \ in it"#, r#"\\\"\"\\"#, "nnnnnnnnnnnn"];
const TARGET: &str = r#"{"name": "iqn.2025-01.home:y", "listen": "0.0.0.0", "port": 3260, "store": {"folder": "/srv/luns"}, "luns": []}"#;

fn credentials() -> Vec<Credentials> {
    let one =
        |password: &&str| Credentials { user: "a \"user\"".to_owned(), password: Secret::new(*password) };
    PASSWORDS.iter().map(one).collect()
}

/// A document of a node that serves initiators with these passwords.
fn document() -> Handoff {
    let all = credentials();
    let initiators = all.chunks(2).map(|pair| Initiator {
        name: "iqn.1993-08.org.debian:01:b".to_owned(),
        chap: Some(Chap { initiator: pair[0].clone(), target: Some(pair[1].clone()) }),
    });
    let lun = ServedLun {
        name: "one".to_owned(),
        lun: 0,
        bytes: 1 << 20,
        serial: Uuid::from_u128(3),
        initiators: initiators.collect(),
    };
    let mut target: Target = serde_json::from_str(TARGET).unwrap();
    target.luns.push(lun);
    let mut handoff = handoff(1);
    handoff.credentials = Some(Whereabouts::Seed);
    let initiator = "iqn.1993-08.org.debian:01:a".to_owned();
    handoff.iscsi = Some(Iscsi { initiator, luns: Vec::new(), target: Some(target) });
    handoff
}

/// A seed's document and the place of the node's file.
struct Place {
    _folder: tempfile::TempDir,
    document: PathBuf,
    kept: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (document, kept) = (folder.path().join("handoff.json"), folder.path().join("kiln/chap.json"));
        fs::write(&document, self::document().to_bytes()).unwrap();
        Self { _folder: folder, document, kept }
    }

    /// What a boot hands to those who log in and serve.
    fn boot(&self) -> Result<Vec<Credentials>, String> {
        let mut handoff = Handoff::parse(&fs::read(&self.document).unwrap()).unwrap();
        // As it is handed on in /run.
        handoff = Handoff::parse(&handoff.to_bytes()).unwrap();
        restore(&mut handoff, &self.kept).map_err(|missing| missing.to_string())?;
        Ok(handoff.iscsi.unwrap().credentials().cloned().collect())
    }

    fn assert_clean(&self) {
        let text = fs::read_to_string(&self.document).unwrap();
        for secret in ["plain", "quotes", "user\\", "\\\\"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        assert!(!is_in(&self.document).unwrap());
        assert_eq!(self.boot().unwrap(), credentials());
    }
}

#[test]
fn they_are_moved_once_and_come_back_at_every_boot() {
    let place = Place::new();
    let before = fs::metadata(&place.document).unwrap();
    assert!(is_in(&place.document).unwrap());
    assert_eq!(place.boot().unwrap(), credentials());
    assert_eq!(move_out(&place.document, &place.kept).unwrap(), Found::Moved);
    place.assert_clean();
    let kept = fs::metadata(&place.kept).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let folder = place.kept.parent().unwrap();
    assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    let after = fs::metadata(&place.document).unwrap();
    assert_eq!((before.ino(), before.len()), (after.ino(), after.len()));
    // There is nothing left to do, and nothing is done.
    let (document, file) = (fs::read(&place.document).unwrap(), fs::read(&place.kept).unwrap());
    assert_eq!(move_out(&place.document, &place.kept).unwrap(), Found::Moved);
    assert_eq!((fs::read(&place.document).unwrap(), fs::read(&place.kept).unwrap()), (document, file));
}

/// Power fails after each step, and after each write of a step: the next boot has the passwords, and ends the move.
#[test]
fn a_cut_after_every_write_is_made_good() {
    let whole = Place::new();
    let all = steps(&whole.document).unwrap().unwrap();
    let edits = |step: &super::Step| match step {
        super::Step::Keep(_) => 1,
        super::Step::Write(edits) => edits.len(),
    };
    let counts: Vec<usize> = all.iter().map(edits).collect();
    assert_eq!((counts.len(), counts[0], counts[1], counts[3]), (4, 1, 1, 8), "{counts:?}");
    for (at, count) in counts.iter().enumerate() {
        for writes in 0..=*count {
            let place = Place::new();
            let steps = steps(&place.document).unwrap().unwrap();
            for step in &steps[..at] {
                take(step, &place.document, &place.kept).unwrap();
            }
            match &steps[at] {
                super::Step::Write(edits) => {
                    // From the last one on, too: the disk has its own order.
                    let part =
                        if writes % 2 == 0 { &edits[..writes] } else { &edits[edits.len() - writes..] };
                    take(&super::Step::Write(part.to_vec()), &place.document, &place.kept).unwrap();
                }
                super::Step::Keep(_) if writes == 0 => {
                    fs::create_dir_all(place.kept.parent().unwrap()).unwrap();
                    fs::write(place.kept.with_extension("json.new"), "{\"ver").unwrap();
                }
                step @ super::Step::Keep(_) => take(step, &place.document, &place.kept).unwrap(),
            }
            assert_eq!(place.boot().unwrap(), credentials(), "step {at}, {writes} writes");
            move_out(&place.document, &place.kept).unwrap();
            place.assert_clean();
        }
    }
}

/// The seed was written anew, with other passwords, and so was the node's file; or not, and the file is another seed's.
#[test]
fn the_file_of_another_seed_is_not_taken() {
    let (one, two) = (Place::new(), Place::new());
    for place in [&one, &two] {
        move_out(&place.document, &place.kept).unwrap();
    }
    fs::copy(&two.kept, &one.kept).unwrap();
    let said = one.boot().unwrap_err();
    assert_eq!(
        said,
        "the CHAP names and passwords were moved from the seed to /var/lib/kiln/chap.json, and that file is of another seed: write the node's seed to its disk again"
    );
    // The user did so: what the seed says counts, and is moved again.
    fs::write(&one.document, document().to_bytes()).unwrap();
    assert_eq!(one.boot().unwrap(), credentials());
    move_out(&one.document, &one.kept).unwrap();
    one.assert_clean();
}

#[test]
fn without_the_file_nobody_gets_a_password_and_it_is_said_why() {
    let place = Place::new();
    move_out(&place.document, &place.kept).unwrap();
    let kept = read(&place.kept).unwrap();
    for (text, why) in [
        (None, "and there is no such file: write the node's seed to its disk again"),
        (Some("{"), "and it is damaged"),
        (Some("{\"version\":1,\"id\":\"hunter2\",\"credentials\":[]}"), "and it is damaged"),
    ] {
        match text {
            None => fs::remove_file(&place.kept).unwrap(),
            Some(text) => fs::write(&place.kept, text).unwrap(),
        }
        let said = place.boot().unwrap_err();
        assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
    }
    for wrong in [
        Kept { version: VERSION + 1, id: kept.id, credentials: credentials() },
        Kept { version: VERSION, id: kept.id, credentials: Vec::new() },
    ] {
        keep(&place.kept, &wrong).unwrap();
        assert!(place.boot().unwrap_err().contains("and that file is of another seed"));
    }
}

#[test]
fn a_document_without_any_is_left_as_it_is() {
    let place = Place::new();
    let mut plain = document();
    (plain.credentials, plain.iscsi) = (None, None);
    fs::write(&place.document, plain.to_bytes()).unwrap();
    assert_eq!(move_out(&place.document, &place.kept).unwrap(), Found::None);
    assert_eq!(fs::read(&place.document).unwrap(), plain.to_bytes());
    assert!(!place.kept.exists());
    assert_eq!(move_out(Path::new("/no/such"), &place.kept).unwrap(), Found::None);
    // What can't be understood is not written to.
    fs::write(&place.document, "{").unwrap();
    assert!(move_out(&place.document, &place.kept).is_err());
    assert_eq!(fs::read(&place.document).unwrap(), b"{");
}
