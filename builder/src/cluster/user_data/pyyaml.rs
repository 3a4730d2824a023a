//! What cloud-init's reader can't make a value of. It reads user-data with PyYAML's safe loader, whose errors it catches and
//! goes on with an empty document: one such word loses the whole seed.
//!
//! The rules are those of PyYAML 6.0.2 (trixie), `lib/yaml/resolver.py` and `constructor.py`. `tests/seed_loader.rs` asks the
//! real one.

/// The most digits that Python makes a number of (sys.int_info.default_max_str_digits, Python 3.13).
const MOST_DIGITS: usize = 4300;
/// More parts than this of a number with colons overflow a float.
const MOST_PARTS: usize = 170;

/// Why a plain scalar is no value.
pub(super) fn value(text: &str) -> Result<(), &'static str> {
    match text {
        "=" => Err("a plain `=` is a special word of YAML 1.1 that cloud-init can't read: put it in quotes"),
        "<<" => Err("a plain `<<` merges mappings, and is no value: put it in quotes"),
        _ => word(text),
    }
}

/// Why a plain scalar is no key.
pub(super) fn word(text: &str) -> Result<(), &'static str> {
    if let Some(valid) = timestamp(text) {
        return match valid {
            true => Ok(()),
            false => Err("this looks like a date and is none, which cloud-init can't read: put it in quotes"),
        };
    }
    match integer(text) {
        Some(false) => {
            Err("this looks like a number and is none, which cloud-init can't read: put it in quotes")
        }
        _ => Ok(()),
    }
}

/// Why a scalar with a tag is none.
pub(super) fn tagged(tag: &str, text: &str) -> Result<(), &'static str> {
    const WRONG: &str = "the tag says another kind of value than this is, which cloud-init can't read";
    let fits = match tag {
        "!" | "!!str" => true,
        "!!null" => true,
        "!!binary" => base64(text),
        "!!bool" => {
            matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "true" | "false" | "on" | "off")
        }
        "!!int" => integer(text) == Some(true),
        "!!float" => {
            text.parse::<f64>().is_ok() && text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        }
        "!!timestamp" => timestamp(text) == Some(true),
        _ => return Err("cloud-init can't read a value with this tag: remove the tag"),
    };
    if fits { Ok(()) } else { Err(WRONG) }
}

/// Why a list or a mapping with a tag is none.
pub(super) fn collection(tag: &str, list: bool) -> Result<(), &'static str> {
    match tag {
        "!!seq" if list => Ok(()),
        "!!map" if !list => Ok(()),
        "!!omap" | "!!pairs" | "!!set" => {
            Err("Kiln does not merge values with this tag: write a plain list or mapping")
        }
        _ => Err("cloud-init can't read a value with this tag: remove the tag"),
    }
}

/// Strict Base64, lines and blanks aside, as `base64.decodebytes` takes it.
fn base64(text: &str) -> bool {
    use base64::Engine as _;
    let code: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    base64::engine::general_purpose::STANDARD.decode(code).is_ok()
}

/// Whether what has the form of an integer is one; none where it has not.
fn integer(text: &str) -> Option<bool> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let of = |digits: &str, fits: fn(char) -> bool| {
        (!digits.is_empty() && digits.chars().all(|c| c == '_' || fits(c)))
            .then(|| digits.chars().any(|c| c != '_'))
    };
    let decimal = |c: char| c.is_ascii_digit();
    if let Some(binary) = digits.strip_prefix("0b") {
        return of(binary, |c| matches!(c, '0' | '1'));
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return of(hex, |c| c.is_ascii_hexdigit());
    }
    if digits == "0" {
        return Some(true);
    }
    if let Some(octal) = digits.strip_prefix('0') {
        return of(octal, |c| ('0'..='7').contains(&c)).map(|_| true);
    }
    let mut parts = digits.split(':');
    let first = parts.next().unwrap_or_default();
    let form = first.starts_with(|c: char| ('1'..='9').contains(&c))
        && first.chars().all(|c| c == '_' || decimal(c))
        && parts.clone().all(|part| {
            let one = part.len() == 1 && part.chars().all(decimal);
            one || part.len() == 2
                && part.chars().all(decimal)
                && part.starts_with(|c| ('0'..='5').contains(&c))
        });
    form.then(|| first.chars().filter(|c| *c != '_').count() <= MOST_DIGITS && parts.count() <= MOST_PARTS)
}

/// Whether what has the form of a date, or of a date and a time, is one; none where it has not.
fn timestamp(text: &str) -> Option<bool> {
    let mut rest = Rest(text);
    let year = rest.digits(4..=4)?;
    let month = rest.behind('-')?.digits(1..=2)?;
    let short_month = text.len() - rest.0.len() < 7;
    let before = rest.0.len();
    let day = rest.behind('-')?.digits(1..=2)?;
    let short = short_month || before - rest.0.len() < 3;
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    };
    let date = year > 0 && (1..=12).contains(&month) && (1..=days).contains(&day);
    if rest.0.is_empty() {
        // A date alone has all of its digits.
        return (!short).then_some(date);
    }
    let time = match rest.0.strip_prefix(['T', 't']) {
        Some(time) => time,
        None => {
            let time = rest.0.trim_start_matches([' ', '\t']);
            (time.len() < rest.0.len()).then_some(time)?
        }
    };
    rest.0 = time;
    let hour = rest.digits(1..=2)?;
    let minute = rest.behind(':')?.digits(2..=2)?;
    let second = rest.behind(':')?.digits(2..=2)?;
    if let Some(fraction) = rest.0.strip_prefix('.') {
        rest.0 = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let zone = rest.0.trim_start_matches([' ', '\t']);
    // Blanks alone are no zone; a plain scalar ends with none.
    let offset = match zone {
        "" if rest.0.is_empty() => Some(0),
        "Z" => Some(0),
        _ => {
            rest.0 = zone.strip_prefix(['+', '-'])?;
            let hours = rest.digits(1..=2)?;
            let minutes = if rest.0.is_empty() { 0 } else { rest.behind(':')?.digits(2..=2)? };
            rest.0.is_empty().then_some(hours * 60 + minutes)
        }
    }?;
    Some(date && hour < 24 && minute < 60 && second < 60 && offset < 24 * 60)
}

/// What is still to be read.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// A number of so many digits, as many as there are.
    fn digits(&mut self, count: std::ops::RangeInclusive<usize>) -> Option<u32> {
        let found = self.0.bytes().take(*count.end()).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.0.split_at(found);
        self.0 = rest;
        count.contains(&found).then(|| digits.parse().ok()).flatten()
    }
    fn behind(&mut self, c: char) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(c)?;
        Some(self)
    }
}

/// What a plain scalar is to the reader: whether text, a number, a truth or nothing. What has the form of a date is none of them.
pub(super) fn kind(text: &str) -> super::Kind {
    use super::Kind;
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Nothing,
        "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "true" | "True" | "TRUE" | "false" | "False"
        | "FALSE" | "on" | "On" | "ON" | "off" | "Off" | "OFF" => Kind::Truth,
        _ if integer(text).is_some() || float(text) => Kind::Number,
        _ if timestamp(text).is_some() => Kind::Date,
        _ => Kind::Text,
    }
}

/// Whether it has the form of a number with a point.
fn float(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(digits, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let plain = |part: &str| part.chars().all(|c| c == '_' || c.is_ascii_digit());
    let Some((whole, rest)) = digits.split_once('.') else { return false };
    let begins = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    let sixties = whole.contains(':')
        && begins(whole)
        && plain(rest)
        && whole.split(':').skip(1).all(|part| (1..=2).contains(&part.len()) && plain(part))
        && plain(whole.split(':').next().unwrap_or_default());
    let (rest, exponent) =
        rest.split_once(['e', 'E']).map_or((rest, None), |(rest, exponent)| (rest, Some(exponent)));
    let signed = |text: &str| {
        text.strip_prefix(['-', '+'])
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()))
    };
    let points = plain(rest) && exponent.is_none_or(signed);
    let usual = begins(whole) && plain(whole) && points;
    sixties || usual || whole.is_empty() && digits == text && begins(rest) && points
}
