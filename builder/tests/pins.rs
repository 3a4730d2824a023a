//! What comes from elsewhere is what the page says, and was looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

use jiff::civil::Date;
use kiln::cluster::pins::{PINS, page};
use std::path::Path;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The page, and what overlays take when nothing is said.
#[test]
fn the_page_and_the_overlays_say_the_same() {
    let written = std::fs::read_to_string(top().join("docs/pins.md")).unwrap();
    let (_, table) = written.split_once("| what |").expect("a table");
    assert_eq!(
        format!("| what |{table}"),
        page(),
        "docs/pins.md, from its table on, is not what `pins::page` makes"
    );
    for pin in &PINS {
        let path = top().join("overlays").join(pin.overlay).join("overlay.yaml");
        let overlay: serde_json::Value =
            serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let (first, rest) = pin.setting.split_first().unwrap();
        let setting =
            rest.iter().fold(&overlay["settings"][*first], |setting, name| &setting["fields"][*name]);
        assert!(setting.is_object(), "{}: no setting {:?}", path.display(), pin.setting);
        match setting.get("default") {
            Some(release) => assert_eq!(release, pin.release, "{}: {:?}", path.display(), pin.setting),
            None => assert!(
                std::fs::read_to_string(top().join("templates/init/cluster.yaml.j2"))
                    .unwrap()
                    .contains(pin.release)
            ),
        }
    }
    for setting in ["version", "operator_version"] {
        let mut named = std::collections::BTreeSet::new();
        for entry in std::fs::read_dir(top().join("overlays")).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = std::fs::read_to_string(path.join("overlay.yaml")) else { continue };
            let fixed = text
                .lines()
                .any(|line| line.contains(&format!(" {setting}: {{")) && line.contains("default:"));
            named.extend(fixed.then(|| path.file_name().unwrap().to_str().unwrap().to_owned()));
        }
        let pinned = |name: &String| PINS.iter().any(|pin| pin.overlay == name);
        assert!(named.iter().all(pinned), "a release that `PINS` does not have: {named:?}");
    }
}

/// By name: fails when a pin was not looked at for 180 days.
#[test]
#[ignore = "by name: it has a clock"]
fn every_pin_was_looked_at() {
    let today = jiff::Zoned::now().date();
    let old: Vec<_> = PINS
        .iter()
        .filter(|pin| {
            let looked_at: Date = pin.looked_at.parse().unwrap();
            today.since(looked_at).unwrap().get_days() > 180
        })
        .map(|pin| format!("{} {} ({}): {}", pin.name, pin.release, pin.looked_at, pin.source))
        .collect();
    assert!(old.is_empty(), "not looked at for 180 days:\n{}", old.join("\n"));
}
