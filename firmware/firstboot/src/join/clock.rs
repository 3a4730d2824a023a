//! What time it is, and whether that can be so. Certificates are judged by it, so a wrong clock is told before they are.

use super::tls::{self, Dial};
use super::words::{Cause, Trouble};
use super::{Around, validity};
use crate::sys;
use kiln_contract::join::Join;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long a time server is waited for when the clock is plausible without one.
const GRACE: Duration = Duration::from_secs(60);
/// The same on a machine whose clock goes on while it is switched off, or when a server of the cluster has said what time it
/// is.
const SHORT_GRACE: Duration = Duration::from_secs(5);
/// systemd-timesyncd makes it when a server has set the clock (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// A machine's own clock.
const RTC: &str = "/sys/class/rtc/rtc0";
/// Clocks that differ by less are called the same: certificates and leases bear it.
const SAME: u64 = 60;

/// What was added to the clock where this machine's own must not be set: in tests.
static ADDED: AtomicI64 = AtomicI64::new(0);

/// The system's clock, as far off as a test wants it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    pub(super) offset: i64,
}

impl Clock {
    /// Seconds since 1970.
    pub(super) fn now(self) -> u64 {
        sys::now().saturating_add_signed(self.offset.saturating_add(ADDED.load(Ordering::SeqCst)))
    }
}

/// `2026-03-01 12:00:00 UTC`.
pub(super) fn in_words(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    match time {
        Some(time) => time.to_string().replace('T', " ").replace('Z', " UTC"),
        None => format!("{seconds} s after 1970"),
    }
}

/// A clock that can be right, and that somebody has set or nobody will.
pub(super) fn plausible(around: &Around, join: &Join, since: Instant) -> Result<((), String), Trouble> {
    settled(around, join, since, &mut || None)
}

/// The same where a server of the cluster can be asked as well: its word is better than none, and a time server's better than
/// its.
pub(super) fn witnessed(
    around: &Around,
    join: &Join,
    dial: &Dial,
    since: Instant,
) -> Result<((), String), Trouble> {
    settled(around, join, since, &mut || {
        // No answer, or none within the life of the cluster's CA, is no witness.
        let said = tls::time_of(dial, &join.ca.pem).ok()??;
        is_possible(join, said).is_ok().then(|| (said, dial.authority()))
    })
}

/// Neither before this node was made nor after the cluster's CA has ended.
fn is_possible(join: &Join, now: u64) -> Result<(), Trouble> {
    if now < join.earliest {
        let made = in_words(join.earliest);
        let facts = format!("{}, which is before this node was made ({made})", in_words(now));
        return Err(Trouble::new(Cause::ClockEarly, facts));
    }
    match validity::end(&join.ca.pem) {
        Some(end) if now > end => {
            let facts =
                format!("{}, which is after the cluster's CA has ended ({})", in_words(now), in_words(end));
            Err(Trouble::new(Cause::ClockLate, facts))
        }
        _ => Ok(()),
    }
}

fn settled(
    around: &Around,
    join: &Join,
    since: Instant,
    witness: &mut dyn FnMut() -> Option<(u64, String)>,
) -> Result<((), String), Trouble> {
    let now = around.clock.now();
    let possible = is_possible(join, now);
    if around.path(SYNCHRONISED).exists() {
        possible?;
        let differs = witness().and_then(|(said, who)| difference(around.clock.now(), said, &who));
        let differs = differs.map(|words| format!("; {words}")).unwrap_or_default();
        return Ok(((), format!("set by a time server, {}{differs}", in_words(now))));
    }
    let lasted = since.elapsed();
    if let Some((said, who)) = witness() {
        let Some(words) = difference(around.clock.now(), said, &who) else {
            return Ok(((), format!("{}, and {who} agrees", in_words(now))));
        };
        if lasted < around.shorter(SHORT_GRACE) {
            return Err(Trouble::new(Cause::ClockUnset, format!(", and {words}")));
        }
        set(around, said).map_err(|error| {
            Trouble::new(Cause::ClockUnset, format!(", {words}, and it can't be set: {error}"))
        })?;
        return Ok(((), format!("set to {}, since no time server answers, and {words}", in_words(said))));
    }
    possible?;
    let grace = if around.path(RTC).exists() { SHORT_GRACE } else { GRACE };
    if lasted < around.shorter(grace) {
        return Err(Trouble::new(Cause::ClockUnset, format!(", it says {}", in_words(now))));
    }
    Ok(((), format!("nobody has set it, and {} is plausible", in_words(now))))
}

/// How far two clocks are from one another, when that is worth a word.
fn difference(ours: u64, theirs: u64, who: &str) -> Option<String> {
    let apart = ours.abs_diff(theirs);
    let lies = if ours < theirs { "behind" } else { "ahead of" };
    let far = match apart {
        seconds @ 0..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    };
    (apart > SAME).then(|| format!("the clock here is {far} {lies} the one of {who} ({})", in_words(theirs)))
}

fn set(around: &Around, to: u64) -> std::io::Result<()> {
    if around.root == Path::new("/") {
        return sys::set_clock(to);
    }
    let by = i64::try_from(to).unwrap_or(i64::MAX).saturating_sub_unsigned(around.clock.now());
    ADDED.fetch_add(by, Ordering::SeqCst);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Cause, difference, in_words, plausible};
    use crate::join::tests::{around, document};
    use crate::join::validity::{self, tests::CA};
    use std::time::Instant;

    /// A clock years ahead is as impossible as one of before the seed was made, whoever set it.
    #[test]
    fn a_clock_after_the_end_of_the_ca_is_impossible() {
        let root = tempfile::tempdir().unwrap();
        let mut around = around(root.path());
        let mut join = document();
        join.ca.pem = CA.to_owned();
        let end = validity::end(CA).unwrap();
        around.clock.offset =
            i64::try_from(end).unwrap() - i64::try_from(around.clock.now()).unwrap() + 86_400;
        for synchronised in [false, true] {
            if synchronised {
                std::fs::create_dir_all(root.path().join("run/systemd/timesync")).unwrap();
                std::fs::write(around.path(super::SYNCHRONISED), "").unwrap();
            }
            let trouble = plausible(&around, &join, Instant::now()).unwrap_err();
            assert_eq!(trouble.cause, Cause::ClockLate);
            assert!(
                trouble.said().contains(&format!("after the cluster's CA has ended ({})", in_words(end)))
            );
        }
        around.clock.offset -= 2 * 86_400;
        plausible(&around, &join, Instant::now()).unwrap();
    }

    #[test]
    fn a_minute_is_not_worth_a_word() {
        assert_eq!(difference(1000, 1060, "k3s1"), None);
        assert_eq!(
            difference(1000, 1061, "k3s1").unwrap(),
            "the clock here is 1 min behind the one of k3s1 (1970-01-01 00:17:41 UTC)"
        );
        assert!(difference(100_000, 0, "k3s1").unwrap().starts_with("the clock here is 27 h ahead of"));
        assert!(difference(0, 63_072_000, "k3s1").unwrap().starts_with("the clock here is 730 days behind"));
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(in_words(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(in_words(1_772_366_400), "2026-03-01 12:00:00 UTC");
        assert_eq!(in_words(u64::MAX), "18446744073709551615 s after 1970");
    }
}
