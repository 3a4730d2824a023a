//! What a text may be, by its type: the pattern, or the words, of the programs that read it.

use super::{calendar, pem};
use crate::cluster::k3s::is_duration;
use crate::cluster::{ip, words};

/// Texts whose form others have laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A span of time as Go writes it and Flux takes it.
    Duration,
    /// A span of time as systemd takes it.
    Timespan,
    /// Times, as systemd's `OnCalendar=` takes them.
    Schedule,
    /// An amount of a resource, as Kubernetes writes it.
    Quantity,
    /// The key of a label.
    Label,
    /// The value of a label.
    LabelValue,
    /// The name of a thing in Kubernetes.
    Name,
    /// The name of a namespace.
    Namespace,
    /// A network, without an address in it.
    Cidr,
    /// A regular expression as Go takes it.
    Regex,
    /// The name of a variable.
    Variable,
    /// Certificates in PEM.
    Certificates,
}

impl Form {
    /// What it is, for messages, and how to write it.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Duration => (
                "a duration",
                "write numbers with `ms`, `s`, `m` or `h` behind each, such as `10m` or `1h30m`",
            ),
            Self::Timespan => {
                ("a span of time", "write it as systemd does (systemd.time(7)), such as `30min` or `1h 15s`")
            }
            Self::Schedule => (
                "a schedule",
                "write it as systemd's `OnCalendar=` (systemd.time(7)), such as `daily`, `Mon..Fri 03:00` or \
                 `*-*-* 00/6:30:00 UTC`; `systemd-analyze calendar` explains one",
            ),
            Self::Quantity => (
                "a quantity",
                "write a number, with a unit where there is one, such as `500Mi`, `2Gi` or `250m`",
            ),
            Self::Label => (
                "a qualified name",
                "write such as `storage` or `example.com/tier`: letters and digits, inside also `-`, `_` and `.`",
            ),
            Self::LabelValue => (
                "the value of a label",
                "write letters and digits, inside also `-`, `_` and `.`, at most 63 of them",
            ),
            Self::Name => ("a name", "use a-z, 0-9, inner hyphens and dots, such as `apps`"),
            Self::Namespace => (
                "the name of a namespace",
                "use a-z, 0-9 and inner hyphens, at most 63 of them, such as `apps`",
            ),
            Self::Cidr => {
                ("a network", "write its first address with a prefix length, such as `10.42.0.0/16`")
            }
            Self::Regex => ("a regular expression", "write it as Go does (RE2), such as `^eth[0-9]+$`"),
            Self::Variable => (
                "the name of a variable",
                "use letters, digits and `_`, and no digit first, such as `cluster_name`",
            ),
            Self::Certificates => (
                "a certificate in PEM",
                "write it whole, from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`",
            ),
        }
    }

    /// The reason why `text` is none.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        let owned = |result: Result<(), &str>| result.map_err(str::to_owned);
        match self {
            Self::Duration => owned(duration(text)),
            Self::Timespan => owned(calendar::timespan(text)),
            Self::Schedule => owned(calendar::schedule(text)),
            Self::Quantity => owned(quantity(text)),
            Self::Label => owned(words::disks::kubernetes_name(text)),
            Self::LabelValue if text.is_empty() => Ok(()),
            Self::LabelValue if text.contains('/') => {
                owned(Err("it has a character other than letters, digits, `-`, `_` and `.`"))
            }
            Self::LabelValue => owned(words::disks::kubernetes_name(text)),
            Self::Name => owned(words::object_name(text)),
            Self::Namespace => owned(words::host_label(text)),
            Self::Cidr => cidr(text),
            Self::Regex => regex(text),
            Self::Variable => owned(variable(text)),
            Self::Certificates => pem::certificates(text).map(drop),
        }
    }
}

/// `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`: the pattern of Flux's intervals (kustomize-controller 186fb3b, source-controller
/// 39b711b1), whose texts Go's `time.ParseDuration` takes, too.
fn duration(text: &str) -> Result<(), &'static str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut rest = text;
    if rest.is_empty() {
        return Err("it is empty");
    }
    while !rest.is_empty() {
        let whole = digits(rest);
        if whole == 0 {
            return Err(match rest.starts_with([' ', '\t']) {
                true => "it has a blank",
                false => "it is not made of numbers with units",
            });
        }
        rest = &rest[whole..];
        if let Some(fraction) = rest.strip_prefix('.') {
            let some = digits(fraction);
            if some == 0 {
                return Err("there is no digit behind its point");
            }
            rest = &fraction[some..];
        }
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        rest = match &rest[..unit] {
            "ms" | "s" | "m" | "h" => &rest[unit..],
            "" => return Err("a number of it has no unit"),
            "d" => return Err("Go knows no days: write them in hours"),
            _ => return Err("a unit of it is none of `ms`, `s`, `m` and `h`"),
        };
    }
    // Go's numbers end at 292 years.
    if is_duration(text) { Ok(()) } else { Err("it is too long") }
}

/// An amount that is not negative (Kubernetes 1.34, apimachinery/pkg/api/resource, `ParseQuantity`).
pub(crate) fn quantity(text: &str) -> Result<(), &'static str> {
    const UNITS: [&str; 15] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let text = text.strip_prefix('+').unwrap_or(text);
    let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number);
    if text.starts_with('-') {
        return Err("it is negative");
    }
    if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
        return Err("it does not begin with a number");
    }
    let exponent =
        unit.strip_prefix(['e', 'E']).map(|digits| digits.strip_prefix(['+', '-']).unwrap_or(digits));
    let exponent = exponent.is_some_and(|digits| {
        (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !exponent && unit != "Ei" && !UNITS.contains(&unit) {
        return Err(
            "its unit is none of Kubernetes' (`k`, `M`, `G`, `T`, `Ki`, `Mi`, `Gi`, `Ti`, `m` and a few more)",
        );
    }
    Ok(())
}

/// Is the amount nothing?
pub(crate) fn is_zero(quantity: &str) -> bool {
    let number = quantity.strip_prefix('+').unwrap_or(quantity);
    let number = number.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    number.bytes().all(|byte| matches!(byte, b'0' | b'.'))
}

fn cidr(text: &str) -> Result<(), String> {
    let Ok(net) = ip::network(text) else {
        return Err("it is not an address with a prefix length (CIDR)".to_owned());
    };
    match net.trunc() {
        first if first == net => Ok(()),
        first => Err(format!("{} is an address in it, and the network is {first}", net.addr())),
    }
}

/// RE2's syntax as far as Rust's has it: what Go refuses and people write (an open bracket, a repeat of nothing, a
/// look-around) is refused.
fn regex(text: &str) -> Result<(), String> {
    match regex::bytes::RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => Err("it is too large".to_owned()),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(reason.to_owned())
        }
    }
}

/// `^[_[:alpha:]][_[:alpha:][:digit:]]*$`: Flux's pattern (fluxcd/pkg kustomize, `varsubRegex`), and what a shell takes.
fn variable(text: &str) -> Result<(), &'static str> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    match text {
        "" => Err("it is empty"),
        _ if !text.starts_with(first) => Err("it starts with something other than a letter or `_`"),
        _ if !text.chars().all(|c| first(c) || c.is_ascii_digit()) => {
            Err("it has a character other than letters, digits and `_`")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    /// Texts that are taken, and texts that are not.
    #[test]
    fn forms_take_what_their_readers_take() {
        let cases: [(Form, &[&str], &[&str]); 9] = [
            (
                Form::Duration,
                &["10m", "1h30m", "1.5h", "90s", "500ms", "0s"],
                &["", "1d", "60", "5 m", "5min", "m", "1.m", ".5h", "-1m", "1h ", "1us"],
            ),
            (
                Form::Quantity,
                &["1", "0.5", ".5", "1.", "250m", "10Mi", "1Gi", "2k", "1e3", "1E-3", "12Ei", "1E"],
                &["", "10Xi", "10x", "1K", "-1", "Mi", "1 Gi", "1.2.3", "1e", "1mi", "10%"],
            ),
            (Form::Label, &["ssd", "a.b/c-d", "A_1"], &["", "a b", "a,b", "-a", "a/b/c", "/a", "UP.com/a"]),
            (Form::LabelValue, &["", "linux", "a.B_1"], &["b c", "a/b", "-a"]),
            (Form::Name, &["a", "a-b.c"], &["", "A", "a_b", "-a", "::1"]),
            (Form::Namespace, &["apps", "a-1"], &["Ab_c", "a.b", ""]),
            (Form::Cidr, &["10.0.0.0/8", "0.0.0.0/0", "fc00::/7"], &["10.0.0.1/8", "10.0.0.0", "fc00::1/7"]),
            (
                Form::Regex,
                &["^eth[0-9]+", "^(en|eth).*$", "a{2,3}"],
                &["^eth[0-9+", "(a", "*a", "a(?=b)", "a{3,2}", "\\q"],
            ),
            (Form::Variable, &["a", "_A1", "AWS_ACCESS_KEY_ID"], &["a-b", "1a", "", "a b", "é"]),
        ];
        for (form, good, bad) in cases {
            for text in good {
                assert_eq!(form.check(text), Ok(()), "{form:?} {text:?}");
            }
            for text in bad {
                assert!(form.check(text).is_err(), "{form:?} takes {text:?}");
            }
        }
    }
}
