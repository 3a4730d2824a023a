//! `backup-restic`: there is something to keep.

use super::{Told, field};
use crate::cluster::model::Role;
use crate::cluster::settings::Setting;
use crate::diag::Fault;

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
        for path in paths.iter().filter(|path| !path.text().is_some_and(|text| text.starts_with('/'))) {
            let message = format!("{:?} is not an absolute path", path.text().unwrap_or_default());
            let fault = Fault::error("backup", &path.span, message).label("here");
            faults.push(fault.help("write the whole path, such as `/home`"));
        }
    }
}
