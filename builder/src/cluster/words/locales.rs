//! Locales that trixie has.

use std::collections::BTreeSet;
use std::sync::LazyLock;

static ALL: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let lines = include_str!("locales.txt").lines().filter(|line| !line.starts_with('#'));
    lines.chain(super::BUILT_IN_LOCALES).collect()
});

/// Whether glibc finds `name`. The codeset may be named where a locale has it anyway: `hi_IN.UTF-8` is `hi_IN`.
pub(in crate::cluster) fn is_known(name: &str) -> bool {
    let without = || {
        let (language, codeset) = name.split_once('.')?;
        let (codeset, modifier) = codeset.split_once('@').map_or((codeset, None), |(a, b)| (a, Some(b)));
        let same = codeset == "UTF-8";
        same.then(|| {
            modifier.map_or_else(|| language.to_owned(), |modifier| format!("{language}@{modifier}"))
        })
    };
    // What has names in several codesets has them in the list.
    ALL.contains(name) || without().is_some_and(|name| ALL.contains(name.as_str()))
}

/// All names.
pub(in crate::cluster) fn all() -> impl Iterator<Item = &'static str> {
    ALL.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn what_trixie_has() {
        for name in
            ["C.UTF-8", "POSIX", "de_DE.UTF-8", "hi_IN", "hi_IN.UTF-8", "ca_ES@valencia", "sr_RS.UTF-8@latin"]
        {
            assert!(is_known(name), "{name}");
        }
        for name in ["de_DE", "de", "de_DE.utf8", "de_DE.ISO-8859-1", "en_US.UTF8", "", "C.UTF-9"] {
            assert!(!is_known(name), "{name}");
        }
    }
}
