//! The date and time of directory entries (fatgen103, Date and Time Formats), in UTC.

use crate::tree::Timestamp;

const DAY: i64 = 86_400;
/// 1980-01-01T00:00:00Z, the first time that FAT knows.
const FIRST: i64 = 315_532_800;
/// 2107-12-31T23:59:58Z, the last.
const LAST: i64 = 4_354_819_198;

/// The date and the time of day, rounded down to two seconds, brought into FAT's range.
pub(super) fn to_fat(time: Timestamp) -> (u16, u16) {
    let secs = time.secs.clamp(FIRST, LAST);
    let (days, second) = (secs / DAY, secs % DAY);
    let (year, month, day) = civil(days);
    let date = (year - 1980) << 9 | month << 5 | day;
    let time = (second / 3600) << 11 | (second / 60 % 60) << 5 | (second % 60 / 2);
    // Both have 16 bits by construction: 128 years of 16 months of 32 days, 24 hours below 32.
    (u16::try_from(date).unwrap_or_default(), u16::try_from(time).unwrap_or_default())
}

/// The point in time of a date and a time of day; fields out of range flow over into the next.
pub(super) fn from_fat(date: u16, time: u16) -> Timestamp {
    let (date, time) = (i64::from(date), i64::from(time));
    let days = days((date >> 9) + 1980, date >> 5 & 15, date & 31);
    let second = (time >> 11) * 3600 + (time >> 5 & 63) * 60 + (time & 31) * 2;
    Timestamp { secs: days * DAY + second, nanos: 0 }
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian calendar, counted in years
/// that begin in March so that the leap day comes last.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let month = if month > 2 { month - 3 } else { month + 9 };
    let day = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + 365 * year + year / 4 - year / 100 + day - 719_468
}

#[cfg(test)]
mod tests {
    use super::{FIRST, LAST, from_fat, to_fat};
    use crate::tree::Timestamp;

    #[test]
    fn known_times() {
        let at = |secs| to_fat(Timestamp { secs, nanos: 0 });
        // 2000-02-29T23:59:59Z
        assert_eq!(at(951_868_799), (20 << 9 | 2 << 5 | 29, 23 << 11 | 59 << 5 | 29));
        // 2024-12-31T12:00:01Z
        assert_eq!(at(1_735_646_401), (44 << 9 | 12 << 5 | 31, 12 << 11));
        assert_eq!(at(i64::MIN), (1 << 5 | 1, 0));
        assert_eq!(at(i64::MAX), (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29));
    }

    #[test]
    fn round_trip() {
        for secs in (FIRST..=LAST).step_by(86_400 * 13 + 7 * 3600 + 2) {
            let (date, time) = to_fat(Timestamp { secs, nanos: 0 });
            assert_eq!(from_fat(date, time).secs, secs & !1);
        }
        assert!(from_fat(u16::MAX, u16::MAX).secs > 0);
        assert!(from_fat(0, 0).secs > 0);
    }
}
