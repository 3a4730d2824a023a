//! CHAP names and passwords on their way from the seed to a file of the node, and from there to whoever logs in or serves.

use crate::{bounded, sys};
use kiln_contract::credentials::{Edit, Error as Fault, PATH, Removal, Whereabouts};
use kiln_contract::handoff::{Handoff, MAX_BYTES};
use kiln_contract::iscsi::Credentials;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use uuid::Uuid;

/// The only version of the node's file that this code writes and reads.
const VERSION: u32 = 1;

/// The node's file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// The seed's document names it: the file of another seed is never taken for this one's.
    id: Uuid,
    /// In the order of the document.
    credentials: Vec<Credentials>,
}

/// What became of a document's names and passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It has none to lose.
    None,
    /// It has lost them.
    Moved,
}

/// Why the node has none, though its seed says so.
#[derive(Debug, thiserror::Error)]
#[error(
    "the CHAP names and passwords were moved from the seed to {PATH}, and {why}: write the node's seed to its disk again"
)]
pub(crate) struct Missing {
    why: String,
}

/// A part of the move that is on the medium before the next one begins.
enum Step {
    /// The node's file is written.
    Keep(Kept),
    /// The document is, where it lies.
    Write(Vec<Edit>),
}

/// True when the document holds any that can be moved.
pub(crate) fn is_in(document: &Path) -> io::Result<bool> {
    Ok(steps(document)?.is_some_and(|steps| !steps.is_empty()))
}

/// Moves them from the document to the node's file `kept`. A cut anywhere leaves them in one of the two, and the document
/// says in which; doing it again ends it.
pub(crate) fn move_out(document: &Path, kept: &Path) -> io::Result<Found> {
    let Some(steps) = steps(document)? else { return Ok(Found::None) };
    steps.iter().try_for_each(|step| take(step, document, kept))?;
    Ok(Found::Moved)
}

/// What is left to do; nothing at all when the document has no names and passwords.
fn steps(document: &Path) -> io::Result<Option<Vec<Step>>> {
    let bytes = match bounded::read(document, MAX_BYTES) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let found = Removal::find(&bytes).map_err(|fault: Fault| io::Error::other(fault.to_string()))?;
    let Some(mut removal) = found else { return Ok(None) };
    if removal.done {
        return Ok(Some(Vec::new()));
    }
    let (id, keep) = match removal.whereabouts {
        Whereabouts::Node(id) => (id, None),
        Whereabouts::Seed => {
            let mut id = [0; 16];
            sys::random(&mut id)?;
            let (id, credentials) = (Uuid::from_bytes(id), std::mem::take(&mut removal.credentials));
            (id, Some(Step::Keep(Kept { version: VERSION, id, credentials })))
        }
    };
    Ok(Some(keep.into_iter().chain(removal.steps(id).map(Step::Write)).collect()))
}

fn take(step: &Step, document: &Path, kept: &Path) -> io::Result<()> {
    match step {
        Step::Keep(file) => keep(kept, file),
        Step::Write(edits) if edits.is_empty() => Ok(()),
        Step::Write(edits) => {
            // Neither shortened nor made: the bytes stay in the sectors that they are in.
            let file = File::options().write(true).open(document)?;
            edits.iter().try_for_each(|edit| file.write_all_at(&edit.bytes, edit.at as u64))?;
            file.sync_all()
        }
    }
}

/// Beside, then renamed; and read back, since what it is read from is about to be overwritten.
fn keep(path: &Path, kept: &Kept) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = path.with_extension("json.new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()?;
    sys::sync_file_system(folder)?;
    if read(path)? == *kept {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} does not hold what was written to it", path.display())))
    }
}

fn read(path: &Path) -> io::Result<Kept> {
    let bytes = bounded::read(path, MAX_BYTES)?;
    // The words of serde_json may quote what is in the file.
    serde_json::from_slice(&bytes).map_err(|_| io::Error::other("it is damaged"))
}

/// Puts names and passwords where the document has lost them to the node's file. Without that they stay empty, and nobody
/// may use them.
pub(crate) fn restore(handoff: &mut Handoff, kept: &Path) -> Result<(), Missing> {
    let (Some(Whereabouts::Node(id)), Some(iscsi)) = (handoff.credentials, &mut handoff.iscsi) else {
        return Ok(());
    };
    let missing = |why: &str| Missing { why: why.to_owned() };
    let kept = read(kept).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing("there is no such file"),
        _ => missing(&error.to_string()),
    })?;
    let fits = kept.version == VERSION && kept.id == id;
    if !fits || kept.credentials.len() != iscsi.credentials().count() {
        return Err(missing("that file is of another seed"));
    }
    iscsi.credentials_mut().zip(kept.credentials).for_each(|(one, kept)| *one = kept);
    Ok(())
}

#[cfg(test)]
mod tests;
