//! Looking at the machine until its disks are all there, and deciding what becomes of them.

use crate::choose::Booted;
use crate::cmdline::CommandLine;
use crate::console::Console;
use crate::modules::Modules;
use crate::{DEV, SYSFS, coldplug, disks, inventory};
use kiln_contract::choose::{choose, to_probe};
use kiln_contract::handoff::Handoff;
use kiln_contract::machine::{Content, Machine, VERSION};
use kiln_contract::plan::Plan;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often sysfs is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How long nothing may change before a plan that writes is believed: a further disk that fits makes it ambiguous, and
/// disks of one controller come one after the other.
const SETTLE: Duration = Duration::from_secs(1);
/// How long absent disks are waited for: spinning disks that start one after the other, sticks behind hubs.
const PATIENCE: Duration = Duration::from_secs(15);

/// The machine's disks and the plan for them. A node that wants none has nothing looked at.
pub(crate) fn survey(
    (modules, cmdline): (&mut Modules, &CommandLine),
    console: &mut Console,
    booted: &Booted,
    handoff: &Handoff,
) -> (Machine, Plan) {
    let (sysfs, dev) = (Path::new(SYSFS), Path::new(DEV));
    if handoff.disks.data.is_empty() {
        let machine = Machine { version: VERSION, product: String::new(), disks: Vec::new() };
        return (machine, Plan::default());
    }
    let patience = PATIENCE.min(cmdline.disk_timeout);
    let start = Instant::now();
    let (mut seen, mut changed) = (disks::fingerprint(sysfs), Instant::now());
    let mut machine = inventory::machine(sysfs, dev, Some(&booted.disk.name));
    loop {
        let absent = !choose(&hopeful(&machine), handoff).problems.is_empty();
        let open = !to_probe(&machine, handoff).is_empty();
        let settled = changed.elapsed() >= SETTLE;
        let ready = match (absent, open) {
            (false, false) => true,
            (false, true) => settled,
            (true, _) => start.elapsed() >= patience && (settled || start.elapsed() >= 2 * patience),
        };
        if ready {
            break;
        }
        std::thread::sleep(POLL);
        let loaded = coldplug::load_drivers(sysfs, modules, console);
        let now = disks::fingerprint(sysfs);
        if loaded || now != seen {
            (seen, changed) = (now, Instant::now());
            machine = inventory::machine(sysfs, dev, Some(&booted.disk.name));
        }
    }
    let names = to_probe(&machine, handoff);
    inventory::probe(&mut machine, dev, &names);
    let plan = choose(&machine, handoff);
    (machine, plan)
}

/// The machine as if nothing were on the disks that nobody has looked into: what is still missing then is absent.
fn hopeful(machine: &Machine) -> Machine {
    let mut machine = machine.clone();
    machine.disks.iter_mut().for_each(|disk| disk.content = Content::Blank);
    machine
}

/// What was seen and decided, in one line.
pub(crate) fn in_words((machine, plan): &(Machine, Plan)) -> String {
    let (kept, written, left) = plan.counts();
    match machine.disks.len() {
        0 => "none are asked for".to_owned(),
        all => format!("{all} found: {kept} kept, {written} to make ready, {left} left alone"),
    }
}
