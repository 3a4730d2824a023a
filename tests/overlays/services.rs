//! Configuration of programs that judge it themselves.

use crate::rendering::{PLAIN, rendered};
use kiln_tests::said;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The program where it is installed; else says what is left out.
fn judge(program: &str, package: &str) -> Option<Command> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let path = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    if path.is_none() {
        eprintln!("SKIPPED: {program} is not installed (Debian package {package})");
    }
    path.map(Command::new)
}

/// named-checkconf(8) on a copy in `folder`, zones and all.
fn named(folder: &Path, files: &[(&str, &str)]) -> Option<Result<(), String>> {
    let place = folder.to_str().expect("UTF-8");
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap_or_default();
        let text = text.replace("/etc/kiln/bind", place).replace("/var/cache/bind", place);
        fs::write(folder.join(name), text).expect("written");
    }
    let output = judge("named-checkconf", "bind9-utils")?.arg("-z").arg(folder.join("named.conf")).output();
    let output = output.expect("named-checkconf");
    Some(if output.status.success() { Ok(()) } else { Err(said(&output)) })
}

#[test]
fn name_servers_take_their_zones() {
    let mut zones = 0;
    for node in rendered(PLAIN) {
        let files: Vec<(&str, &str)> = node
            .files
            .iter()
            .filter(|file| file.path.starts_with("/etc/kiln/bind/"))
            .map(|file| (file.path.as_str(), file.text.as_str()))
            .collect();
        if files.is_empty() {
            continue;
        }
        zones += files.len() - 1;
        let folder = tempfile::tempdir().expect("folder");
        let Some(result) = named(folder.path(), &files) else { return };
        result.unwrap_or_else(|error| panic!("{}/{}: {error}\n{files:#?}", node.cluster, node.node.name));
    }
    assert!(zones >= 4, "{zones} zones only");
}

#[test]
fn name_servers_can_refuse() {
    let folder = tempfile::tempdir().expect("folder");
    let conf = "options { directory \"/var/cache/bind\"; };\nzone \"a\" { type primary; file \"/etc/kiln/bind/a.zone\"; };\n";
    let files = [("named.conf", conf), ("a.zone", "$TTL 1\n@ IN A 10.0.0.1\n")];
    if let Some(result) = named(folder.path(), &files) {
        assert!(result.is_err(), "a zone without an SOA record was taken");
    }
}

#[test]
fn the_load_balancer_takes_its_configuration() {
    let folder = tempfile::tempdir().expect("folder");
    let mut seen = 0;
    for node in rendered(PLAIN) {
        let Some(file) = node.file("/etc/kiln/haproxy.cfg") else { continue };
        seen += 1;
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, &file.text).expect("written");
        let Some(mut command) = judge("haproxy", "haproxy") else { return };
        let output = command.args(["-c", "-f"]).arg(&path).output().expect("haproxy");
        assert!(output.status.success(), "{}\n{}", file.text, said(&output));
        assert!(file.text.contains("server s1 10.0.0.1:6443"), "{}", file.text);
    }
    assert!(seen > 0);
}
