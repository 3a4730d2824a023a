//! Documents that go from the builder to a device, and what a device writes down.

use crate::engine::Target;
use kiln::cluster;
use kiln::render;
use kiln_contract::addresses::Addresses;
use kiln_contract::handoff::Handoff;
use kiln_contract::join::Join;
use kiln_contract::machine::Machine;
use kiln_contract::manifest;
use kiln_contract::settle::Settle;

fn nothing(_: &mut Vec<u8>) {}

fn handoff(bytes: &[u8]) {
    let _ = Handoff::parse(bytes).map(|handoff| handoff.to_bytes());
}

fn addresses(bytes: &[u8]) {
    let _ = Addresses::parse(bytes);
}

fn record(bytes: &[u8]) {
    let _ = Machine::parse(bytes);
}

fn of_the_join(bytes: &[u8]) {
    let _ = Join::parse(bytes);
    let _ = Settle::parse(bytes);
    let _ = manifest::Manifest::parse(bytes);
    let _ = manifest::Index::parse(bytes);
    let _ = manifest::Said::from_bytes(bytes);
}

const RECORD: &str = r#"{"version":1,"disks":[{"name":"sda","size":1000204886016,"sector_size":512,"model":"x","serial":"y","transport":"sata","signatures":[],"table":{"kind":"gpt","partitions":[]}}]}"#;
const MANIFEST: &str = r#"{"version":1,"name":"a","once":[{"object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}}],"manifests":["a"],"withdrawn":[]}"#;

/// All of them.
pub(crate) fn targets() -> Vec<Target> {
    let example = cluster::example().unwrap().cluster;
    let nodes = || example.nodes.iter();
    let handoffs: Vec<Vec<u8>> =
        nodes().map(|node| render::handoff(&example, node).unwrap().to_bytes()).collect();
    let vault: std::sync::Arc<dyn render::Vault> = std::sync::Arc::new(render::NoVault);
    let seeds = nodes().map(|node| render::seed(&example, node, &vault).unwrap());
    let fixed: Vec<Vec<u8>> = seeds.map(|seed| seed.addresses.to_bytes()).collect();
    let target = |name, seeds, feed| Target { name, seeds, mend: nothing, feed };
    vec![
        target("handoff", handoffs, handoff),
        target("addresses", fixed, addresses),
        target("record", vec![RECORD.into()], record),
        target("join", vec![MANIFEST.into()], of_the_join),
    ]
}
