use super::{Request, resolve};
use crate::archive::index;
use crate::archive::universe::Universe;
use proptest::{prop_assert_eq, proptest};

/// A `Packages` file from lines such as `a 1: Depends: b (>= 2) | c; Provides: v`.
fn packages(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, fields) = line.split_once(": ").unwrap_or((line, ""));
        let (name, version) = head.trim_end_matches(':').split_once(' ').unwrap();
        text += &format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n");
        text += &format!("Filename: pool/{name}.deb\nSize: 1\nSHA256: {}\n", "0".repeat(64));
        fields
            .split(';')
            .filter(|field| !field.is_empty())
            .for_each(|field| text += &format!("{}\n", field.trim()));
        text.push('\n');
    }
    text
}

fn answer_of(suites: &[(&str, &str)], names: &[&str], exclude: &[&str]) -> Result<String, String> {
    let texts: Vec<_> = suites.iter().map(|(name, lines)| (*name, packages(lines))).collect();
    let indices = texts.iter().map(|(name, text)| (*name, index::parse(text).unwrap())).collect();
    let universe = Universe::new("amd64", indices);
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (names, exclude) = (owned(names), owned(exclude));
    let chosen = resolve(&universe, Request { names: &names, exclude: &exclude })
        .map_err(|fault| fault.to_string())?;
    let show = |package: &index::Package<'_>| format!("{} {}", package.name, package.version);
    Ok(chosen.iter().map(|choice| show(choice.package(&universe))).collect::<Vec<_>>().join(", "))
}

fn answer(lines: &str, names: &[&str]) -> Result<String, String> {
    answer_of(&[("trixie", lines)], names, &[])
}

#[track_caller]
fn gives(lines: &str, names: &[&str], wanted: &str) {
    assert_eq!(answer(lines, names).as_deref(), Ok(wanted));
}

#[track_caller]
fn fails(lines: &str, names: &[&str], wanted: &str) {
    assert_eq!(answer(lines, names).unwrap_err(), wanted);
}

#[test]
fn closed_over_depends_and_pre_depends() {
    let lines = "a 1: Depends: b, c; Pre-Depends: d
        b 1: Depends: a
        c 1: Recommends: e; Suggests: e
        d 1
        e 1";
    gives(lines, &["a"], "a 1, b 1, c 1, d 1");
    gives(lines, &[], "");
}

#[test]
fn alternatives_in_their_order() {
    let lines = "a 1: Depends: x | y | z
        b 1: Depends: y
        c 1: Depends: v
        y 1
        z 1: Provides: v";
    gives(lines, &["a"], "a 1, y 1");
    gives(lines, &["a", "z"], "a 1, z 1");
    // What another dependency leaves no choice about counts, wherever it stands.
    gives(lines, &["a", "c"], "a 1, c 1, z 1");
}

#[test]
fn virtual_packages() {
    let lines = "a 1: Depends: v
        real 1: Depends: w
        w 1
        m 1: Provides: v; Priority: optional
        n 1: Provides: v; Priority: important
        p 1: Provides: w
        b 1: Depends: u (>= 2)
        q 1: Provides: u
        r 1: Provides: u (= 3)
        s 1: Provides: only";
    gives(lines, &["a"], "a 1, n 1");
    gives(lines, &["a", "m"], "a 1, m 1");
    gives(lines, &["real"], "real 1, w 1");
    gives(lines, &["b"], "b 1, r 1");
    gives(lines, &["only"], "s 1");
    fails(lines, &["v"], "v is a virtual package; name one that provides it: m, n, in trixie (amd64)");
}

#[test]
fn architecture_qualifiers() {
    let lines = "a 1: Depends: p:any, q:native, r:amd64
        b 1: Depends: q:any
        p 1: Multi-Arch: allowed
        q 1
        r 1";
    gives(lines, &["a"], "a 1, p 1, q 1, r 1");
    fails(lines, &["b"], "b 1 depends on q:any, but trixie has q 1; b was requested");
}

#[test]
fn newest_version_of_all_suites() {
    let suites = [
        ("trixie", "a 1: Depends: b (>= 1)\nb 1"),
        ("trixie-updates", "c 1"),
        ("trixie-security", "b 1+deb13u1\na 1: Depends: nothing"),
    ];
    assert_eq!(answer_of(&suites, &["a"], &[]).as_deref(), Ok("a 1, b 1+deb13u1"));
    assert_eq!(answer_of(&suites, &["a", "b=1"], &[]).as_deref(), Ok("a 1, b 1"));
    assert_eq!(
        answer_of(&suites, &["b=2"], &[]).unwrap_err(),
        "b=2 is not there; there is b 1+deb13u1, b 1, in trixie, trixie-updates, trixie-security (amd64)"
    );
}

#[test]
fn an_older_version_is_better_than_no_answer() {
    let suites = [("trixie", "a 1: Depends: b (= 1)\nb 1"), ("trixie-security", "b 2")];
    assert_eq!(answer_of(&suites, &["a"], &[]).as_deref(), Ok("a 1, b 1"));
}

#[test]
fn conflicts_lead_to_other_choices() {
    let lines = "a 1: Depends: x | y
        x 1: Conflicts: b
        y 1
        b 1
        c 1: Depends: p | q, r | s
        p 1: Depends: t
        q 1
        r 1: Breaks: t
        s 1: Depends: u
        t 1
        u 1: Conflicts: t";
    gives(lines, &["a"], "a 1, x 1");
    gives(lines, &["a", "b"], "a 1, b 1, y 1");
    gives(lines, &["c"], "c 1, q 1, r 1");
}

#[test]
fn a_package_may_conflict_with_what_it_provides() {
    let lines = "a 1: Provides: mta; Conflicts: mta
        b 1: Provides: mta; Conflicts: mta
        c 1: Breaks: a (<< 1)";
    gives(lines, &["a", "c"], "a 1, c 1");
    fails(lines, &["a", "b"], "a 1 conflicts with b 1 (a was requested); b was requested");
}

#[test]
fn what_does_not_exist_is_named_with_what_is_near() {
    let lines = "openssh-server 1\nopenssh-client 1\nhtop 1\nbtop 1";
    fails(
        lines,
        &["opensh-server", "htopp", "quite-another", "htop"],
        "there is no package opensh-server; near it are openssh-server; there is no package htopp; near it are htop; \
         there is no package quite-another, in trixie (amd64)",
    );
    fails(lines, &["a b"], r#""a b" is no package name, nor `name=version`"#);
    fails(lines, &["htop=x y"], r#""htop=x y" is no package name, nor `name=version`"#);
}

#[test]
fn unsatisfiable_with_the_chain() {
    let lines = "a 1: Depends: b (>= 2)
        b 1.4
        m 1: Depends: n
        n 1: Depends: a | gone, m
        k 1: Depends: gone
        w 1: Depends: v (>= 2)
        p 3: Provides: v
        x 1: Depends: y, z
        y 1: Conflicts: z
        z 1";
    fails(lines, &["a"], "a 1 depends on b (>= 2), but trixie has b 1.4; a was requested");
    fails(
        lines,
        &["m"],
        "a 1 depends on b (>= 2), but trixie has b 1.4; a is wanted by n, which is wanted by m, which was requested",
    );
    fails(lines, &["k"], "k 1 depends on gone, but there is no package gone; k was requested");
    fails(
        lines,
        &["w"],
        "w 1 depends on v (>= 2), but v is provided by p 3 without that version; w was requested",
    );
    fails(
        lines,
        &["x"],
        "x 1 depends on z, but y 1 conflicts with z 1 (y is wanted by x, which was requested); x was requested",
    );
}

#[test]
fn unsatisfiable_after_choices() {
    let lines = "a 1: Depends: x | y
        x 1: Depends: gone
        y 1: Conflicts: a";
    // y conflicts with a from the start, so x is the only choice.
    fails(
        lines,
        &["a"],
        "x 1 depends on gone, but there is no package gone; x is wanted by a, which was requested",
    );
    let lines = "a 1: Depends: x | y
        x 1: Depends: gone
        y 1: Depends: gone";
    fails(
        lines,
        &["a"],
        "x 1 depends on gone, but there is no package gone; x is wanted by a, which was requested \
         (and every other choice fails, too)",
    );
}

#[test]
fn exclusions() {
    let lines = "a 1: Depends: x | y\nx 1\ny 1\nb 1: Depends: x";
    assert_eq!(answer_of(&[("trixie", lines)], &["a"], &["x"]).as_deref(), Ok("a 1, y 1"));
    assert_eq!(
        answer_of(&[("trixie", lines)], &["b"], &["x"]).unwrap_err(),
        "b 1 depends on x, but x is excluded by the request; b was requested"
    );
}

#[test]
fn relations_that_do_not_parse_are_told_when_they_matter() {
    let lines = "a 1: Depends: b [amd64]\nc 1";
    gives(lines, &["c"], "c 1");
    fails(
        lines,
        &["a"],
        r#"package a 1, Depends: "b [amd64]" is not `package[:architecture] [(operator version)]`"#,
    );
}

#[test]
fn who_wants_what() {
    let text = packages("a 1: Depends: c\nb 1: Depends: c\nc 1\nd 1: Depends: c\ne 1: Depends: c");
    let universe = Universe::new("amd64", vec![("trixie", index::parse(&text).unwrap())]);
    let names: Vec<String> = ["e", "d", "c", "b", "a"].map(str::to_owned).into();
    let chosen = resolve(&universe, Request { names: &names, exclude: &[] }).unwrap();
    assert_eq!(chosen[2].wanted_by, ["requested", "a", "b"]);
    assert_eq!(chosen[0].wanted_by, ["requested"]);
}

/// Thirty choices that have nothing to do with the contradiction must not be tried in all combinations.
#[test]
fn backjumping_leaves_innocent_choices_alone() {
    let mut lines = String::from("last 1: Depends: p | q\np 1: Depends: gone\nq 1: Depends: lost\n");
    let mut depends = Vec::new();
    for at in 0..30 {
        lines += &format!("l{at} 1\nr{at} 1\n");
        depends.push(format!("l{at} | r{at}"));
    }
    lines += &format!("top 1: Depends: {}, last\n", depends.join(", "));
    fails(
        &lines,
        &["top"],
        "p 1 depends on gone, but there is no package gone; p is wanted by last, which is wanted by top, \
         which was requested (and every other choice fails, too)",
    );
}

proptest! {
    /// An answer is closed and free of conflicts, and the resolver finds one whenever trying all sets does.
    #[test]
    fn right_and_complete(relations in proptest::collection::vec(
        (0_usize..6, 0_usize..6, 0_usize..6, 0_u8..4), 0..9), wanted in 0_usize..6) {
        let mut fields = vec![(Vec::new(), Vec::new()); 6];
        for (owner, one, two, kind) in relations {
            match kind {
                0 => fields[owner].1.push(format!("p{one}")),
                1 => fields[owner].0.push(format!("p{one}")),
                _ => fields[owner].0.push(format!("p{one} | p{two}")),
            }
        }
        let line = |(at, (depends, conflicts)): (usize, &(Vec<String>, Vec<String>))| {
            format!("p{at} 1: Depends: {}; Conflicts: {}\n", depends.join(", "), conflicts.join(", "))
        };
        let lines: String = fields.iter().enumerate().map(line).collect();
        let holds = |set: u32| {
            let has = |name: &str| set & (1 << name[1..].parse::<u32>().unwrap()) != 0;
            (0..6).filter(|at| set & (1 << at) != 0).all(|at| {
                fields[at].0.iter().all(|clause| clause.split(" | ").any(has))
                    && fields[at].1.iter().all(|other| *other == format!("p{at}") || !has(other))
            })
        };
        let possible = (0_u32..64).any(|set| set & (1 << wanted) != 0 && holds(set));
        let found = answer(&lines, &[&format!("p{wanted}")]);
        prop_assert_eq!(found.is_ok(), possible, "{}{:?}", lines, found);
        if let Ok(found) = found {
            let set = found.split(", ").map(|shown| 1 << shown[1..2].parse::<u32>().unwrap()).sum();
            prop_assert_eq!((holds(set), set & (1 << wanted) != 0), (true, true), "{}{}", lines, found);
        }
    }
}
