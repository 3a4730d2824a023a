//! A user with OpenSSH.

use kiln_tests::tool;
use std::path::Path;
use std::process::Output;

/// What comes of asking for `command` on the node behind `port`, with this key or with a password.
pub(crate) fn ask(port: u16, with: &With<'_>, command: &str) -> Output {
    let mut ssh = tool("ssh", "openssh-client");
    // Nothing of the host's own configuration, agent or keys takes part; nobody is asked for anything.
    ssh.args(["-F", "/dev/null", "-p", &port.to_string(), "-o", "BatchMode=yes", "-o", "IdentityAgent=none"]);
    ssh.args([
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
    ]);
    ssh.args(["-o", "ConnectTimeout=60", "-o", "ConnectionAttempts=1"]);
    match with {
        With::Key(key) => {
            ssh.args(["-o", "IdentitiesOnly=yes", "-o", "PreferredAuthentications=publickey", "-i"]).arg(key)
        }
        With::Password => ssh.args(["-o", "PubkeyAuthentication=no"]),
    };
    ssh.args(["ops@127.0.0.1", command]).env_remove("SSH_AUTH_SOCK").output().unwrap()
}

/// What a user has.
pub(crate) enum With<'a> {
    /// The file of a private key.
    Key(&'a Path),
    /// No key. No password is given either: the methods that the node offers are in its refusal.
    Password,
}
