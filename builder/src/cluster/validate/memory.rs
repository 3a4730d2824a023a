//! `memory`: what a node's memory is for.

use super::Check;
use crate::cluster::file::MemorySection;
use crate::cluster::size;
use crate::diag::Fault;
use kiln_contract::memory::{MOST_MEBIBYTES, MOST_PERCENT, Memory, Zram};

/// Least size in MiB: less holds nothing that would be missed.
const LEAST_MEBIBYTES: u32 = 64;

impl Check<'_> {
    pub(super) fn memory(&mut self, section: &MemorySection) -> Memory {
        let Some(text) = &section.zram else { return Memory::default() };
        match zram(&text.value) {
            Ok(zram) => Memory { zram: Some(zram) },
            Err(reason) => {
                let message = format!("{:?} is no size for zram: {reason}", text.value);
                let fault = Fault::error("zram", &text.span, message).label("here");
                let help = "write a share of the memory, such as `50%`, or a size, such as `2GiB`; leave it out for none";
                self.faults.push(fault.help(help));
                Memory::default()
            }
        }
    }
}

fn zram(text: &str) -> Result<Zram, &'static str> {
    if let Some(number) = text.trim().strip_suffix('%') {
        let percent = number.trim_end().parse().map_err(|_| "a share is a whole number from 1% to 100%")?;
        return match percent {
            1..=MOST_PERCENT => Ok(Zram::Percent(percent)),
            _ => Err("a share is from 1% to 100%"),
        };
    }
    let mebibytes = u32::try_from(size::parse(text)? >> 20).map_err(|_| "it takes at most 1 TiB")?;
    match mebibytes {
        ..LEAST_MEBIBYTES => Err("it takes at least 64 MiB"),
        LEAST_MEBIBYTES..=MOST_MEBIBYTES => Ok(Zram::Mebibytes(mebibytes)),
        _ => Err("it takes at most 1 TiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::zram;
    use kiln_contract::memory::{Memory, Zram};

    /// What is taken here, the device takes, too.
    #[test]
    fn shares_and_sizes() {
        let table = [
            ("50%", Zram::Percent(50)),
            ("100 %", Zram::Percent(100)),
            ("1%", Zram::Percent(1)),
            ("64MiB", Zram::Mebibytes(64)),
            ("1.5GiB", Zram::Mebibytes(1536)),
            ("2GB", Zram::Mebibytes(1908)),
            ("1TiB", Zram::Mebibytes(1 << 20)),
        ];
        for (text, want) in table {
            assert_eq!(zram(text), Ok(want), "{text}");
            assert!(Memory { zram: Some(want) }.check().is_ok(), "{text}");
        }
        for bad in ["0%", "101%", "-1%", "1.5%", "%", "half", "2", "63MiB", "1025GiB", "9999TiB", ""] {
            assert!(zram(bad).is_err(), "{bad}");
        }
    }
}
