//! LUKS2 volumes, with cryptsetup(8) and systemd-cryptenroll(1), which the initramfs carries when the cluster file asks
//! for encryption.
//!
//! A key is 64 random bytes, so nothing is gained by deriving a key from it slowly: PBKDF2 with the fewest iterations
//! takes no time and no memory. A TPM's is bound to no PCR: without Secure Boot, whose keys would have to be the
//! user's, no PCR keeps anybody from booting another system on the machine, and each of them can change with a firmware
//! update, which would lock the node out of its data with nobody there to type a recovery key.

use crate::block::Block;
use crate::format::{self, run_with};
use crate::keys::Key;
use kiln_formats::io::ReadAt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";
const ENROLL: &str = "/usr/bin/systemd-cryptenroll";
/// A LUKS2 header begins with one of these, at these offsets (LUKS2 On-Disk Format Specification 1.1.4, section 2.1:
/// the second header is behind the first, whose smallest and usual size is 16 KiB).
const MAGICS: [(u64, &[u8; 6]); 2] = [(0, b"LUKS\xba\xbe"), (0x4000, b"SKUL\xba\xbe")];

/// Why a volume was not made or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A key must be in a TPM, and there is none.
    #[error(
        "its key is to be kept in a TPM 2.0, and this machine shows none: turn it on in the firmware's setup, or write `encrypt: auto` or `encrypt: seed` in the cluster file"
    )]
    NoTpm,
    /// No key was kept as a file, and there is no TPM that could have it.
    #[error(
        "its key is neither in {place} nor in a TPM, for this machine shows none: turn the TPM on again in the firmware's setup, or put the disk back into the machine that encrypted it"
    )]
    NoKey {
        /// Where it was looked for.
        place: &'static str,
    },
    /// The TPM does not give the key.
    #[error("this machine's TPM does not open it: {0}")]
    OtherTpm(format::Error),
    /// The key can't be made, kept or read.
    #[error("the place of its key, {place}, can't be used: {error}")]
    Place {
        /// Which.
        place: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The device can't be read.
    #[error("{device} can't be read: {error}")]
    Read {
        /// The device.
        device: String,
        /// What the system says.
        error: io::Error,
    },
    /// A program.
    #[error(transparent)]
    Program(#[from] format::Error),
}

/// What a volume is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volume<'a> {
    /// UUID of the header.
    pub(crate) uuid: Uuid,
    /// Name below /dev/mapper while it is open, and label of the header.
    pub(crate) name: &'a str,
}

/// Where the key of a new volume goes.
pub(crate) enum Home<'a> {
    /// Into the TPM. It is in memory alone until then.
    Tpm,
    /// Where this puts it, which gives what it reads back from there.
    File(&'a dyn Fn(&Key) -> Result<Key, Error>),
}

/// Makes a volume on `device`, over whatever is there, and opens it by the way that every later boot takes: only then
/// is it known to work. Gives the open volume.
pub(crate) fn create(device: &Path, volume: &Volume<'_>, home: &Home<'_>) -> Result<PathBuf, Error> {
    let place = "memory";
    let key = Key::random().map_err(|error| Error::Place { place, error })?;
    match home {
        Home::Tpm => {
            run_with(CRYPTSETUP, format_arguments(device, volume), key.bytes())?;
            // The key leaves with the slot that it opens: from here on only the TPM has one.
            run_with(ENROLL, enroll_arguments(device), key.bytes())?;
            open_with_tpm(device, volume.name)
        }
        Home::File(keep) => {
            let key = keep(&key)?;
            run_with(CRYPTSETUP, format_arguments(device, volume), key.bytes())?;
            open(device, volume.name, &key)
        }
    }
}

/// cryptsetup-luksFormat(8). The sector size is left to it: it knows what the disk writes in one piece.
fn format_arguments(device: &Path, volume: &Volume<'_>) -> Vec<String> {
    let fixed = "luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file=- --uuid";
    let mut arguments: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
    let own = [volume.uuid.to_string(), "--label".to_owned(), volume.name.to_owned()];
    arguments.extend(own);
    arguments.push(device.display().to_string());
    arguments
}

/// systemd-cryptenroll(1): the key comes by standard input, a file that it can seek in ([`run_with`]); "password" is its
/// name for a slot that no token uses.
fn enroll_arguments(device: &Path) -> Vec<String> {
    let fixed =
        "--unlock-key-file=/proc/self/fd/0 --tpm2-device=auto --tpm2-pcrs= --wipe-slot=password".split(' ');
    fixed.map(str::to_owned).chain(std::iter::once(device.display().to_string())).collect()
}

/// Opens a volume with its key.
pub(crate) fn open(device: &Path, name: &str, key: &Key) -> Result<PathBuf, Error> {
    let device = device.display().to_string();
    run_with(CRYPTSETUP, ["open", "--type", "luks2", "--key-file=-", &device, name], key.bytes())?;
    Ok(opened(name))
}

/// Opens a volume whose key the TPM holds.
pub(crate) fn open_with_tpm(device: &Path, name: &str) -> Result<PathBuf, Error> {
    let device = device.display().to_string();
    let arguments =
        ["open", "--type", "luks2", "--token-only", "--token-type", "systemd-tpm2", &device, name];
    run_with(CRYPTSETUP, arguments, &[]).map_err(Error::OtherTpm)?;
    Ok(opened(name))
}

/// Closes an open volume.
pub(crate) fn close(name: &str) -> Result<(), Error> {
    Ok(run_with(CRYPTSETUP, ["close", name], &[]).map(drop)?)
}

/// The device of an open volume.
pub(crate) fn opened(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

/// True when `device` holds a LUKS2 volume, damaged as its first header may be.
pub(crate) fn is_on(device: &Path) -> Result<bool, Error> {
    let read = || -> io::Result<bool> {
        let block = Block::open(device, u64::MAX)?;
        for (offset, magic) in MAGICS {
            let mut found = [0; 6];
            block.read_exact_at(&mut found, offset)?;
            if found == *magic {
                return Ok(true);
            }
        }
        Ok(false)
    };
    read().map_err(|error| Error::Read { device: device.display().to_string(), error })
}

/// True when the kernel drives a TPM 2.0: only those have a resource manager, which is what systemd looks for, too.
pub(crate) fn has_tpm(sysfs: &Path) -> bool {
    fs::read_dir(sysfs.join("class/tpmrm")).is_ok_and(|mut devices| devices.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::{CRYPTSETUP, ENROLL, Volume, enroll_arguments, format_arguments, has_tpm, is_on};
    use crate::format::{run, run_with};
    use crate::keys::Key;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use uuid::Uuid;

    const VOLUME: Volume<'_> = Volume { uuid: Uuid::from_u128(7), name: "kiln-sdf-1" };

    /// By the true program: the header says what was asked, the key fits, another does not.
    #[test]
    fn a_volume_is_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        assert!(!is_on(&path).unwrap());
        let (key, other) = (Key::random().unwrap(), Key::random().unwrap());
        // A header that was there before, made half: it is made anew.
        for key in [&other, &key] {
            run_with(CRYPTSETUP, format_arguments(&path, &VOLUME), key.bytes()).unwrap();
        }
        assert!(is_on(&path).unwrap());
        let facts = run(CRYPTSETUP, ["luksDump".as_ref(), path.as_os_str()]).unwrap();
        for fact in [
            "Version:       \t2",
            "UUID:          \t00000000-0000-0000-0000-000000000007",
            "Label:         \tkiln-sdf-1",
            "cipher: aes-xts-plain64",
            "Key:        512 bits",
            "PBKDF:      pbkdf2",
        ] {
            assert!(facts.contains(fact), "{fact:?} is not in\n{facts}");
        }
        let text = path.display().to_string();
        let arguments = ["open", "--test-passphrase", "--key-file=-", &text];
        run_with(CRYPTSETUP, arguments, key.bytes()).unwrap();
        assert!(run_with(CRYPTSETUP, arguments, other.bytes()).is_err());

        // The second header speaks when the first is gone.
        File::options().write(true).open(&path).unwrap().write_all_at(&[0; 4096], 0).unwrap();
        assert!(is_on(&path).unwrap());
    }

    /// systemd-cryptenroll takes the key from standard input: a recovery key stands in for a TPM.
    #[test]
    fn what_a_tpm_is_enrolled_with_takes_the_key_by_standard_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let key = Key::random().unwrap();
        run_with(CRYPTSETUP, format_arguments(&path, &VOLUME), key.bytes()).unwrap();
        let arguments = enroll_arguments(&path).into_iter().filter(|word| !word.starts_with("--tpm2"));
        let arguments = arguments.chain(std::iter::once("--recovery-key".to_owned()));
        run_with(ENROLL, arguments, key.bytes()).unwrap();
        let facts = run(CRYPTSETUP, ["luksDump".as_ref(), path.as_os_str()]).unwrap();
        assert!(facts.contains("systemd-recovery") && !facts.contains("\n  0: luks2"), "{facts}");
    }

    /// The key is in no argument: any process may read those.
    #[test]
    fn no_argument_has_a_key() {
        let device = std::path::Path::new("/dev/x");
        let all = [format_arguments(device, &VOLUME), enroll_arguments(device)].concat().join(" ");
        assert_eq!(
            all,
            "luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file=- --uuid \
             00000000-0000-0000-0000-000000000007 --label kiln-sdf-1 /dev/x \
             --unlock-key-file=/proc/self/fd/0 --tpm2-device=auto --tpm2-pcrs= --wipe-slot=password /dev/x"
        );
    }

    #[test]
    fn a_tpm_counts_when_it_is_of_the_second_generation() {
        let sysfs = tempfile::tempdir().unwrap();
        assert!(!has_tpm(sysfs.path()));
        fs::create_dir_all(sysfs.path().join("class/tpm/tpm0")).unwrap();
        fs::create_dir_all(sysfs.path().join("class/tpmrm")).unwrap();
        assert!(!has_tpm(sysfs.path()));
        fs::create_dir(sysfs.path().join("class/tpmrm/tpmrm0")).unwrap();
        assert!(has_tpm(sysfs.path()));
    }
}
