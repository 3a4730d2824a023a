use super::{AFTER_NODE, Decision, Error, Identity, Index, Manifest, Marker, Once, Recorded, Said, VERSION};
use super::{decide, is_lower, said};
use proptest::prelude::{any, prop, proptest};
use serde_json::{Value, json};

fn marker() -> Marker {
    Marker::new(b"a key")
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": kind, "metadata": { "name": "a", "namespace": "b" }, "spec": spec })
}

fn once(spec: &Value) -> Once {
    Once { after_node: None, object: object("Thing", spec) }
}

/// What the API has: the same with what it adds.
fn live(spec: &Value) -> Value {
    let mut live = object("Thing", spec);
    live["metadata"]["resourceVersion"] = "7".into();
    live["status"] = json!({ "ready": true });
    live
}

/// What a seed said, and what the API made of that.
fn before(spec: &Value, made: &Value) -> Said {
    said(&object("Thing", spec), Some(&live(made)), &[], &marker())
}

fn in_words(decision: &Decision) -> String {
    match decision {
        Decision::Create => "create".to_owned(),
        Decision::Gone => "gone".to_owned(),
        Decision::Leave { kept } => format!("leave, keep {kept:?}"),
        Decision::Change { object, changed, kept } => {
            format!("change {changed:?} to {}, keep {kept:?}", object["spec"])
        }
    }
}

/// The seed before, this seed, and what is in the cluster: what becomes of it.
#[test]
fn only_what_a_seed_says_anew_changes_where_nobody_else_has() {
    let rows = [
        // Nothing new.
        (json!({"a": 1}), json!({"a": 1}), json!({"a": 1}), "leave, keep []"),
        (json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "b": 2}), "leave, keep []"),
        // A person's: another value, gone, an entry in a list.
        (json!({"a": 1}), json!({"a": 1}), json!({"a": 2}), r#"leave, keep ["/spec/a"]"#),
        (json!({"a": 1}), json!({"a": 1}), json!({}), r#"leave, keep ["/spec/a"]"#),
        (json!({"a": ["x"]}), json!({"a": ["x"]}), json!({"a": ["x", "y"]}), r#"leave, keep ["/spec/a"]"#),
        // The seed's: another value, a field more, a field less.
        (json!({"a": 1}), json!({"a": 3}), json!({"a": 1}), r#"change ["/spec/a"] to {"a":3}, keep []"#),
        (
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
            json!({"a": 1}),
            r#"change ["/spec/b"] to {"a":1,"b":2}, keep []"#,
        ),
        (
            json!({"a": 1, "b": 2}),
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
            r#"change ["/spec/b"] to {"a":1}, keep []"#,
        ),
        // Both: the person's stays, all else changes.
        (json!({"a": 1}), json!({"a": 3}), json!({"a": 2}), r#"leave, keep ["/spec/a"]"#),
        (
            json!({"a": 1, "b": 1}),
            json!({"a": 3, "b": 3}),
            json!({"a": 2, "b": 1}),
            r#"change ["/spec/b"] to {"a":2,"b":3}, keep ["/spec/a"]"#,
        ),
        // Somebody did the same already.
        (json!({"a": 1}), json!({"a": 3}), json!({"a": 3}), "leave, keep []"),
        // A person's own field has nothing to do with the seed.
        (json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "x": {"y": 1}}), "leave, keep []"),
        // A whole part that somebody took out: nothing is added to it.
        (
            json!({"disks": {"one": {"path": "/a"}, "two": {"path": "/b"}}}),
            json!({"disks": {"one": {"path": "/a", "reserved": 1}, "two": {"path": "/b"}}}),
            json!({"disks": {"two": {"path": "/b"}}}),
            r#"leave, keep ["/spec/disks/one"]"#,
        ),
        // A part that the seed has no longer goes with the defaults that it was given, or stays whole.
        (
            json!({"disks": {"one": {"path": "/a", "on": true}, "two": {"path": "/b"}}}),
            json!({"disks": {"two": {"path": "/b"}}}),
            json!({"disks": {"one": {"path": "/a", "on": true, "tags": [], "evict": false}, "two": {"path": "/b"}}}),
            r#"change ["/spec/disks/one"] to {"disks":{"two":{"path":"/b"}}}, keep []"#,
        ),
        (
            json!({"disks": {"one": {"path": "/a", "on": true}, "two": {"path": "/b"}}}),
            json!({"disks": {"two": {"path": "/b"}}}),
            json!({"disks": {"one": {"path": "/a", "on": false}, "two": {"path": "/b"}}}),
            r#"leave, keep ["/spec/disks/one"]"#,
        ),
        // Defaults inside of lists, and numbers, are no changes.
        (
            json!({"l": [{"a": 1}]}),
            json!({"l": [{"a": 1}]}),
            json!({"l": [{"a": 1.0, "b": "x"}]}),
            "leave, keep []",
        ),
        (json!({"a": null, "m": {}}), json!({"a": null, "m": {}}), json!({}), "leave, keep []"),
        // A list that the API has completed is still the seed's to change.
        (
            json!({"l": [{"a": 1}]}),
            json!({"l": [{"a": 2}]}),
            json!({"l": [{"a": 1}]}),
            r#"change ["/spec/l"] to {"l":[{"a":2}]}, keep []"#,
        ),
        // Another type altogether.
        (json!({"a": {"b": 1}}), json!({"a": {"b": 1}}), json!({"a": "text"}), r#"leave, keep ["/spec/a"]"#),
    ];
    for (old, new, there, want) in rows {
        let record = before(&old, &old);
        let decision = decide(&once(&new), Recorded::Said(&record), Some(&live(&there)), &marker());
        assert_eq!(in_words(&decision), want, "{old} -> {new}, there is {there}");
    }
}

/// What is done is done: with what is recorded afterwards there is nothing more to do.
#[test]
fn a_second_look_finds_nothing() {
    let (old, new) = (json!({"a": 1, "b": {"c": 1, "d": [1]}}), json!({"a": 2, "b": {"d": [2], "e": 5}}));
    let record = before(&old, &old);
    let there = live(&json!({"a": 1, "b": {"c": 1, "d": [1], "x": 1}}));
    let Decision::Change { object, kept, .. } =
        decide(&once(&new), Recorded::Said(&record), Some(&there), &marker())
    else {
        panic!("nothing changes");
    };
    assert_eq!(object["spec"], json!({"a": 2, "b": {"d": [2], "e": 5, "x": 1}}));
    assert_eq!(object["metadata"]["resourceVersion"], "7");
    let record = said(&once(&new).object, Some(&object), &kept, &marker());
    let again = decide(&once(&new), Recorded::Said(&record), Some(&object), &marker());
    assert_eq!(again, Decision::Leave { kept: Vec::new() });
    // And the seed from before may come again.
    let back = decide(&once(&old), Recorded::Said(&record), Some(&object), &marker());
    assert_eq!(
        in_words(&back),
        r#"change ["/spec/a", "/spec/b/c", "/spec/b/d", "/spec/b/e"] to {"a":1,"b":{"c":1,"d":[1],"x":1}}, keep []"#
    );
}

/// An API that writes a value in another way has not been changed by a person.
#[test]
fn what_the_api_makes_of_a_value_is_no_change() {
    let (seed, made) =
        (json!({"size": "1024Mi", "l": [{"a": 1}]}), json!({"size": "1Gi", "l": [{"a": 1, "b": 2}]}));
    let record = before(&seed, &made);
    let same = decide(&once(&seed), Recorded::Said(&record), Some(&live(&made)), &marker());
    assert_eq!(same, Decision::Leave { kept: Vec::new() });
    let next = json!({"size": "2Gi", "l": [{"a": 2}]});
    let decision = decide(&once(&next), Recorded::Said(&record), Some(&live(&made)), &marker());
    assert_eq!(
        in_words(&decision),
        r#"change ["/spec/l", "/spec/size"] to {"l":[{"a":2}],"size":"2Gi"}, keep []"#
    );
}

#[test]
fn what_is_not_there_is_made_once() {
    let (seed, record) = (once(&json!({"a": 1})), Said::default());
    assert_eq!(decide(&seed, Recorded::No, None, &marker()), Decision::Create);
    for recorded in [Recorded::Said(&record), Recorded::Unreadable] {
        assert_eq!(decide(&seed, recorded, None, &marker()), Decision::Gone);
    }
}

/// Without a record, and with one that nobody can read, all that is there is somebody's.
#[test]
fn what_was_there_before_is_left() {
    for recorded in [Recorded::No, Recorded::Unreadable] {
        let there = live(&json!({"b": 2}));
        let decision = decide(&once(&json!({"a": 1, "b": 1})), recorded, Some(&there), &marker());
        assert_eq!(in_words(&decision), r#"leave, keep ["/spec/a", "/spec/b"]"#);
    }
}

/// Longhorn makes a bare resource of each node by itself: what is empty in it is filled. One that k3s applied from an older
/// seed was whole, and what is absent in it was taken out.
#[test]
fn what_a_controller_began_is_completed() {
    let seed = Once {
        after_node: Some("n".to_owned()),
        object: object("Node", &json!({"disks": {"a": {"path": "/a"}}, "tags": ["ssd"], "allow": true})),
    };
    let mut there = live(&json!({"disks": {}, "tags": [], "allow": false}));
    let decision = decide(&seed, Recorded::No, Some(&there), &marker());
    assert_eq!(
        in_words(&decision),
        r#"change ["/spec/disks", "/spec/tags"] to {"allow":false,"disks":{"a":{"path":"/a"}},"tags":["ssd"]}, keep ["/spec/allow"]"#
    );
    there["metadata"]["labels"] = json!({"objectset.rio.cattle.io/hash": "x"});
    let decision = decide(&seed, Recorded::No, Some(&there), &marker());
    assert_eq!(in_words(&decision), r#"leave, keep ["/spec/allow", "/spec/disks/a", "/spec/tags"]"#);
}

/// A chart is never taken back to an older release, whoever took it further; all else is as told.
#[test]
fn a_release_never_goes_back() {
    for (kind, spec) in [
        ("HelmChart", (|version: &str| json!({"version": version})) as fn(&str) -> Value),
        ("HelmRelease", |version: &str| json!({"chart": {"spec": {"version": version}}})),
    ] {
        let seed = |version: &str| Once { after_node: None, object: object(kind, &spec(version)) };
        let record = said(&seed("1.10.1").object, Some(&seed("1.10.1").object), &[], &marker());
        let change = |to: &str, there: &str| {
            decide(&seed(to), Recorded::Said(&record), Some(&seed(there).object), &marker())
        };
        assert!(matches!(change("1.9.2", "1.10.1"), Decision::Leave { kept } if kept.len() == 1), "{kind}");
        assert!(matches!(change("1.11.0", "1.10.1"), Decision::Change { .. }), "{kind}");
        assert!(matches!(change("1.11.0", "1.10.2"), Decision::Leave { .. }), "{kind}");
    }
    let thing = |version: &str| json!({"version": version});
    let record = before(&thing("2.0.0"), &thing("2.0.0"));
    let decision =
        decide(&once(&thing("1.0.0")), Recorded::Said(&record), Some(&live(&thing("2.0.0"))), &marker());
    assert!(matches!(decision, Decision::Change { .. }));
    for (one, other, lower) in [
        ("1.9.2", "1.10.1", true),
        ("v1.9.2", "1.9.3-rc1", true),
        ("1.10.1", "1.10.1", false),
        ("2.7.x", "2.8.0", false),
        ("", "1.0.0", false),
    ] {
        assert_eq!(is_lower(one, other), lower, "{one} {other}");
    }
}

/// Labels and data are fields as any other; names and status are not looked at.
#[test]
fn all_that_says_something_is_compared() {
    let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "b", "labels": {"l": "1"}}, "data": data, "type": "Opaque"});
    let seed = |data: Value| Once { after_node: None, object: secret(data) };
    let old = secret(json!({"identity": "aQ==", "known_hosts": "aw=="}));
    let record = said(&old, Some(&old), &[], &marker());
    // A key that left the seed leaves the Secret; one that a person added does not.
    let mut there = old.clone();
    there["data"]["mine"] = "bQ==".into();
    there["metadata"]["labels"]["mine"] = "x".into();
    let Decision::Change { object, changed, .. } =
        decide(&seed(json!({"identity": "aQ=="})), Recorded::Said(&record), Some(&there), &marker())
    else {
        panic!("nothing changes");
    };
    assert_eq!(
        (changed, &object["data"]),
        (vec!["/data/known_hosts".to_owned()], &json!({"identity": "aQ==", "mine": "bQ=="}))
    );
    assert_eq!(object["metadata"]["labels"], json!({"l": "1", "mine": "x"}));
}

/// What is recorded tells nobody anything who has not the key, and comes back as it was.
#[test]
fn a_record_is_digests() {
    let record = before(&json!({"password": "hunter2"}), &json!({"password": "hunter2"}));
    let bytes = record.to_bytes();
    assert!(!bytes.is_empty() && bytes.len().is_multiple_of(6));
    assert_eq!(Said::from_bytes(&bytes), Some(record));
    assert_eq!(Said::from_bytes(&bytes[1..]), None);
    let other = said(&object("Thing", &json!({"password": "hunter2"})), None, &[], &Marker::new(b"other"));
    assert!(other.to_bytes().chunks(6).all(|mark| !bytes.chunks(6).any(|known| known == mark)));
    assert_ne!(marker().name(), Marker::new(b"other").name());
}

#[test]
fn keys_are_those_of_a_config_map() {
    let identity = |kind: &str, name: &str| Identity {
        api_version: "rbac.authorization.k8s.io/v1".to_owned(),
        kind: kind.to_owned(),
        namespace: None,
        name: name.to_owned(),
    };
    assert_eq!(
        identity("ClusterRole", "system:a_b").key(),
        "clusterrole__rbac.authorization.k8s.io____system_3aa_5fb"
    );
    let long = identity("ClusterRole", &"x".repeat(250)).key();
    assert!(long.len() <= 253 && long != identity("ClusterRole", &"x".repeat(249)).key(), "{long}");
}

fn manifest() -> Manifest {
    let mut longhorn = once(&json!({"a": 1}));
    longhorn.after_node = Some("k3s2".to_owned());
    Manifest {
        version: VERSION,
        name: "longhorn-nodes".to_owned(),
        secret: false,
        once: vec![longhorn],
        laid: None,
    }
}

#[test]
fn documents_round_trip_and_names_lead_nowhere() {
    assert_eq!(Manifest::parse(&manifest().to_bytes()).unwrap(), manifest());
    for name in ["../a", "a.b", "", "a/b"] {
        let bad = Manifest { name: name.to_owned(), ..manifest() };
        assert!(matches!(Manifest::parse(&bad.to_bytes()), Err(Error::Name(_))), "{name}");
        let index = Index { version: VERSION, manifests: vec![name.to_owned()], withdrawn: Vec::new() };
        assert!(matches!(Index::parse(&index.to_bytes()), Err(Error::Name(_))), "{name}");
    }
    let mut nameless = manifest();
    nameless.once[0].object["metadata"] = json!({});
    assert!(matches!(Manifest::parse(&nameless.to_bytes()), Err(Error::Object(_))));
    assert!(AFTER_NODE.contains('/'));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::parse(&bytes);
        let _ = Index::parse(&bytes);
        let _ = Said::from_bytes(&bytes);
    }

    /// Whatever seeds say and people do: what a person has changed or added is as it was, and a second look finds nothing.
    #[test]
    fn a_persons_fields_are_never_touched(old in spec(), new in spec(), theirs in spec()) {
        let record = before(&old, &old);
        let there = live(&theirs);
        let decision = decide(&once(&new), Recorded::Said(&record), Some(&there), &marker());
        let (after, kept) = match decision {
            Decision::Change { object, kept, .. } => (object, kept),
            Decision::Leave { kept } => (there.clone(), kept),
            other => panic!("{other:?}"),
        };
        for (key, value) in theirs.as_object().unwrap() {
            if old.get(key) != Some(value) {
                proptest::prop_assert_eq!(after["spec"].get(key), Some(value));
            }
        }
        let record = said(&once(&new).object, Some(&after), &kept, &marker());
        let again = decide(&once(&new), Recorded::Said(&record), Some(&after), &marker());
        // What no seed says any more is nobody's business.
        let said = kept.into_iter().filter(|place| new.get(&place["/spec/".len()..]).is_some()).collect();
        proptest::prop_assert_eq!(again, Decision::Leave { kept: said });
    }
}

fn spec() -> impl prop::strategy::Strategy<Value = Value> {
    use prop::strategy::Strategy as _;
    prop::collection::btree_map("[a-c]", 0_u8..3, 0..4).prop_map(|entries| {
        entries
            .into_iter()
            .map(|(key, value)| (key, Value::from(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}
