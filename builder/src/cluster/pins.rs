//! What Kiln's own overlays bring from elsewhere: the release that each takes when nothing is said, when that was looked at
//! last and where, and what is known against releases. `docs/pins.md` is [`page`].

use std::cmp::Ordering;

/// Something from elsewhere.
#[derive(Debug)]
pub struct Pin {
    /// Kiln's overlay.
    pub overlay: &'static str,
    /// Its setting: the names from the outside in.
    pub setting: &'static [&'static str],
    /// What people call it.
    pub name: &'static str,
    /// What is taken when nothing is said; of k3s, what `kiln init` and the README name.
    pub release: &'static str,
    /// The day on which it was looked at last, `YYYY-MM-DD`.
    pub looked_at: &'static str,
    /// Where.
    pub source: &'static str,
    /// What is known against releases.
    pub known: &'static [Known],
}

/// What is known against some releases.
#[derive(Debug)]
pub struct Known {
    /// The first of them; all from the beginning on when it is none.
    pub from: Option<&'static str>,
    /// The first that is none of them any more; none when it is all to come.
    pub below: Option<&'static str>,
    /// The kind of it, as faults have codes.
    pub code: &'static str,
    /// A sentence's end: what they are or do.
    pub says: &'static str,
    /// The way out.
    pub help: &'static str,
}

const RETIRED: &str = "retired";
const HOLE: &str = "known-hole";
const ENDED: &str = "end-of-life";
const LOOKED_AT: &str = "2026-11-28";

/// All of them.
pub const PINS: [Pin; 10] = [
    Pin {
        overlay: "k3s",
        setting: &["version"],
        name: "k3s",
        release: "v1.36.2+k3s1",
        looked_at: LOOKED_AT,
        source: "the project's releases; ends of life as kubernetes.io/releases/patch-releases has them",
        known: &[
            Known {
                from: None,
                below: Some("1.34"),
                code: ENDED,
                says: "is of a minor that Kubernetes ended on 2026-06-28 or earlier: its holes are not mended any more",
                help: "take the newest patch of a kept minor, such as v1.36.2+k3s1; a running cluster goes up one minor at a time",
            },
            Known {
                from: Some("1.34"),
                below: Some("1.35"),
                code: ENDED,
                says: "is of a minor that Kubernetes ended on 2026-10-27: its holes are not mended any more",
                help: "take the newest patch of a kept minor, such as v1.36.2+k3s1; a running cluster goes up one minor at a time",
            },
        ],
    },
    Pin {
        overlay: "tailscale",
        setting: &["version"],
        name: "Tailscale",
        release: "1.102.3",
        looked_at: LOOKED_AT,
        source: "tags of the Go module tailscale.com; github.com/tailscale/tailscale/issues/18005",
        known: &[Known {
            from: Some("1.90.0"),
            below: Some("1.92.5"),
            code: HOLE,
            says: "seals its state with the TPM without being asked, and locks nodes out when the TPM does not answer as before (tailscale#18005, seen on Debian 13)",
            help: "take 1.92.5 or later",
        }],
    },
    Pin {
        overlay: "cilium",
        setting: &["version"],
        name: "Cilium's chart",
        release: "1.20.2",
        looked_at: LOOKED_AT,
        source: "tags and values.yaml of the Go module github.com/cilium/cilium",
        known: &[],
    },
    Pin {
        overlay: "flux",
        setting: &["operator_version"],
        name: "Flux' operator",
        release: "0.58.1",
        looked_at: LOOKED_AT,
        source: "config/data/flux of the Go module github.com/controlplaneio-fluxcd/flux-operator v0.58.1",
        known: &[],
    },
    Pin {
        overlay: "flux",
        setting: &["version"],
        name: "Flux",
        release: "2.9.x",
        looked_at: LOOKED_AT,
        source: "the same: 2.2.3 to 2.9.4",
        known: &[],
    },
    Pin {
        overlay: "metallb",
        setting: &["version"],
        name: "MetalLB's chart",
        release: "0.16.2",
        looked_at: LOOKED_AT,
        source: "tags, charts/metallb and config/crd of the Go module go.universe.tf/metallb",
        known: &[],
    },
    Pin {
        overlay: "ingress-nginx",
        setting: &["version"],
        name: "ingress-nginx' chart",
        release: "4.15.1",
        looked_at: LOOKED_AT,
        source: "the project's releases; its retirement as kubernetes.io/blog announced it",
        known: &[Known {
            from: None,
            below: None,
            code: RETIRED,
            says: "is the work of a project that was retired in March 2026: its holes are not mended any more",
            help: "the overlay `traefik` gives the controller that k3s brings the same two ports; with `cilium`, Gateway API by its `values` is another way",
        }],
    },
    Pin {
        overlay: "external-services",
        setting: &["minio", "version"],
        name: "MinIO",
        release: "RELEASE.2025-04-22T22-12-26Z",
        looked_at: LOOKED_AT,
        source: "the project's releases: the last binary of the community edition is from 2025",
        known: &[Known {
            from: None,
            below: None,
            code: HOLE,
            says: "is of an edition that is not maintained any more: its last binaries let a user of few rights take more of them, and no binary mends that",
            help: "keep it where nobody reaches it who may not read all of it",
        }],
    },
    Pin {
        overlay: "external-services",
        setting: &["vault", "version"],
        name: "OpenBao",
        release: "2.6.2",
        looked_at: LOOKED_AT,
        source: "the project's releases and advisories",
        known: &[Known {
            from: None,
            below: Some("2.6.2"),
            code: HOLE,
            says: "has holes that two advisories tell of",
            help: "take 2.6.2 or later",
        }],
    },
    Pin {
        overlay: "kube-vip",
        setting: &["version"],
        name: "kube-vip",
        release: "v1.0.3",
        looked_at: "2026-11-21",
        source: "the project's releases",
        known: &[],
    },
];

/// Releases of Flux that an operator of `0.58.1` has in its image, the first and the last: the folders of
/// `config/data/flux` in its source. An older operator has fewer, and no newer ones.
const FLUX: ([u64; 2], [u64; 3]) = ([2, 2], [2, 9, 4]);

impl Known {
    /// True when `release` is one of those that it is known of.
    pub fn is_of(&self, release: &str) -> bool {
        let not_below = |first: &str| numbers(release).cmp(&numbers(first)) != Ordering::Less;
        self.from.is_none_or(not_below) && !self.below.is_some_and(not_below)
    }
}

/// Why an operator of the release `operator` can't install Flux of `wanted` (`2.9.4`, `2.9.x`, `2.x`); none when it can, or when
/// nothing is known of that operator.
pub fn flux_is_not_shipped(operator: &str, wanted: &str) -> Option<String> {
    // A range (Masterminds/semver, which the operator reads it with) may be right or not: the operator chooses.
    let range = |c: char| "<>=^~*|, ".contains(c);
    if wanted.contains(range)
        && wanted.chars().all(|c| range(c) || c.is_ascii_alphanumeric() || "-.+".contains(c))
    {
        return None;
    }
    let parts: Vec<&str> = wanted.strip_prefix('v').unwrap_or(wanted).split('.').collect();
    let number = |part: &&&str| part.parse::<u64>().is_ok();
    let numbered = parts.iter().take_while(number).count();
    let open = parts[numbered..].iter().all(|part| matches!(*part, "x" | "X" | "*"));
    if parts.len() > 3 || !open || numbered == 0 {
        return Some(format!("{wanted:?} is no release of Flux"));
    }
    if numbers(operator).cmp(&numbers("0.58.1")) == Ordering::Greater {
        return None;
    }
    let named: Vec<u64> = parts[..numbered].iter().filter_map(|part| part.parse().ok()).collect();
    let ([major, minor], last) = FLUX;
    let newer = named.iter().zip(&last).map(|(is, last)| is.cmp(last)).find(|order| order.is_ne());
    let older =
        named.iter().zip(&[major, minor]).map(|(is, first)| is.cmp(first)).find(|order| order.is_ne());
    if newer == Some(Ordering::Greater) || older == Some(Ordering::Less) {
        return Some(format!(
            "the operator {operator} has no Flux {wanted} in its image: 2.2 to 2.9.4 is what 0.58.1 has"
        ));
    }
    None
}

/// The numbers that a release begins with: of `v1.36.2+k3s1` 1, 36 and 2.
fn numbers(release: &str) -> Vec<u64> {
    let release = release.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = release.find(|letter: char| letter != '.' && !letter.is_ascii_digit()).unwrap_or(release.len());
    release[..end].split('.').map_while(|part| part.parse().ok()).collect()
}

/// `docs/pins.md`, without its introduction.
pub fn page() -> String {
    let mut page = "| what | overlay, setting | release | looked at | source | known against |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for pin in &PINS {
        let known = pin.known.iter().map(|known| {
            let which = match (known.from, known.below) {
                (None, None) => "every release".to_owned(),
                (None, Some(below)) => format!("below {below}"),
                (Some(from), None) => format!("{from} and later"),
                (Some(from), Some(below)) => format!("{from} up to, but without, {below}"),
            };
            format!("{which} {} ({})", known.says, known.code)
        });
        page += &format!(
            "| {} | `{}`, `{}` | {} | {} | {} | {} |\n",
            pin.name,
            pin.overlay,
            pin.setting.join("."),
            pin.release,
            pin.looked_at,
            pin.source,
            known.collect::<Vec<_>>().join("; ")
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::{ENDED, HOLE, PINS, RETIRED, flux_is_not_shipped};

    fn against(overlay: &str, release: &str) -> Vec<&'static str> {
        let pins = PINS.iter().filter(|pin| pin.overlay == overlay);
        pins.flat_map(|pin| pin.known).filter(|known| known.is_of(release)).map(|known| known.code).collect()
    }

    #[test]
    fn what_is_known_against_a_release() {
        for (overlay, release, codes) in [
            ("k3s", "v1.33.5+k3s1", &[ENDED][..]),
            ("k3s", "v1.34.3+k3s1", &[ENDED]),
            ("k3s", "v1.35.0+k3s1", &[]),
            ("k3s", "v1.36.2+k3s1", &[]),
            ("k3s", "v1.100.0+k3s1", &[]),
            ("tailscale", "1.88.4", &[]),
            ("tailscale", "1.90.8", &[HOLE]),
            ("tailscale", "1.92.4", &[HOLE]),
            ("tailscale", "1.92.5", &[]),
            ("tailscale", "1.102.3", &[]),
            ("ingress-nginx", "4.15.1", &[RETIRED]),
        ] {
            assert_eq!(against(overlay, release), codes, "{overlay} {release}");
        }
    }

    #[test]
    fn flux_of_an_operator() {
        for (operator, wanted, taken) in [
            ("0.58.1", "2.9.x", true),
            ("0.58.1", "2.9.4", true),
            ("0.58.1", "2.x", true),
            ("0.58.1", "v2.2.3", true),
            ("0.58.1", "2.9.5", false),
            ("0.58.1", "2.10.x", false),
            ("0.58.1", "3.x", false),
            ("0.58.1", "2.1.0", false),
            ("0.34.0", "2.9.9", false),
            ("0.60.0", "2.12.0", true),
            ("0.60.0", "newest", false),
            ("0.58.1", "2.9.4-rc.1", false),
            ("0.58.1", "2.9.4.1", false),
            ("0.58.1", "", false),
        ] {
            let why = flux_is_not_shipped(operator, wanted);
            assert_eq!(why.is_none(), taken, "{operator} {wanted}: {why:?}");
        }
    }
}
