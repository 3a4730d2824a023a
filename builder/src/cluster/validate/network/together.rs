//! `network.interfaces`: what interfaces are to each other.

use super::cards::fits;
use crate::cluster::file::InterfaceSection;
use crate::cluster::ip;
use crate::cluster::model::{Interface, Link, LinkKind};
use crate::cluster::read::Text;
use crate::cluster::validate::Check;
use crate::diag::{Fault, Span, nearest};
use std::collections::BTreeMap;

/// All interfaces as they are written.
type All = BTreeMap<String, (Span, InterfaceSection)>;

impl Check<'_> {
    /// `links` are what could be read of `all`.
    pub(super) fn together(&mut self, all: &All, links: &[Link]) {
        let mut member_of: BTreeMap<&str, (&str, &Span)> = BTreeMap::new();
        for (name, (place, section)) in all {
            let bond = section.bond.as_ref().and_then(|bond| bond.interfaces.as_ref());
            let bridge = section.bridge.as_ref().and_then(|bridge| bridge.interfaces.as_ref());
            if let Some(members) = bond.or(bridge) {
                if members.value.is_empty() && bond.is_some() {
                    let fault =
                        Fault::error("bond", &members.span, format!("the bond `{name}` has no interfaces"));
                    self.faults.push(fault.label("none").help("name the network cards that it uses"));
                }
                for member in &members.value {
                    let Some(section) = self.other(all, (name, member)) else { continue };
                    if let Some((first, span)) = member_of.get(member.value.as_str()) {
                        let message = format!("`{}` is in `{first}` already", member.value);
                        let fault = Fault::error("interface", &member.span, message).label("again here");
                        self.faults.push(
                            fault.also(span, "first here").help("an interface is part of one other at most"),
                        );
                    }
                    member_of.insert(&member.value, (name, &member.span));
                    self.member((name, bond.is_some()), member, section);
                }
            }
            let link = section.vlan.as_ref().and_then(|vlan| vlan.link.as_ref());
            if let Some(below) = link.and_then(|link| self.other(all, (name, link)).zip(Some(link))) {
                let (section, link) = below;
                if section.vlan.is_some() || section.wifi.is_some() {
                    let message = format!("the VLAN `{name}` can't be on `{}`", link.value);
                    let fault = Fault::error("vlan", &link.span, message).label("here");
                    self.faults.push(fault.help("a VLAN is on a network card, a bond or a bridge"));
                }
            }
            self.twice(all, (name, place));
        }
        for (member, (owner, _)) in &member_of {
            let Some((place, section)) = all.get(*member) else { continue };
            let own = section.dhcp.as_ref().is_some_and(|dhcp| dhcp.value)
                || section.addresses.as_ref().is_some_and(|list| !list.is_empty())
                || section.gateway.is_some()
                || section.routes.is_some();
            if own {
                let message = format!("`{member}` is part of `{owner}`, and so has no address of its own");
                let fault = Fault::error("interface", place, message).label("this interface");
                self.faults.push(fault.help(format!("write addresses, routes and `dhcp` below `{owner}`")));
            }
        }
        self.default_routes(all, links);
        self.patterns(all, links);
        let own = |link: &Link| link.dhcp || link.router_advertisements == Some(true);
        if links.len() == all.len()
            && !links.iter().any(own)
            && links.iter().any(|link| !link.addresses.is_empty())
            && links.iter().flat_map(|link| &link.addresses).all(|address| ip::is_link_local(address.addr()))
        {
            let found = all.values().flat_map(|(_, section)| section.addresses.iter().flatten()).next();
            let place = found.map_or(0..0, |text| text.span.clone());
            let fault = Fault::error(
                "address",
                &place,
                "the node has addresses of its links alone: no other network reaches it",
            );
            self.faults
                .push(fault.label("link-local").help("add an address of your network, or `dhcp: true`"));
        }
        if links.len() == all.len() && links.iter().all(|link| !own(link) && link.addresses.is_empty()) {
            let place = all.values().next().map_or(0..0, |(place, _)| place.clone());
            let fault =
                Fault::error("network", &place, "no interface has an address").label("the first of them");
            self.faults.push(fault.help("give one of them `addresses: [192.168.1.10/24]`, or `dhcp: true`"));
        }
    }

    /// The interface that `text` names, as `name`'s.
    fn other<'b>(&mut self, all: &'b All, (name, text): (&str, &Text)) -> Option<&'b InterfaceSection> {
        if text.value == name {
            let fault = Fault::error("interface", &text.span, format!("`{name}` can't be part of itself"));
            self.faults.push(fault.label("here").help("name another interface"));
            return None;
        }
        let found = all.get(&text.value);
        if found.is_none() {
            let names = all.keys().map(String::as_str).filter(|other| *other != name);
            let help = nearest(&text.value, names).map_or_else(
                || format!("add `{}:` to `interfaces`, or name one that is there", text.value),
                |near| format!("did you mean `{near}`?"),
            );
            let message = format!("there is no interface `{}`", text.value);
            self.faults.push(Fault::error("interface", &text.span, message).label("unknown").help(help));
        }
        found.map(|(_, section)| section)
    }

    fn member(&mut self, (owner, bond): (&str, bool), member: &Text, section: &InterfaceSection) {
        let (fits, help) = match bond {
            true => (
                section.bond.is_none()
                    && section.vlan.is_none()
                    && section.bridge.is_none()
                    && section.wifi.is_none(),
                "a bond is made of network cards",
            ),
            false => (
                section.bridge.is_none() && section.wifi.is_none(),
                "a bridge is made of network cards, bonds and VLANs",
            ),
        };
        if !fits {
            let message = format!("`{}` can't be part of `{owner}`", member.value);
            self.faults.push(Fault::error("interface", &member.span, message).label("here").help(help));
        }
    }

    /// Two interfaces that are one card, and VLANs of one number.
    fn twice(&mut self, all: &All, (name, place): (&str, &Span)) {
        let card = |(name, (_, section)): (&String, &(Span, InterfaceSection))| {
            let made = section.bond.is_some() || section.vlan.is_some() || section.bridge.is_some();
            let named = section.interface.as_ref().map_or_else(|| name.clone(), |text| text.value.clone());
            (made || section.mac.is_none()).then_some(named)
        };
        let vlan = |section: &InterfaceSection| {
            let vlan = section.vlan.as_ref()?;
            Some((vlan.link.as_ref()?.value.clone(), vlan.id.as_ref()?.value))
        };
        let Some(own) = all.get_key_value(name) else { return };
        let earlier = all.iter().take_while(|(other, _)| *other != name);
        for (other, section) in earlier {
            let same_card = card(own).is_some() && card((other, section)) == card(own);
            let same_vlan = vlan(&own.1.1).is_some() && vlan(&section.1) == vlan(&own.1.1);
            if same_card || same_vlan {
                let what = if same_card { "network card" } else { "VLAN" };
                let message = format!("`{name}` and `{other}` are the same {what}");
                let fault = Fault::error("interface", place, message).label("this one");
                self.faults.push(fault.also(&section.0, "and this one").help("keep one of the two"));
            }
        }
    }

    /// Patterns that take another interface's card, too: which of the two files of networkd counts is then a matter of their
    /// names.
    fn patterns(&mut self, all: &All, links: &[Link]) {
        let name = |link: &Link| match &link.kind {
            LinkKind::Ethernet(Interface::Name(name)) => Some(name.clone()),
            LinkKind::Wifi(wifi) => Some(wifi.interface.clone()),
            _ => None,
        };
        let named: Vec<(&Link, String)> = links.iter().filter_map(|link| Some((link, name(link)?))).collect();
        for (at, (one, pattern)) in named.iter().enumerate() {
            for (number, (other, name)) in named.iter().enumerate() {
                let wide = pattern.contains(['*', '?', '[']);
                let taken = fits(pattern, name) || fits(pattern, &name.replace('*', "1"));
                // One text is told as one card; of two patterns that take each other the first is told.
                if at == number || !wide || !taken || pattern == name || number < at && fits(name, pattern) {
                    continue;
                }
                let (Some((place, _)), Some((second, _))) = (all.get(&one.name), all.get(&other.name)) else {
                    continue;
                };
                let message = format!("`{pattern}` of `{}` fits the card of `{}`, too", one.name, other.name);
                let fault = Fault::error("interface", place, message)
                    .label("this pattern")
                    .also(second, "and this card");
                self.faults
                    .push(fault.help("write a pattern that leaves the other's out, or tell both by `mac`"));
            }
        }
    }

    /// Of each kind of address one default route, unless metrics tell them apart.
    fn default_routes(&mut self, all: &All, links: &[Link]) {
        let mut seen: BTreeMap<(bool, Option<u32>), &str> = BTreeMap::new();
        for link in links {
            for route in link.routes.iter().filter(|route| route.is_default()) {
                let kind = (route.via.is_ipv4(), route.metric);
                let Some(first) = seen.insert(kind, &link.name) else { continue };
                let (Some((place, _)), Some((other, _))) = (all.get(&link.name), all.get(first)) else {
                    continue;
                };
                let version = if kind.0 { 4 } else { 6 };
                let message = format!("there are two default routes for IPv{version}");
                let fault =
                    Fault::error("gateway", place, message).label("one is here").also(other, "one is here");
                self.faults.push(fault.help(
                    "keep one `gateway`; others are `routes: [{to: default, via: ..., metric: 200}]` with a metric of their own",
                ));
            }
        }
    }
}
