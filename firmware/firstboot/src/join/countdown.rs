//! Time to stop what can't be taken back, as before disks are emptied: on every console, where any key stops it.

use super::words::{Cause, Trouble};
use super::{Around, TITLE};
use crate::cmdline::CommandLine;
use crate::console::Console;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often the consoles are asked for a key.
const POLL: Duration = Duration::from_millis(50);
/// Units that ask on consoles who logs in.
const PROMPTS: [&str; 3] = ["getty@*.service", "serial-getty@*.service", "console-getty.service"];

/// An attempt at a step that counts down to `what`. Once it was stopped it says so, until the service is started again.
pub(super) fn attempt<'a>(
    around: &'a Around,
    what: &'a str,
) -> impl FnMut(Instant) -> Result<((), String), Trouble> + 'a {
    let mut stopped = false;
    move |_| {
        stopped = stopped || !passes(around, what);
        if stopped {
            return Err(Trouble::new(Cause::Stopped, what));
        }
        Ok(((), format!("nobody stopped it: {what}")))
    }
}

/// False when a key was pressed meanwhile. `kiln.countdown` on the kernel's command line is how long it lasts.
fn passes(around: &Around, what: &str) -> bool {
    let line = fs::read_to_string(around.path("/proc/cmdline")).unwrap_or_default();
    let countdown = CommandLine::parse(&line).countdown;
    let seconds = countdown.as_secs();
    let said = format!("{}: {what} in {seconds} s; `systemctl stop kiln-join` stops that", TITLE.word);
    if around.root != Path::new("/") {
        // Other roots are other machines: nobody presses keys on their consoles.
        eprintln!("{said}");
        std::thread::sleep(around.shorter(countdown));
        return true;
    }
    let prompts = Prompts::silenced(around);
    let mut console = Console::early();
    console.open_all(Path::new(crate::SYSFS), false);
    let ways = if prompts.others { "" } else { ", and so does any key here" };
    console.print(&format!("\nkiln: {said}{ways}\n"));
    eprintln!("{said}");
    let mut keys = (!prompts.others).then(|| console.keys());
    let start = Instant::now();
    let mut last = None;
    loop {
        let left = countdown.saturating_sub(start.elapsed());
        if left.is_zero() {
            console.print("\n");
            return true;
        }
        let seconds = left.as_millis().div_ceil(1000);
        if last != Some(seconds) {
            last = Some(seconds);
            console.print(&format!("\rkiln: {seconds} s until {what} "));
        }
        if keys.as_mut().is_some_and(|keys| keys.pressed()) {
            console.print("\n");
            return false;
        }
        std::thread::sleep(POLL.min(left));
    }
}

/// Login prompts that are silent for the while: a key is read by one program alone.
struct Prompts<'a> {
    around: &'a Around,
    stopped: Vec<String>,
    /// Somebody is logged in on a console: the keys there are theirs.
    others: bool,
}

impl<'a> Prompts<'a> {
    fn silenced(around: &'a Around) -> Self {
        let mut prompts = Self { around, stopped: Vec::new(), others: false };
        let list = ["list-units", "--plain", "--no-legend", "--full", "--state=active"];
        let units = systemctl(around, &[&list[..], &PROMPTS[..]].concat());
        for unit in units.lines().filter_map(|line| line.split_whitespace().next()) {
            let process = systemctl(around, &["show", "--value", "--property=MainPID", unit]);
            let program = fs::read_to_string(around.path(&format!("/proc/{}/comm", process.trim())));
            if program.is_ok_and(|program| program.trim() == "agetty") {
                systemctl(around, &["stop", unit]);
                prompts.stopped.push(unit.to_owned());
            } else {
                prompts.others = true;
            }
        }
        prompts
    }
}

impl Drop for Prompts<'_> {
    fn drop(&mut self) {
        for unit in &self.stopped {
            systemctl(self.around, &["start", "--no-block", unit]);
        }
    }
}

/// What systemctl says on its standard output; nothing when it fails.
fn systemctl(around: &Around, arguments: &[&str]) -> String {
    let output = Command::new(&around.systemctl).args(arguments).stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::Prompts;
    use crate::join::tests::around;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn prompts_are_silent_and_sessions_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let mut around = around(root.path());
        let top = root.path().display();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>{top}/asked\ncase $1 in\nlist-units) echo 'getty@tty1.service loaded active running x'; echo 'serial-getty@ttyS0.service loaded active running x' ;;\nshow) case $4 in getty@*) echo 11 ;; *) echo 12 ;; esac ;;\nesac\n"
        );
        around.systemctl = root.path().join("systemctl");
        fs::write(&around.systemctl, script).unwrap();
        fs::set_permissions(&around.systemctl, fs::Permissions::from_mode(0o700)).unwrap();
        for (process, program) in [("11", "agetty\n"), ("12", "login\n")] {
            fs::create_dir_all(root.path().join("proc").join(process)).unwrap();
            fs::write(root.path().join("proc").join(process).join("comm"), program).unwrap();
        }
        let prompts = Prompts::silenced(&around);
        assert!(prompts.others);
        drop(prompts);
        let asked = fs::read_to_string(root.path().join("asked")).unwrap();
        let changed: Vec<&str> = asked.lines().filter(|line| line.starts_with("st")).collect();
        assert_eq!(changed, ["stop getty@tty1.service", "start --no-block getty@tty1.service"]);
    }
}
