//! What a booting node says of itself, on its port and on its console.

use super::steps::Told;
use anyhow::{Context as _, bail};
use kiln_contract::event;
use kiln_contract::report::{CONSOLE_PREFIX, PORT, Report};
use kiln_qemu::{Running, Wanted};
use std::time::{Duration, Instant};

/// A line of the initramfs helper.
const MILESTONE: &str = "kiln: ";
/// The headline of its failure screen, and how that ends.
const FAILED: (&str, &str) = ("this machine can't start", "Press Enter to reboot");
/// Signs that no report will come, each with what it means.
const SIGNS: [(&str, &str); 3] = [
    ("Kernel panic - ", "the kernel panicked"),
    ("No bootable option or device was found", "the firmware found nothing to boot on the disk"),
    ("UEFI Interactive Shell", "the firmware found nothing to boot on the disk and opened its shell"),
];
/// How long the rest of a failure may take to arrive.
const REST: Duration = Duration::from_secs(5);

/// Waits for the report; `tell` gets every step on the way. The error is the node's own words where it has
/// found some.
pub(super) fn wait(
    running: &mut Running,
    deadline: Instant,
    mut tell: impl FnMut(Told<'_>),
) -> anyhow::Result<Report> {
    // Steps first: none of them may stay behind the report.
    let mut wanted = vec![Wanted::Port(event::PORT), Wanted::Port(PORT), Wanted::Console(MILESTONE)];
    let before = wanted.len();
    wanted.extend(SIGNS.iter().map(|(sign, _)| Wanted::Console(sign)));
    loop {
        let seen = running.wait_for(&wanted, deadline)?;
        match seen.which {
            0 => tell(Told::Event(&seen.line)),
            1 => return parse(&seen.line),
            2 if seen.line.contains(FAILED.0) => {
                // Whatever has come by then is shown.
                let _ = running.expect(FAILED.1, Instant::now() + REST);
                bail!("{}", screen(&running.console()));
            }
            2 if seen.line.starts_with(CONSOLE_PREFIX) => {}
            2 => tell(Told::Milestone(&seen.line)),
            sign => {
                let _ = running.expect("---[ end Kernel panic", Instant::now() + REST);
                let meaning = SIGNS.get(sign - before).map(|(_, meaning)| *meaning).unwrap_or_default();
                bail!("{meaning}; the console's last lines:\n{}", last_lines(&running.console()));
            }
        }
    }
}

/// A report's line.
pub(super) fn parse(line: &str) -> anyhow::Result<Report> {
    serde_json::from_str(line).with_context(|| format!("the node's report cannot be read: {line}"))
}

/// Why a report is not a healthy one.
pub(super) fn illness(report: &Report) -> String {
    let mut text = format!("node {} is {}, not running", report.node, report.state);
    if report.state == "running" {
        text = format!("node {} is running with failed units", report.node);
    }
    if !report.failed_units.is_empty() {
        text.push_str(&format!("\n  failed: {}", report.failed_units.join(", ")));
    }
    report.reasons.iter().for_each(|reason| text.push_str(&format!("\n  {reason}")));
    text
}

/// The last failure screen on a console, without its countdown.
fn screen(console: &str) -> String {
    let begin = console.rfind(FAILED.0).unwrap_or_default();
    let rest = &console[begin..];
    let end = rest.find(FAILED.1).unwrap_or(rest.len());
    rest[..end].trim_end().to_owned()
}

fn last_lines(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(20)..].iter().map(|line| format!("  | {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::{illness, parse, screen};

    #[test]
    fn the_screen_is_cut_out() {
        let console = "kiln: 1.2 booted\nkiln: this machine can't start\n  the root is missing\n  Write it again.\n  Press Enter to reboot. Reboot by itself in 300 s.   ";
        assert_eq!(screen(console), "this machine can't start\n  the root is missing\n  Write it again.");
        assert_eq!(screen("nothing"), "nothing");
    }

    #[test]
    fn an_ill_node_says_why() {
        let line = r#"{"node":"k3s1","state":"degraded","failed_units":["ssh.service"],"reasons":["ssh.service: no hostkeys available"],
            "machine_id":"","addresses":[],"host_keys":[],"uptime_seconds":1.0}"#;
        let report = parse(line).unwrap();
        assert!(!report.is_healthy());
        assert_eq!(
            illness(&report),
            "node k3s1 is degraded, not running\n  failed: ssh.service\n  ssh.service: no hostkeys available"
        );
        assert!(parse("nonsense").unwrap_err().to_string().contains("nonsense"));
    }
}
