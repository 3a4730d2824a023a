//! The encrypted file: age around bytes, written beside and renamed.

use super::Error;
use super::identities::Identities;
use super::recipients::{self, Recipient};
use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::{DecryptError, Decryptor, Encryptor};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Name of the file, beside the cluster file.
pub const FILE_NAME: &str = "kiln.secrets.age";
/// Name of the same document encrypted by SOPS, which is read where there is no [`FILE_NAME`].
const SOPS_NAME: &str = "kiln.secrets.sops.yaml";
/// A cluster of a thousand nodes takes less.
const MAX_BYTES: u64 = 16 << 20;
/// First line of an armoured age file.
const ARMOUR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// Where the secrets file is, and who may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// age public keys and SSH public keys. Empty: those that the file has, and for a new file the user's own.
    pub recipients: Vec<String>,
}

impl Place {
    /// The file that the cluster file names, or [`Place::beside`] it in `folder`.
    pub fn of(secrets: &crate::cluster::Secrets, folder: &Path) -> Self {
        let recipients = secrets.recipients.clone();
        match &secrets.file {
            Some(file) => Self { file: file.clone(), recipients },
            None => Self::beside(folder, recipients),
        }
    }

    /// The file of the default name in `folder`; `kiln.secrets.sops.yaml` where only that is there.
    pub fn beside(folder: &Path, recipients: Vec<String>) -> Self {
        let (own, sops) = (folder.join(FILE_NAME), folder.join(SOPS_NAME));
        let file = if !own.exists() && sops.exists() { sops } else { own };
        Self { file, recipients }
    }
}

/// Where the version before the last rotation is kept.
pub(super) fn previous(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".previous");
    name.into()
}

/// The folder of a file.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The bytes of the file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let fault = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(fault(source)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fault(io::Error::new(io::ErrorKind::InvalidData, "no secrets file is this large")));
    }
    Ok(Some(bytes))
}

/// True when these are the bytes of an age file.
pub(super) fn is_age(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(ARMOUR) || bytes.starts_with(b"age-encryption.org/")
}

/// Opens the bytes of the file at `place`.
pub(super) fn decrypt(
    bytes: &[u8],
    place: &Place,
    identities: &Identities,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let path = || place.file.clone();
    if !is_age(bytes) {
        let reason = "it does not begin like an age file";
        return Err(Error::Damaged { path: path(), reason });
    }
    // Which step fails first is chance, and tells nothing more.
    let damaged = || Error::Damaged { path: path(), reason: "it does not decrypt" };
    let decryptor =
        Decryptor::new_buffered(BufReader::new(ArmoredReader::new(bytes))).map_err(|_| damaged())?;
    if decryptor.is_scrypt() {
        return Err(Error::Passphrase { path: path() });
    }
    let mut reader = decryptor.decrypt(identities.iter()).map_err(|fault| match fault {
        DecryptError::NoMatchingKeys | DecryptError::KeyDecryptionFailed => Error::NoMatchingKey {
            path: path(),
            recipients: recipients::describe(&header(bytes), &place.recipients),
            looked: identities.looked(),
        },
        _ => damaged(),
    })?;
    // Grown once: no copy of a part is left behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(bytes.len()));
    reader.read_to_end(&mut plain).map_err(|_| damaged())?;
    Ok(plain)
}

/// The first bytes inside the armour.
fn header(bytes: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    // What cannot be read has been told already.
    let _ = ArmoredReader::new(bytes).take(64 << 10).read_to_end(&mut header);
    header
}

/// An armoured age file around `plain`.
pub(super) fn encrypt(plain: &[u8], place: &Place) -> Result<Vec<u8>, Error> {
    if place.recipients.is_empty() {
        return Err(Error::NoRecipient { path: place.file.clone() });
    }
    let parsed = place.recipients.iter().map(|text| Recipient::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let fault = |reason: String| Error::Make { what: "the encrypted file", reason };
    let encryptor = Encryptor::with_recipients(parsed.iter().map(Recipient::as_age))
        .map_err(|reason| fault(reason.to_string()))?;
    let write = || -> io::Result<Vec<u8>> {
        let armour = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
        let mut writer = encryptor.wrap_output(armour)?;
        writer.write_all(plain)?;
        writer.finish()?.finish()
    };
    write().map_err(|reason| fault(reason.to_string()))
}

/// Writes beside, flushes and renames; 0600.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fault = |source| Error::Io { action: "write", path: path.to_owned(), source };
    let file = beside(path, bytes).map_err(fault)?;
    file.persist(path).map_err(|persist| fault(persist.error))?;
    flush_name(path).map_err(fault)
}

/// Writes a file that is not there yet, 0600, in a folder of 0700 when that is not there either.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = folder(path);
    let make = |source| Error::Io { action: "make", path: folder.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(make)?;
    let fault = |source| Error::Io { action: "write", path: path.to_owned(), source };
    let file = beside(path, bytes).map_err(fault)?;
    file.persist_noclobber(path).map_err(|persist| fault(persist.error))?;
    flush_name(path).map_err(fault)
}

fn beside(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    let mut file = builder.permissions(fs::Permissions::from_mode(0o600)).tempfile_in(folder(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// A name is on the disk when its folder is.
fn flush_name(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Nobody else changes files of this folder through Kiln before the answer is dropped.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let folder = folder(path);
    let fault = |source| Error::Io { action: "lock", path: folder.to_owned(), source };
    let file = File::open(folder).map_err(fault)?;
    file.lock().map_err(fault)?;
    Ok(file)
}
