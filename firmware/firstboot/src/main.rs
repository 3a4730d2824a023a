//! `kiln-firstboot`: PID 1 of Kiln's initramfs, and `kiln-firstboot disks` and `report` under systemd.
//!
//! As PID 1 it finds the disk that the firmware booted from, mounts the root, and hands over to systemd. There
//! is no shell and no udev around it, and nothing to log in to when it fails: every failure ends in a screen
//! that says what was looked for, what was found and what to do, and in a reboot; never in a kernel panic.

mod bless;
mod choose;
mod cmdline;
mod coldplug;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod consent;
mod console;
mod disks;
mod efi;
mod factory;
mod failure;
mod gpt;
mod kernel;
mod modules;
mod mounts;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod port;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod record;
mod report;
mod rescue;
mod seed;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod steps;
mod switch;
mod sys;
mod verify;

use cmdline::CommandLine;
use console::Console;
use failure::Failure;
use modules::Modules;
use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;

const SYSFS: &str = "/sys";
const DEV: &str = "/dev";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        rescue::on_panic();
        let mut console = Console::early();
        let failure = match first_boot(&mut console) {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        rescue::stop(&mut console, &failure);
    }
    match std::env::args().nth(1).as_deref() {
        Some("report") => report::run(),
        Some("disks") => verify::run(),
        _ => {
            eprintln!(
                "kiln-firstboot runs as PID 1 of an initramfs; by hand: kiln-firstboot report or disks"
            );
            ExitCode::from(2)
        }
    }
}

/// The story of a boot. Comes back only with what went wrong.
fn first_boot(console: &mut Console) -> Result<Infallible, Failure> {
    kernel::mount_file_systems()?;
    let cmdline = CommandLine::of_running_kernel();
    console.open_all(Path::new(SYSFS), cmdline.debug);
    console.milestone(&format!("kiln-firstboot {} on Linux {}", env!("CARGO_PKG_VERSION"), sys::release()));

    let mut modules = Modules::of_running_kernel(&cmdline)?;
    modules.load_file_systems(console);
    kernel::mount_efi_variables();

    let booted = coldplug::booted_disk(&mut modules, console, &cmdline)?;
    console.milestone(&format!("booted from {}", booted.disk.describe()));

    let handoff = seed::read(&booted)?;
    let root = choose::root(&booted, &handoff)?;
    console.milestone(&format!("node {} of cluster {}", handoff.node.name, handoff.cluster.name));

    mounts::root(&root)?;
    let var = mounts::var(&booted)?;
    mounts::etc()?;
    mounts::machine_id(&handoff.node.machine_id)?;
    console.milestone(&format!("root {} read-only, /var {var}, /etc overlaid", root.name));

    switch::to_systemd(console)
}
