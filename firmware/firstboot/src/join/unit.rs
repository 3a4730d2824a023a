//! The systemd unit that joins.

use super::Around;
use super::words::{Cause, Trouble};
use kiln_contract::join::Join;
use std::process::{Command, Stdio};

/// systemd's word for the unit: `active`, `activating`, `failed`, …
pub(super) fn state(around: &Around, join: &Join) -> String {
    let output =
        Command::new(&around.systemctl).args(["is-active", &join.unit]).stdin(Stdio::null()).output();
    let text =
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

/// Does it run, or is it on its way?
pub(super) fn runs(around: &Around, join: &Join) -> bool {
    matches!(state(around, join).as_str(), "active" | "activating" | "reloading")
}

/// Has it started, without waiting for it: it is ready when the node is. One that runs or is on its way is left alone.
pub(super) fn start(around: &Around, join: &Join) -> Result<((), String), Trouble> {
    let state = state(around, join);
    if matches!(state.as_str(), "active" | "activating" | "reloading") {
        return Ok(((), format!("{} is {state}", join.unit)));
    }
    let failed = |said: String| Trouble::new(Cause::UnitFailed, format!("{}: {said}", join.unit));
    let output = Command::new(&around.systemctl)
        .args(["start", "--no-block", &join.unit])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(((), format!("{} is started", join.unit)));
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(failed(said.lines().next().unwrap_or("it does not say why").to_owned()))
}
