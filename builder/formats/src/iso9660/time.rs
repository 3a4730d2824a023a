//! Dates, in UTC.

use crate::fat::time::civil;
use crate::tree::Timestamp;

const DAY: i64 = 86_400;
/// 1970-01-01 and 2155-12-31T23:59:59Z: from the epoch to the last year that a directory record can hold.
const RANGE: (i64, i64) = (0, 5_869_583_999);

/// Year, month, day, hour, minute, second.
fn parts(time: Timestamp) -> [i64; 6] {
    let secs = time.secs.clamp(RANGE.0, RANGE.1);
    let (year, month, day) = civil(secs / DAY);
    let second = secs % DAY;
    [year, month, day, second / 3600, second / 60 % 60, second % 60]
}

/// Seven bytes, of which the last is the offset from Greenwich (ECMA-119 §9.1.5).
pub(super) fn short(time: Timestamp) -> [u8; 7] {
    let [year, rest @ ..] = parts(time);
    let mut bytes = [0; 7];
    bytes[0] = u8::try_from(year - 1900).unwrap_or_default();
    for (byte, part) in bytes[1..6].iter_mut().zip(rest) {
        *byte = u8::try_from(part).unwrap_or_default();
    }
    bytes
}

/// Sixteen digits, and the offset from Greenwich (ECMA-119 §8.4.26.1).
pub(super) fn long(time: Timestamp) -> [u8; 17] {
    let [year, month, day, hour, minute, second] = parts(time);
    let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00");
    let mut bytes = [0; 17];
    bytes[..16].copy_from_slice(text.as_bytes());
    bytes
}

/// No date (ECMA-119 §8.4.26.1).
pub(super) const NONE: [u8; 17] = *b"0000000000000000\0";

#[cfg(test)]
mod tests {
    use super::{long, short};
    use crate::tree::Timestamp;

    #[test]
    fn known_times() {
        // 2000-02-29T23:59:59Z
        let time = Timestamp { secs: 951_868_799, nanos: 0 };
        assert_eq!(short(time), [100, 2, 29, 23, 59, 59, 0]);
        assert_eq!(&long(time), b"2000022923595900\0");
        assert_eq!(short(Timestamp { secs: i64::MIN, nanos: 0 }), [70, 1, 1, 0, 0, 0, 0]);
        assert_eq!(short(Timestamp { secs: i64::MAX, nanos: 0 }), [255, 12, 31, 23, 59, 59, 0]);
    }
}
