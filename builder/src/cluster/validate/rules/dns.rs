//! `external-services.dns`: what leaves a zone unloaded, tried against named-checkconf(8) of BIND 9.18 and 9.20 in
//! `tests/overlays`. Its `check-names` is at its default: addresses and mail belong to host names, and so do the names that
//! NS, MX and SRV records lead to.

use super::{Told, field};
use crate::cluster::settings::Setting;
use crate::diag::{Fault, Span};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest name, with dots between its labels (RFC 1035 §2.3.4: 255 bytes with the lengths of the labels).
const LONGEST: usize = 253;
/// Below these, PTR records lead to host names.
const REVERSE: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];

/// More records of one type than these a name can't have (`max-records-per-type` of BIND 9.20).
const MOST: usize = 100;

/// What there is of one name.
#[derive(Default)]
struct Owner<'a> {
    /// It has an address.
    address: bool,
    /// Records other than CNAME, with a place where one is written.
    other: Option<&'a Span>,
    /// Where its CNAME leads to.
    alias: Option<(String, &'a Span)>,
    /// How many records of each type.
    counts: BTreeMap<&'a str, usize>,
}

/// A zone while it is read.
struct Zone<'a> {
    origin: &'a str,
    owners: BTreeMap<String, Owner<'a>>,
    /// Where the zone is named: its nodes have no other place.
    place: &'a Span,
    /// The name server's own name, which has an address in every zone, and those of other nodes that have.
    own: &'a str,
    nodes: Option<&'a BTreeSet<&'a str>>,
    /// Name servers of the zone itself.
    servers: Vec<(String, &'a Span)>,
    faults: &'a mut Vec<Fault>,
}

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let Some(dns) = told.given("dns") else { return };
    for zone in field(dns, "zones").map(Setting::list).unwrap_or_default() {
        let Some(name) = zone.get("name") else { continue };
        let with_nodes = zone.get("nodes").is_some_and(Setting::is_true);
        let mut reading = Zone {
            origin: name.text().unwrap_or_default(),
            owners: BTreeMap::new(),
            place: &name.span,
            own: &told.node.name,
            nodes: with_nodes.then_some(told.addressed),
            servers: Vec::new(),
            faults,
        };
        reading.owners.entry(reading.origin.to_owned()).or_default().other = Some(&name.span);
        let longest = reading.nodes.into_iter().flatten().max_by_key(|node| node.len());
        let longest = longest
            .map_or(reading.own, |node| if node.len() > reading.own.len() { node } else { reading.own });
        if longest.len() + 1 + reading.origin.len() > LONGEST {
            let message =
                format!("`{longest}` in the zone `{}` has more than {LONGEST} characters", reading.origin);
            reading
                .faults
                .push(refused(&name.span, message).help("give the zone, or the node, a shorter name"));
        }
        for record in field(zone, "records").map(Setting::list).unwrap_or_default() {
            reading.record(record);
        }
        reading.together();
    }
}

fn refused(span: &Span, message: String) -> Fault {
    Fault::error("dns", span, message).label("the zone would not be loaded")
}

impl<'a> Zone<'a> {
    fn record(&mut self, record: &'a Setting) {
        let text = |name: &str| record.get(name).and_then(Setting::text).unwrap_or_default();
        let (Some(name), Some(value)) = (record.get("name"), record.get("value")) else { return };
        let kind = record.get("type").and_then(Setting::text).unwrap_or_default();
        let owner = match self.owner(text("name"), kind) {
            Ok(owner) => owner,
            Err(reason) => {
                let message = format!("{:?} is no name for a record of type {kind}: {reason}", text("name"));
                self.faults.push(refused(&name.span, message).help(
                    "write it as it stands ahead of the zone, such as `www`; `@` is the zone itself, and `*.apps` whatever is \
                     below `apps`",
                ));
                return;
            }
        };
        let target = match self.value(kind, text("value")) {
            Ok(target) => target,
            Err((reason, help)) => {
                let message = format!("{:?} is no value of a record of type {kind}: {reason}", text("value"));
                self.faults.push(refused(&value.span, message).help(help));
                return;
            }
        };
        let known = self.owners.entry(owner.clone()).or_default();
        let count = known.counts.entry(kind).or_default();
        *count += 1;
        if *count == MOST + 1 {
            let message = format!("{owner} has more than {MOST} records of type {kind}");
            self.faults.push(refused(&name.span, message).help("spread them over several names"));
        }
        match (kind, target) {
            ("CNAME", Some(target)) => match &known.alias {
                Some((other, place)) if *other != target => {
                    let message = format!("`{}` is an alias of two names", text("name"));
                    let fault = refused(&value.span, message).also(place, "and here");
                    self.faults.push(fault.help("keep one of the two: a name has one CNAME"));
                }
                _ => known.alias = Some((target, &name.span)),
            },
            (kind, target) => {
                known.address |= matches!(kind, "A" | "AAAA");
                known.other.get_or_insert(&name.span);
                if let ("NS", Some(target)) = (kind, target)
                    && owner == self.origin
                {
                    self.servers.push((target, &value.span));
                }
            }
        }
    }

    /// Faults that only the whole zone has.
    fn together(&mut self) {
        for (name, owner) in &self.owners {
            let other = owner.other.or_else(|| self.is_node(name).then_some(self.place));
            if let (Some((_, place)), Some(other)) = (&owner.alias, other) {
                let message = format!("`{name}` is an alias, and there are other records of it");
                let fault = refused(place, message).also(other, "here");
                self.faults.push(fault.help(
                    "a name with a CNAME has nothing else (RFC 1034 §3.6.2), and nodes have addresses: take another name",
                ));
            }
        }
        for (target, place) in &self.servers {
            let inside = target == self.origin || target.ends_with(&format!(".{}", self.origin));
            if inside && !self.addressed(target) {
                let message = format!("the name server `{target}` has no address in the zone");
                self.faults.push(refused(place, message).help(
                    "add its A or AAAA record, or write the name of a server elsewhere whole, with a dot at its end",
                ));
            }
        }
    }

    /// The overlay writes an address of it: that of a node.
    fn is_node(&self, name: &str) -> bool {
        let label = name.strip_suffix(self.origin).and_then(|inner| inner.strip_suffix('.'));
        label.is_some_and(|label| label == self.own || self.nodes.is_some_and(|nodes| nodes.contains(label)))
    }

    /// The name has an address of its own, or by a wildcard.
    fn addressed(&self, name: &str) -> bool {
        if self.is_node(name) {
            return true;
        }
        if let Some(owner) = self.owners.get(name) {
            return owner.address;
        }
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(owner) = self.owners.get(&format!("*.{above}")) {
                return owner.address;
            }
            if self.owners.contains_key(above) || above == self.origin {
                return false;
            }
            rest = above;
        }
        false
    }

    /// The whole name of a record.
    fn owner(&self, text: &str, kind: &str) -> Result<String, &'static str> {
        let whole = self.absolute(text)?;
        let Some(inner) = whole.strip_suffix(self.origin) else { return Err("it is not in the zone") };
        if !(inner.is_empty() || inner.ends_with('.')) {
            return Err("it is not in the zone");
        }
        let wildcard = inner.starts_with("*.");
        let labels = whole.strip_prefix("*.").unwrap_or(&whole);
        if labels.contains('*') {
            return Err("`*` stands for whole labels, and only in the first place");
        }
        if wildcard && kind == "NS" {
            return Err("no zone begins below `*`");
        }
        if matches!(kind, "A" | "AAAA" | "MX") {
            host(labels)?;
        }
        Ok(whole)
    }

    /// The whole name that `text` is in this zone, without the dot at its end, in lower case.
    fn absolute(&self, text: &str) -> Result<String, &'static str> {
        let text = text.to_ascii_lowercase();
        let whole = match text.strip_suffix('.') {
            _ if text == "@" => return Ok(self.origin.to_owned()),
            Some(whole) => whole.to_owned(),
            None => format!("{text}.{}", self.origin),
        };
        if whole.len() > LONGEST {
            return Err("it has more than 253 characters");
        }
        for label in whole.split('.') {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '/');
            match label {
                "" => return Err("it has an empty label: a dot too many"),
                _ if label.len() > 63 => return Err("a label of it has more than 63 characters"),
                _ if !label.chars().all(fits) => {
                    return Err("it has a character other than letters, digits, `-` and `_`");
                }
                _ => {}
            }
        }
        Ok(whole)
    }

    /// A name that a record leads to, which must be that of a host where `hosts`.
    fn target(&self, text: &str, hosts: bool) -> Result<Option<String>, (&'static str, &'static str)> {
        const HELP: &str = "write a name of the zone, such as `mail`, or a whole one with a dot at its end, such as `mail.example.com.`";
        let whole = self.absolute(text).map_err(|reason| (reason, HELP))?;
        if hosts {
            host(&whole).map_err(|reason| (reason, HELP))?;
        }
        Ok(Some(whole))
    }

    /// The name that the value leads to, when it leads to one.
    fn value(&self, kind: &str, text: &str) -> Result<Option<String>, (&'static str, &'static str)> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let number =
            |word: &str| word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok();
        match (kind, words.as_slice()) {
            ("TXT", _) => Ok(None),
            ("A", _) if text.parse::<Ipv4Addr>().is_ok() => Ok(None),
            ("A", _) => Err(("it is no IPv4 address", "write it such as `10.0.0.9`")),
            ("AAAA", _) if text.parse::<Ipv6Addr>().is_ok() => Ok(None),
            ("AAAA", _) => Err(("it is no IPv6 address", "write it such as `2001:db8::9`")),
            ("CNAME", [name]) => self.target(name, false),
            ("NS", [name]) => self.target(name, true),
            ("PTR", [name]) => {
                let reverse = REVERSE.iter().any(|zone| self.origin.ends_with(zone));
                self.target(name, reverse)
            }
            ("CNAME" | "NS" | "PTR", _) => Err(("it is not one name", "write one name")),
            // `.` is nobody.
            ("MX", [preference, "."]) if number(preference) => Ok(None),
            ("MX", [preference, name]) if number(preference) => self.target(name, true),
            ("MX", _) => Err(("it is not a number up to 65535 and a name", "write it such as `10 mail`")),
            ("SRV", [one, two, three, "."]) if [one, two, three].iter().all(|word| number(word)) => Ok(None),
            ("SRV", [one, two, three, name]) if [one, two, three].iter().all(|word| number(word)) => {
                self.target(name, true)
            }
            ("SRV", _) => Err((
                "it is not three numbers up to 65535 and a name",
                "write priority, weight, port and name, such as `0 1 993 mail`",
            )),
            ("CAA", [flags, tag, ..]) => {
                let known = flags.parse::<u8>().is_ok() && flags.bytes().all(|byte| byte.is_ascii_digit());
                let word =
                    !tag.is_empty() && tag.len() < 16 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
                if known && word && caa(text) {
                    return Ok(None);
                }
                Err(CAA)
            }
            _ => Err(CAA),
        }
    }
}

const CAA: (&str, &str) =
    ("it is not a number up to 255, a word and a value", "write it such as `0 issue \"letsencrypt.org\"`");

/// The value of a CAA record: one word, or one text between quotes.
fn caa(text: &str) -> bool {
    let value = text.trim().splitn(3, char::is_whitespace).nth(2).unwrap_or_default().trim();
    let plain =
        |text: &str| text.chars().all(|c| c.is_ascii_graphic() || c == ' ') && !text.contains(['"', '\\']);
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.len() < 256 && plain(inner),
        None => {
            !value.is_empty() && value.len() < 256 && plain(value) && !value.contains([' ', ';', '(', ')'])
        }
    }
}

/// "bad owner name (check-names)", "bad name (check-names)".
fn host(name: &str) -> Result<(), &'static str> {
    let label = |label: &str| {
        !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.split('.').all(label) {
        Ok(())
    } else {
        Err("it is not that of a host: letters, digits and inner hyphens, and no `_`")
    }
}
