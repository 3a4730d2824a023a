//! Names of network cards, held against what a node can have and against each other.

use crate::cluster::read::Text;
use crate::cluster::validate::Check;
use crate::diag::Fault;

/// Beginnings of names that programs give to interfaces of their own making, and what those are.
const MADE: [(&str, &str); 20] = [
    ("bond", "a bond"),
    ("br-", "a bridge"),
    ("br", "a bridge"),
    ("cali", "Calico's"),
    ("cilium", "Cilium's"),
    ("cni", "the pods'"),
    ("docker", "Docker's"),
    ("dummy", "no card"),
    ("flannel", "the pods'"),
    ("lxc", "the pods'"),
    ("macvlan", "no card"),
    ("podman", "Podman's"),
    ("tailscale", "Tailscale's"),
    ("tap", "a tunnel"),
    ("team", "a bond"),
    ("tun", "a tunnel"),
    ("veth", "one end of a pair"),
    ("virbr", "a bridge"),
    ("vlan", "a VLAN"),
    ("wg", "WireGuard's"),
];

/// What no card is called on a node, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCard {
    /// The kernel's own name, which udev replaces (systemd.net-naming-scheme(7), systemd 257).
    Kernel,
    /// A VLAN on this interface, with this number.
    Vlan,
    /// Something that a program makes.
    Made(&'static str),
}

/// Whether a card can have this name. `kernel`: names stay as the kernel gives them.
pub(super) fn card(name: &str, kernel: bool) -> Result<(), NoCard> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((_, number)) = name.rsplit_once('.')
        && digits(number)
    {
        return Err(NoCard::Vlan);
    }
    if name.strip_prefix("eth").is_some_and(digits) && !kernel {
        return Err(NoCard::Kernel);
    }
    let made = MADE.iter().find(|(begin, _)| {
        name.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || digits(rest) || begin.ends_with('-'))
    });
    made.map_or(Ok(()), |(_, what)| Err(NoCard::Made(what)))
}

/// Whether it is a name that the kernel gives, and udev replaces.
pub(in crate::cluster) fn is_kernels(name: &str) -> bool {
    card(name, false) == Err(NoCard::Kernel)
}

/// Whether a name fits a pattern of networkd's (fnmatch(3) without flags).
pub(in crate::cluster) fn fits(pattern: &str, name: &str) -> bool {
    fn at(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| at(rest, &name[skip..])),
            ([b'?', rest @ ..], [_, name @ ..]) => at(rest, name),
            ([b'[', rest @ ..], [first, name @ ..]) => {
                let Some(end) = rest.iter().skip(1).position(|byte| *byte == b']').map(|end| end + 1) else {
                    return false;
                };
                let (set, rest) = (&rest[..end], &rest[end + 1..]);
                let (negative, set) = match set {
                    [b'!' | b'^', set @ ..] => (true, set),
                    set => (false, set),
                };
                let mut within = set.contains(first);
                for range in set.windows(3).filter(|range| range[1] == b'-') {
                    within |= (range[0]..=range[2]).contains(first);
                }
                within != negative && at(rest, name)
            }
            ([one, rest @ ..], [other, name @ ..]) => one == other && at(rest, name),
            _ => false,
        }
    }
    // Names have 15 bytes at most, and so few stars cost little.
    at(pattern.as_bytes(), name.as_bytes())
}

impl Check<'_> {
    /// A name of a card that no card has.
    pub(super) fn card(&mut self, text: &Text) {
        let name = text.value.as_str();
        let Err(reason) = card(name, self.kernel_names) else { return };
        let (message, help) = match reason {
            NoCard::Kernel => (
                format!("no card is called `{name}` once udev has named it by its place"),
                "write `interface: \"en*\"` or the card's `mac`; `ip link` shows names such as `enp1s0`. Names as the kernel gives them \
                 are kept with `net.ifnames=0` in `base.kernel_arguments`"
                    .to_owned(),
            ),
            NoCard::Vlan => {
                let (link, id) = name.rsplit_once('.').unwrap_or_default();
                (
                    format!("`{name}` is the name of a VLAN, and nothing makes it"),
                    format!(
                        "write `interfaces: {{ lan: {{ interface: \"en*\" }}, {name}: {{ vlan: {{ link: lan, id: {id} }}, dhcp: true }} }}`, with \
                         the card that is `{link}` as `lan`"
                    ),
                )
            }
            NoCard::Made(what) => (
                format!("`{name}` is the name of {what} and not of a network card"),
                "name a card, such as `enp1s0`; what Kiln is to make is an interface of its own with `bond`, `vlan` or `bridge`".to_owned(),
            ),
        };
        self.faults.push(Fault::error("interface", &text.span, message).label("no card").help(help));
    }
}

#[cfg(test)]
mod tests {
    use super::{NoCard, card, fits};

    #[test]
    fn names_of_cards() {
        for good in [
            "enp1s0",
            "e*",
            "en*",
            "eno1",
            "wlp2s0",
            "wlan0",
            "lan",
            "ens1f0np0",
            "end0",
            "enx525400123456",
            "ib0",
            "bridge",
            "brown",
        ] {
            assert_eq!(card(good, false), Ok(()), "{good}");
        }
        assert_eq!(card("eth0", false), Err(NoCard::Kernel));
        assert_eq!(card("eth0", true), Ok(()));
        for made in ["bond0", "br0", "br-lan", "docker0", "wg0", "tailscale0", "cni0", "vlan10", "tun1"] {
            assert!(matches!(card(made, true), Err(NoCard::Made(_))), "{made}");
        }
        for vlan in ["eth0.10", "enp1s0.4094", "lan.5"] {
            assert_eq!(card(vlan, true), Err(NoCard::Vlan), "{vlan}");
        }
    }

    #[test]
    fn patterns() {
        let table = [
            ("e*", "enp1s0", true),
            ("en*", "eth0", false),
            ("enp?s0", "enp1s0", true),
            ("enp[0-4]s0", "enp5s0", false),
            ("enp[!0-4]s0", "enp5s0", true),
            ("enp[", "enp[", false),
            ("*s*0", "ens1f0", true),
            ("enp1s0", "enp1s0", true),
            ("enp1s0", "enp1s01", false),
        ];
        for (pattern, name, want) in table {
            assert_eq!(fits(pattern, name), want, "{pattern} {name}");
        }
    }
}
