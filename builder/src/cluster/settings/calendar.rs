//! Times as systemd's timers take them (systemd.time(7) of 257, src/shared/calendarspec.c): `systemd-analyze` is the judge
//! in `tests/overlays`.

use crate::cluster::words::zones::{Zone, zone};

/// Words that stand for a whole schedule.
const WHOLE: [&str; 13] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "yearly",
    "annually",
    "anually",
    "biannually",
    "bi-annually",
    "semiannually",
    "semi-annually",
];
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// More entries than this in one part are refused, as systemd does.
const MOST: usize = 240;

/// What `OnCalendar=` takes.
pub(super) fn schedule(text: &str) -> Result<(), &'static str> {
    let text = zoneless(text);
    if text.is_empty() {
        return Err("it is empty");
    }
    if WHOLE.contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    if let Some(seconds) = text.strip_prefix('@') {
        let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
        return if digits && seconds.len() <= 12 {
            Ok(())
        } else {
            Err("behind `@` there is no number of seconds")
        };
    }
    let rest = weekdays(text)?;
    let rest = date(rest)?;
    time(rest)
}

/// The text without the time zone at its end.
fn zoneless(text: &str) -> &str {
    let Some((before, last)) = text.rsplit_once(' ') else { return text };
    // A zone of the package tzdata-legacy is not there.
    if zone(last) == Some(Zone::Known) || last.eq_ignore_ascii_case("utc") { before } else { text }
}

/// What is left behind days of the week, when there are any.
fn weekdays(text: &str) -> Result<&str, &'static str> {
    const UNKNOWN: &str =
        "it begins with a word that is no day of the week, and is none of `daily`, `hourly` and so on";
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(text);
    }
    let (days, rest) = text.split_once(' ').unwrap_or((text, ""));
    // A comma at the end is taken.
    for part in days.strip_suffix(',').unwrap_or(days).split(',') {
        let (first, last) = match part.split_once("..").or_else(|| part.split_once('-')) {
            Some((first, last)) => (first, last),
            None => (part, part),
        };
        match (day(first), day(last)) {
            (Some(first), Some(last)) if first <= last => {}
            (Some(_), Some(_)) => return Err("its days run backwards: the week begins on Monday"),
            _ => return Err(UNKNOWN),
        }
    }
    Ok(rest.trim_start_matches(' '))
}

fn day(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    DAYS.iter().position(|day| *day == lower || (lower.len() == 3 && day.starts_with(&lower)))
}

/// What is left behind a date, when there is one.
fn date(text: &str) -> Result<&str, &'static str> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    if word.is_empty() || word.contains(':') {
        return Ok(text);
    }
    let Some(at) = word.rfind(['-', '~']) else { return Err("it has neither a date nor a time") };
    let (before, last) = (&word[..at], &word[at + 1..]);
    // Days count from the month's end behind `~`, and not more than 28 of them.
    let days = match word[at..].starts_with('~') {
        true => Part { from_end: true, ..part(1, 28) },
        false => part(1, 31),
    };
    match before.split_once('-') {
        Some((year, month)) => {
            Part { whole: full_year, ..part(1970, 2199) }.check(year)?;
            part(1, 12).check(month)?;
        }
        None => part(1, 12).check(before)?,
    }
    days.check(last)?;
    Ok(rest.trim_start_matches(' '))
}

fn time(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Ok(());
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes] => (*hours, *minutes, "0"),
        [hours, minutes, seconds] => (*hours, *minutes, *seconds),
        _ => return Err("its time is not of the form HH:MM or HH:MM:SS"),
    };
    part(0, 23).check(hours)?;
    part(0, 59).check(minutes)?;
    // Seconds have fractions: they are counted in millionths.
    Part { read: micros, ..part(0, 59_999_999) }.check(seconds)
}

fn same(value: u64) -> u64 {
    value
}

/// Two digits are a year of 1970 to 2069.
fn full_year(value: u64) -> u64 {
    match value {
        0..70 => value + 2000,
        70..100 => value + 1900,
        _ => value,
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn micros(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = (1..=6).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = format!("{fraction:0<6}").parse::<u64>().ok().filter(|_| digits)?;
    Some(number(whole)? * 1_000_000 + fraction)
}

/// What a part of a date or of a time may be.
struct Part {
    from: u64,
    to: u64,
    /// It counts backwards.
    from_end: bool,
    read: fn(&str) -> Option<u64>,
    /// What a number means that is no count.
    whole: fn(u64) -> u64,
}

const fn part(from: u64, to: u64) -> Part {
    Part { from, to, from_end: false, read: number, whole: same }
}

impl Part {
    /// `*`, or a list of numbers.
    fn check(&self, text: &str) -> Result<(), &'static str> {
        if text == "*" {
            return Ok(());
        }
        if text.split(',').count() > MOST {
            return Err("a part of it has too many numbers");
        }
        text.split(',').try_for_each(|entry| self.entry(entry))
    }

    fn entry(&self, entry: &str) -> Result<(), &'static str> {
        const FORM: &str =
            "a part of its date or time is neither `*` nor numbers such as `1`, `1,15`, `1..5` or `0/6`";
        let number = |text: &str| (self.read)(text).map(self.whole).ok_or(FORM);
        let (range, repeat) = match entry.split_once('/') {
            Some((range, repeat)) => {
                (range, Some((self.read)(repeat).filter(|repeat| *repeat > 0).ok_or(FORM)?))
            }
            None => (entry, None),
        };
        let (start, stop) = match range.split_once("..") {
            Some((start, stop)) => (number(start)?, Some(number(stop)?)),
            None => (number(range)?, None),
        };
        let inside = |value: u64| (self.from..=self.to).contains(&value);
        if !inside(start) || !stop.is_none_or(inside) || stop.is_some_and(|stop| stop < start) {
            return Err("a number of its date or time is out of bounds");
        }
        // One that never comes again is refused.
        let fits = match (stop, repeat) {
            (_, None) => true,
            (Some(_), Some(repeat)) => repeat <= self.to - self.from,
            (None, Some(repeat)) if self.from_end => start >= self.from + repeat,
            (None, Some(repeat)) => start + repeat <= self.to,
        };
        if fits { Ok(()) } else { Err("a repetition in it never comes") }
    }
}

/// Units of systemd's spans (src/basic/time-util.c).
const UNITS: [&str; 28] = [
    "usec", "us", "msec", "ms", "seconds", "second", "sec", "s", "minutes", "minute", "min", "m", "hours",
    "hour", "hr", "h", "days", "day", "d", "weeks", "week", "w", "months", "month", "M", "years", "year",
    "y",
];

/// What `RandomizedDelaySec=` takes.
pub(super) fn timespan(text: &str) -> Result<(), &'static str> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty");
    }
    if rest == "infinity" {
        return Err("what waits for ever never comes");
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (whole, fraction) = rest[..end].split_once('.').unwrap_or((&rest[..end], ""));
        if !(1..=9).contains(&whole.len()) || fraction.contains('.') {
            return Err("it is not made of numbers with units");
        }
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
        // A number alone is of seconds.
        if end > 0 && !UNITS.contains(&&rest[..end]) {
            return Err("a unit of it is none of `s`, `min`, `h`, `d`, `w` and a few more");
        }
        rest = rest[end..].trim_start();
    }
    Ok(())
}
