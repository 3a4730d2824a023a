//! What the seed left of secrets is overwritten and removed once the node has joined: files, the seed itself, and cloud-init's
//! copies. All of it can be cut anywhere and done again. What a flash medium keeps of overwritten blocks is out of reach.

use super::Around;
use super::words::{Cause, Trouble};
use crate::booted::{self, Chosen};
use crate::chap::{self, Found};
use crate::{seeded, sys};
use kiln_contract::credentials;
use kiln_contract::handoff::{self, Handoff, RUNTIME_PATH, SEED_FOLDER};
use kiln_contract::join::{AFTER, Join, Seed};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the seed's volume is mounted for the while; root alone looks in.
const MOUNT_POINT: &str = "/run/kiln/seed-volume";
/// Labels that NoCloud looks for; where a volume carries them, udev's record of it says so (libblkid's names).
const LABELS: [&str; 2] = ["E:ID_FS_LABEL=CIDATA", "E:ID_FS_LABEL=cidata"];
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
    let seed: io::Result<bool> = match left.seed {
        Seed::Network => Ok(false),
        Seed::Folder(path) => unclean(&around.path(path)),
        Seed::Volume => {
            let volumes = volumes(around).into_iter().filter(|volume| !is_iso(&volume.device));
            let mut unclean = volumes.map(|volume| {
                mounted(around, &volume.device, sys::read_only_data(), |top| {
                    Ok(volume.is_ours(top) && unclean(top)?)
                })
            });
            Ok(unclean.any(|one| one.unwrap_or(false)))
        }
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
    // From here on nobody can begin anew: the seed will not have it any more.
    if around.path("/run/cloud-init/result.json").exists() {
        seeded::end(&around.root)
            .map_err(|error| Trouble::new(Cause::NotShredded, format!("/var/lib/kiln: {error}")))?;
    }
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
            let volumes = volumes(around);
            if volumes.is_empty() {
                return Ok("there is no seed volume any more".to_owned());
            }
            let all = volumes.iter().map(|volume| {
                let shown = volume.device.display().to_string();
                if is_iso(&volume.device) {
                    return Ok(format!("the seed {shown} is read-only: take it out"));
                }
                let work = |top: &Path| {
                    if !volume.is_ours(top) {
                        return Ok(format!("{shown} is another node's seed"));
                    }
                    laid(around, top)?;
                    clean(top)
                };
                mounted(around, &volume.device, sys::quiet(), work).map_err(|error| failed(&shown, &error))
            });
            Ok(all.collect::<Result<Vec<_>, _>>()?.join("; "))
        }
    }
}

/// What cloud-init was given in this boot loses its secrets as the volume does, and first: it is gone with the next boot.
fn laid(around: &Around, top: &Path) -> io::Result<()> {
    let laid = around.path(SEED_FOLDER).join("user-data");
    let (State::Clean | State::Secret, after) = compare(top)? else { return Ok(()) };
    if laid.exists() && fs::read(&laid)? != after {
        overwrite(&laid)?;
        fs::write(&laid, after)?;
    }
    Ok(())
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

/// The seed of the disk that was booted, where Kiln built it. Else all that NoCloud takes for one, since a label may be on several:
/// whose each is, only the volume itself says.
fn volumes(around: &Around) -> Vec<Volume> {
    let handoff = fs::read(around.path(RUNTIME_PATH)).ok().and_then(|bytes| Handoff::parse(&bytes).ok());
    let (sysfs, dev) = (around.path("/sys"), around.path("/dev"));
    let mut devices = match Chosen::read(&around.path(booted::PATH)) {
        Some(chosen) => chosen.device((&sysfs, &dev), chosen.seed).into_iter().collect(),
        None => labelled(around, (&sysfs, &dev)),
    };
    devices.sort();
    devices.dedup();
    devices.into_iter().map(|device| Volume { device, handoff: handoff.clone() }).collect()
}

/// Devices with the label: udev makes a link to one of them only, and keeps a record of each (sd-device(3)).
fn labelled(around: &Around, (sysfs, dev): (&Path, &Path)) -> Vec<PathBuf> {
    let links = ["CIDATA", "cidata"].map(|label| dev.join("disk/by-label").join(label));
    let links = links.into_iter().filter_map(|link| link.canonicalize().ok());
    let names = fs::read_dir(sysfs.join("class/block")).into_iter().flatten().flatten();
    let recorded = names.filter_map(|entry| {
        let number = fs::read_to_string(entry.path().join("dev")).ok()?;
        let record = around.path("/run/udev/data").join(format!("b{}", number.trim()));
        let record = fs::read_to_string(record).ok()?;
        let is_labelled = record.lines().any(|line| LABELS.contains(&line));
        is_labelled.then(|| dev.join(entry.file_name()))
    });
    links.chain(recorded).collect()
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
    use super::{Left, is_iso, run, shred, volumes};
    use crate::booted::tests::appear;
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
        // A later boot must not begin anew: what the seed said is nowhere else any more.
        assert!(root.path().join("var/lib/kiln/seeded").exists());
        assert!(run(&around, &Left::from(&join)).unwrap().1.starts_with("0 files"));
    }

    const HANDOFF: &str = r#"{"version":2,"cluster":{"id":"00000000-0000-0000-0000-000000000001","name":"demo"},
        "node":{"name":"k3s2","machine_id":"0123456789abcdef0123456789abcdef"},"partitions":{
        "esp":"00000000-0000-0000-0000-000000000002","cidata":"00000000-0000-0000-0000-000000000003",
        "root_a":"00000000-0000-0000-0000-000000000004","root_b":"00000000-0000-0000-0000-000000000005",
        "state":"00000000-0000-0000-0000-000000000006","state_filesystem":"00000000-0000-0000-0000-000000000007"}}"#;

    /// On a system that Kiln did not build: whatever has the label, and of them those that are this node's.
    #[test]
    fn all_labelled_volumes_are_looked_at_and_only_ours_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let around = around(root.path());
        let found = || {
            let names = volumes(&around).into_iter().map(|volume| volume.device);
            names.map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found(), [""; 0]);
        for (name, number, record) in [
            ("sda1", "8:1", "E:ID_FS_TYPE=vfat\nE:ID_FS_LABEL=CIDATA\n"),
            ("sdb", "8:16", "E:ID_FS_LABEL=cidata\n"),
            ("sdc", "8:32", "E:ID_FS_LABEL=CIDATA-old\n"),
        ] {
            put(&format!("sys/class/block/{name}/dev"), &format!("{number}\n"));
            put(&format!("run/udev/data/b{number}"), record);
            put(&format!("dev/{name}"), "");
        }
        fs::create_dir_all(root.path().join("dev/disk/by-label")).unwrap();
        std::os::unix::fs::symlink("../../sdb", root.path().join("dev/disk/by-label/cidata")).unwrap();
        assert_eq!(found(), ["sda1", "sdb"]);

        put("run/kiln/handoff.json", HANDOFF);
        let seed = root.path().join("seed");
        fs::create_dir_all(seed.join("kiln")).unwrap();
        let is_ours = |text: &str| {
            fs::write(seed.join("kiln/handoff.json"), text).unwrap();
            volumes(&around)[0].is_ours(&seed)
        };
        assert!(is_ours(HANDOFF));
        assert!(!is_ours(&HANDOFF.replace("k3s2", "k3s1")));
        assert!(!is_ours(&HANDOFF.replace("000000000001", "000000000009")));
        assert!(!is_ours("{"));
    }

    /// On Kiln's image it is the disk that was booted, whatever carries the same label or GUID.
    #[test]
    fn the_volume_is_the_booted_disks() {
        let root = tempfile::tempdir().unwrap();
        let around = around(root.path());
        let chosen = r#"{"disk":"sda","sequence":7,"esp":1,"seed":2}"#;
        fs::create_dir_all(root.path().join("run/kiln")).unwrap();
        fs::write(root.path().join("run/kiln/booted.json"), chosen).unwrap();
        let label = root.path().join("dev/disk/by-label");
        fs::create_dir_all(&label).unwrap();
        fs::write(label.join("CIDATA"), "").unwrap();
        assert!(volumes(&around).is_empty());
        appear(&root.path().join("sys"), "sda", 8);
        appear(&root.path().join("sys"), "sdb", 7);
        let found: Vec<_> = volumes(&around).into_iter().map(|volume| volume.device).collect();
        assert_eq!(found, [root.path().join("dev/sdb2")]);
    }

    #[test]
    fn what_this_boot_was_given_is_cleaned_with_the_volume() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("seed");
        seed(&top);
        let given = root.path().join("run/kiln/seed");
        fs::create_dir_all(&given).unwrap();
        fs::write(given.join("user-data"), SECRET).unwrap();
        super::laid(&around(root.path()), &top).unwrap();
        assert_eq!(fs::read_to_string(given.join("user-data")).unwrap(), "#cloud-config\n");
        assert_eq!(fs::read_to_string(top.join("user-data")).unwrap(), SECRET);
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
