//! `k3s-standin`: a stand-in for k3s in Kiln's tests. It takes k3s' command line and configuration, speaks the join protocol
//! of a k3s server and of those who join it, keeps Node objects and all that an administrator gives it, applies its folder of manifests, and runs no container. It is not k3s.
//!
//! What it does is what k3s does in `pkg/server/handlers/router.go`, `pkg/server/auth/auth.go`, `pkg/nodepassword/validate.go`,
//! `pkg/clientaccess/token.go` and `pkg/agent/config/config.go`. Faults come on request, by environment variables:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `K3S_STANDIN_ROOT` | folder that stands for `/` |
//! | `K3S_STANDIN_LATE` | seconds for which a server answers 503 |
//! | `K3S_STANDIN_READY` | seconds from a node's registration to its being Ready (1) |
//! | `K3S_STANDIN_LOOK` | seconds between two looks at the folder of manifests (15) |
//! | `K3S_STANDIN_DIE` | a server ends itself before it answers its request of that number |
//! | `K3S_STANDIN_CONFLICTS` | as many changes of Nodes are answered by 409 |
//! | `K3S_STANDIN_LEASE` | seconds between two renewals of a node's lease (10) |
//! | `K3S_STANDIN_ETCD` | `silent`: a server's etcd does not answer |
//! | `K3S_STANDIN_CLIENTS` | file with another CA that clients are judged by |
//! | `K3S_STANDIN_REFUSE` | status that administrators are answered with |
//! | `K3S_STANDIN_LOG` | file that gets a line for each request, with all its headers |
//!
//! It ends as k3s does, with a line of `level=fatal` in logrus' form. What a test wants it to end with is in a file,
//! `/var/lib/rancher/k3s/last-words`.

mod agent;
mod api;
mod authority;
mod client;
mod config;
mod folder;
mod members;
mod objects;
mod server;
mod serving;
mod store;

use config::Config;
use std::process::ExitCode;

/// What stops a stand-in.
type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of what may stop it.
type Outcome<T> = Result<T, Failure>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("--version" | "-v") => {
            println!(
                "k3s-standin {}: a stand-in for k3s in Kiln's tests, not k3s",
                env!("CARGO_PKG_VERSION")
            );
            return ExitCode::SUCCESS;
        }
        Some("server") => begin(&arguments).and_then(|config| server::run(&config)),
        Some("agent") => begin(&arguments).and_then(|config| agent::run(&config)),
        Some("ask") => client::ask(&arguments[1..]),
        _ => Err("k3s-standin server | agent | ask METHOD PATH | --version".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // logrus' form, which k3s ends in.
            eprintln!("time=\"2026-11-28T00:00:00Z\" level=fatal msg={:?}", error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What it was told, unless it is to end with somebody's words.
fn begin(arguments: &[String]) -> Outcome<Config> {
    let config = Config::read(&arguments[1..])?;
    match std::fs::read_to_string(config.path("/var/lib/rancher/k3s/last-words")) {
        Ok(words) => Err(words.trim().into()),
        Err(_) => Ok(config),
    }
}

/// Tells systemd that the service is up (sd_notify(3)).
fn ready() -> Outcome<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let text = path.to_string_lossy().into_owned();
    let address = match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
