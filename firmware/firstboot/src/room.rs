//! Room on the state partition: some is kept back at every boot and given away when there is none left, so that a node whose
//! /var is full to the last byte still starts as a node that can be reached; and what the report says of disks that are full.

use crate::disks::human_up;
use crate::handed;
use crate::steps::Steps;
use crate::sys::{self, Room};
use kiln_contract::plan::human;
use std::fs;
use std::io;
use std::path::Path;

/// The file that keeps room, below /var. Who needs room may remove it: the next boot makes it again.
const RESERVE: &str = "lib/kiln/reserve";
/// What it has of the file system, and at least and at most (bytes).
const SHARE: u64 = 64;
const LEAST: u64 = 16 << 20;
const MOST: u64 = 256 << 20;
/// It is made when this many times as much is free.
const PLENTY: u64 = 4;

fn wanted(room: &Room) -> u64 {
    (room.bytes / SHARE).clamp(LEAST, MOST)
}

/// Keeps room back on the file system of /var, which is mounted at `top`, or gives it away.
pub(crate) fn keep(steps: &mut Steps, source: &str, top: &Path) {
    match settle(top) {
        Ok(None) => {}
        Ok(Some(room)) => steps.problem(format!(
            "/var is full: {source} has {} left; what was kept back is given away, so that the node starts: free some room and \
             restart",
            left(&room)
        )),
        Err(error) => steps.note("state", source, &format!("no room is kept back: {error}")),
    }
}

/// Gives what was found when that is too little.
fn settle(top: &Path) -> io::Result<Option<Room>> {
    let (room, path) = (sys::room(top)?, top.join(RESERVE));
    let wanted = wanted(&room);
    if room.free < wanted || room.inodes_free == 0 {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(Some(room)),
        }
    }
    let has = fs::metadata(&path).map_or(0, |file| file.len());
    if has < wanted && room.free >= PLENTY * wanted {
        fs::create_dir_all(path.parent().unwrap_or(top))?;
        // A cut leaves a file that is too short, and is made longer.
        sys::allocate(&fs::File::options().create(true).append(true).open(&path)?, wanted)?;
    }
    Ok(None)
}

/// `12.0 MiB of 2.5 GiB and 163000 of 163840 inodes`.
fn left(room: &Room) -> String {
    let Room { bytes, available, inodes, inodes_free, .. } = room;
    format!("{} of {} and {inodes_free} of {inodes} inodes", human(*available), human_up(*bytes))
}

/// A reason for each file system of the node's own that is full or nearly: /var, and the data disks.
pub(crate) fn reasons() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let handed = handed::read().map(|handed| handed.handoff.disks.data).unwrap_or_default();
    let slots = handed.iter().flat_map(|rule| &rule.slots).filter_map(|slot| slot.mount_point.clone());
    let places = std::iter::once("/var".to_owned()).chain(slots);
    places.filter_map(|place| full(Path::new(&place), &mounts)).collect()
}

/// What to say of the file system that is mounted there, when less than a hundredth is left to anybody but root.
fn full(place: &Path, mountinfo: &str) -> Option<String> {
    let place = fs::canonicalize(place).ok()?;
    let source = source(mountinfo, &place)?;
    let room = sys::room(&place).ok()?;
    let scarce =
        room.available < room.bytes / 100 || (room.inodes > 0 && room.inodes_free < room.inodes / 100);
    let place = place.display();
    scarce.then(|| {
        format!(
            "{place} is full: {source} has {} left; `sudo du -xh --max-depth=3 {place} | sort -h | tail` shows what has them",
            left(&room)
        )
    })
}

/// What is mounted at that place, last of all (proc_pid_mountinfo(5): the source is the second word behind the hyphen).
fn source(mountinfo: &str, place: &Path) -> Option<String> {
    let is_there = |line: &&str| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == place);
    let line = mountinfo.lines().rfind(is_there)?;
    line.split(" - ").nth(1)?.split(' ').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{RESERVE, full, settle, source};
    use crate::format::run;
    use crate::sys;
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::{Path, PathBuf};

    /// A file system that is mounted.
    struct Mounted(PathBuf);

    impl Mounted {
        /// Nothing without root.
        fn new(folder: &Path, options: &[&str]) -> Option<Self> {
            let (image, top) = (folder.join("image"), folder.join("top"));
            File::create(&image).unwrap().set_len(256 << 20).unwrap();
            let image = image.display().to_string();
            run("/usr/sbin/mke2fs", [&["-q", "-F", "-t", "ext4"], options, &[&image]].concat()).unwrap();
            fs::create_dir(&top).unwrap();
            match run("/usr/bin/mount", ["-o", "loop", &image, &top.display().to_string()]) {
                Ok(_) => Some(Self(top)),
                Err(error) => {
                    eprintln!("SKIPPED, nothing can be mounted here: {error}");
                    None
                }
            }
        }

        fn mountinfo() -> String {
            fs::read_to_string("/proc/self/mountinfo").unwrap()
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = run("/usr/bin/umount", [&self.0]);
        }
    }

    fn fill(path: &Path) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        let chunk = vec![7; 1 << 20];
        while file.write_all(&chunk).is_ok() {}
        while file.write_all(&[7]).is_ok() {}
    }

    /// Filled by root to the last byte: the next boot has room to write, and says what is wrong.
    #[test]
    fn a_full_file_system_has_room_at_the_next_boot() {
        let folder = tempfile::tempdir().unwrap();
        let Some(Mounted(top)) = &Mounted::new(folder.path(), &["-m", "2"]) else { return };
        assert!(settle(top).unwrap().is_none());
        assert!(settle(top).unwrap().is_none());
        assert_eq!(fs::metadata(top.join(RESERVE)).unwrap().len(), 16 << 20);
        assert_eq!(full(top, &Mounted::mountinfo()), None);
        fill(&top.join("filled"));
        let said = full(top, &Mounted::mountinfo()).unwrap();
        let device = source(&Mounted::mountinfo(), top).unwrap();
        assert!(said.contains(&format!("is full: {device} has 0 B of ")), "{said}");
        assert!(fs::write(top.join("more"), [7; 4096]).is_err());

        let found = settle(top).unwrap().unwrap();
        assert_eq!(found.available, 0);
        fs::write(top.join("more"), vec![7; 8 << 20]).unwrap();
        // Still full, and nothing is left to give away.
        assert!(settle(top).unwrap().is_some());
        fs::remove_file(top.join("filled")).unwrap();
        assert!(settle(top).unwrap().is_none() && top.join(RESERVE).exists());
    }

    #[test]
    fn a_file_system_without_inodes_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let Some(Mounted(top)) = &Mounted::new(folder.path(), &["-N", "512"]) else { return };
        assert!(settle(top).unwrap().is_none());
        let mut number = 0;
        while File::create(top.join(number.to_string())).is_ok() {
            number += 1;
        }
        let said = full(top, &Mounted::mountinfo()).unwrap();
        assert!(said.contains(" and 0 of 512 inodes left"), "{said}");
        assert!(settle(top).unwrap().is_some());
        fs::write(top.join("one more"), "").unwrap();
        assert_eq!(sys::room(top).unwrap().inodes_free, 0);
    }
}
