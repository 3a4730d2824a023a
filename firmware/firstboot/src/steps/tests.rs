use super::{Outcome, Steps};
use crate::console::Console;
use crate::port::Outlet;
use crate::record::tests::{BOOT, proc_of};
use kiln_contract::event::{Event, PORT, State};
use std::cell::Cell;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn pass(milliseconds: u64) {
    NOW.set(NOW.get() + Duration::from_millis(milliseconds));
}

/// A recorder whose console is the file `console` and whose port is the file `vport1p1`.
fn steps(root: &Path, debug: bool) -> Steps {
    steps_on(root, Console::to_file(File::create(root.join("console")).unwrap(), debug))
}

const NOW_OF_THREAD: fn() -> Duration = || NOW.get();

fn open_port(root: &Path) {
    let port = root.join("class/virtio-ports/vport1p1");
    fs::create_dir_all(&port).unwrap();
    fs::write(port.join("name"), PORT).unwrap();
    fs::write(root.join("vport1p1"), "").unwrap();
}

/// A recorder on these consoles.
pub(crate) fn steps_on(root: &Path, console: Console) -> Steps {
    NOW.set(Duration::from_millis(1204));
    proc_of(root, BOOT);
    Steps::with(console, Outlet::new(root, root, PORT), (root.to_owned(), NOW_OF_THREAD))
}

/// A boot with every kind of line.
fn boot(steps: &mut Steps, root: &Path) {
    let loaded = steps.run("modules", "", |_| {
        pass(310);
        Ok::<_, String>((24, "24 loaded".to_owned()))
    });
    assert_eq!(loaded, Ok(24));
    open_port(root);
    steps.note("disk", "sda", "\"QEMU\u{1b}[2J HARDDISK\", 10.0 GiB");
    let nested = steps.run("provision", "sdb", |steps| {
        pass(90);
        steps.run("format", "sdb1", |_| {
            pass(812);
            Ok::<_, String>(((), "ext4 \"kiln-sdf-1\"".to_owned()))
        })?;
        Ok::<_, String>(((), String::new()))
    });
    assert_eq!(nested, Ok(()));
    let failed = steps.run("format", "sdc1", |_| {
        pass(12_000);
        Err::<((), String), _>("mke2fs ended with status 1:\n  mke2fs: Input/output error\n")
    });
    assert!(failed.is_err());
    steps.problem("slot sdf-2 stays empty: sdc can't be formatted".to_owned());
}

#[test]
fn the_console_reads_as_a_table() {
    let root = tempfile::tempdir().unwrap();
    boot(&mut steps(root.path(), false), root.path());
    let wanted = "\
kiln:    1.51 modules    24 loaded (0.31 s)
kiln:    1.51 disk       sda: \"QEMU?[2J HARDDISK\", 10.0 GiB
kiln:    2.42 format     sdb1: ext4 \"kiln-sdf-1\" (0.81 s)
kiln:    2.42 provision  sdb (0.90 s)
kiln:   14.42 format     sdc1: failed: mke2fs ended with status 1: mke2fs: Input/output error (12.00 s)
kiln:   14.42 problem    slot sdf-2 stays empty: sdc can't be formatted
";
    assert_eq!(fs::read_to_string(root.path().join("console")).unwrap(), wanted);
}

#[test]
fn details_say_what_begins() {
    let root = tempfile::tempdir().unwrap();
    boot(&mut steps(root.path(), true), root.path());
    let text = fs::read_to_string(root.path().join("console")).unwrap();
    let begun: Vec<&str> = text.lines().filter(|line| line.ends_with("...")).collect();
    assert_eq!(
        begun,
        [
            "kiln:    1.20 modules    ...",
            "kiln:    1.51 provision  sdb ...",
            "kiln:    1.60 format     sdb1 ...",
            "kiln:    2.42 format     sdc1 ..."
        ]
    );
}

#[test]
fn a_step_that_takes_long_says_that_it_has_begun() {
    let root = tempfile::tempdir().unwrap();
    let mut steps = steps(root.path(), false);
    let read = || fs::read_to_string(root.path().join("console")).unwrap();
    let done = steps.run("format", "sdb1", |_| {
        let start = std::time::Instant::now();
        while read().is_empty() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok::<_, String>(((), "ext4".to_owned()))
    });
    assert!(done.is_ok());
    assert_eq!(read(), "kiln:    1.20 format     sdb1 ...\nkiln:    1.20 format     sdb1: ext4 (0.00 s)\n");
}

#[test]
fn the_port_tells_all_from_the_beginning() {
    let root = tempfile::tempdir().unwrap();
    boot(&mut steps(root.path(), false), root.path());
    let text = fs::read_to_string(root.path().join("vport1p1")).unwrap();
    let events: Vec<Event> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let short: Vec<_> =
        events.iter().map(|event| (event.step.as_str(), event.subject.as_str(), event.state)).collect();
    assert_eq!(
        short,
        [
            ("modules", "", State::Begun),
            ("modules", "", State::Done),
            ("disk", "sda", State::Done),
            ("provision", "sdb", State::Begun),
            ("format", "sdb1", State::Begun),
            ("format", "sdb1", State::Done),
            ("provision", "sdb", State::Done),
            ("format", "sdc1", State::Begun),
            ("format", "sdc1", State::Failed),
            ("problem", "", State::Failed),
        ]
    );
    assert_eq!(
        text.lines().nth(5),
        Some(
            r#"{"at":2.416,"step":"format","subject":"sdb1","state":"done","found":"ext4 \"kiln-sdf-1\"","seconds":0.812}"#
        )
    );
}

#[test]
fn the_record_has_what_ended_and_what_went_wrong() {
    let root = tempfile::tempdir().unwrap();
    let mut steps = steps(root.path(), false);
    boot(&mut steps, root.path());
    pass(28);
    let outcome = Outcome { cluster: "lab".to_owned(), node: "n1".to_owned(), ..Outcome::default() };
    let record = steps.finish(outcome);
    assert_eq!((record.began, record.ended), (1.204, 14.444));
    assert_eq!((record.cluster.as_str(), record.node.as_str()), ("lab", "n1"));
    assert_eq!(record.boot_id, BOOT);
    assert_eq!(record.problems, ["slot sdf-2 stays empty: sdc can't be formatted"]);
    assert_eq!(record.problems, steps.problems);
    let steps: Vec<_> = record.steps.iter().map(|event| event.step.as_str()).collect();
    assert_eq!(steps, ["modules", "disk", "format", "provision", "format"]);
    assert!(record.steps.iter().all(|event| event.state != State::Begun));
}
