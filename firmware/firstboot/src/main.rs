//! `kiln-firstboot`: PID 1 of Kiln's initramfs, and `kiln-firstboot disks` and `report` under systemd.
//!
//! As PID 1 it finds the disk that the firmware booted from, mounts the root, and hands over to systemd. There
//! is no shell and no udev around it, and nothing to log in to when it fails: every failure ends in a screen
//! that says what was looked for, what was found and what to do, and in a reboot; never in a kernel panic.

mod bless;
mod block;
mod choose;
mod cmdline;
mod coldplug;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod consent;
mod console;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod data;
mod disks;
mod efi;
mod factory;
mod failure;
mod format;
mod kernel;
mod keys;
mod leave;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod longhorn;
mod luks;
mod modules;
mod mounts;
mod own;
mod partition;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod places;
mod port;
mod record;
mod report;
mod rescue;
mod seed;
mod state;
mod steps;
mod swap;
mod switch;
mod sys;
#[allow(dead_code, reason = "the story of the boot takes it up next")]
mod units;
mod verify;
mod volumes;

use cmdline::CommandLine;
use console::Console;
use failure::Failure;
use kiln_contract::plan::Plan;
use modules::Modules;
use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use steps::{Outcome, Steps};

const SYSFS: &str = "/sys";
const DEV: &str = "/dev";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        rescue::on_panic();
        let mut steps = Steps::begin(Console::early());
        match first_boot(&mut steps) {
            Ok(never) => match never {},
            Err(failure) => rescue::stop(steps.console(), &failure),
        }
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
fn first_boot(steps: &mut Steps) -> Result<Infallible, Failure> {
    kernel::mount_file_systems()?;
    let cmdline = CommandLine::of_running_kernel();
    steps.console().open_all(Path::new(SYSFS), cmdline.debug);
    steps.note(
        "kiln",
        "",
        &format!("kiln-firstboot {} on Linux {}", env!("CARGO_PKG_VERSION"), sys::release()),
    );

    let mut modules = Modules::of_running_kernel(&cmdline)?;
    modules.load_file_systems(steps.console());
    kernel::mount_efi_variables();

    let booted = steps.run("find", "", |steps| {
        let booted = coldplug::booted_disk(&mut modules, steps.console(), &cmdline)?;
        let found = format!("booted from {}", booted.disk.describe());
        Ok::<_, Failure>((booted, found))
    })?;
    let handoff = seed::read(&booted)?;
    let root = choose::root(&booted, &handoff)?;
    steps.note("seed", "", &format!("node {} of cluster {}", handoff.node.name, handoff.cluster.name));

    if handoff.disks.encrypts() {
        modules.load_all(&luks::MODULES, steps.console());
    }
    let own = state::plan(&booted, &handoff)?;
    let wrote = !own.changes.is_empty() || own.format_state;
    let device = state::commit(steps, (&booted, &own), &handoff)?;

    steps.run("mount", "", |steps| {
        mounts::root(&root)?;
        mounts::var(steps, &device)?;
        mounts::etc()?;
        mounts::machine_id(&handoff.node.machine_id)?;
        let found = format!("root {} read-only, /var on {}, /etc overlaid", root.name, device.display());
        Ok::<_, Failure>(((), found))
    })?;

    let failed = |error| Failure::Root { what: "write this boot's units to /run".to_owned(), error };
    if own.swap.is_some() {
        volumes::write_swap(Path::new(units::FOLDER), &handoff.disks.system).map_err(failed)?;
    }
    volumes::write_zram(Path::new(volumes::ZRAM_FOLDER), handoff.memory.zram).map_err(failed)?;

    let outcome = Outcome {
        cluster: handoff.cluster.name.clone(),
        node: handoff.node.name.clone(),
        plan: Plan::default(),
        default_disks_config: None,
    };
    leave::behind(steps, &handoff, (outcome, wrote))?;
    switch::to_systemd()
}
