//! `kiln-firstboot`: PID 1 of Kiln's initramfs, and `kiln-firstboot disks` and `report` under systemd.
//!
//! As PID 1 it finds the disk that the firmware booted from, mounts the root, and hands over to systemd. There
//! is no shell and no udev around it, and nothing to log in to when it fails: every failure ends in a screen
//! that says what was looked for, what was found and what to do, and in a reboot; never in a kernel panic.

mod bless;
mod block;
mod booted;
mod bounded;
mod chap;
mod choose;
mod cmdline;
mod coldplug;
mod consent;
mod console;
mod data;
mod disks;
mod efi;
mod factory;
mod failure;
mod foreign;
mod format;
mod handed;
mod identity;
mod inventory;
mod join;
mod kernel;
mod keys;
mod leave;
mod longhorn;
mod luks;
mod luns;
mod modules;
mod mounts;
mod own;
mod partition;
mod places;
mod port;
mod probe;
mod record;
mod report;
mod rescue;
mod room;
mod seed;
mod seeded;
mod slow;
mod state;
mod steps;
mod stock;
mod survey;
mod swap;
mod switch;
mod sys;
mod target;
mod units;
mod verify;
mod volumes;

use booted::Chosen;
use cmdline::CommandLine;
use console::Console;
use failure::Failure;
use kiln_contract::encryption;
use kiln_contract::machine::Machine;
use kiln_contract::plan::{Plan, table};
use modules::Modules;
use own::Own;
use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use steps::Steps;

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
        Some("probe") => probe::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("disks") => verify::run(),
        Some("seeded") => seeded::run(),
        Some("data-disks") => stock::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("settle") => join::settle(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("join") => join::run(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("rejoin") => join::say_yes(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("manifests") => join::manifests(&std::env::args().skip(2).collect::<Vec<_>>()),
        Some("luns") => luns::run(),
        Some("luns-stop") => luns::stop(),
        Some("target") => target::run(),
        _ => {
            eprintln!(
                "kiln-firstboot runs as PID 1 of an initramfs; by hand: kiln-firstboot probe, report, disks, data-disks or rejoin"
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
    let chosen = Chosen::of(&booted, Path::new(SYSFS));
    chosen
        .write(Path::new(booted::PATH))
        .map_err(|error| Failure::Root { what: "keep in /run which disk was booted".to_owned(), error })?;
    let root = choose::root(&booted, &handoff)?;
    steps.note("seed", "", &format!("node {} of cluster {}", handoff.node.name, handoff.cluster.name));

    if handoff.disks.encrypts() {
        modules.load_all(&[encryption::MODULES, encryption::TPM_MODULES].concat(), steps.console());
    }
    let own = state::plan(&booted, &handoff)?;
    let (machine, plan) = steps.run("disks", "", |steps| {
        let seen = survey::survey((&mut modules, &cmdline), steps.console(), &booted, &handoff);
        let found = survey::in_words(&seen);
        Ok::<_, Failure>((seen, found))
    })?;
    // Up to here nothing was written. A copy of the booted disk may have come meanwhile.
    coldplug::look_again(&booted)?;
    let plan = decide(steps, &cmdline, (&machine, plan), &own);

    let device = state::commit(steps, (&booted, &own), &handoff)?;
    steps.run("mount", "", |steps| {
        mounts::root(&root)?;
        mounts::var(steps, &device)?;
        mounts::seeded(steps)?;
        mounts::etc()?;
        mounts::machine_id(&handoff.node.machine_id)?;
        let found = format!("root {} read-only, /var on {}, /etc overlaid", root.name, device.display());
        Ok::<_, Failure>(((), found))
    })?;
    // After /var, where keys of encrypted disks are.
    let again = |name: &str| inventory::look(Path::new(SYSFS), Path::new(DEV), name);
    let present = data::commit(steps, (&handoff, &plan), &machine, &again);
    mounts::data(&handoff, &present)?;
    volumes::hand_on(&handoff, own.swap.map(|number| (&chosen, number)), &present)?;
    foreign::keep_out(&handoff, &plan, &booted.disk.name)?;

    let wrote = !own.changes.is_empty() || own.format_state || plan.writes();
    leave::behind(steps, &handoff, (plan, &present), wrote)?;
    switch::to_systemd()
}

/// What may be carried out of a plan: all of it, or, when a person said no or the machine is only to report, less.
fn decide(steps: &mut Steps, cmdline: &CommandLine, (machine, plan): (&Machine, Plan), own: &Own) -> Plan {
    let own = own.changes.iter().map(|change| format!("  booted disk: {change}\n")).collect::<String>();
    let table = format!("{own}{}", table(machine, &plan));
    if cmdline.report {
        consent::report(steps, &table);
    }
    consent::decide(steps, (machine, plan), &table, cmdline.countdown)
}
