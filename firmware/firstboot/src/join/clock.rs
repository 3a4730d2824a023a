//! What time it is, and whether that can be so. Certificates are judged by it, so a wrong clock is told before they are.

use super::Around;
use super::words::{Cause, Trouble};
use crate::sys;
use kiln_contract::join::Join;
use std::time::{Duration, Instant};

/// How long a time server is waited for when the clock is plausible without one.
const GRACE: Duration = Duration::from_secs(60);
/// systemd-timesyncd makes it when a server has set the clock (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// The system's clock, as far off as a test wants it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    pub(super) offset: i64,
}

impl Clock {
    /// Seconds since 1970.
    pub(super) fn now(self) -> u64 {
        sys::now().saturating_add_signed(self.offset)
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
    let now = around.clock.now();
    if now < join.earliest {
        let facts =
            format!("{}, which is before this node was made ({})", in_words(now), in_words(join.earliest));
        return Err(Trouble::new(Cause::ClockEarly, facts));
    }
    if around.path(SYNCHRONISED).exists() {
        return Ok(((), format!("set by a time server, {}", in_words(now))));
    }
    if since.elapsed() < around.shorter(GRACE) {
        return Err(Trouble::new(Cause::ClockUnset, format!(", it says {}", in_words(now))));
    }
    Ok(((), format!("nobody has set it, and {} is plausible", in_words(now))))
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn times_are_for_people() {
        assert_eq!(in_words(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(in_words(1_772_366_400), "2026-03-01 12:00:00 UTC");
        assert_eq!(in_words(u64::MAX), "18446744073709551615 s after 1970");
    }
}
