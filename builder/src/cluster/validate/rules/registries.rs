//! `registry-mirrors`: what proves who one is comes in pairs.

use super::{Told, services};
use crate::cluster::settings::Setting;
use crate::diag::Fault;

pub(super) fn check(told: &Told<'_>, faults: &mut Vec<Fault>) {
    for entry in told.given("credentials").map(Setting::list).unwrap_or_default() {
        services::pair(entry, ("certificate", "key"), faults);
    }
}
