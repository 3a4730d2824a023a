//! `backup-restic`: there is something to keep.

use super::{Told, field};
use crate::cluster::model::Role;
use crate::cluster::settings::Setting;
use crate::diag::Fault;

/// Where k3s keeps its datastore. Snapshots are there where servers keep etcd, which one alone does not.
const DATASTORE: &str = "/var/lib/rancher/k3s/server/db";

/// Variables that the unit, its files and the script have from elsewhere.
const OWN: [&str; 9] = [
    "RESTIC_REPOSITORY",
    "RESTIC_REPOSITORY_FILE",
    "RESTIC_PASSWORD",
    "RESTIC_PASSWORD_FILE",
    "RESTIC_PASSWORD_COMMAND",
    "RESTIC_CACHE_DIR",
    "KILN_DATASTORE",
    "KILN_REPOSITORY_OF",
    "PATH",
];

/// The path is that of a datastore without snapshots: those of a running database are torn.
fn lacks_etcd(told: &Told<'_>, path: &str) -> bool {
    let Some(inner) = path.strip_prefix(DATASTORE).filter(|inner| inner.is_empty() || inner.starts_with('/'))
    else {
        return false;
    };
    let servers = told.cluster.nodes.iter().filter(|node| node.role == Role::Server).count();
    let etcd = servers > 1 || told.server_flag_is_true("cluster-init");
    !(etcd && inner.starts_with("/snapshots"))
}

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    for backup in told.given("backups").map(Setting::list).unwrap_or_default() {
        let Some(name) = backup.get("name") else { continue };
        let text = name.text().unwrap_or_default();
        let paths = field(backup, "paths").map(Setting::list).unwrap_or_default();
        let datastore = field(backup, "datastore").filter(|datastore| datastore.is_true());
        match datastore {
            None if paths.is_empty() => {
                let fault = Fault::error("backup", &name.span, format!("the backup `{text}` keeps nothing"));
                faults.push(
                    fault.label("nothing to keep").help("add `paths:`, or `datastore: true` on a server"),
                );
            }
            Some(datastore) if told.node.role != Role::Server => {
                let message =
                    format!("{} has no datastore of the cluster's: it is no server", told.node.name);
                let fault = Fault::error("backup", &datastore.span, message).label("nothing to keep");
                faults
                    .push(fault.help(
                        "give this backup to nodes with `role: server`, under `overlays` of their own",
                    ));
            }
            _ => {}
        }
        // systemd takes the last of a name, and the script the wrong one.
        let variables = field(backup, "environment").map(Setting::map).unwrap_or_default();
        for (variable, value) in variables.iter().filter(|(variable, _)| OWN.contains(&variable.as_str())) {
            let message =
                format!("`environment` of the backup `{text}` has {variable}, which Kiln sets itself");
            let fault = Fault::error("secret", &value.span, message).label("here");
            faults.push(fault.help("leave it out: `repository`, `password` and the script say it"));
        }
        for path in paths.iter().filter(|path| path.text().is_some_and(|text| text.contains(['\n', '\r']))) {
            let fault = Fault::error("backup", &path.span, "a path has a line break in it").label("here");
            faults.push(fault.help("write one path an entry"));
        }
        for path in paths.iter().filter(|path| path.text().is_some_and(|text| lacks_etcd(told, text))) {
            let message = format!("`{text}` names the datastore of k3s by its path");
            let fault = Fault::warning("backup", &path.span, message).label("no snapshot of it is there");
            faults.push(fault.help(
                "write `datastore: true` in its place: that keeps SQLite, or etcd, as it is at one moment",
            ));
        }
        for path in paths.iter().filter(|path| !path.text().is_some_and(|text| text.starts_with('/'))) {
            let message = format!("{:?} is not an absolute path", path.text().unwrap_or_default());
            let fault = Fault::error("backup", &path.span, message).label("here");
            faults.push(fault.help("write the whole path, such as `/home`"));
        }
    }
}
