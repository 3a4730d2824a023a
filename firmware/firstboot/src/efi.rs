//! What the boot loader left in the EFI variables.
//!
//! Source: systemd's Boot Loader Interface. `LoaderDevicePartUUID` holds the GUID of the partition that the loader
//! (or the stub, when there was no loader) was started from, as UTF-16 text. A file of efivarfs is four bytes of
//! attributes, then the data (Linux, Documentation/filesystems/efivarfs.rst).

use std::path::Path;
use uuid::Uuid;

/// Where efivarfs is mounted.
pub(crate) const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// The variable's file: name, then the Boot Loader Interface's vendor GUID.
const LOADER_DEVICE: &str = "LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Path of the boot entry whose tries are counted, with backslashes; there when the loader counts.
const COUNTED: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The GUID of the ESP that the machine was booted from; nothing when it was not booted so.
pub(crate) fn booted_esp(variables: &Path) -> Option<Uuid> {
    parse(&std::fs::read(variables.join(LOADER_DEVICE)).ok()?)
}

/// The counted boot entry, as a path on the ESP with slashes; nothing when nothing is counted.
pub(crate) fn counted_entry(variables: &Path) -> Option<String> {
    let path = text(&std::fs::read(variables.join(COUNTED)).ok()?)?.replace('\\', "/");
    Some(path.trim_start_matches('/').to_owned())
}

fn parse(file: &[u8]) -> Option<Uuid> {
    Uuid::try_parse(text(file)?.trim()).ok()
}

/// The text of a variable, up to its NUL.
fn text(file: &[u8]) -> Option<String> {
    let (_attributes, data) = file.split_at_checked(4)?;
    let units = data.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units.take_while(|unit| *unit != 0)).collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::{any, prop, proptest};
    use uuid::uuid;

    fn variable(text: &str) -> Vec<u8> {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes
    }

    #[test]
    fn reads_what_loaders_write() {
        let want = uuid!("c0ffee00-0000-5000-8000-00000000abcd");
        assert_eq!(parse(&variable("C0FFEE00-0000-5000-8000-00000000ABCD")), Some(want));
        assert_eq!(parse(&variable("c0ffee00-0000-5000-8000-00000000abcd")), Some(want));
    }

    #[test]
    fn rubbish_is_nothing() {
        for bytes in [&[][..], &[6, 0, 0], &[6, 0, 0, 0], &variable("no-guid"), &variable("")] {
            assert_eq!(parse(bytes), None);
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
