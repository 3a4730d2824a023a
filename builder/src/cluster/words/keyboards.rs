//! Keyboards that trixie has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// What xkb-data has.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Keyboards {
    /// Models, such as `pc105`.
    pub(in crate::cluster) models: BTreeSet<&'static str>,
    /// Layouts, and the variants of each.
    pub(in crate::cluster) layouts: BTreeMap<&'static str, Vec<&'static str>>,
    /// Options, such as `ctrl:nocaps`.
    pub(in crate::cluster) options: BTreeSet<&'static str>,
}

static ALL: LazyLock<Keyboards> = LazyLock::new(|| {
    let mut all = Keyboards::default();
    for line in include_str!("keyboards.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("model"), Some(name)) => drop(all.models.insert(name)),
            (Some("layout"), Some(name)) => drop(all.layouts.insert(name, words.collect())),
            (Some("option"), Some(name)) => drop(all.options.insert(name)),
            _ => {}
        }
    }
    all
});

/// All of them.
pub(in crate::cluster) fn all() -> &'static Keyboards {
    &ALL
}

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn what_trixie_has() {
        assert!(all().models.contains("pc105"));
        assert!(all().layouts["de"].contains(&"nodeadkeys"));
        assert!(all().options.contains("ctrl:nocaps"));
        assert!(all().layouts.len() > 90 && !all().layouts.contains_key("custom"));
    }
}
