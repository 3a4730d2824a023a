//! What the seed left of secrets is overwritten and removed once the node has joined: files, the seed itself, and cloud-init's
//! copies. All of it can be cut anywhere and done again. What a flash medium keeps of overwritten blocks is out of reach.

use super::Around;
use super::words::{Cause, Trouble};
use crate::chap::{self, Found};
use crate::sys;
use kiln_contract::credentials;
use kiln_contract::handoff::{self, Handoff, RUNTIME_PATH};
use kiln_contract::join::{AFTER, Join, Seed};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the seed's volume is mounted for the while; root alone looks in.
const MOUNT_POINT: &str = "/run/kiln/seed";
/// Copies of the user-data, of each instance (cloud-init, cloudinit/helpers.py: Paths.lookups) and of this boot
/// (cloudinit/settings.py: RUN_CLOUD_CONFIG…). None of them is needed again: as long as the seed is there, cloud-init reads
/// it at every boot, knows the instance by its id (`/var/lib/cloud/data/previous-instance-id`) and writes them anew.
const INSTANCE_COPIES: [&str; 5] =
    ["user-data.txt", "user-data.txt.i", "cloud-config.txt", "combined-cloud-config.json", "obj.pkl"];
const RUN_COPIES: [&str; 2] =
    ["/run/cloud-init/combined-cloud-config.json", "/run/cloud-init/instance-data-sensitive.json"];

/// What is to be removed.
#[derive(Debug)]
pub(super) struct Left<'a> {
    /// Files on the node.
    pub(super) files: &'a [String],
    /// Where the seed is.
    pub(super) seed: &'a Seed,
}

impl<'a> From<&'a Join> for Left<'a> {
    fn from(join: &'a Join) -> Self {
        Self { files: &join.shred, seed: &join.seed }
    }
}

/// True when a secret lies where it has no business any more: a node that has joined may have been given its seed anew.
pub(super) fn is_left(around: &Around, left: &Left<'_>) -> bool {
    let unclean = |top: &Path| Ok(compare(top)?.0 == State::Secret || chap::is_in(&top.join(handoff::PATH))?);
    let seed = match left.seed {
        Seed::Network => Ok(false),
        Seed::Folder(path) => unclean(&around.path(path)),
        Seed::Volume => match volume(around).filter(|volume| !is_iso(&volume.device)) {
            Some(volume) => mounted(around, &volume.device, sys::read_only_data(), |top| {
                Ok(volume.is_ours(top) && unclean(top)?)
            }),
            None => Ok(false),
        },
    };
    left.files.iter().any(|path| around.path(path).exists()) || seed.unwrap_or(false)
}

/// Removes them all; what can't be is said, and tried again where that may help.
pub(super) fn run(around: &Around, left: &Left<'_>) -> Result<((), String), Trouble> {
    // Its last stage reads the copies; the links are made at the beginning and at the end of its work.
    if around.path("/run/cloud-init/status.json").exists()
        && !around.path("/run/cloud-init/result.json").exists()
    {
        return Err(Trouble::new(Cause::CloudInitRuns, ""));
    }
    written(around)?;
    let seed = seed(around, left)?;
    let copies = copies(around);
    let listed = left.files.iter().map(|path| around.path(path));
    let mut gone = 0;
    for path in listed.chain(copies) {
        let removed = shred(&path);
        gone += usize::from(
            removed
                .map_err(|error| Trouble::new(Cause::NotShredded, format!("{}: {error}", path.display())))?,
        );
    }
    Ok(((), format!("{gone} files with secrets are gone; {seed}")))
}

/// What cloud-init wrote is on the medium: it has not waited for that, and the seed has it no longer.
fn written(around: &Around) -> Result<(), Trouble> {
    for folder in ["/etc", "/var"].map(|path| around.path(path)).iter().filter(|folder| folder.exists()) {
        sys::sync_file_system(folder)
            .map_err(|error| Trouble::new(Cause::NotShredded, format!("{}: {error}", folder.display())))?;
    }
    Ok(())
}

/// Overwrites a file in its place and removes it; false when there is none.
fn shred(path: &Path) -> io::Result<bool> {
    match overwrite(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        done => done?,
    }
    fs::remove_file(path)?;
    sync_folder(path)?;
    Ok(true)
}

/// Zeros, as many as there were bytes.
fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// cloud-init's copies that exist.
fn copies(around: &Around) -> Vec<PathBuf> {
    let instances = fs::read_dir(around.path("/var/lib/cloud/instances")).into_iter().flatten();
    let folders = instances.filter_map(|entry| Some(entry.ok()?.path()));
    let of = |folder: PathBuf| INSTANCE_COPIES.map(|name| folder.join(name));
    let run = RUN_COPIES.into_iter().map(|path| around.path(path));
    folders.flat_map(of).chain(run).filter(|path| path.is_file()).collect()
}

/// Puts the seed without secrets in the place of the one with them; what became of it.
fn seed(around: &Around, left: &Left<'_>) -> Result<String, Trouble> {
    let kept = around.path(credentials::PATH);
    let clean = |top: &Path| clean(top, &kept);
    let failed = |what: &str, error: &io::Error| Trouble::new(Cause::NotShredded, format!("{what}: {error}"));
    match left.seed {
        Seed::Network => {
            Ok("the seed's server still has them, and cloud-init fetches them at every boot".to_owned())
        }
        Seed::Folder(path) => clean(&around.path(path)).map_err(|error| failed(path, &error)),
        Seed::Volume => {
            let Some(volume) = volume(around) else {
                return Ok("there is no seed volume any more".to_owned());
            };
            let shown = volume.device.display().to_string();
            if is_iso(&volume.device) {
                return Ok(format!("the seed {shown} is read-only: take it out"));
            }
            let work = |top: &Path| {
                if volume.is_ours(top) { clean(top) } else { Ok(format!("{shown} is another node's seed")) }
            };
            mounted(around, &volume.device, sys::quiet(), work).map_err(|error| failed(&shown, &error))
        }
    }
}

/// The volume that a seed is on.
#[derive(Debug)]
struct Volume {
    device: PathBuf,
    /// The document that this node was booted or set up with, where it is known.
    handoff: Option<Handoff>,
}

impl Volume {
    /// Whose seed it is: a label does not say, and somebody may have plugged in another node's.
    fn is_ours(&self, top: &Path) -> bool {
        let Some(ours) = &self.handoff else { return true };
        let there = fs::read(top.join(handoff::PATH)).ok().and_then(|bytes| Handoff::parse(&bytes).ok());
        there.is_some_and(|there| there.cluster.id == ours.cluster.id && there.node.name == ours.node.name)
    }
}

/// The booted disk's own seed where Kiln built it, else what NoCloud looks for.
fn volume(around: &Around) -> Option<Volume> {
    let handoff = fs::read(around.path(RUNTIME_PATH)).ok().and_then(|bytes| Handoff::parse(&bytes).ok());
    let disk = |name: &str| around.path("/dev/disk").join(name);
    // A stock image is told of the document's partitions, too, and has none of them.
    let partitions = handoff.as_ref().map(|handoff| &handoff.partitions);
    let built = partitions.filter(|its| {
        [its.root_a, its.root_b].iter().any(|root| disk(&format!("by-partuuid/{root}")).exists())
    });
    let names = match built {
        Some(its) => vec![format!("by-partuuid/{}", its.cidata)],
        None => vec!["by-label/CIDATA".to_owned(), "by-label/cidata".to_owned()],
    };
    let device = names.iter().map(|name| disk(name)).find(|path| path.exists())?;
    Some(Volume { device, handoff })
}

/// ECMA-119, section 8: the first volume descriptor is sector 16, its identifier the bytes after the first.
fn is_iso(device: &Path) -> bool {
    let read = || -> io::Result<[u8; 5]> {
        let mut file = File::open(device)?;
        file.seek(SeekFrom::Start(16 * 2048 + 1))?;
        let mut bytes = [0; 5];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().is_ok_and(|bytes| bytes == *b"CD001")
}

fn mounted<T>(
    around: &Around,
    device: &Path,
    flags: sys::Flags,
    work: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let point = around.path(MOUNT_POINT);
    DirBuilder::new().recursive(true).mode(0o700).create(&point)?;
    let (from, to) = (device.to_string_lossy(), point.to_string_lossy());
    sys::mount(&from, &to, "vfat", (flags, "umask=0077"))?;
    let result = work(&point);
    let synced = sys::sync_file_system(&point);
    sys::unmount(&to)?;
    let _ = fs::remove_dir(&point);
    synced?;
    result
}

/// What a seed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its `user-data` is the one for afterwards.
    Clean,
    /// It is not.
    Secret,
    /// There is none for afterwards.
    Bare,
}

/// What a seed is, and its `user-data` for afterwards.
fn compare(top: &Path) -> io::Result<(State, Vec<u8>)> {
    let read = |path: &str| match fs::read(top.join(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    };
    let Some(after) = read(AFTER)? else { return Ok((State::Bare, Vec::new())) };
    let state = if read("user-data")?.as_ref() == Some(&after) { State::Clean } else { State::Secret };
    Ok((state, after))
}

/// A seed without secrets, and what became of them in words.
fn clean(top: &Path, kept: &Path) -> io::Result<String> {
    let state = clean_user_data(top)?;
    let chap = chap::move_out(&top.join(handoff::PATH), kept)?;
    Ok(match (state, chap) {
        (State::Bare, Found::None) => "the seed keeps them: it has nothing to put in their place".to_owned(),
        (_, Found::None) => "the seed is clean".to_owned(),
        (_, Found::Moved) => {
            format!("the seed is clean, and CHAP names and passwords are in {}", credentials::PATH)
        }
    })
}

/// `user-data` becomes what lies beside it for afterwards. A cut before the new name leaves zeros there, which cloud-init
/// warns of and this does again.
fn clean_user_data(top: &Path) -> io::Result<State> {
    let (now, beside) = (top.join("user-data"), top.join("user-data.new"));
    let (state, after) = compare(top)?;
    if state != State::Secret {
        return Ok(state);
    }
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&after)?;
    file.sync_all()?;
    if now.exists() {
        overwrite(&now)?;
    }
    fs::rename(&beside, &now)?;
    sync_folder(&now)?;
    Ok(State::Clean)
}

#[cfg(test)]
mod tests {
    use super::{Left, is_iso, run, shred, volume};
    use crate::join::tests::{around, document};
    use crate::join::words::Cause;
    use kiln_contract::join::Seed;
    use std::fs;
    use std::path::Path;

    fn clean(top: &Path) -> std::io::Result<String> {
        super::clean(top, &top.join("../chap.json"))
    }

    const SECRET: &str = "#cloud-config\nsecret: hunter2\n";

    /// A seed folder, and a second name for the file with the secret.
    fn seed(top: &Path) {
        fs::create_dir_all(top.join("kiln/after")).unwrap();
        fs::create_dir_all(top.join("kiln/keys")).unwrap();
        fs::write(top.join("user-data"), SECRET).unwrap();
        fs::write(top.join("meta-data"), "instance-id: x\n").unwrap();
        fs::write(top.join("kiln/keys/state"), "key").unwrap();
        fs::write(top.join("kiln/after/user-data"), "#cloud-config\n").unwrap();
        fs::hard_link(top.join("user-data"), top.join("../held")).unwrap();
    }

    #[test]
    fn the_seed_changes_in_one_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("seed");
        seed(&top);
        for _ in 0..2 {
            assert_eq!(clean(&top).unwrap(), "the seed is clean");
            assert_eq!(fs::read_to_string(top.join("user-data")).unwrap(), "#cloud-config\n");
            // Who holds the old file sees what is left of it.
            assert_eq!(fs::read(folder.path().join("held")).unwrap(), vec![0; SECRET.len()]);
            assert_eq!(fs::read_to_string(top.join("meta-data")).unwrap(), "instance-id: x\n");
            assert_eq!(fs::read_to_string(top.join("kiln/keys/state")).unwrap(), "key");
            assert_eq!(fs::read_dir(&top).unwrap().count(), 3);
        }
    }

    #[test]
    fn a_cut_anywhere_is_made_good() {
        for cut in ["beside", "zeros", "gone"] {
            let folder = tempfile::tempdir().unwrap();
            let top = folder.path().join("seed");
            seed(&top);
            match cut {
                "beside" => fs::write(top.join("user-data.new"), "#clo").unwrap(),
                "zeros" => fs::write(top.join("user-data"), vec![0; SECRET.len()]).unwrap(),
                _ => fs::remove_file(top.join("user-data")).unwrap(),
            }
            clean(&top).unwrap();
            assert_eq!(fs::read_to_string(top.join("user-data")).unwrap(), "#cloud-config\n", "{cut}");
            assert!(!top.join("user-data.new").exists());
        }
    }

    #[test]
    fn a_seed_without_a_replacement_is_left() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("user-data"), SECRET).unwrap();
        assert!(clean(folder.path()).unwrap().starts_with("the seed keeps them"));
        assert_eq!(fs::read_to_string(folder.path().join("user-data")).unwrap(), SECRET);
    }

    #[test]
    fn files_and_copies_go_after_cloud_init_is_done() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, SECRET).unwrap();
            path
        };
        let instance = "var/lib/cloud/instances/i-1";
        let gone = [
            "etc/kiln/x".to_owned(),
            format!("{instance}/user-data.txt"),
            format!("{instance}/obj.pkl"),
            "run/cloud-init/combined-cloud-config.json".to_owned(),
        ]
        .map(|path| put(&path));
        let kept = put(&format!("{instance}/vendor-data.txt"));
        let status = put("run/cloud-init/status.json");
        let mut join = document();
        join.shred = vec!["/etc/kiln/x".to_owned(), "/etc/kiln/never-was".to_owned()];
        join.seed = Seed::Network;
        let around = around(root.path());
        assert_eq!(run(&around, &Left::from(&join)).unwrap_err().cause, Cause::CloudInitRuns);
        assert!(gone.iter().all(|path| path.exists()));
        put("run/cloud-init/result.json");
        assert!(
            run(&around, &Left::from(&join))
                .unwrap()
                .1
                .starts_with("4 files with secrets are gone; the seed's server")
        );
        assert!(gone.iter().all(|path| !path.exists()));
        assert!(kept.exists() && status.exists());
        assert!(run(&around, &Left::from(&join)).unwrap().1.starts_with("0 files"));
    }

    #[test]
    fn the_volume_is_the_booted_disks_or_the_labelled_one() {
        let root = tempfile::tempdir().unwrap();
        let around = around(root.path());
        let found = || volume(&around).map(|volume| volume.device);
        assert_eq!(found(), None);
        let label = root.path().join("dev/disk/by-label");
        fs::create_dir_all(&label).unwrap();
        fs::write(label.join("cidata"), "").unwrap();
        assert_eq!(found().unwrap(), label.join("cidata"));
        let handoff = r#"{"version":2,"cluster":{"id":"00000000-0000-0000-0000-000000000001","name":"demo"},
            "node":{"name":"k3s2","machine_id":"0123456789abcdef0123456789abcdef"},"partitions":{
            "esp":"00000000-0000-0000-0000-000000000002","cidata":"00000000-0000-0000-0000-000000000003",
            "root_a":"00000000-0000-0000-0000-000000000004","root_b":"00000000-0000-0000-0000-000000000005",
            "state":"00000000-0000-0000-0000-000000000006","state_filesystem":"00000000-0000-0000-0000-000000000007"}}"#;
        fs::create_dir_all(root.path().join("run/kiln")).unwrap();
        fs::write(root.path().join("run/kiln/handoff.json"), handoff).unwrap();
        // On a stock image the same volume, if it is this node's.
        assert_eq!(found().unwrap(), label.join("cidata"));
        let seed = root.path().join("seed");
        fs::create_dir_all(seed.join("kiln")).unwrap();
        let is_ours = |text: &str| {
            fs::write(seed.join("kiln/handoff.json"), text).unwrap();
            volume(&around).unwrap().is_ours(&seed)
        };
        assert!(is_ours(handoff));
        assert!(!is_ours(&handoff.replace("k3s2", "k3s1")));
        assert!(!is_ours(&handoff.replace("000000000001", "000000000009")));
        assert!(!is_ours("{"));
        // On Kiln's image any other disk's seed is another machine's.
        let own = root.path().join("dev/disk/by-partuuid");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("00000000-0000-0000-0000-000000000004"), "").unwrap();
        assert_eq!(found(), None);
        fs::write(own.join("00000000-0000-0000-0000-000000000003"), "").unwrap();
        assert_eq!(found().unwrap(), own.join("00000000-0000-0000-0000-000000000003"));
    }

    #[test]
    fn nothing_to_shred_is_fine_and_discs_are_known() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!shred(&folder.path().join("none")).unwrap());
        let disc = folder.path().join("disc");
        fs::write(&disc, vec![0; 40_000]).unwrap();
        assert!(!is_iso(&disc));
        let mut bytes = vec![0; 40_000];
        bytes[32_769..32_774].copy_from_slice(b"CD001");
        fs::write(&disc, bytes).unwrap();
        assert!(is_iso(&disc));
    }
}
