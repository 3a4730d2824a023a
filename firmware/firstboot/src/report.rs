//! `kiln-firstboot report`: under systemd, at the end of the boot, the node's own judgement of itself.

use crate::console::Console;
use crate::identity::{self, Said};
use crate::{port, record, room, sys, verify};
use kiln_contract::report::{CONSOLE_PREFIX, PORT, Report};
use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A boot that takes longer is reported as what it is by then: `starting`, with the jobs that it waits for.
const PATIENCE: Duration = Duration::from_secs(900);
/// Journal lines that are told of each failed unit.
const LINES: &str = "-n8";
/// A lease may come after the boot's end; a report without addresses is worth less than one a little later.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(20);

/// The unit that runs this.
const UNIT: &str = "kiln-report.service";
/// systemd's word for a system in which a unit has failed.
const DEGRADED: &str = "degraded";

/// Waits for the end of the boot, reports, and is done. Fails when there was nobody to tell, and when the node is not the one
/// whose disk was booted: the system is degraded then, for everybody who asks.
pub(crate) fn run() -> ExitCode {
    let (report, is_itself) = collect(wait_for_boot());
    if report.is_healthy()
        && let Err(error) = crate::bless::keep_booted_entry()
    {
        eprintln!("kiln-firstboot: the boot entry keeps its counter: {error}");
    }
    // A serial console takes 10 kB a second: the record stays on the node and goes through the port.
    let short = Report { record: None, ..report.clone() };
    let (short, line) = match (serde_json::to_string(&short), serde_json::to_string(&report)) {
        (Ok(short), Ok(line)) => (short, line),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("kiln-firstboot: the report can't be written as JSON: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut console = Console::early();
    console.open_all(Path::new(crate::SYSFS), false);
    console.print(&format!("\r\n{CONSOLE_PREFIX}{short}\r\n"));
    if let Some(port) = port::find(Path::new(crate::DEV), Path::new(crate::SYSFS), PORT) {
        let told = fs::OpenOptions::new().write(true).open(&port);
        if let Err(error) = told.and_then(|mut port| port.write_all(format!("{line}\n").as_bytes())) {
            eprintln!("kiln-firstboot: {}: {error}", port.display());
        }
    }
    if is_itself { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `systemctl is-system-running --wait`, but not for ever.
fn wait_for_boot() -> String {
    let mut command = Command::new("systemctl");
    command
        .args(["is-system-running", "--wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let start = Instant::now();
    if let Ok(mut waiting) = command.spawn() {
        while matches!(waiting.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(200));
        }
        let _ = waiting.kill();
        let _ = waiting.wait();
    }
    let state = output("systemctl", &["is-system-running"]);
    if state.trim().is_empty() { "unknown".to_owned() } else { state.trim().to_owned() }
}

/// The report, and whether the node is the one that it is to be.
fn collect(mut state: String) -> (Report, bool) {
    let mut failed_units =
        units(&output("systemctl", &["list-units", "--failed", "--plain", "--no-legend", "--no-pager"]));
    // First of all: what is full makes many units fail, none of which says so.
    let mut reasons: Vec<String> =
        room::reasons().into_iter().chain(failed_units.iter().flat_map(|unit| reasons(unit))).collect();
    if state == "starting" {
        let jobs = output("systemctl", &["list-jobs", "--no-legend", "--no-pager"]);
        reasons.extend(jobs.lines().map(|job| format!("waiting: {}", job.trim())));
    }
    let handoff = identity::handoff(Path::new("/"));
    let wanted = identity::addresses(Path::new("/"));
    let said = identity::said(wait_for_addresses(&wanted));
    let mut others = match &handoff {
        Ok(handoff) => identity::differences(&said, (handoff, &wanted)),
        Err(error) => vec![error.clone()],
    };
    // They may have come since kiln-disks.service looked.
    others.extend(verify::copies());
    let is_itself = others.is_empty();
    if !is_itself {
        // This unit fails with it.
        failed_units.push(UNIT.to_owned());
        reasons.extend(others.into_iter().map(|other| format!("{UNIT}: {other}")));
        if state == "running" {
            DEGRADED.clone_into(&mut state);
        }
    }
    let Said { name, machine_id, addresses } = said;
    let report = Report {
        node: name,
        state,
        failed_units,
        reasons,
        machine_id,
        addresses,
        host_keys: host_keys(Path::new("/etc/ssh")),
        record: record::of_this_boot(Path::new("/"), Path::new("/proc")).ok(),
        uptime_seconds: (sys::uptime().as_secs_f64() * 100.0).round() / 100.0,
    };
    (report, is_itself)
}

/// Standard output; empty when the command is not there.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn units(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.split_ascii_whitespace().next()).map(str::to_owned).collect()
}

/// Why a unit failed. The journal's end may be too short for all that the first boot could not do.
fn reasons(unit: &str) -> Vec<String> {
    if unit != verify::UNIT {
        return journal(unit);
    }
    let problems = verify::problems(Path::new("/"), Path::new("/proc"));
    problems.iter().map(|problem| format!("{unit}: {problem}")).collect()
}

fn journal(unit: &str) -> Vec<String> {
    let text = output("journalctl", &["-b", "-o", "cat", "--no-pager", LINES, "-u", unit]);
    text.lines().map(|line| format!("{unit}: {line}")).collect()
}

/// The addresses, once there is one, of those that are wanted if any are, or none can be expected any more.
fn wait_for_addresses(wanted: &[IpAddr]) -> Vec<String> {
    let start = Instant::now();
    loop {
        let addresses = addresses(&output("ip", &["-j", "addr", "show", "scope", "global"]));
        let is_there =
            if wanted.is_empty() { !addresses.is_empty() } else { identity::has_any(&addresses, wanted) };
        if is_there || !has_link(Path::new(crate::SYSFS)) || start.elapsed() >= ADDRESS_PATIENCE {
            return addresses;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// True when any network device with hardware behind it has a carrier, or may still get one.
fn has_link(sysfs: &Path) -> bool {
    let devices = fs::read_dir(sysfs.join("class/net"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    // A device that is down can't be asked for its carrier: it may be on its way up.
    let linked =
        |device: &Path| fs::read_to_string(device.join("carrier")).map_or(true, |text| text.trim() == "1");
    devices.filter(|device| device.join("device").exists()).any(|device| linked(&device))
}

/// From `ip -j addr`, which leaves empty objects where its filter took something out.
fn addresses(json: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Link {
        #[serde(default)]
        ifname: String,
        #[serde(default)]
        addr_info: Vec<Address>,
    }
    #[derive(serde::Deserialize)]
    struct Address {
        local: Option<String>,
        prefixlen: Option<u8>,
    }
    let links: Vec<Link> = serde_json::from_str(json).unwrap_or_default();
    let all = links.iter().flat_map(|link| link.addr_info.iter().map(move |address| (&link.ifname, address)));
    all.filter_map(|(name, address)| {
        Some(format!("{name} {}/{}", address.local.as_ref()?, address.prefixlen?))
    })
    .collect()
}

/// Type and key of every public host key, without the comment.
fn host_keys(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = entries
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("ssh_host_") && name.ends_with(".pub"))
        })
        .collect();
    files.sort();
    let words = |text: String| text.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ");
    files.iter().filter_map(|path| fs::read_to_string(path).ok()).map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::{addresses, has_link, host_keys, units};
    use std::fs;

    #[test]
    fn addresses_come_from_ip() {
        let json = r#"[{},{"ifname":"lo","addr_info":[]},{"ifname":"eth0","addr_info":[{},
            {"family":"inet","local":"10.0.2.15","prefixlen":24,"scope":"global"}]}]"#;
        assert_eq!(addresses(json), ["eth0 10.0.2.15/24"]);
        assert!(addresses("").is_empty());
    }

    #[test]
    fn only_hardware_with_a_carrier_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let net = root.path().join("class/net");
        fs::create_dir_all(net.join("lo")).unwrap();
        assert!(!has_link(root.path()));
        fs::create_dir_all(net.join("eth0/device")).unwrap();
        fs::write(net.join("eth0/carrier"), "0\n").unwrap();
        assert!(!has_link(root.path()));
        fs::write(net.join("eth0/carrier"), "1\n").unwrap();
        assert!(has_link(root.path()));
    }

    #[test]
    fn units_are_the_first_words() {
        assert_eq!(
            units("a.service loaded failed failed A\nb.mount loaded failed failed B\n"),
            ["a.service", "b.mount"]
        );
    }

    #[test]
    fn keys_are_public_and_sorted() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ssh_host_rsa_key.pub"), "ssh-rsa BBBB root@x\n").unwrap();
        fs::write(directory.path().join("ssh_host_ed25519_key.pub"), "ssh-ed25519 AAAA root@x\n").unwrap();
        fs::write(directory.path().join("ssh_host_rsa_key"), "secret").unwrap();
        assert_eq!(host_keys(directory.path()), ["ssh-ed25519 AAAA", "ssh-rsa BBBB"]);
    }
}
