//! Relationships between packages (Debian Policy §7.1): `a (>= 1) | b:any, c`.

use super::version::Version;
use std::cmp::Ordering;
use std::fmt;

/// What a version must be compared with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        })
    }
}

/// One package of a relationship: name, architecture qualifier, version wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Atom<'a> {
    /// Package name, real or virtual.
    pub name: &'a str,
    /// `any`, `native` or an architecture, as written after the colon.
    pub qualifier: Option<&'a str>,
    /// The version asked for.
    pub version: Option<(Operator, Version<'a>)>,
}

impl Atom<'_> {
    /// Whether a version is one that is asked for.
    pub fn admits(&self, version: Version<'_>) -> bool {
        let Some((operator, wanted)) = self.version else { return true };
        let order = version.cmp(&wanted);
        match operator {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterOrEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Atom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        match self.version {
            Some((operator, version)) => write!(f, " ({operator} {version})"),
            None => Ok(()),
        }
    }
}

/// Alternatives, the earlier the better: `a | b`. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause<'a>(pub Vec<Atom<'a>>);

impl fmt::Display for Clause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, atom) in self.0.iter().enumerate() {
            write!(f, "{}{atom}", if at == 0 { "" } else { " | " })?;
        }
        Ok(())
    }
}

/// The text is no relationship of a binary package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not `package[:architecture] [(operator version)]`")]
pub struct NotARelation(pub String);

/// Reads the value of `Depends`, `Conflicts`, `Provides` and their like. Empty clauses (a comma too many)
/// are left out, as dpkg leaves them out.
pub fn parse(text: &str) -> Result<Vec<Clause<'_>>, NotARelation> {
    let clauses = text.split(',').filter(|clause| !clause.trim().is_empty());
    clauses.map(|clause| Ok(Clause(clause.split('|').map(atom).collect::<Result<_, _>>()?))).collect()
}

fn atom(text: &str) -> Result<Atom<'_>, NotARelation> {
    let text = text.trim();
    let bad = || NotARelation(text.to_owned());
    let (name, version) = match text.split_once('(') {
        Some((name, rest)) => (name.trim_end(), Some(rest.strip_suffix(')').ok_or_else(bad)?.trim())),
        None => (text, None),
    };
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name, None),
    };
    if !is_name(name) || qualifier.is_some_and(|qualifier| !is_name(qualifier)) {
        return Err(bad());
    }
    let version = version.map(|version| constraint(version).ok_or_else(bad)).transpose()?;
    Ok(Atom { name, qualifier, version })
}

fn constraint(text: &str) -> Option<(Operator, Version<'_>)> {
    let at = text.find(|c| !"<=>".contains(c))?;
    let operator = match &text[..at] {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::EarlierOrEqual, // `<` and `>` alone are the old spellings
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return None,
    };
    Some((operator, Version::parse(text[at..].trim())?))
}

/// Whether a text can be the name of a package: letters, digits, `+`, `-`, `.` (Policy §5.6.7), capitals
/// and underscores forgiven.
pub fn is_name(text: &str) -> bool {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    text.bytes().all(ok) && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::{Clause, Version, parse};
    use proptest::{prop_assert_eq, proptest};

    fn show(clauses: &[Clause<'_>]) -> String {
        clauses.iter().map(Clause::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn forms() {
        let text = "libc6(>=2.38) ,perl:any|python3 ( << 3.14~ ),, a (< 1), b (= 1:2-3)\n";
        let clauses = parse(text).unwrap();
        assert_eq!(show(&clauses), "libc6 (>= 2.38), perl:any | python3 (<< 3.14~), a (<= 1), b (= 1:2-3)");
        assert_eq!(parse(" \n"), Ok(Vec::new()));
    }

    #[test]
    fn faults_are_named() {
        for text in
            ["a b", "a (1)", "a (== 1)", "a (>= 1", "a | ", "-a", "a [amd64]", "a <!nocheck>", "a:", "a (>=)"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = parse("a, b (>= 1 2)").unwrap_err();
        assert_eq!(error.to_string(), r#""b (>= 1 2)" is not `package[:architecture] [(operator version)]`"#);
    }

    #[test]
    fn versions_are_admitted() {
        for (text, yes, no) in [
            ("a (>= 1.2)", "1.2", "1.2~"),
            ("a (>> 1.2)", "1.2.1", "1.2"),
            ("a (<= 1.2)", "1.2-0", "1.2-1"),
            ("a (<< 1.2)", "1.2~", "1.2"),
            ("a (= 1.2)", "0:1.2", "1.2-1"),
        ] {
            let clauses = parse(text).unwrap();
            let atom = clauses[0].0[0];
            assert!(
                atom.admits(Version::parse(yes).unwrap()) && !atom.admits(Version::parse(no).unwrap()),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[a-b1:()<=>|, .\u{e9}-]{0,40}") {
            if let Ok(clauses) = parse(&text) {
                let again = show(&clauses);
                prop_assert_eq!(parse(&again), Ok(clauses));
            }
        }
    }
}
