use super::{
    Decision, Emptied, Facts, Member, Object, Policy, Watched, Why, board, decide, is_same, node_of,
};
use proptest::prelude::{any, prop, proptest};
use uuid::Uuid;

const BOARD: &str = "4c4c4544-0042-3510-8056-b4c04f4a3232";
const OLD: &str = "s-3-0a1b2c3d";
const ONE: &str = "s-1-11111111";
const TWO: &str = "s-2-22222222";

/// What a test changes of facts that allow it.
#[derive(Clone)]
struct Case {
    policy: Policy,
    emptied: Emptied,
    before: Option<&'static str>,
    made: u64,
    board: Option<&'static str>,
    object: Object,
    others: Vec<(String, String)>,
    members: Vec<Member>,
    watched: Option<Watched>,
    word: Option<String>,
}

type Change = Box<dyn Fn(&mut Case)>;

fn good() -> Case {
    let member = |name: &str| Member { name: name.to_owned(), learner: false, trouble: None };
    Case {
        policy: Policy::Automatic,
        emptied: Emptied::Made,
        before: None,
        made: 2000,
        board: Some("4C4C4544-0042-3510-8056-B4C04F4A3232\n"),
        object: Object { created: 1000, system_uuid: BOARD.to_owned(), member: Some(OLD.to_owned()) },
        others: vec![("s-1".to_owned(), "4c4c4544-0042-3510-8056-b4c04f4a3233".to_owned())],
        members: vec![
            member(ONE),
            member(TWO),
            // Nobody asks the old one how it is.
            Member { trouble: Some("it does not answer".to_owned()), ..member(OLD) },
        ],
        watched: Some(Watched { own: false, other: Some("s-1".to_owned()) }),
        word: None,
    }
}

fn decided(case: &Case) -> Decision {
    decide(&Facts {
        node: "s-3",
        policy: case.policy,
        emptied: case.emptied,
        before: case.before,
        made: case.made,
        board: case.board,
        object: &case.object,
        others: &case.others,
        members: &case.members,
        watched: case.watched.as_ref(),
        word: case.word.as_deref(),
    })
}

fn after(change: impl FnOnce(&mut Case)) -> Decision {
    let mut case = good();
    change(&mut case);
    decided(&case)
}

fn why(change: impl FnOnce(&mut Case)) -> String {
    match after(change) {
        Decision::Wait(why) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_conditions_hold() {
    assert_eq!(decided(&good()), Decision::Remove(OLD.to_owned()));
    assert_eq!(after(|case| case.watched = None), Decision::Watch);
    // A cut between the record and the request.
    assert_eq!(after(|case| case.before = Some(OLD)), Decision::Remove(OLD.to_owned()));
    // One that had no vote yet when it was flashed.
    assert_eq!(after(|case| case.members[2].learner = true), Decision::Remove(OLD.to_owned()));
}

/// Each condition by itself, before anything is watched as well as after.
#[test]
fn each_condition_alone_refuses() {
    let ill = |at: usize| {
        move |case: &mut Case| case.members[at].trouble = Some("10.0.0.2:6443 does not answer".to_owned())
    };
    let table: Vec<(Change, &str)> = vec![
        (
            Box::new(|case| case.emptied = Emptied::BySomebody),
            "the datastore here is empty, and not because Kiln made this state or its data disk anew: somebody emptied it",
        ),
        (Box::new(|case| case.emptied = Emptied::Not), "there is a datastore here"),
        (
            Box::new(|case| case.object.created = 2007),
            "the Node object is 7 s younger than what was made anew here: another machine has made it meanwhile",
        ),
        (
            Box::new(|case| case.object.created = 2000),
            "the Node object is 0 s younger than what was made anew here: another machine has made it meanwhile",
        ),
        (Box::new(|case| drop(case.members.pop())), "etcd has no member of this node's name any more"),
        (Box::new(|case| case.members.clear()), "etcd has no member of this node's name any more"),
        (
            Box::new(|case| case.members[1].name = "s-3-33333333".to_owned()),
            "etcd has several members of this node's name: s-3-33333333, s-3-0a1b2c3d (it does not answer)",
        ),
        (
            Box::new(|case| case.object.member = None),
            "etcd's member of this node's name is s-3-0a1b2c3d, and the Node object says nothing (etcd.k3s.cattle.io/node-name)",
        ),
        (
            Box::new(|case| case.object.member = Some("s-3-44444444".to_owned())),
            "etcd's member of this node's name is s-3-0a1b2c3d, and the Node object says s-3-44444444 (etcd.k3s.cattle.io/node-name)",
        ),
        (
            Box::new(|case| case.before = Some("s-3-55555555")),
            "s-3-55555555 was taken out of etcd for this state already, and k3s now meets s-3-0a1b2c3d",
        ),
        (
            Box::new(|case| case.members[0].learner = true),
            "etcd has a member that does not vote yet, s-1-11111111: another server is joining",
        ),
        (
            Box::new(|case| {
                case.members[0].learner = true;
                case.members[0].name.clear();
            }),
            "etcd has a member that does not vote yet, which has no name yet: another server is joining",
        ),
        // Of three with another one down.
        (
            Box::new(ill(1)),
            "without this node's old member not all that vote in etcd are healthy: s-2-22222222 (10.0.0.2:6443 does not answer)",
        ),
        (
            Box::new(ill(0)),
            "without this node's old member not all that vote in etcd are healthy: s-1-11111111 (10.0.0.2:6443 does not answer)",
        ),
        // Of two, etcd can't have answered without the old one.
        (Box::new(|case| drop(case.members.remove(0))), "1 of the 2 that vote in etcd are no majority"),
    ];
    for (change, want) in table {
        for watched in [None, good().watched] {
            let said = why(|case| {
                case.watched = watched;
                change(case);
            });
            assert_eq!(said, want);
        }
    }
    let still = why(|case| case.watched = Some(Watched::default()));
    assert_eq!(
        still,
        "no node's lease is renewed: whether a machine of this node's name is alive can't be seen"
    );
    for other in [None, Some("s-1".to_owned())] {
        let alive = after(|case| case.watched = Some(Watched { own: true, other }));
        assert_eq!(alive, Decision::Wait(Why::Alive));
    }
}

fn asked(change: impl Fn(&mut Case)) -> String {
    let Decision::Ask(question) = after(&change) else { panic!("nobody is asked") };
    // The word lets it go on, and a word for another question does not.
    let answered = |word: String| {
        after(|case| {
            change(case);
            case.word = Some(word);
        })
    };
    assert_eq!(answered(question.clone()), Decision::Remove(OLD.to_owned()));
    assert_eq!(answered("another".to_owned()), Decision::Ask(question.clone()));
    // For no other condition.
    let other = after(|case| {
        change(case);
        case.word = Some(question.clone());
        case.watched = Some(Watched::default());
    });
    assert_eq!(other, Decision::Wait(Why::AllStill));
    let down = after(|case| {
        change(case);
        case.word = Some(question.clone());
        case.members[0].trouble = Some("off".to_owned());
    });
    assert!(matches!(down, Decision::Wait(Why::Unhealthy { .. })), "{down:?}");
    question
}

#[test]
fn a_person_is_asked_about_hardware_and_by_policy() {
    let what = "take the old etcd member s-3-0a1b2c3d of node s-3 out of the cluster";
    assert_eq!(asked(|case| case.policy = Policy::Ask), what);
    for policy in [Policy::Automatic, Policy::Ask] {
        let asked = |change: fn(&mut Case)| {
            asked(move |case: &mut Case| {
                case.policy = policy;
                change(case);
            })
        };
        let other = asked(|case| case.object.system_uuid = "f".repeat(32));
        assert_eq!(
            other,
            format!(
                "{what}, although this board's UUID is {BOARD}, and the Node object has {}: it was another machine",
                "f".repeat(32)
            )
        );
        assert!(
            asked(|case| case.object.system_uuid.clear())
                .ends_with("the Node object has none: it was another machine")
        );
        let none = format!(
            "{what}, although this board has no UUID of its own (DMI) that could prove that it is the same one"
        );
        assert_eq!(asked(|case| case.board = None), none);
        assert_eq!(asked(|case| case.board = Some("Not Settable")), none);
        // The same example on both.
        let example = asked(|case| {
            case.board = Some("03000200-0400-0500-0006-000700080009");
            case.object.system_uuid = "03000200-0400-0500-0006-000700080009".to_owned();
        });
        assert_eq!(example, none);
        let shared = asked(|case| case.others[0].1 = BOARD.to_uppercase());
        assert_eq!(
            shared,
            format!(
                "{what}, although this board's UUID is {BOARD}, and node s-1 has the same: it proves nothing"
            )
        );
    }
}

#[test]
fn uuids_of_boards() {
    for none in [
        "",
        "\n",
        "Not Present",
        "0",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
    ] {
        assert_eq!(board(none), None, "{none}");
    }
    let own = board(BOARD).unwrap();
    assert!(is_same(own, BOARD) && is_same(own, &BOARD.to_uppercase()));
    // As firmware that names an older SMBIOS has it.
    assert!(is_same(own, "44454c4c-4200-1035-8056-b4c04f4a3232"));
    assert!(!is_same(own, "44454c4c-4200-1035-8056-b4c04f4a3233") && !is_same(own, "") && !is_same(own, "x"));
}

#[test]
fn a_members_name_begins_with_the_nodes() {
    for (member, node) in
        [("k3s1-0a1b2c3d", "k3s1"), ("a.b-c-00000000", "a.b-c"), ("k3s1", "k3s1"), ("", ""), ("a-1", "a-1")]
    {
        assert_eq!(node_of(member), node);
    }
}

proptest! {
    /// What machines and servers say ends in a decision, and no living or only majority is ever taken out.
    #[test]
    fn any_facts_are_decided(
        uuids in (".*", ".*"),
        names in prop::collection::vec(("(s-3-.{0,3}|.*)", any::<bool>(), any::<bool>()), 0..5),
        word in prop::option::of(".*"),
    ) {
        let mut case = good();
        case.object.system_uuid = uuids.0;
        case.others[0].1 = uuids.1;
        case.word = word;
        case.members = names
            .into_iter()
            .map(|(name, learner, ill)| Member { name, learner, trouble: ill.then(|| "ill".to_owned()) })
            .collect();
        if let Decision::Remove(member) = decided(&case) {
            assert_eq!(member, OLD);
            let left = case.members.iter().filter(|one| one.name != OLD);
            assert!(left.clone().count() > 1 || case.members.iter().any(|one| one.name == OLD && one.learner));
            assert!(left.clone().all(|one| one.trouble.is_none() && !one.learner));
        }
        let _ = board(&case.object.system_uuid).map(|uuid: Uuid| uuid.to_string());
    }
}
