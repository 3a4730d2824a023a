use super::{Consent, ask, consent, screen};
use crate::console::Console;
use crate::steps::Steps;
use crate::steps::tests::steps_on;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const TABLE: &str = "  sdb  QEMU HARDDISK  10.0 GiB  empty, then longhorn sdf-1; lost: ext4 \"data\"\n";
/// Of asm-generic/fcntl.h.
const O_NOCTTY: i32 = 0o400;

/// A terminal: what a person holds, and what the kernel would call a console.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::NONBLOCK).unwrap();
    let screen = OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY).open(name).unwrap();
    (File::from(master), screen)
}

/// What the person sees.
fn seen(person: &mut File) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count) = person.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(text).unwrap()
}

fn asked(root: &Path, screens: Vec<File>, countdown: Duration) -> (Consent, Steps) {
    let mut steps = steps_on(root, Console::of(screens));
    let keys = steps.console().keys();
    let answer = ask(&mut steps, TABLE, keys, countdown);
    (answer, steps)
}

#[test]
fn nobody_is_asked_when_nothing_is_lost_or_nobody_can_answer() {
    let root = tempfile::tempdir().unwrap();
    let (mut person, screen) = terminal();
    let mut steps = steps_on(root.path(), Console::of(vec![screen]));
    assert_eq!(consent(&mut steps, TABLE, false, Duration::from_secs(20)), Consent::Go);
    assert_eq!(seen(&mut person), "");
    // What is lost is shown all the same.
    assert_eq!(consent(&mut steps, TABLE, true, Duration::ZERO), Consent::Go);
    assert_eq!(seen(&mut person), format!("\n{TABLE}\n").replace('\n', "\r\n"));
    let mut steps = steps_on(root.path(), Console::of(Vec::new()));
    assert_eq!(consent(&mut steps, TABLE, true, Duration::from_secs(20)), Consent::Go);
}

#[test]
fn time_runs_out_on_every_console() {
    let root = tempfile::tempdir().unwrap();
    let ((mut one, first), (mut two, second)) = (terminal(), terminal());
    let start = Instant::now();
    let (answer, steps) = asked(root.path(), vec![first, second], Duration::from_secs(2));
    assert_eq!(answer, Consent::Go);
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(steps.problems().is_empty());
    let wanted = "\
kiln:    1.20 consent    data is going to be lost: 2 s to stop it

  sdb  QEMU HARDDISK  10.0 GiB  empty, then longhorn sdf-1; lost: ext4 \"data\"

\rkiln: 2 s until the disks above are emptied; any key stops it \
\rkiln: 1 s until the disks above are emptied; any key stops it 
kiln:    1.20 consent    no key was pressed within 2 s
"
    .replace('\n', "\r\n");
    assert_eq!(seen(&mut one), wanted);
    assert_eq!(seen(&mut two), wanted);
}

/// No Enter is needed, any console will do, and the key is not echoed.
#[test]
fn any_key_on_any_console_stops_it() {
    for (key, which) in [("x", 0), ("\u{1b}[A", 1), ("\u{3}", 0), (" ", 1)] {
        let root = tempfile::tempdir().unwrap();
        let ((one, first), (two, second)) = (terminal(), terminal());
        let mut people = [one, two];
        let mut finger = people[which].try_clone().unwrap();
        let typing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            finger.write_all(key.as_bytes()).unwrap();
        });
        let start = Instant::now();
        let (answer, steps) = asked(root.path(), vec![first, second], Duration::from_secs(20));
        typing.join().unwrap();
        assert_eq!(answer, Consent::Stopped, "{key:?}");
        assert!(start.elapsed() < Duration::from_secs(10), "{key:?}");
        let problem = "a key stopped what would have emptied disks: nothing was written to any data disk; \
            restart the machine to be asked again";
        assert_eq!(steps.problems(), [problem]);
        for person in &mut people {
            let text = seen(person).replace("\r\n", "\n");
            let wanted = format!(
                "\rkiln: 20 s until the disks above are emptied; any key stops it \n\
                 kiln:    1.20 problem    {problem}\n\n  \
                 Nothing was written to the disks above. The boot goes on without them.\n  \
                 To be asked again, turn the machine off and on.\n\n"
            );
            assert!(text.ends_with(&wanted), "{key:?}: {text}");
        }
    }
}

#[test]
fn what_was_typed_before_the_question_is_no_answer() {
    let root = tempfile::tempdir().unwrap();
    let (mut person, screen) = terminal();
    person.write_all(b"noise\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let (answer, _) = asked(root.path(), vec![screen], Duration::from_millis(400));
    assert_eq!(answer, Consent::Go);
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let root = tempfile::tempdir().unwrap();
    let (_person, screen) = terminal();
    let modes = |file: &File| {
        let termios = rustix::termios::tcgetattr(file).unwrap();
        (termios.local_modes, termios.input_modes, termios.output_modes)
    };
    let before = modes(&screen);
    let watched = screen.try_clone().unwrap();
    asked(root.path(), vec![screen], Duration::from_millis(100));
    assert_eq!(modes(&watched), before);
}

#[test]
fn the_report_screen_says_that_nothing_was_written() {
    let wanted = "\u{1b}[2J\u{1b}[H
kiln: what this boot would do with the disks (kiln.report)

  sdb  QEMU HARDDISK  10.0 GiB  empty, then longhorn sdf-1; lost: ext4 \"data\"

  Nothing was written. To have it done, take kiln.report off `base.kernel_arguments` and write
  the image again.

";
    assert_eq!(screen(TABLE), wanted);
}
