//! Sizes with their unit.

const MIB: u64 = 1 << 20;

/// As [`exact`], rounded up to a whole MiB.
pub(super) fn parse(text: &str) -> Result<u64, &'static str> {
    exact(text)?.checked_next_multiple_of(MIB).ok_or("that is too much")
}

/// Bytes of `2GiB`, `2G` (the same), `2GB` (10⁹), `1.5 GiB`; of a fraction whole bytes. The error says why not.
pub(super) fn exact(text: &str) -> Result<u64, &'static str> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let factor: u64 = match unit.trim() {
        "" => return Err("its unit is missing"),
        "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "K" | "Ki" | "KiB" => 1 << 10,
        "M" | "Mi" | "MiB" => MIB,
        "G" | "Gi" | "GiB" => 1 << 30,
        "T" | "Ti" | "TiB" => 1 << 40,
        _ => return Err("that unit is not known"),
    };
    let whole: u64 = whole.parse().map_err(|_| "there is no number in front of the unit")?;
    let mut bytes = whole.checked_mul(factor).ok_or("that is too much")?;
    if !fraction.is_empty() {
        let digits = u32::try_from(fraction.len()).map_err(|_| "too many digits")?;
        let scale = 10_u64.checked_pow(digits).ok_or("too many digits")?;
        let fraction: u64 = fraction.parse().map_err(|_| "there is no number in front of the unit")?;
        let part = u128::from(fraction) * u128::from(factor) / u128::from(scale);
        bytes =
            u64::try_from(part).ok().and_then(|part| bytes.checked_add(part)).ok_or("that is too much")?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{exact, parse};

    #[test]
    fn table() {
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("2G", 2 << 30),
            ("1.5 GiB", 3 << 29),
            ("2GB", 2_000_683_008),
            ("1B", 1 << 20),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in
            ["", "2", "GiB", "2 gb", "-1GiB", "99999999999TiB", "1.2.3GiB", "1.99999999999999999999999GiB"]
        {
            assert!(parse(bad).is_err(), "{bad}");
            assert!(exact(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exact_is_to_the_byte() {
        for (text, bytes) in
            [("400GB", 400_000_000_000), ("1.5TB", 1_500_000_000_000), ("7B", 7), ("1GiB", 1 << 30)]
        {
            assert_eq!(exact(text), Ok(bytes), "{text}");
        }
    }
}
