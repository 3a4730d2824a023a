//! What of cloud-init runs on a Kiln image, and the keys of a cloud-config that are obeyed because of it.

/// A module of cloud-init: its stage (the three lists of cloud.cfg), its name, and the keys that it reads. Those without
/// keys always run. In cloud-init's own order, but for `bootcmd`, which here comes after the files that it may want.
pub const MODULES: [(usize, &str, &[&str]); 21] = [
    (0, "seed_random", &["random_seed"]),
    (0, "write_files", &[]),
    (0, "bootcmd", &["bootcmd"]),
    (0, "set_hostname", &[]),
    (0, "update_hostname", &[]),
    (0, "update_etc_hosts", &[]),
    (0, "ca_certs", &["ca_certs"]),
    (0, "resolv_conf", &["resolv_conf", "manage_resolv_conf"]),
    (0, "rsyslog", &["rsyslog"]),
    (0, "users_groups", &[]),
    (0, "ssh", &[]),
    (1, "set_passwords", &[]),
    (1, "ntp", &["ntp"]),
    (1, "timezone", &[]),
    (1, "runcmd", &["runcmd"]),
    (2, "write_files_deferred", &["write_files"]),
    (2, "scripts_user", &["runcmd"]),
    (2, "keys_to_console", &["ssh_key_console_blacklist", "ssh_fp_console_blacklist"]),
    (2, "phone_home", &["phone_home"]),
    (2, "final_message", &[]),
    (2, "power_state_change", &["power_state"]),
];

/// Keys of modules that always run, and of cloud-init itself.
const ALWAYS: [&str; 27] = [
    "allow_public_ssh_keys",
    "authkey_hash",
    "chpasswd",
    "create_hostname_file",
    "disable_root",
    "disable_root_opts",
    "final_message",
    "groups",
    "manage_etc_hosts",
    "merge_how",
    "merge_type",
    "no_ssh_fingerprints",
    "output",
    "password",
    "prefer_fqdn_over_hostname",
    "reporting",
    "ssh",
    "ssh_authorized_keys",
    "ssh_deletekeys",
    "ssh_genkeytypes",
    "ssh_keys",
    "ssh_publish_hostkeys",
    "ssh_pwauth",
    "ssh_quiet_keygen",
    "timezone",
    "user",
    "users",
];

/// The keys that a Kiln image gives to cloud-init. Some are there twice.
pub fn keys() -> impl Iterator<Item = &'static str> {
    ALWAYS.into_iter().chain(MODULES.iter().flat_map(|(.., keys)| keys.iter().copied()))
}
