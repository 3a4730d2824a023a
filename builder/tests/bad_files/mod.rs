//! Bad files, each with the name of what `kiln check` says of it.

mod clusters;
mod disks;
mod iscsi;
pub(crate) mod networks;
mod whole;

/// An Ed25519 key of text, whose private half nobody has.
pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93 example@kiln";
/// The start of every file that is about something else.
pub(crate) const HEAD: &str = "apiVersion: kiln/v1\ncluster: {name: home}\n";
pub(crate) const USER: &str = "users: [{name: anna, password_hash: $6$saltsalt$abcdefgh}]\n";
pub(crate) const NODE: &str = "nodes: [{name: node-1}]\n";

/// All of them.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    [whole::cases(), disks::cases(), networks::cases(), iscsi::cases(), clusters::cases()].concat()
}
