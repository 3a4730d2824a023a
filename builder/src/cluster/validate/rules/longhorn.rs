//! `longhorn`: one StorageClass for volumes that name none.

use super::Told;
use crate::diag::Fault;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    let values = told.overlay.settings.get("values");
    let Some(class) = values.and_then(|values| values.get("persistence")?.get("defaultClass")) else {
        return;
    };
    // local-storage is there, or is left out, by what the setting says.
    let message = "`persistence.defaultClass` of the chart goes over Kiln's `default_class`, which k3s' own class follows";
    let fault = Fault::error("longhorn", &class.span, message).label("two default classes, or none");
    faults.push(fault.help("leave it out, and write `default_class: true` or `false` below `longhorn`"));
}
