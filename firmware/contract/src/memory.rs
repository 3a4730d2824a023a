//! What a node's memory is for, beside running programs.

use serde::{Deserialize, Serialize};

/// The memory of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Compressed swap in memory (zram): how much is put there at most, before it is compressed.
    #[serde(default)]
    pub zram: Option<Zram>,
}

/// Size of a zram device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zram {
    /// Per cent of the machine's memory, from 1 to [`MOST_PERCENT`].
    Percent(u8),
    /// Whole MiB.
    Mebibytes(u32),
}

/// More than all memory is not worth it: data that does not compress would fill it for nothing.
pub const MOST_PERCENT: u8 = 100;
/// Most MiB: 1 TiB.
pub const MOST_MEBIBYTES: u32 = 1 << 20;

impl Memory {
    /// Looks at everything that this document alone can tell: which field, what it holds, what it may hold.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        match self.zram {
            Some(Zram::Percent(percent)) if !(1..=MOST_PERCENT).contains(&percent) => {
                Err(("memory.zram.percent", percent.to_string(), "a number from 1 to 100"))
            }
            Some(Zram::Mebibytes(size)) if !(1..=MOST_MEBIBYTES).contains(&size) => {
                Err(("memory.zram.mebibytes", size.to_string(), "a number from 1 to 1048576"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, Zram};

    #[test]
    fn sizes_have_bounds_and_plain_words() {
        let table = [
            (Zram::Percent(50), true, r#"{"zram":{"percent":50}}"#),
            (Zram::Percent(0), false, r#"{"zram":{"percent":0}}"#),
            (Zram::Percent(101), false, r#"{"zram":{"percent":101}}"#),
            (Zram::Mebibytes(2048), true, r#"{"zram":{"mebibytes":2048}}"#),
            (Zram::Mebibytes(0), false, r#"{"zram":{"mebibytes":0}}"#),
            (Zram::Mebibytes((1 << 20) + 1), false, r#"{"zram":{"mebibytes":1048577}}"#),
        ];
        for (zram, good, json) in table {
            let memory = Memory { zram: Some(zram) };
            assert_eq!(serde_json::to_string(&memory).unwrap(), json);
            assert_eq!(memory.check().is_ok(), good, "{json}");
        }
        assert_eq!(serde_json::from_str::<Memory>("{}").unwrap(), Memory::default());
    }
}
