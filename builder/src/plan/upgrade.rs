//! Upgrades that go step by step.

use std::collections::BTreeMap;

/// Charts that take no larger step than one minor release, and none back: Longhorn's own rule ("Upgrade", Longhorn
/// documentation: upgrades from the minor release before only, no downgrades).
pub const STEPWISE: [&str; 1] = ["longhorn"];

/// A step that is too large, or goes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Over one minor release or more.
    #[error(
        "{chart} goes from {from} to {to} in one step: it takes one minor release at a time. Lock {next}.x first, let the cluster \
             come up with it, and go on from there"
    )]
    Jump {
        /// The chart.
        chart: String,
        /// The release in the lock.
        from: String,
        /// The release in the cluster file.
        to: String,
        /// The minor release that comes next, `major.minor`.
        next: String,
    },
    /// To an older release.
    #[error(
        "{chart} goes back from {from} to {to}, which it never does: write `version: {from}` or a later one"
    )]
    Back {
        /// The chart.
        chart: String,
        /// The release in the lock.
        from: String,
        /// The release in the cluster file.
        to: String,
    },
}

/// Are the steps from the releases of a lock to those of a cluster file good ones?
pub fn steps(from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Result<(), Error> {
    for (chart, to) in to {
        let Some(from) = from.get(chart) else { continue };
        let (Some(old), Some(new)) = (release(from), release(to)) else { continue };
        let (chart, to, from) = (chart.clone(), to.clone(), from.clone());
        if new < old {
            return Err(Error::Back { chart, from, to });
        }
        if new.0 > old.0 + 1 || new.0 == old.0 && new.1 > old.1 + 1 || new.0 == old.0 + 1 && new.1 > 0 {
            let next =
                if new.0 == old.0 { format!("{}.{}", old.0, old.1 + 1) } else { format!("{}.0", old.0 + 1) };
            return Err(Error::Jump { chart, from, to, next });
        }
    }
    Ok(())
}

/// Major, minor and patch of `1.9.2` or `v1.9.2-rc1`.
fn release(text: &str) -> Option<(u32, u32, u32)> {
    let plain = text.trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::steps;
    use std::collections::BTreeMap;

    #[test]
    fn one_minor_release_at_a_time() {
        let map = |version: &str| BTreeMap::from([("longhorn".to_owned(), version.to_owned())]);
        let said = |from: &str, to: &str| steps(&map(from), &map(to)).map_err(|error| error.to_string());
        for (from, to) in
            [("1.8.1", "1.8.1"), ("1.8.1", "1.9.2"), ("v1.9.0-rc1", "1.9.2"), ("1.12.3", "2.0.0")]
        {
            assert_eq!(said(from, to), Ok(()), "{from} to {to}");
        }
        assert_eq!(steps(&BTreeMap::new(), &map("1.9.2")), Ok(()));
        assert_eq!(
            said("1.8.1", "1.10.0"),
            Err("longhorn goes from 1.8.1 to 1.10.0 in one step: it takes one minor release at a time. Lock 1.9.x first, let the \
                 cluster come up with it, and go on from there"
                .to_owned())
        );
        assert_eq!(
            said("1.9.2", "1.8.1"),
            Err("longhorn goes back from 1.9.2 to 1.8.1, which it never does: write `version: 1.9.2` or a later one"
                .to_owned())
        );
        assert!(said("1.12.0", "2.1.0").is_err() && said("1.12.0", "3.0.0").is_err());
    }
}
