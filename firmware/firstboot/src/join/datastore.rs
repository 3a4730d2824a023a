//! What a server's k3s starts with: what lies on the node is looked at, the other servers are asked, and what
//! [`kiln_contract::datastore`] makes of that becomes a file of k3s' configuration. k3s is started by the join alone, so it
//! never starts before.

use super::story::Progress;
use super::words::{Cause, Trouble};
use super::{Around, server};
use kiln_contract::datastore::{Disk, Facts, Here, Peer, Said, Store, Why};
use kiln_contract::event::{BOOT_RECORD, RECORD, Record};
use kiln_contract::join::{Endpoint, Join};
use kiln_contract::plan::Action;
use kiln_contract::rejoin::Emptied;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;

/// Where k3s keeps it (k3s, pkg/etcd/etcd.go: walDir, sqliteFile).
pub(super) const DATABASE: &str = "/var/lib/rancher/k3s/server/db";
/// What is told to k3s. Its name comes behind those of overlays.
const CONFIG: &str = "/etc/rancher/k3s/config.yaml.d/95-kiln.yaml";
/// The datastore's folder on a data disk, and whose it is.
const ON_DISK: &str = "k3s-server";
const MARK: &str = "kiln.json";
/// Below [`DATABASE`]: SQLite is being turned into etcd; the copy of it; etcd that a cut left half.
const TURNING: &str = "kiln-turning";
const COPY: &str = "kiln-sqlite";
const HALF: &str = "kiln-half-etcd";
/// Files of SQLite, the second and third of which may be missing.
const SQLITE: [&str; 3] = ["state.db", "state.db-wal", "state.db-shm"];
/// The only version of a mark.
const VERSION: u32 = 1;

type Found<T> = Result<(T, String), Trouble>;

/// What stands beside a datastore on a data disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    version: u32,
    cluster: String,
    node: String,
    /// The node was Ready with it.
    ready: bool,
    /// Kiln made the disk in the boot that wrote this mark.
    #[serde(default)]
    made: bool,
    /// When the disk was made, by the cluster's clocks: seconds since 1970. It may have been a while before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

impl Mark {
    fn new(join: &Join) -> Self {
        let (cluster, node) = (join.cluster.clone(), join.node.clone());
        Self { version: VERSION, cluster, node, ready: false, made: false, since: None }
    }

    /// The one on a data disk; nothing where there is none.
    fn read(top: &Path) -> io::Result<Option<Self>> {
        match fs::read(top.join(MARK)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What was found on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) here: Here,
    /// The data disk's own word that the node was Ready with it.
    pub(super) was_ready: bool,
}

/// Looks at what lies on the node. A data disk that is not there is waited for: an empty folder in its place says nothing.
pub(super) fn look(around: &Around, join: &Join, store: &Store) -> Found<Local> {
    let (was_ready, place) = match &store.data {
        Some(disk) => (placed(around, join, disk)?, format!("the data disk {}", disk.disk)),
        None => (false, "this node".to_owned()),
    };
    let here = here(&around.path(DATABASE)).map_err(|error| unread(DATABASE, &error))?;
    let said = match here {
        Here::Nothing => format!("{place} has none"),
        Here::Etcd => format!("{place} has etcd's"),
        Here::Sqlite => format!("{place} has SQLite's"),
        Here::HalfTurned => format!("{place} has SQLite's, half of it turned into etcd"),
    };
    Ok((Local { here, was_ready }, said))
}

fn unread(path: &str, error: &io::Error) -> Trouble {
    Trouble::new(Cause::DatastoreUnread, format!("{path}: {error}"))
}

fn here(folder: &Path) -> io::Result<Here> {
    if folder.is_symlink() && !folder.try_exists()? {
        return Err(io::Error::new(ErrorKind::NotFound, "it is a link to a place that is not there"));
    }
    let is_there = |name: &str| folder.join(name).try_exists();
    // k3s puts a datastore with a tombstone aside: another server has taken the member out.
    let etcd = is_there("etcd/member/wal")? && !is_there("etcd/tombstone")?;
    Ok(match (etcd, is_there(SQLITE[0])?, is_there(TURNING)?) {
        (true, true, true) => Here::HalfTurned,
        (true, ..) => Here::Etcd,
        (false, true, _) => Here::Sqlite,
        (false, false, _) => Here::Nothing,
    })
}

/// Sees to it that k3s' folder is the one on the data disk; true when the node was Ready with it.
fn placed(around: &Around, join: &Join, disk: &Disk) -> Result<bool, Trouble> {
    let shown = format!("{} ({})", disk.disk, disk.mount_point);
    if !is_mounted(around, &disk.mount_point).map_err(|error| unread("/proc/self/mountinfo", &error))? {
        return Err(Trouble::new(Cause::NoDisk, shown));
    }
    let top = around.path(&disk.mount_point).join(ON_DISK);
    let folder = top.join("db");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| unread(&shown, &error))?;
    let mark = match Mark::read(&top).map_err(|error| unread(&format!("{shown}: {MARK}"), &error))? {
        Some(mark) => mark,
        None => {
            let mark = Mark { made: made_by(around, BOOT_RECORD, &disk.disk), ..Mark::new(join) };
            marked(&top, &mark).map_err(|error| unread(&shown, &error))?;
            mark
        }
    };
    if (mark.cluster.as_str(), mark.node.as_str()) != (join.cluster.as_str(), join.node.as_str()) {
        let facts = format!("{shown} holds that of node {} of cluster {}", mark.node, mark.cluster);
        return Err(Trouble::new(Cause::ForeignDatastore, facts));
    }
    linked(around, disk).map_err(|error| match error.kind() {
        ErrorKind::DirectoryNotEmpty => Trouble::new(Cause::DatastoreInTheWay, shown),
        _ => unread(DATABASE, &error),
    })?;
    Ok(mark.ready)
}

/// A link of k3s' folder to the disk: where the disk is missing, k3s has no folder and can't begin an empty one.
fn linked(around: &Around, disk: &Disk) -> io::Result<()> {
    let link = around.path(DATABASE);
    // Relative, so that it leads to the same place from outside of the root.
    let up = "../".repeat(DATABASE.matches('/').count() - 1);
    let target = format!("{up}{}/{ON_DISK}/db", disk.mount_point.trim_start_matches('/'));
    match fs::symlink_metadata(&link) {
        Ok(meta) if meta.is_symlink() => {
            if fs::read_link(&link)? == Path::new(&target) {
                return Ok(());
            }
            // It led to another disk: what is there stays there.
            fs::remove_file(&link)?;
        }
        Ok(_) => fs::remove_dir(&link)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = link.parent().unwrap_or(Path::new("/"));
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        Err(error) => return Err(error),
    }
    symlink(target, &link)
}

/// Is anything mounted there (proc_pid_mountinfo(5): the fifth field, with octal escapes)?
fn is_mounted(around: &Around, place: &str) -> io::Result<bool> {
    let text = fs::read_to_string(around.path("/proc/self/mountinfo"))?;
    let place = place.trim_end_matches('/').replace('\\', "\\134").replace(' ', "\\040");
    Ok(text.lines().any(|line| line.split(' ').nth(4) == Some(place.as_str())))
}

/// The node is Ready with what lies on the data disk.
pub(super) fn was_ready(around: &Around, join: &Join, store: &Store) {
    let database = around.path(DATABASE);
    let _ = fs::remove_file(database.join(TURNING));
    let Some(disk) = &store.data else { return };
    let top = around.path(&disk.mount_point).join(ON_DISK);
    let mark = Mark::read(&top).ok().flatten().unwrap_or_else(|| Mark::new(join));
    // Without it the node only knows less of its past.
    let _ = marked(&top, &Mark { ready: true, ..mark });
}

/// Did the boot of that record make this data disk?
fn made_by(around: &Around, record: &str, disk: &str) -> bool {
    let record = fs::read(around.path(record)).ok();
    let record = record.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    record.into_iter().flat_map(|record| record.plan.disks).any(|decision| match decision.action {
        Action::Provision(place) | Action::Resume(place) | Action::Erase(place, _) => place.slot == disk,
        _ => false,
    })
}

/// Why the datastore is empty, and when what it would be in was made, as far as it knows. `progress` is of the system's own
/// state, which may be older than the data disk.
pub(super) fn emptied(
    around: &Around,
    join: &Join,
    progress: &Progress,
) -> Result<(Emptied, Option<u64>), Trouble> {
    let Some(store) = &join.store else { return Ok((Emptied::BySomebody, None)) };
    let (local, _) = look(around, join, store)?;
    if local.here != Here::Nothing {
        return Ok((Emptied::Not, None));
    }
    let was_ready = progress.was_ready();
    let (made, since) = match &store.data {
        None => (!was_ready, progress.made),
        Some(disk) => {
            let top = around.path(&disk.mount_point).join(ON_DISK);
            let mark = Mark::read(&top).map_err(|error| unread(&disk.disk, &error))?;
            let mark = mark.unwrap_or_else(|| Mark::new(join));
            // A boot of this very state made it, and the node was not Ready since.
            let before = !was_ready && made_by(around, RECORD, &disk.disk);
            (!mark.ready && (mark.made || before), mark.since)
        }
    };
    Ok((if made { Emptied::Made } else { Emptied::BySomebody }, since))
}

/// Notes when this state and its data disk were made at the latest, unless that is known; `now` is a pinned server's word.
/// What was made was made after this boot began, as a rule.
pub(super) fn aged(around: &Around, join: &Join, (progress, now): (&mut Progress, u64)) {
    let uptime = fs::read_to_string(around.path("/proc/uptime")).unwrap_or_default();
    let uptime = uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let made = now.saturating_sub(uptime);
    progress.made.get_or_insert(made);
    let Some(disk) = join.store.as_ref().and_then(|store| store.data.as_ref()) else { return };
    let top = around.path(&disk.mount_point).join(ON_DISK);
    if let Ok(Some(mark)) = Mark::read(&top)
        && mark.since.is_none()
    {
        let _ = marked(&top, &Mark { since: Some(made), ..mark });
    }
}

fn marked(top: &Path, mark: &Mark) -> io::Result<()> {
    put(&top.join(MARK), &serde_json::to_vec(mark)?)
}

/// Beside, then renamed: a cut leaves the old one or the new one.
pub(super) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Asks every other server at its own address whether it is one of this cluster and takes servers.
pub(super) fn ask(around: &Around, join: &Join, store: &Store) -> Vec<Said> {
    store.others.iter().map(|peer| asked(around, join, peer)).collect()
}

fn asked(around: &Around, join: &Join, peer: &Peer) -> Said {
    let question = || {
        let (dial, _) = server::find(around, &peer.server)?;
        server::reach(&dial)?;
        server::recognise(around, join, &dial)?;
        server::bootstrap(around, join, &dial)
    };
    match question() {
        Ok(200) => Said::Takes,
        Ok(400) => Said::Alone,
        Ok(status) => Said::Unsure(server::refused(status, server::BOOTSTRAP).said()),
        Err(trouble) => match trouble.cause {
            Cause::NameUnknown
            | Cause::Refused
            | Cause::Unreachable
            | Cause::Silent
            | Cause::OtherCa
            | Cause::NotTls => Said::Silent(trouble.said()),
            _ => Said::Unsure(trouble.said()),
        },
    }
}

/// All that the decision rests on.
pub(super) fn facts<'a>(join: &Join, store: &'a Store, local: Local, said: &'a [Said]) -> Facts<'a> {
    Facts { first: join.first, store, here: local.here, was_ready: local.was_ready, said }
}

/// Why the decision is to wait, in words.
pub(super) fn waits(why: Why) -> Trouble {
    match why {
        Why::NoWord { silent } => Trouble::new(Cause::NoFoundingWord, silent),
        Why::Spent { silent } => Trouble::new(Cause::FoundingSpent, silent),
        Why::Unsure { name, said } => Trouble::new(Cause::OtherUnsure, format!("{name} ({said})")),
        Why::OtherAlone { name } => Trouble::new(Cause::OtherAlone, name),
        Why::Two { name } => Trouble::new(Cause::TwoDatastores, name),
        Why::NotFirst => Trouble::new(Cause::SqliteNotFirst, ""),
    }
}

/// What k3s is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told<'a> {
    /// Nothing but what the seed says.
    Nothing,
    /// To begin etcd.
    Init,
    /// To join this server.
    Server(&'a Endpoint),
}

/// Writes what k3s is told, or removes what it was told before.
pub(super) fn tell(around: &Around, join: &Join, told: Told<'_>) -> Result<(), Trouble> {
    let path = around.path(CONFIG);
    let text = match told {
        Told::Nothing => String::new(),
        Told::Init => "cluster-init: true\n".to_owned(),
        Told::Server(Endpoint { host, port }) => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            format!("server: \"https://{host}:{port}\"\ntoken-file: \"{}\"\n", join.token_file)
        }
    };
    let write = || {
        if text.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        let head = "# Of `kiln-firstboot join`, which decides at each start what k3s begins with.\n";
        put(&path, format!("{head}{text}").as_bytes())
    };
    write().map_err(|error| Trouble::new(Cause::NotConfigured, format!("{CONFIG}: {error}")))
}

/// Makes SQLite ready to be turned into etcd: it is copied first, and etcd that a cut left half is put aside.
pub(super) fn copied(around: &Around, here: Here) -> Found<()> {
    let folder = around.path(DATABASE);
    let work = || -> io::Result<String> {
        if here == Here::HalfTurned {
            fs::rename(folder.join("etcd"), free(&folder, HALF)?)?;
            sync_folder(&folder)?;
            return Ok(format!(
                "it was cut: what etcd had of it is put aside, and SQLite's files are in {DATABASE}/{COPY}"
            ));
        }
        let (kept, beside) = (free(&folder, COPY)?, folder.join("kiln-copy"));
        let _ = fs::remove_dir_all(&beside);
        DirBuilder::new().mode(0o700).create(&beside)?;
        for name in SQLITE {
            match File::open(folder.join(name)) {
                Ok(mut from) => {
                    let mut to = File::options()
                        .write(true)
                        .create(true)
                        .truncate(true)
                        .mode(0o600)
                        .open(beside.join(name))?;
                    io::copy(&mut from, &mut to)?;
                    to.sync_all()?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        sync_folder(&beside)?;
        fs::rename(&beside, &kept)?;
        put(&folder.join(TURNING), b"")?;
        Ok(format!(
            "SQLite's files are copied to {DATABASE}/{}",
            kept.file_name().unwrap_or_default().to_string_lossy()
        ))
    };
    match work() {
        Ok(said) => Ok(((), said)),
        Err(error) => Err(Trouble::new(Cause::NotCopied, format!("{DATABASE}: {error}"))),
    }
}

/// A name that nothing has yet.
fn free(folder: &Path, name: &str) -> io::Result<std::path::PathBuf> {
    let names = std::iter::once(name.to_owned()).chain((2..1000).map(|number| format!("{name}-{number}")));
    for name in names {
        let path = folder.join(name);
        if !path.try_exists()? {
            return Ok(path);
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, format!("{name} and 998 more")))
}

#[cfg(test)]
mod tests;
