//! `kiln inspect`.

use super::site::size;
use crate::diag::Ui;
use crate::execute::document::Artefact;
use crate::execute::roots::ARTEFACTS;
use anyhow::{Context as _, bail};
use kiln_contract::{handoff, partition};
use kiln_formats::io::{ReadAt, Window};
use kiln_formats::tree::{Kind, Tree};
use kiln_formats::{ext4, fat, gpt, qcow2, uki};
use serde::Serialize;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// The package database of a sealed root.
const STATUS: &str = "usr/lib/sysimage/dpkg/status";

/// First bytes of a qcow2 image.
const QCOW2: [u8; 4] = *b"QFI\xfb";
/// First bytes of a zstd frame (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bytes that are unpacked at once.
const CHUNK: usize = 1 << 17;
/// No honest image unpacks to more than this many times its size, holes not counted.
const MOST_UNPACKED: u64 = 64;
/// Bytes that stay free where an image is unpacked to.
const SPARE: u64 = 64 << 20;
/// The most bytes of the package database and of the list of artefacts that are read.
const MOST_STATUS: u64 = 32 << 20;
/// The most bytes of a section of a kernel image that are shown.
const MOST_SECTION: u64 = 64 << 10;

/// Arguments of `kiln inspect`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln inspect dist/k3s1/disk.img\n  kiln inspect --json disk.img | jq -r '.packages[].name'"
)]
pub struct Args {
    /// A disk image: raw, zst or qcow2.
    #[arg(value_name = "IMAGE", value_hint = clap::ValueHint::FilePath)]
    pub image: PathBuf,
}

/// What the bytes of an image say.
#[derive(Debug, Serialize)]
struct Found {
    size: u64,
    disk_guid: Uuid,
    sector_size: u32,
    /// Faults of the two copies of the partition table.
    table_faults: Vec<String>,
    partitions: Vec<Partition>,
    kernels: Vec<Kernel>,
    node: Option<String>,
    cluster: Option<String>,
    packages: Vec<Package>,
    artefacts: Vec<Artefact>,
}

#[derive(Debug, Serialize)]
struct Partition {
    number: u32,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    type_guid: Uuid,
    guid: Uuid,
    start: u64,
    size: u64,
    filesystem: Option<FileSystem>,
    /// Why there is no file system to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct FileSystem {
    #[serde(rename = "type")]
    kind: &'static str,
    label: String,
    id: String,
    used: u64,
    files: usize,
}

#[derive(Debug, Serialize)]
struct Kernel {
    path: String,
    size: u64,
    release: Option<String>,
    command_line: Option<String>,
    system: Option<String>,
    sections: Vec<Section>,
}

#[derive(Debug, Serialize)]
struct Section {
    name: String,
    size: u64,
}

#[derive(Debug, Serialize)]
struct Package {
    name: String,
    version: String,
    architecture: String,
}

/// Prints what is in an image.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let path = args.image.display();
    let file = File::open(&args.image).with_context(|| format!("cannot open {path}"))?;
    if !file.metadata().with_context(|| format!("cannot read {path}"))?.is_file() {
        bail!("{path} is not a file: name a disk image, such as dist/<node>/disk.img");
    }
    let found = open(file).and_then(inspect);
    let found = found.with_context(|| format!("{path} is not a disk image that kiln made"))?;
    if ui.json() { Ok(ui.print_json(&found)?) } else { print(&found, ui) }
}

/// The raw disk of an image in any of the forms that `kiln build` makes, by its first bytes.
fn open(file: File) -> anyhow::Result<Arc<dyn ReadAt>> {
    let mut magic = [0; 4];
    file.read_at(&mut magic, 0).context("cannot read it")?;
    match magic {
        QCOW2 => Ok(Arc::new(qcow2::Disk::open(Arc::new(file))?)),
        ZSTD => Ok(Arc::new(unpacked(file)?)),
        _ => Ok(Arc::new(file)),
    }
}

/// The raw image of one that is packed with zstd, in a file without a name. Hostile bytes fill no disk with it.
fn unpacked(file: File) -> anyhow::Result<File> {
    let packed = file.metadata().context("cannot read it")?.len();
    let mut raw = tempfile::tempfile().context("cannot make a temporary file")?;
    let room = rustix::fs::fstatvfs(&raw).context("cannot look at the temporary folder")?;
    let room = room.f_bavail.saturating_mul(room.f_frsize).saturating_sub(SPARE);
    let most = packed.saturating_mul(MOST_UNPACKED).saturating_add(SPARE);
    let mut reader = zstd::Decoder::new(file).context("cannot unpack it")?;
    let mut buf = vec![0; CHUNK];
    let (mut at, mut written): (u64, u64) = (0, 0);
    loop {
        let len = reader.read(&mut buf).context("cannot unpack it")?;
        if len == 0 {
            break;
        }
        // Zeros stay a hole: an image is mostly that.
        if buf[..len].iter().any(|byte| *byte != 0) {
            written += len as u64;
            if written > most {
                bail!("it unpacks to more than {MOST_UNPACKED} times its size");
            }
            if written > room {
                let (folder, room) = (std::env::temp_dir(), size(room));
                bail!(
                    "it unpacks to more than the {room} that {} has room for: set TMPDIR to a folder with more",
                    folder.display()
                );
            }
            raw.write_all_at(&buf[..len], at).context("cannot unpack it into the temporary folder")?;
        }
        at = at.checked_add(len as u64).context("cannot unpack it")?;
    }
    raw.set_len(at).context("cannot unpack it into the temporary folder")?;
    raw.flush().context("cannot unpack it into the temporary folder")?;
    Ok(raw)
}

fn inspect(disk: Arc<dyn ReadAt>) -> anyhow::Result<Found> {
    let table = gpt::detect(disk.as_ref())?;
    let faults = [("primary", &table.primary), ("backup", &table.backup)];
    let table_faults = faults
        .iter()
        .filter_map(|(copy, fault)| fault.as_ref().map(|fault| format!("{copy}: {fault}")))
        .collect();
    let sector_size = table.table.sector_size;
    let mut found = Found {
        size: disk.size()?,
        disk_guid: table.table.disk_guid,
        sector_size,
        table_faults,
        partitions: vec![],
        kernels: vec![],
        node: None,
        cluster: None,
        packages: vec![],
        artefacts: vec![],
    };
    for part in &table.table.partitions {
        let (start, size) = (part.offset(sector_size), part.size(sector_size));
        let window: Arc<dyn ReadAt> = Arc::new(Window::new(Arc::clone(&disk), start, size));
        let (filesystem, fault) = match filesystem(part.type_guid, &window, &mut found) {
            Ok(filesystem) => (filesystem, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        found.partitions.push(Partition {
            number: part.number,
            name: part.name.clone(),
            kind: kind(part.type_guid).to_owned(),
            type_guid: part.type_guid,
            guid: part.guid,
            start,
            size,
            filesystem,
            fault,
        });
    }
    Ok(found)
}

fn kind(guid: Uuid) -> &'static str {
    match guid {
        partition::TYPE_ESP => "EFI system",
        partition::TYPE_CIDATA => "Kiln seed",
        partition::TYPE_ROOT_AMD64 => "Linux root (x86-64)",
        partition::TYPE_ROOT_ARM64 => "Linux root (ARM 64)",
        partition::TYPE_STATE => "Linux variable data",
        _ => "unknown",
    }
}

fn filesystem(guid: Uuid, window: &Arc<dyn ReadAt>, found: &mut Found) -> anyhow::Result<Option<FileSystem>> {
    match guid {
        partition::TYPE_ESP | partition::TYPE_CIDATA => {
            let volume = fat::read(window)?;
            if guid == partition::TYPE_ESP {
                found.kernels = kernels(&volume.tree)?;
            } else {
                let handoff = handoff(&volume.tree)?;
                found.node = Some(handoff.node.name);
                found.cluster = Some(handoff.cluster.name);
            }
            let cluster =
                u64::from(volume.geometry.sectors_per_cluster) * u64::from(volume.geometry.sector_size);
            let (high, low) = (volume.volume_id >> 16, volume.volume_id & 0xffff);
            Ok(Some(FileSystem {
                kind: "vfat",
                label: volume.label,
                id: format!("{high:04X}-{low:04X}"),
                used: u64::from(volume.used) * cluster,
                files: volume.tree.len(),
            }))
        }
        partition::TYPE_ROOT_AMD64 | partition::TYPE_ROOT_ARM64 => {
            let system = ext4::read::FileSystem::open(Arc::clone(window))?;
            let facts = system.facts();
            let tree = system.tree()?;
            found.packages = packages(&tree)?;
            if let Some(bytes) = read(&tree, ARTEFACTS, MOST_STATUS)? {
                found.artefacts =
                    serde_json::from_slice(&bytes).with_context(|| format!("/{ARTEFACTS} is damaged"))?;
            }
            Ok(Some(FileSystem {
                kind: "ext4",
                label: facts.label,
                id: Uuid::from_bytes(facts.uuid).to_string(),
                used: facts.size.saturating_sub(facts.free_blocks.saturating_mul(facts.block_size)),
                files: tree.len(),
            }))
        }
        _ => Ok(None),
    }
}

/// All of a file of at most `most` bytes; none when there is no such file.
fn read(tree: &Tree, path: &str, most: u64) -> anyhow::Result<Option<Vec<u8>>> {
    match tree.get(path).map(|entry| &entry.kind) {
        Some(Kind::File(content)) => {
            Ok(Some(content.read_at_most(most).with_context(|| format!("cannot read /{path}"))?))
        }
        _ => Ok(None),
    }
}

fn handoff(tree: &Tree) -> anyhow::Result<handoff::Handoff> {
    let bytes = read(tree, handoff::PATH, handoff::MAX_BYTES as u64)?
        .with_context(|| format!("{} is missing", handoff::PATH))?;
    Ok(handoff::Handoff::parse(&bytes)?)
}

fn kernels(tree: &Tree) -> anyhow::Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for (path, entry) in tree.below("EFI/Linux") {
        let Kind::File(content) = &entry.kind else { continue };
        let path = String::from_utf8_lossy(path).into_owned();
        let source: Arc<dyn ReadAt> = Arc::new(content.clone());
        let image = uki::parse(source.as_ref()).with_context(|| path.clone())?;
        let text = |name: &str| {
            let bytes = image.section(name)?.content(&source).read_at_most(MOST_SECTION).ok()?;
            Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n']).to_owned())
        };
        let system = text(".osrel").and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=").map(str::to_owned))?;
            Some(line.trim_matches('"').to_owned())
        });
        kernels.push(Kernel {
            size: content.len(),
            release: text(".uname"),
            command_line: text(".cmdline"),
            system,
            sections: image.sections.iter().map(|s| Section { name: s.name.clone(), size: s.size }).collect(),
            path,
        });
    }
    Ok(kernels)
}

fn packages(tree: &Tree) -> anyhow::Result<Vec<Package>> {
    let Some(status) = read(tree, STATUS, MOST_STATUS)? else { return Ok(vec![]) };
    let status = String::from_utf8_lossy(&status).into_owned();
    let packages = status.split("\n\n").filter_map(|stanza| {
        let field = |name: &str| {
            stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
        };
        let (name, version) = (field("Package")?, field("Version")?);
        Some(Package { name, version, architecture: field("Architecture")? })
    });
    Ok(packages.collect())
}

fn print(found: &Found, ui: &Ui) -> anyhow::Result<()> {
    let (name, cluster) = (found.node.as_deref().unwrap_or("?"), found.cluster.as_deref().unwrap_or("?"));
    ui.result(format!("node {name} of cluster {cluster}"))?;
    let (bytes, guid) = (size(found.size), found.disk_guid);
    ui.result(format!("disk {bytes}, {}-byte sectors, GPT {guid}", found.sector_size))?;
    let other = if found.sector_size == 512 { 4096 } else { 512 };
    ui.result(format!(
        "     no firmware finds it on a disk with {other}-byte sectors: `disks: {{system: {{sector_size: {other}}}}}` makes an image for those"
    ))?;
    for fault in &found.table_faults {
        ui.result(format!("  partition table, {fault}"))?;
    }
    for part in &found.partitions {
        ui.result(format!("{:3}  {:8} {:>10}  {}", part.number, part.name, size(part.size), part.kind))?;
        ui.result(format!("     partition   {}", part.guid))?;
        if let Some(system) = &part.filesystem {
            let FileSystem { kind, label, id, files, used } = system;
            ui.result(format!("     {kind:11} {id}  label {label}, {} used, {files} entries", size(*used)))?;
        }
        if let Some(fault) = &part.fault {
            ui.result(format!("     cannot be read: {fault}"))?;
        }
    }
    for kernel in &found.kernels {
        ui.result(format!("kernel {} ({})", kernel.path, size(kernel.size)))?;
        let facts = [
            ("system", &kernel.system),
            ("release", &kernel.release),
            ("command line", &kernel.command_line),
        ];
        for (what, value) in facts {
            ui.result(format!("     {what:12} {}", value.as_deref().unwrap_or("?")))?;
        }
        let sections: Vec<String> =
            kernel.sections.iter().map(|s| format!("{} {}", s.name, size(s.size))).collect();
        ui.result(format!("     {:12} {}", "sections", sections.join(", ")))?;
    }
    ui.result(format!("packages ({})", found.packages.len()))?;
    for package in &found.packages {
        ui.result(format!("     {} {} {}", package.name, package.version, package.architecture))?;
    }
    if !found.artefacts.is_empty() {
        ui.result(format!("artefacts ({})", found.artefacts.len()))?;
    }
    for Artefact { name, path, url, member: _, sha256 } in &found.artefacts {
        ui.result(format!("     {name} {path}"))?;
        ui.result(format!("     {sha256} {url}"))?;
    }
    Ok(())
}
