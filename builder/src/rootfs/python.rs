//! Python's byte-code is not shipped: it is a third of Python's size and is made at first use. Units that run
//! Python keep it on the state partition, for /usr is read-only.

use super::Error;
use super::root::Root;

/// Where byte-code goes at run time.
const PREFIX: &str = "/var/cache/python";

/// Units of packages that run Python at every boot.
const UNITS: [&str; 6] = [
    "cloud-init-main.service",
    "cloud-init-local.service",
    "cloud-init-network.service",
    "cloud-config.service",
    "cloud-final.service",
    "cloud-init-hotplugd.service",
];

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let folder = "usr/lib/systemd/system";
    for unit in
        UNITS.into_iter().filter(|unit| root.tree.contains(&format!("{folder}/{unit}"))).collect::<Vec<_>>()
    {
        let text = format!("[Service]\nEnvironment=PYTHONPYCACHEPREFIX={PREFIX}\n");
        root.put_file(&format!("{folder}/{unit}.d/10-byte-code.conf"), text, 0o644);
        root.put_directory(&PREFIX[1..], 0o755);
    }
    Ok(())
}
