//! Boots that are over where the system would begin: QEMU loads the kernel itself, the initramfs does all of its work, and
//! systemd is told to turn the machine off at once, so that every file system is left as a clean shutdown leaves it.

use crate::direct::kernel;
use crate::nodes::{accelerator, patience};
use kiln_qemu::{Disk, Error, Firmware, Kernel, Machine, Running, Wanted};
use kiln_tests::{die, shared};
use serde_json::Value;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The port on which the first boot tells its steps; a test says it in its own words, as a user's tool would have to.
pub(crate) const EVENTS: &str = "org.kiln.events";

/// What abort(3) ends a process with.
const SIGABRT: i32 = 6;

/// systemd.special(7): it stops what runs, which is nothing yet, and turns the machine off.
const OFF: &str = "systemd.unit=poweroff.target";

/// Kernel, initramfs and command line of the example. They are those of every node: what makes it one is its seed.
pub(crate) fn example_kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let folder = shared().join("boot-kernel");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        kernel("k3s1", &folder)
    })
}

/// On a busy host the guest's timer may stand still while the kernel tries it out (Linux, kernel-parameters.txt); the
/// kernel then takes it for broken and panics.
pub(crate) const BUSY: &str = "no_timer_check";

/// A machine with these disks, the first of them the node's own, that starts without firmware, with more words on the
/// kernel's command line.
pub(crate) fn machine(disks: &[Disk], words: &str) -> Machine {
    machine_of(example_kernel().clone(), disks, words)
}

/// The same with any kernel.
pub(crate) fn machine_of(mut kernel: Kernel, disks: &[Disk], words: &str) -> Machine {
    kernel.command_line = format!("{} {BUSY} {words}", kernel.command_line);
    Machine {
        kernel: Some(kernel),
        disks: disks.to_vec(),
        ports: vec![EVENTS.to_owned()],
        memory_mib: 1024,
        ..Machine::new(Firmware::Bios, accelerator())
    }
}

/// A machine that is turned off where the system would begin.
pub(crate) fn until_system(disks: &[Disk]) -> Machine {
    machine(disks, OFF)
}

/// The same with any kernel.
pub(crate) fn until_system_of(kernel: &Kernel, disks: &[Disk]) -> Machine {
    until_system_with(kernel, disks, "")
}

/// The same with more words on the kernel's command line.
pub(crate) fn until_system_with(kernel: &Kernel, disks: &[Disk], words: &str) -> Machine {
    machine_of(kernel.clone(), disks, &format!("{words} {OFF}"))
}

/// Something that the first boot told, and when the host read it.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) event: Value,
    pub(crate) at: Instant,
}

impl Told {
    /// Step and subject, as in `format state`.
    pub(crate) fn step(&self) -> String {
        let text = |key: &str| self.event[key].as_str().unwrap_or_default();
        format!("{} {}", text("step"), text("subject")).trim_end().to_owned()
    }

    /// `begun`, `done` or `failed`.
    pub(crate) fn state(&self) -> &str {
        self.event["state"].as_str().unwrap_or_default()
    }

    /// What was found.
    pub(crate) fn found(&self) -> &str {
        self.event["found"].as_str().unwrap_or_default()
    }
}

/// What a boot told up to its end.
#[derive(Debug, Clone)]
pub(crate) struct Boot {
    pub(crate) told: Vec<Told>,
    pub(crate) console: String,
}

impl Boot {
    /// The steps that ended well, in their order.
    pub(crate) fn done(&self) -> Vec<String> {
        self.told.iter().filter(|told| told.state() == "done").map(Told::step).collect()
    }

    /// What a step found that ended well.
    pub(crate) fn found(&self, step: &str) -> Option<&str> {
        self.told.iter().find(|told| told.state() == "done" && told.step() == step).map(Told::found)
    }

    /// What went wrong, in words.
    pub(crate) fn failed(&self) -> Vec<&str> {
        self.told.iter().filter(|told| told.state() == "failed").map(Told::found).collect()
    }
}

/// The next event, or nothing when the machine has turned itself off. Its failure screen ends the test.
pub(crate) fn next(running: &mut Running) -> Option<Told> {
    next_or_end(running).unwrap_or_else(|error| die(&format!("{error}\n{}", running.console())))
}

/// The same; the error is QEMU's.
fn next_or_end(running: &mut Running) -> Result<Option<Told>, Error> {
    let wanted =
        [Wanted::Port(EVENTS), Wanted::Console("this machine can't start"), Wanted::Console("Kernel panic")];
    match running.wait_for(&wanted, patience()) {
        Ok(seen) if seen.which == 0 => {
            let event =
                serde_json::from_str(&seen.line).unwrap_or_else(|e| die(&format!("{e}: {}", seen.line)));
            Ok(Some(Told { event, at: seen.at }))
        }
        Ok(_) => {
            let _ = running.expect("Press Enter to reboot", Instant::now() + Duration::from_secs(5));
            die(&format!("the node did not come up:\n{}", running.console()))
        }
        Err(Error::Ended { status, .. }) if status.success() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Boots to where the system would begin.
pub(crate) fn boot(disks: &[Disk]) -> Boot {
    run(&until_system(disks))
}

/// The same of a machine that turns itself off there.
pub(crate) fn run(machine: &Machine) -> Boot {
    to_the_end(machine.start().unwrap(), |_, _| ())
}

/// Boots to where the system would begin; nothing when QEMU itself was stopped by one of its own assertions, which says
/// nothing about the guest but that its power went.
pub(crate) fn boot_unless_aborted(disks: &[Disk]) -> Option<Boot> {
    let mut running = until_system(disks).start().unwrap();
    let mut told = Vec::new();
    loop {
        match next_or_end(&mut running) {
            Ok(Some(event)) => told.push(event),
            Ok(None) => return Some(whole(told, &running)),
            Err(Error::Ended { status, .. }) if status.signal() == Some(SIGABRT) => return None,
            Err(error) => die(&format!("{error}\n{}", running.console())),
        }
    }
}

fn whole(told: Vec<Told>, running: &Running) -> Boot {
    let boot = Boot { told, console: running.console() };
    // Without this the machine ended before the system began.
    assert!(boot.done().contains(&"mount".to_owned()), "{:#?}\n{}", boot.told, boot.console);
    boot
}

/// Waits for the end of a machine that turns itself off there. `each` sees every event as it comes.
pub(crate) fn to_the_end(mut running: Running, mut each: impl FnMut(&mut Running, &Told)) -> Boot {
    let mut told = Vec::new();
    while let Some(event) = next(&mut running) {
        each(&mut running, &event);
        told.push(event);
    }
    whole(told, &running)
}

/// Boots to a screen that begins with these words, at which Enter must reboot the machine, and gives it.
pub(crate) fn screen(machine: &Machine, begins: &str) -> String {
    let mut running = machine.start().unwrap();
    let wanted = [Wanted::Console("Press Enter to reboot"), Wanted::Console("Kernel panic")];
    let seen = running.wait_for(&wanted, patience()).unwrap_or_else(|e| die(&e.to_string()));
    assert_eq!(seen.which, 0, "{}", running.console());
    running.send("\r").unwrap();
    // The machine is one that ends instead of rebooting.
    let status = running.wait_until(Instant::now() + Duration::from_secs(60)).unwrap();
    let console = running.console();
    assert!(status.success() && console.contains("kiln: rebooting"), "{status}\n{console}");
    assert!(!console.contains("Kernel panic"), "{console}");
    let begin = console.find(begins).unwrap_or_else(|| panic!("{begins:?} is not in\n{console}"));
    console[begin..].to_owned()
}

/// The screen of a boot that can't go on.
pub(crate) fn refused(disks: &[Disk]) -> String {
    screen(&machine(disks, ""), "kiln: this machine can't start")
}
