//! `kiln-firstboot settle`: a node outside the cluster joins nothing, but it has a moment as well after which nobody needs the
//! seed's secrets: its first boot has succeeded. What cloud-init was told is done without an error, and no unit that the
//! node is for has failed.

use super::words::{Cause, Trouble};
use super::{Around, shred};
use kiln_contract::settle::Settle;
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

/// cloud-init's own word on this boot (cloudinit/cmd/main.py, `status_wrapper`): the second is there when the last stage has
/// ended.
const STATUS: &str = "/run/cloud-init/status.json";
const RESULT: &str = "/run/cloud-init/result.json";

/// What is to be removed.
pub(super) fn left(settle: &Settle) -> shred::Left<'_> {
    shred::Left { files: &settle.shred, seed: &settle.seed }
}

/// Has cloud-init done all that it was told, without an error? What it complained of may quote what is in a file, so only the
/// stages are named.
pub(super) fn finished(around: &Around) -> Result<((), String), Trouble> {
    let read = |path: &str| {
        let bytes = fs::read(around.path(path)).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let running = || Trouble::new(Cause::CloudInitRuns, "");
    let result = read(RESULT).ok_or_else(running)?;
    let status = read(STATUS).ok_or_else(running)?;
    let has = |errors: &Value| errors.as_array().is_some_and(|errors| !errors.is_empty());
    let stages = status["v1"].as_object().into_iter().flatten();
    let stages: Vec<&str> =
        stages.filter(|(_, stage)| has(&stage["errors"])).map(|(name, _)| name.as_str()).collect();
    if stages.is_empty() && !has(&result["v1"]["errors"]) {
        return Ok(((), "cloud-init has finished without an error".to_owned()));
    }
    let stages = if stages.is_empty() { "its last one".to_owned() } else { stages.join(", ") };
    Err(Trouble::new(Cause::CloudInitFailed, stages))
}

/// Is no unit failed or on its way?
pub(super) fn units(around: &Around, settle: &Settle) -> Result<((), String), Trouble> {
    if settle.units.is_empty() {
        return Ok(((), "there are none".to_owned()));
    }
    let trouble = |facts: String| Trouble::new(Cause::UnitsNotWell, facts);
    let mut command = Command::new(&around.systemctl);
    command.arg("is-active").arg("--").args(&settle.units).stdin(Stdio::null());
    // One line for each. Its status is that of the best of them.
    let output = command.output().map_err(|error| trouble(format!("systemctl: {error}")))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let states: Vec<&str> = said.lines().collect();
    if states.len() != settle.units.len() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().next().unwrap_or("it does not say of all of them how they are").to_owned();
        return Err(trouble(format!("systemctl: {line}")));
    }
    // One whose condition is not met, or that has done its work, is `inactive`.
    let well = |state: &str| matches!(state, "active" | "inactive" | "reloading");
    let bad: Vec<String> = settle
        .units
        .iter()
        .zip(states)
        .filter(|(_, state)| !well(state))
        .map(|(unit, state)| format!("{unit} is {state}"))
        .collect();
    if bad.is_empty() { Ok(((), "none has failed".to_owned())) } else { Err(trouble(bad.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::{finished, units};
    use crate::join::tests::around;
    use crate::join::words::Cause;
    use kiln_contract::join::Seed;
    use kiln_contract::settle::{Settle, VERSION};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn cloud_init_has_finished_when_it_says_so_without_an_error() {
        let root = tempfile::tempdir().unwrap();
        let around = around(root.path());
        let folder = root.path().join("run/cloud-init");
        fs::create_dir_all(&folder).unwrap();
        let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let cause = || finished(&around).unwrap_err();
        let good = r#"{"v1": {"datasource": "x", "stage": null, "init": {"errors": [], "recoverable_errors": {"W": ["w"]}}}}"#;
        assert_eq!(cause().cause, Cause::CloudInitRuns);
        put("status.json", good);
        assert_eq!(cause().cause, Cause::CloudInitRuns);
        put("result.json", r#"{"v1": {"datasource": "x", "errors": []}}"#);
        finished(&around).unwrap();
        put("status.json", &good.replace("\"errors\": []", "\"errors\": [\"('write_files', hunter2)\"]"));
        let trouble = cause();
        assert_eq!(trouble.said(), "cloud-init had errors: init");
        assert!(!format!("{trouble:?}").contains("hunter2"));
        put("status.json", good);
        put("result.json", r#"{"v1": {"datasource": "x", "errors": ["hunter2"]}}"#);
        assert_eq!(cause().said(), "cloud-init had errors: its last one");
        put("result.json", "{");
        assert_eq!(cause().cause, Cause::CloudInitRuns);
    }

    #[test]
    fn units_that_failed_or_are_on_their_way_are_named() {
        let root = tempfile::tempdir().unwrap();
        let systemctl = root.path().join("systemctl");
        let mut around = around(root.path());
        around.systemctl = systemctl.clone();
        let settle = Settle {
            version: VERSION,
            cluster: "demo".to_owned(),
            node: "storage".to_owned(),
            units: ["a.service", "b.timer", "c.service"].map(str::to_owned).to_vec(),
            shred: Vec::new(),
            seed: Seed::Volume,
        };
        let say = |states: &str| {
            let text = format!(
                "#!/bin/sh\n[ \"$*\" = 'is-active -- a.service b.timer c.service' ] || exit 1\nprintf '{states}'\nexit 3\n"
            );
            fs::write(&systemctl, text).unwrap();
            fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o700)).unwrap();
            // Between another test's fork and its exec the program is open for writing (execve(2), ETXTBSY).
            loop {
                match units(&around, &settle) {
                    Err(trouble) if trouble.said().contains("os error 26") => {}
                    result => return result.map(|(_, found)| found).map_err(|trouble| trouble.said()),
                }
            }
        };
        assert_eq!(say("active\\ninactive\\nactive\\n").unwrap(), "none has failed");
        assert_eq!(
            say("failed\\nactive\\nactivating\\n").unwrap_err(),
            "not all that this node is for runs: a.service is failed, c.service is activating"
        );
        assert!(say("active\\n").unwrap_err().contains("systemctl: it does not say"));
        let none = Settle { units: Vec::new(), ..settle };
        around.systemctl = "/no/such".into();
        units(&around, &none).unwrap();
    }
}
