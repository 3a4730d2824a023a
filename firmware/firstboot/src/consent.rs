//! What a person at the machine is asked and told before data is lost: the plan, and time to stop it.

use crate::console::Keys;
use crate::steps::Steps;
use crate::{kernel, rescue};
use kiln_contract::machine::Machine;
use kiln_contract::plan::{Plan, in_words};
use std::time::{Duration, Instant};

/// How often the consoles are asked for a key.
const POLL: Duration = Duration::from_millis(50);

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consent {
    /// The plan may be carried out.
    Go,
    /// A key was pressed: nothing may be written.
    Stopped,
}

/// What may be carried out of a plan, which `shown` is: all of it, or, when somebody stops what would lose data, less.
pub(crate) fn decide(
    steps: &mut Steps,
    (machine, plan): (&Machine, Plan),
    shown: &str,
    countdown: Duration,
) -> Plan {
    let destructive = plan.is_destructive();
    // A plan that loses data is shown with the question about it.
    if !destructive && (plan.writes() || !plan.problems.is_empty()) {
        steps.console().print(&format!("\n{shown}\n"));
    }
    for problem in &plan.problems {
        steps.shown_problem(in_words(problem, machine));
    }
    match consent(steps, shown, destructive, countdown) {
        Consent::Go => plan,
        Consent::Stopped => plan.stopped(),
    }
}

/// Shows `table` when the plan is `destructive`, and counts down when a console is there to stop it on.
fn consent(steps: &mut Steps, table: &str, destructive: bool, countdown: Duration) -> Consent {
    if !destructive {
        return Consent::Go;
    }
    if countdown.is_zero() || !steps.console().is_open() {
        steps.console().print(&format!("\n{}\n\n", table.trim_matches('\n')));
        return Consent::Go;
    }
    let _hushed = kernel::hushed();
    // What was typed before the question is no answer to it, and a serial line may bring noise.
    let keys = steps.console().keys();
    ask(steps, table, keys, countdown)
}

fn ask(steps: &mut Steps, table: &str, mut keys: Keys, countdown: Duration) -> Consent {
    let whole = countdown.as_secs();
    steps.note("consent", "", &format!("data is going to be lost: {whole} s to stop it"));
    steps.console().print(&format!("\n{}\n\n", table.trim_matches('\n')));
    let start = Instant::now();
    let mut said = None;
    loop {
        let left = countdown.saturating_sub(start.elapsed());
        if left.is_zero() {
            steps.console().print("\n");
            steps.note("consent", "", &format!("no key was pressed within {whole} s"));
            return Consent::Go;
        }
        // Rounded up: "1 s" is said during the last one.
        let seconds = left.as_millis().div_ceil(1000);
        if said != Some(seconds) {
            said = Some(seconds);
            steps
                .console()
                .print(&format!("\rkiln: {seconds} s until the disks above are emptied; any key stops it "));
        }
        if keys.pressed() {
            drop(keys);
            steps.console().print("\n");
            steps.problem(
                "a key stopped what would have emptied disks: nothing was written to any data disk; \
                 restart the machine to be asked again"
                    .to_owned(),
            );
            steps.console().print(
                "\n  Nothing was written to the disks above. The boot goes on without them.\n  \
                 To be asked again, turn the machine off and on.\n\n",
            );
            return Consent::Stopped;
        }
        std::thread::sleep(POLL.min(left));
    }
}

/// `kiln.report` on the command line: shows the plan and stops.
pub(crate) fn report(steps: &mut Steps, table: &str) -> ! {
    steps.note("report", "", "the plan is shown, nothing is written");
    kernel::hush();
    steps.console().print(&screen(table));
    rescue::hold(steps.console(), None)
}

/// The whole screen. ECMA-48: ED 2 clears it, CUP moves to its top.
fn screen(table: &str) -> String {
    format!(
        "\x1b[2J\x1b[H\nkiln: what this boot would do with the disks (kiln.report)\n\n{}\n\n  \
         Nothing was written. To have it done, take kiln.report off `base.kernel_arguments` and write\n  \
         the image again.\n\n",
        table.trim_matches('\n')
    )
}

#[cfg(test)]
mod tests;
