//! Time zones that trixie has.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What there is of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Zone {
    /// The package tzdata, which every image has.
    Known,
    /// The package tzdata-legacy alone; tzdata has it under this name.
    Legacy(&'static str),
}

static ALL: LazyLock<BTreeMap<&str, Zone>> = LazyLock::new(|| {
    let lines = include_str!("zones.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| match line.split_once('\t') {
            Some((name, now)) => (name, Zone::Legacy(now)),
            None => (line, Zone::Known),
        })
        .collect()
});

/// The zone of that name.
pub(in crate::cluster) fn zone(name: &str) -> Option<Zone> {
    ALL.get(name).copied()
}

/// All names.
pub(in crate::cluster) fn all() -> impl Iterator<Item = &'static str> {
    ALL.keys().copied()
}

#[cfg(test)]
mod tests {
    use super::{Zone, all, zone};

    #[test]
    fn what_trixie_has() {
        assert_eq!(zone("Europe/Berlin"), Some(Zone::Known));
        assert_eq!(zone("UTC"), Some(Zone::Known));
        assert_eq!(zone("US/Eastern"), Some(Zone::Legacy("America/New_York")));
        assert_eq!(zone("Europe/Berln"), None);
        assert!(all().count() > 550);
        // What is advised is there.
        for name in all() {
            if let Some(Zone::Legacy(now)) = zone(name) {
                assert_eq!(zone(now), Some(Zone::Known), "{name}");
            }
        }
    }
}
