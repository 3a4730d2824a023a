//! What a stock Debian or Ubuntu image needs to become a node: all that a Kiln image has in its root and its initramfs.

use super::seed::{Documents, host_key};
use super::template::{STOCK_BOOT, STOCK_SERVICE, STOCK_SETUP, Template, render_as};
use super::{Error, File, Target, Vault, files, folders, handoff, machine, overlay, settle};
use crate::cluster::{Architecture, Cluster, Firmware, Node, Quoting};
use crate::digest::Sha256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_formats::tree::Kind;
use minijinja::{Value, context};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where the handoff document is kept between boots.
const HANDOFF: &str = "/var/lib/kiln/handoff.json";
/// What runs at the first boot.
const SETUP: &str = "/usr/lib/kiln/stock-setup";
/// What runs at every boot.
const BOOT: &str = "/usr/lib/kiln/stock-boot";
const SERVICE: &str = "/etc/systemd/system/kiln-stock.service";

/// What the seed of a stock image is made of beside the cluster file.
#[derive(Debug, Clone, Copy)]
pub struct Stock<'a> {
    /// Digest of the helper, which is on the volume (or behind the address) at `kiln/kiln-firstboot`.
    pub helper: Sha256,
    /// What overlays fetch, in the order in which it is fetched.
    pub artefacts: &'a [Fetched],
}

/// An artefact as a machine fetches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is published: `http://` or `https://`.
    pub url: String,
    /// Digest of what is published there.
    pub sha256: Sha256,
    /// Absolute path on the machine.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Path in the tar archive that it is.
    pub member: Option<String>,
}

/// Files, packages and commands.
pub(super) fn documents(
    (cluster, node): (&Cluster, &Node),
    vault: &Arc<dyn Vault>,
    stock: &Stock<'_>,
) -> Result<Documents, Error> {
    if node.architecture != Architecture::Amd64 {
        let reason = format!("this version of kiln has no helper for {}", node.architecture);
        return Err(Error::Stock { node: node.name.clone(), reason });
    }
    let mut documents = Documents {
        packages: packages(cluster, node),
        host_key: host_key(node, vault)?,
        ..Documents::default()
    };
    let mut links = Vec::new();
    for layer in &node.overlays {
        let read = overlay::read(layer).map_err(|error| Error::Overlay(error.to_string()))?;
        for (path, entry) in read.files.iter() {
            let path = format!("/{}", String::from_utf8_lossy(path));
            match &entry.kind {
                Kind::File(content) => {
                    let failed = |error: std::io::Error| {
                        Error::Overlay(format!("overlay {}: {path}: {error}", layer.name))
                    };
                    let bytes = content.read().map_err(failed)?;
                    let file = |text| File { path: path.clone(), mode: entry.meta.mode, text, secret: false };
                    match String::from_utf8(bytes) {
                        Ok(text) => documents.files.push(file(text)),
                        Err(other) => documents.binaries.push(file(STANDARD.encode(other.as_bytes()))),
                    }
                }
                Kind::Symlink(target) => {
                    let target = String::from_utf8_lossy(target).into_owned();
                    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
                    links.push(context! { folder, target, path });
                }
                _ => {}
            }
        }
    }
    let modules: BTreeSet<String> = node.overlays.iter().flat_map(|layer| layer.modules.clone()).collect();
    let mut units: BTreeSet<String> = node.overlays.iter().flat_map(|layer| layer.enable.clone()).collect();
    let handoff = handoff(cluster, node)?;
    let mut rendered = files(cluster, node, vault)?;
    let system = machine::System::new(cluster, Target::Stock);
    rendered.extend(machine::files(node, &system, vault)?);
    if let Some(document) = settle::document((cluster, node), &rendered, &handoff) {
        documents.files.extend(settle::unit(node)?);
        documents.files.push(document);
        units.insert(settle::UNIT.to_owned());
    }
    let mut add = |path: &str, mode, text: String, secret| {
        documents.files.push(File { path: path.to_owned(), mode, text, secret });
    };
    if !modules.is_empty() {
        let lines: Vec<String> = modules.iter().map(|module| format!("{module}\n")).collect();
        add("/etc/modules-load.d/kiln.conf", 0o644, lines.concat(), false);
    }
    let secret = handoff.credentials.is_some();
    add(HANDOFF, 0o600, String::from_utf8_lossy(&handoff.to_bytes()).into_owned(), secret);
    let artefacts = stock.artefacts.iter().map(|fetched| {
        let (url, sha256, path) = (&fetched.url, fetched.sha256.to_string(), &fetched.path);
        context! { url, sha256, path, mode => format!("{:04o}", fetched.mode), member => &fetched.member }
    });
    let setup = context! {
        node => &node.name,
        helper => stock.helper.to_string(),
        links,
        artefacts => artefacts.collect::<Vec<_>>(),
        modules => &modules,
        units => &units,
    };
    add(SETUP, 0o700, script(&STOCK_SETUP, setup)?, false);
    let disks = !handoff.disks.data.is_empty();
    add(BOOT, 0o700, script(&STOCK_BOOT, context! { disks })?, false);
    // A socket is there before any service: to be before one would be a circle.
    let services = units.iter().map(String::as_str).filter(|unit| unit.ends_with(".service"));
    let own: Vec<&str> = ["k3s.service", "k3s-agent.service"].into_iter().chain(services).collect();
    let service = render_as(&STOCK_SERVICE, context! { before => own.join(" ") }, Quoting::None)?;
    add(SERVICE, 0o644, service, false);
    documents.files.extend(rendered);
    // On a stock image `bootcmd` runs before files are written.
    documents.boot.extend(folders::commands(cluster, node, vault)?);
    documents.run.extend(machine::commands(node, &system));
    documents.run.push(vec![SETUP.to_owned()]);
    Ok(documents)
}

/// What the cluster file says of a node and a stock image has not, in words.
pub fn left_out(cluster: &Cluster, node: &Node) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |said: bool, what: &str| words.extend(said.then(|| what.to_owned()));
    add(
        node.disks.encrypt.is_some(),
        "`disks.system.encrypt`: its system disk stays as it is, and is not encrypted",
    );
    add(node.disks.swap.is_some(), "`disks.system.swap`");
    add(node.disks.size.is_some(), "`disks.system.size`");
    add(node.memory.zram.is_some(), "`memory.zram`");
    add(node.sector_size != 512, "`sector_size`");
    add(cluster.base.root_size.is_some(), "`base.root_size`");
    add(!cluster.base.kernel_arguments.is_empty(), "`base.kernel_arguments`");
    add(
        matches!(cluster.base.firmware, Firmware::Packages(_)),
        "`base.firmware`: firmware packages are not installed",
    );
    add(!cluster.base.mirrors.is_empty(), "`base.mirrors`: its own apt sources count");
    words
}

fn script(template: &Template, values: Value) -> Result<String, Error> {
    render_as(template, values, Quoting::Shell)
}

/// What the cluster file asks for; not what every Kiln image has, which stock images have in their own way, and not
/// firmware.
fn packages(cluster: &Cluster, node: &Node) -> Vec<String> {
    let mut packages = cluster.packages(node);
    if let Firmware::Packages(firmware) = &cluster.base.firmware {
        packages.retain(|package| !firmware.contains(package));
    }
    // It serves `/dev/zram0` as Kiln's initramfs configures it.
    packages.remove("systemd-zram-generator");
    // cloud-init makes the locale from its source.
    if packages.remove("locales-all") {
        packages.insert("locales".to_owned());
    }
    packages.into_iter().collect()
}
