//! The power goes while `kiln build` writes: what the next build takes for whole must be whole.
//!
//! A build onto ext4 on a loop device is cut with ext4's own shutdown (`EXT4_IOC_SHUTDOWN`, Linux, fs/ext4/ioctl.c), which drops
//! what was not flushed, as a power cut does; then the file system is mounted again, and built into again. Two cuts by
//! default, at the moments that matter most; `KILN_BUILD_CUTS=100` cuts at random ones, `KILN_CUTS_SEED` chooses others.

use crate::reproducible::digests;
use kiln_tests::{debian_python, example, kiln, root_or_skip, said, shared, succeed, tool};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `_IOR('X', 125, __u32)`; 1 commits the journal first, so that names are there whose bytes are not, 2 does not.
const SHUT_DOWN: &str = "\
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', int(sys.argv[2])))
";

/// What a build begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    /// Packages alone.
    Cold,
    /// Unpacked packages.
    Unpacked,
    /// Roots, and the images of one node.
    Roots,
    /// All of it, with the images of an older file.
    Older,
}

const STARTS: [Start; 4] = [Start::Cold, Start::Unpacked, Start::Roots, Start::Older];

/// What the cut with this number begins with: what is quick more often.
fn start(number: u64) -> Start {
    match number % 10 {
        0..=5 => Start::Roots,
        6 | 7 => Start::Unpacked,
        8 => Start::Older,
        _ => Start::Cold,
    }
}

/// A file system that can be cut.
struct Disk {
    file: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    fn new(folder: &Path) -> Self {
        let disk = Self { file: folder.join("disk"), mounted: folder.join("mounted") };
        let _ = tool("umount", "mount").arg(&disk.mounted).stderr(Stdio::null()).status();
        fs::create_dir_all(&disk.mounted).unwrap();
        let _ = fs::remove_file(&disk.file);
        fs::File::create(&disk.file).unwrap().set_len(6 << 30).unwrap();
        succeed(tool("mke2fs", "e2fsprogs").args(["-q", "-t", "ext4", "-b", "4096"]).arg(&disk.file));
        disk.mount();
        disk
    }

    /// The journal commits every second: names without bytes are to get to the disk.
    fn mount(&self) {
        succeed(tool("mount", "mount").args(["-o", "loop,commit=1"]).arg(&self.file).arg(&self.mounted));
    }

    fn unmount(&self) {
        for _ in 0..50 {
            let output = tool("umount", "mount").arg(&self.mounted).output().unwrap();
            if output.status.success() {
                return;
            }
            sleep(Duration::from_millis(200));
        }
        panic!("{} stays mounted", self.mounted.display());
    }

    fn cut(&self, how: u32) {
        let mut python = debian_python("python3");
        succeed(python.args(["-c", SHUT_DOWN]).arg(&self.mounted).arg(how.to_string()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("umount", "mount").args(["--lazy"]).arg(&self.mounted).status();
        let _ = fs::remove_file(&self.file);
    }
}

struct Site {
    disk: Disk,
}

impl Site {
    fn path(&self, name: &str) -> PathBuf {
        self.disk.mounted.join(name)
    }

    fn build(&self) -> Command {
        let mut command = kiln();
        command
            .env("XDG_CACHE_HOME", self.path("cache"))
            .args(["build", "-v"])
            .current_dir(&self.disk.mounted);
        command
    }

    /// The same file, or one that makes other images.
    fn write(&self, older: bool) {
        let text = fs::read_to_string(kiln_tests::top().join("templates/example/cluster.yaml")).unwrap();
        let other = text.replacen("192.168.86.72/24", "192.168.86.73/24", 1);
        assert_ne!(text, other, "the example has other addresses");
        fs::write(self.path("cluster.yaml"), if older { other } else { text }).unwrap();
    }

    fn begin(&self, start: Start) {
        let gone: &[&str] = match start {
            Start::Cold => &["dist", "cache/kiln/blobs", "cache/kiln/unpacked"],
            Start::Unpacked => &["dist", "cache/kiln/blobs"],
            Start::Roots => &["dist/k3s1"],
            Start::Older => &[],
        };
        for path in gone {
            let _ = fs::remove_dir_all(self.path(path));
        }
        if start == Start::Older {
            self.write(true);
            succeed(&mut self.build());
            self.write(false);
        }
        succeed(tool("sync", "coreutils").arg("-f").arg(&self.disk.mounted));
    }
}

fn ended(child: &mut Child, within: Duration) -> bool {
    let until = Instant::now() + within;
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        sleep(Duration::from_millis(2));
    }
    child.try_wait().unwrap().is_some()
}

fn prepared() -> (Site, PathBuf) {
    example();
    let folder = shared().join("power");
    fs::create_dir_all(&folder).unwrap();
    let site = Site { disk: Disk::new(&folder) };
    fs::create_dir_all(site.path("cache/kiln")).unwrap();
    fs::copy(shared().join("example/kiln.lock"), site.path("kiln.lock")).unwrap();
    for shelf in ["sha256", "unpacked"] {
        let from = shared().join("cache/kiln").join(shelf);
        succeed(tool("cp", "coreutils").arg("-a").arg(from).arg(site.path("cache/kiln/")));
    }
    site.write(false);
    (site, folder)
}

impl Site {
    /// Starts a build, waits until it is time, and cuts; whether the build was over.
    fn cut(&self, how: u32, mut time: impl FnMut(&mut Child) -> bool) -> bool {
        let mut child = self.build().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let over = time(&mut child);
        self.disk.cut(how);
        assert!(ended(&mut child, Duration::from_secs(300)), "a build goes on without its disk");
        let output = child.wait_with_output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{}", said(&output));
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", said(&output));
        self.disk.unmount();
        self.disk.mount();
        over
    }

    /// Builds again: what is wrong with what comes of it.
    fn fault(&self) -> Option<String> {
        let again = self.build().output().unwrap();
        if !again.status.success() {
            return Some(said(&again));
        }
        let (got, want) = (digests(&self.path("dist")), digests(example()));
        let lines = got
            .iter()
            .filter(|line| !want.contains(line))
            .chain(want.iter().filter(|line| !got.contains(line)));
        let other: Vec<&String> = lines.collect();
        (!other.is_empty()).then(|| format!("{other:#?}; {}", said(&again)))
    }
}

/// Waits until a file is there, or the build over.
fn until(path: &Path, child: &mut Child) -> bool {
    while !path.exists() {
        if ended(child, Duration::from_millis(1)) {
            return true;
        }
    }
    false
}

#[test]
fn a_power_cut_leaves_nothing_that_passes_for_whole() {
    if !root_or_skip("power cuts of a build: a loop device") {
        return;
    }
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (site, folder) = prepared();
    if let Some(cuts) = variable("KILN_BUILD_CUTS") {
        at_random(&site, cuts, variable("KILN_CUTS_SEED").unwrap_or(1));
    } else {
        // An image has its name, the journal knows it, and its bytes are in memory.
        site.begin(Start::Unpacked);
        let image = site.path("dist/k3s1/disk.img");
        site.cut(1, |child| {
            let over = until(&image, child);
            sleep(Duration::from_millis(1200));
            over
        });
        assert_eq!(site.fault(), None, "cut behind the first image");
        // The record of it is there, or is about to be.
        site.begin(Start::Roots);
        let record = site.path("dist/.kiln/k3s1.json");
        fs::remove_file(&record).unwrap();
        site.cut(1, |child| until(&record, child));
        assert_eq!(site.fault(), None, "cut behind the record");
    }
    drop(site);
    fs::remove_dir_all(folder).unwrap();
}

fn at_random(site: &Site, cuts: u64, seed: u64) {
    let (mut whole, mut random) = (BTreeMap::new(), seed);
    for start in STARTS {
        site.begin(start);
        let began = Instant::now();
        succeed(&mut site.build());
        whole.insert(start, began.elapsed());
    }
    let (mut table, mut bad) = (BTreeMap::<(Start, bool), u64>::new(), Vec::new());
    for number in 0..cuts {
        let start = start(number);
        site.begin(start);
        // A number of Knuth's; the upper bits are of use.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = u32::try_from((random >> 33) % 1300).unwrap();
        // The moments after its end count, too.
        let moment = (whole[&start] + Duration::from_millis(500)) * share / 1000;
        let how = 1 + u32::try_from(number / 10 % 2).unwrap();
        let over = site.cut(how, |child| {
            let over = ended(child, moment);
            if over {
                sleep(Duration::from_millis(u64::from(share)));
            }
            over
        });
        *table.entry((start, over)).or_default() += 1;
        let fault = site.fault();
        let healed = if fault.is_none() { "healed" } else { "NOT HEALED" };
        let words = format!(
            "cut {number}, way {how}, {start:?}, after {moment:?} of {:?}, over: {over}",
            whole[&start]
        );
        println!("{words}: {healed}");
        if let Some(fault) = fault {
            bad.push(format!("{words}: {fault}"));
            site.begin(Start::Cold);
            succeed(&mut site.build());
        }
    }
    println!(
        "{cuts} cuts, by what the build began with and whether it was over: {table:?}; {} not healed",
        bad.len()
    );
    assert!(bad.is_empty(), "{bad:#?}");
}
