//! `kiln boot`.

mod network;
mod steps;
mod verdict;

use super::site::size;
use crate::cache::Cache;
use crate::cluster;
use crate::diag::{Ui, nearest};
use crate::execute::document::Image;
use anyhow::{Context as _, bail};
use kiln_contract::event;
use kiln_contract::report::{PORT, Report};
use kiln_qemu::{Disk, Firmware, Machine, Running, Serial, Source};
use network::Plan;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use steps::Show;

/// Where, below the cache, it is remembered what executes guests here.
const ACCELERATOR: &str = "accelerator";

/// Arguments of `kiln boot`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln boot k3s1\n  kiln boot k3s1 --check --disk 20G --report report.json\n\
    In the console, Ctrl-A X ends the machine. KILN_ACCEL=kvm or tcg overrides what is found out about this host; \
    KILN_OVMF_CODE and KILN_OVMF_VARS name other firmware."
)]
pub struct Args {
    /// The node, as the cluster file names it.
    pub node: String,
    /// Where `kiln build` wrote.
    #[arg(short, long, value_name = "DIR", default_value = "dist", value_hint = clap::ValueHint::DirPath)]
    pub output: PathBuf,
    /// End with status 0 when the node reports itself healthy, and with 1 and the reason when not.
    #[arg(long)]
    pub check: bool,
    /// Attach an empty disk of this size, such as `20G`; may be repeated.
    #[arg(long, value_name = "SIZE", value_parser = disk_size)]
    pub disk: Vec<u64>,
    /// Size of the disk that the image is on: the first boot takes what is left of it.
    #[arg(long, value_name = "SIZE", default_value = "16G", value_parser = disk_size)]
    pub system_disk: u64,
    /// Write the node's own report, with the record of its first steps, as JSON to this file.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// How long `--check` waits for the report.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Port of 127.0.0.1 that leads to the node's SSH; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub ssh_port: u16,
    /// The machine's memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..=1_048_576))]
    pub memory: u32,
}

fn disk_size(text: &str) -> Result<u64, String> {
    match cluster::parse_size(text) {
        Ok(0) => Err("a disk of no bytes is none".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(reason) => Err(format!("{reason}: write a size such as 20G")),
    }
}

/// Boots an image in QEMU; the image itself stays as it is.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    if ui.json() && !args.check {
        bail!(
            "--json prints the node's report, which needs --check: without it the console has the terminal"
        );
    }
    let folder = find(&args.output, &args.node)?;
    let (machine, plan) = machine(args, &folder, ui)?;
    for warning in &plan.warnings {
        ui.warn(warning);
    }
    let disks: Vec<String> = args.disk.iter().map(|bytes| size(*bytes)).collect();
    let disks =
        if disks.is_empty() { String::new() } else { format!(", empty disks of {}", disks.join(", ")) };
    ui.say(format!(
        "booting {} in QEMU ({}, {} MiB{disks}); its image stays as it is",
        folder.join("disk.img").display(),
        machine.accelerator.name(),
        args.memory
    ));
    if let Some(ssh) = plan.ssh(&user(&folder)) {
        ui.say(format!("SSH, once it is up: {ssh}"));
    }
    if args.check { check(args, &machine, ui) } else { console(args, &machine, ui) }
}

/// The console in the terminal, until the machine ends.
fn console(args: &Args, machine: &Machine, ui: &Ui) -> anyhow::Result<()> {
    ui.say("Ctrl-A X ends the machine");
    let machine = Machine { serial: Serial::Terminal, ..machine.clone() };
    let mut running = machine.start()?;
    let status = running.wait()?;
    if let Some(path) = &args.report {
        match running.line(PORT, Instant::now() + Duration::from_secs(2)) {
            Ok(line) => write_report(path, &verdict::parse(&line)?)?,
            Err(_) => ui.warn(format!("the node ended without a report: {} is not written", path.display())),
        }
    }
    if !status.success() {
        bail!("QEMU ended with {status}; what it said is above");
    }
    Ok(())
}

/// Waits for the node's own judgement.
fn check(args: &Args, machine: &Machine, ui: &Ui) -> anyhow::Result<()> {
    let mut running: Running = machine.start()?;
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut show = Show::new(ui, &args.node);
    let waited = verdict::wait(&mut running, deadline, |told| show.tell(&told));
    drop(show);
    running.kill()?;
    let report = waited.with_context(|| format!("node {} did not come up", args.node))?;
    if let Some(path) = &args.report {
        write_report(path, &report)?;
    }
    if ui.json() {
        ui.print_json(&report).context("cannot write to stdout")?;
    }
    if !report.is_healthy() {
        bail!("{}", verdict::illness(&report));
    }
    if !ui.json() {
        let addresses = report.addresses.join(", ");
        ui.result(format!("{} is healthy after {:.1} s: {addresses}", report.node, report.uptime_seconds))
            .context("cannot write to stdout")?;
    }
    Ok(())
}

fn write_report(path: &Path, report: &Report) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(report)?;
    bytes.push(b'\n');
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The folder of a built node.
fn find(output: &Path, node: &str) -> anyhow::Result<PathBuf> {
    let entries = match fs::read_dir(output) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no {}: `kiln build -o {0}` makes it", output.display())
        }
        other => other.with_context(|| format!("cannot read {}", output.display()))?,
    };
    // A folder of a node has its image's description, or a seed from a build that was cut.
    let of_node = |folder: &Path| folder.join("image.json").is_file() || folder.join("seed").is_dir();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| of_node(path))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    if !names.iter().any(|name| name == node) {
        let near = nearest(node, names.iter().map(String::as_str));
        let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        if names.is_empty() {
            bail!("{} holds no built node: `kiln build -o {0} {node}` makes one", output.display());
        }
        bail!("{} has no node {node}: {near}its nodes are {}", output.display(), names.join(", "));
    }
    let folder = output.join(node);
    for file in ["disk.img", "image.json"] {
        if !folder.join(file).is_file() {
            bail!(
                "{} is missing: `kiln build -o {} {node}` makes it",
                folder.join(file).display(),
                output.display()
            );
        }
    }
    Ok(folder)
}

/// The machine for a node's image.
fn machine(args: &Args, folder: &Path, ui: &Ui) -> anyhow::Result<(Machine, Plan)> {
    let path = folder.join("image.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let image: Image = serde_json::from_slice(&text).with_context(|| {
        format!("{} is not of this version of kiln; build the node again", path.display())
    })?;
    if image.packages.iter().any(|package| package.architecture == "arm64") {
        bail!("node {} is an arm64 machine, and `kiln boot` runs amd64 ones only", image.node);
    }
    let seed = folder.join("seed/network-config");
    let text = fs::read_to_string(&seed).with_context(|| format!("cannot read {}", seed.display()))?;
    let port = if args.ssh_port == 0 { kiln_qemu::free_port()? } else { args.ssh_port };
    let plan = network::plan(&text, port).with_context(|| format!("cannot use {}", seed.display()))?;

    let firmware = Firmware::find()?;
    let cache = Cache::place(|name| std::env::var_os(name).map(PathBuf::from))?;
    let asked = ui.spinner("finding out whether KVM works");
    let accelerator = kiln_qemu::probe(&cache.join(ACCELERATOR))?;
    drop(asked);
    let mut disks = vec![Disk {
        serial: Some("kiln-boot".to_owned()),
        sector_size: image.disk.sector_size,
        ..Disk::virtio(Source::Larger {
            path: folder.join("disk.img"),
            bytes: args.system_disk.max(image.disk.size),
        })
    }];
    disks.extend(args.disk.iter().enumerate().map(|(index, bytes)| Disk {
        serial: Some(format!("kiln-disk-{}", index + 1)),
        ..Disk::virtio(Source::Empty { bytes: *bytes })
    }));
    let machine = Machine {
        memory_mib: args.memory,
        disks,
        cards: vec![plan.network.clone().into()],
        ports: vec![PORT.to_owned(), event::PORT.to_owned()],
        ..Machine::new(firmware, accelerator)
    };
    Ok((machine, plan))
}

/// Whom SSH may ask for: the seed's first user with a key.
fn user(folder: &Path) -> String {
    #[derive(serde::Deserialize)]
    struct UserData {
        #[serde(default)]
        users: Vec<User>,
    }
    #[derive(serde::Deserialize)]
    struct User {
        name: String,
        #[serde(default)]
        ssh_authorized_keys: Vec<String>,
    }
    let text = fs::read_to_string(folder.join("seed/user-data")).unwrap_or_default();
    let users = serde_saphyr::from_str::<UserData>(&text).map(|data| data.users).unwrap_or_default();
    let first = users.into_iter().find(|user| !user.ssh_authorized_keys.is_empty());
    first.map_or_else(|| "USER".to_owned(), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::fs;

    #[test]
    fn a_node_that_is_not_there_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("dist");
        let said = |node: &str| {
            find(&output, node).unwrap_err().to_string().replace(&folder.path().display().to_string(), "")
        };
        assert_eq!(said("k3s1"), "there is no /dist: `kiln build -o /dist` makes it");
        fs::create_dir_all(output.join("k3s1/seed")).unwrap();
        assert_eq!(said("ks31"), "/dist has no node ks31: did you mean k3s1? its nodes are k3s1");
        assert_eq!(said("../dist/k3s1"), "/dist has no node ../dist/k3s1: its nodes are k3s1");
        assert_eq!(said("k3s1"), "/dist/k3s1/disk.img is missing: `kiln build -o /dist k3s1` makes it");
        for file in ["disk.img", "image.json"] {
            fs::write(output.join("k3s1").join(file), "").unwrap();
        }
        assert_eq!(find(&output, "k3s1").unwrap(), output.join("k3s1"));
    }
}
