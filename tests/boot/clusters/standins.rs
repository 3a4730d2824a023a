//! What stands for the programs that the examples fetch: each says of itself that it is none of them. They lie where they are
//! published, with the digests beside them as their publishers write those.

use crate::cable::write;
use crate::nodes::digest;
use crate::user::publish_k3s;
use kiln_tests::{die, succeed, tool, top};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const TAILSCALED: &str = r#"#!/bin/sh
# A stand-in for tailscaled in Kiln's tests: it knows no tailnet.
set -eu
case " $* " in *" --cleanup "*) exit 0 ;; esac
# What it needs of its node.
[ -c /dev/net/tun ] && iptables -V >/dev/null && [ -d "$RUNTIME_DIRECTORY" ] && [ -w "$STATE_DIRECTORY" ]
case " $* " in *" --state=/var/lib/tailscale/tailscaled.state "*) ;; *) exit 2 ;; esac
exec systemd-notify --ready --exec ';' sleep infinity
"#;
/// tailscaled keeps what it is in as a profile; the stand-in keeps what it was asked for, too.
const TAILSCALE: &str = r#"#!/bin/sh
# A stand-in for tailscale in Kiln's tests: it takes a key and logs in nowhere.
set -eu
if [ "$*" = 'status --json --peers=false' ]; then
    known=false
    if grep -qs profile-standin /var/lib/tailscale/tailscaled.state; then known=true; fi
    echo "{ \"HaveNodeKey\": $known }"
    exit 0
fi
[ "$1" = up ]
for word in "$@"; do
    case $word in --auth-key=file:*) grep -q '^tskey-auth-' "${word#--auth-key=file:}" ;; esac
done
printf '%s\n' "$@" >>/var/lib/tailscale/standin-up
echo '{"profile-standin": ""}' >/var/lib/tailscale/tailscaled.state
"#;
const MINIO: &str = r#"#!/bin/sh
# A stand-in for MinIO in Kiln's tests: it stores nothing.
set -eu
[ "$1" = server ] && [ -n "$MINIO_ROOT_USER" ] && [ -n "$MINIO_ROOT_PASSWORD" ]
printf '%s\n' "$*" >"$MINIO_VOLUMES/standin"
exec systemd-notify --ready --exec ';' sleep infinity
"#;
const BAO: &str = r#"#!/bin/sh
# A stand-in for OpenBao in Kiln's tests: it keeps no secret.
set -eu
[ "$1" = server ]
/usr/bin/python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["storage"]["raft"]["node_id"])' \
    "${2#-config=}" >"$KILN_VAULT_DATA/standin"
exec systemd-notify --ready --exec ';' sleep infinity
"#;

/// Writes all of them into a folder of artefacts.
pub(super) fn write_all(folder: &Path) {
    publish_k3s(folder, &version("k3s-flux"));

    let version = default_of("tailscale", "/settings/version/default");
    let name = format!("tailscale_{version}_amd64");
    let stable = folder.join("stable");
    let archive = packed(&stable, &name, &[("tailscale", TAILSCALE), ("tailscaled", TAILSCALED)]);
    write(&stable.join(format!("{name}.tgz.sha256")), &digest(&archive));

    let version = default_of("external-services", "/settings/minio/fields/version/default");
    let release = folder.join("server/minio/release/linux-amd64/archive");
    made(&release);
    let name = format!("minio.{version}");
    write(&release.join(&name), MINIO);
    write(&release.join(format!("{name}.sha256sum")), &format!("{} {name}\n", digest(&release.join(&name))));

    let version = default_of("external-services", "/settings/vault/fields/version/default");
    let release = folder.join("openbao/openbao/releases/download").join(format!("v{version}"));
    let name = format!("openbao_{version}_linux_amd64.tar.gz");
    made(&release);
    write(&release.join("bao"), BAO);
    tar(&release, &name, "bao");
    write(&release.join("checksums.txt"), &format!("{}  {name}\n", digest(&release.join(&name))));
}

/// The release of k3s in an example.
fn version(example: &str) -> String {
    let path = top().join("overlays/examples").join(example).join("cluster.yaml");
    value(&path, "/cluster/k3s/version")
}

/// What an overlay fetches when nothing is said.
fn default_of(overlay: &str, pointer: &str) -> String {
    value(&top().join("overlays").join(overlay).join("overlay.yaml"), pointer)
}

fn value(path: &Path, pointer: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    let value: Value =
        serde_saphyr::from_str(&text).unwrap_or_else(|e| die(&format!("{}: {e}", path.display())));
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| die(&format!("{} has no {pointer}", path.display()))).to_owned()
}

/// A .tgz with a folder of its own name that has these programs.
fn packed(folder: &Path, name: &str, programs: &[(&str, &str)]) -> std::path::PathBuf {
    let inner = folder.join(name);
    made(&inner);
    for (program, text) in programs {
        write(&inner.join(program), text);
        fs::set_permissions(inner.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    tar(folder, &format!("{name}.tgz"), name);
    folder.join(format!("{name}.tgz"))
}

/// The same bytes in every run.
fn tar(folder: &Path, name: &str, content: &str) {
    let plain = ["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "--use-compress-program=gzip -n"];
    succeed(tool("tar", "tar").args(plain).args(["-cf", name, content]).current_dir(folder));
}

fn made(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
}
