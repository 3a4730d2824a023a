//! The syntax of names. Each function gives the reason why a text is not one.

pub(super) mod disks;
pub(super) mod keyboards;
pub(super) mod locales;
pub(super) mod zones;

/// Locales that glibc has in itself; libc-bin, which is essential, brings C.UTF-8.
pub(in crate::cluster) const BUILT_IN_LOCALES: [&str; 3] = ["C", "C.UTF-8", "POSIX"];

/// A label of a host name (RFC 1123 §2.1), in lower case as Kubernetes wants node names.
pub(super) fn host_label(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("it is empty"),
        _ if text.len() > 63 => Err("it has more than 63 characters"),
        _ if text.starts_with('-') || text.ends_with('-') => Err("it starts or ends with a hyphen"),
        "localhost" => Err("`localhost` is every machine's own name"),
        _ if text.chars().any(|c| c.is_ascii_uppercase()) => Err("it has upper-case letters"),
        _ if text.contains('.') => Err("it has a dot: the domain is not part of it"),
        _ if text.contains('_') => Err("it has an underscore"),
        _ if !text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') => {
            Err("it has a character other than a-z, 0-9 and the hyphen")
        }
        _ => Ok(()),
    }
}

/// A name of labels with dots between (RFC 1123 §2.1, at most 253 characters).
pub(super) fn domain(text: &str) -> Result<(), &'static str> {
    if text.len() > 253 {
        return Err("it has more than 253 characters");
    }
    text.split('.').try_for_each(|label| match host_label(label) {
        Err("it is empty") => Err("it has an empty label: a dot too many"),
        other => other,
    })?;
    // RFC 3696 §2: no top-level domain is a number. inet_aton(3) takes such for addresses.
    match text.rsplit('.').next() {
        Some(last) if text.contains('.') && last.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("it looks like an address and is none")
        }
        _ => Ok(()),
    }
}

/// The name of an object of Kubernetes (apimachinery 1.34, pkg/util/validation: IsDNS1123Subdomain).
pub(super) fn object_name(text: &str) -> Result<(), &'static str> {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        label.starts_with(alphanumeric)
            && label.ends_with(alphanumeric)
            && label.chars().all(|c| alphanumeric(c) || c == '-')
    };
    match text {
        "" => Err("it is empty"),
        _ if text.len() > 253 => Err("it has more than 253 characters"),
        _ if text.chars().any(|c| c.is_ascii_uppercase()) => Err("it has upper-case letters"),
        _ if text.contains('_') => Err("it has an underscore"),
        _ if text.split('.').any(str::is_empty) => Err("it has an empty label: a dot too many"),
        _ if !text.split('.').all(label) => {
            Err("it has a character other than a-z, 0-9 and inner hyphens and dots")
        }
        _ => Ok(()),
    }
}

/// A login or group name as Debian's adduser takes it.
pub(super) fn login(text: &str) -> Result<(), &'static str> {
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    match text {
        "" => Err("it is empty"),
        _ if text.len() > 32 => Err("it has more than 32 characters"),
        _ if !text.starts_with(first) => Err("it doesn't start with a lower-case letter"),
        _ if !text.chars().all(|c| first(c) || c.is_ascii_digit() || c == '-') => {
            Err("it has a character other than a-z, 0-9, `_` and `-`")
        }
        _ => Ok(()),
    }
}

/// Accounts and groups that Debian's packages make (base-passwd, systemd, dbus, openssh, nfs-common): useradd(8)
/// refuses a user whose own group is there already.
pub(super) const SYSTEM_ACCOUNTS: &[&str] = &[
    "_apt",
    "_rpc",
    "_ssh",
    "adm",
    "audio",
    "backup",
    "bin",
    "cdrom",
    "clock",
    "crontab",
    "daemon",
    "dhcpcd",
    "dialout",
    "dip",
    "disk",
    "fax",
    "floppy",
    "games",
    "input",
    "irc",
    "kmem",
    "kvm",
    "list",
    "lp",
    "mail",
    "man",
    "messagebus",
    "netdev",
    "news",
    "nobody",
    "nogroup",
    "operator",
    "plugdev",
    "polkitd",
    "proxy",
    "render",
    "root",
    "sasl",
    "sgx",
    "shadow",
    "src",
    "sshd",
    "staff",
    "statd",
    "sudo",
    "sync",
    "sys",
    "systemd-journal",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesync",
    "tape",
    "tss",
    "tty",
    "users",
    "utmp",
    "uucp",
    "video",
    "voice",
    "www-data",
];

/// A binary package's name (Debian Policy §5.6.1).
pub(super) fn package(text: &str) -> Result<(), &'static str> {
    match text {
        _ if text.len() < 2 => Err("it has fewer than two characters"),
        _ if text.contains(['=', ':', '/', '<', '>']) => Err(
            "it has a version or an architecture: kiln.lock keeps versions, and the node has an architecture",
        ),
        _ if text.chars().any(|c| c.is_ascii_uppercase()) => Err("it has upper-case letters"),
        _ if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
            Err("it doesn't start with a letter or digit")
        }
        _ if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) => {
            Err("it has a character other than a-z, 0-9, `+`, `-` and `.`")
        }
        _ => Ok(()),
    }
}

/// The form of a name of the tz database.
pub(super) fn time_zone(text: &str) -> Result<(), &'static str> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-'))
    };
    match text {
        "" => Err("it is empty"),
        _ if text.contains(' ') => Err("it has a blank: the tz database writes `_`"),
        _ if text.split('/').count() > 3 || !text.split('/').all(part) => {
            Err("it is not of the form Area/City")
        }
        _ => Ok(()),
    }
}

/// An interface name or a pattern for one (the kernel's IFNAMSIZ leaves 15 bytes).
pub(super) fn interface(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("it is empty"),
        "lo" => Err("`lo` is the loopback interface"),
        _ if text.len() > 15 => Err("it has more than 15 characters"),
        _ if !text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '?' | '[' | ']')) =>
        {
            Err("it has a character that no interface has")
        }
        _ => Ok(()),
    }
}

/// A hardware address in lower case with colons.
pub(super) fn mac(text: &str) -> Result<String, &'static str> {
    let mac = text.to_ascii_lowercase().replace('-', ":");
    let parts: Vec<&str> = mac.split(':').collect();
    let hex = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(hex) {
        return Err("it is not six pairs of hexadecimal digits with colons between");
    }
    let first = u8::from_str_radix(parts[0], 16).unwrap_or_default();
    if first & 1 == 1 {
        return Err("its first byte is odd: that is a group, not an interface");
    }
    if mac == "00:00:00:00:00:00" {
        return Err("it is all zero");
    }
    Ok(mac)
}

/// A crypt(5) hash of a method that trixie's libcrypt still verifies.
pub(super) fn password_hash(text: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = text.split('$').collect();
    let known = ["y", "gy", "7", "2a", "2b", "2y", "6", "5"];
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | ';' | '*' | '!' | '\\');
    match parts.as_slice() {
        ["", method, rest @ ..] if known.contains(method) && rest.len() >= 2 && text.chars().all(plain) => {
            Ok(())
        }
        ["", "1", ..] => Err("it is an MD5 hash, which is guessed in minutes"),
        _ => Err("it is not a crypt(5) hash such as `$y$j9T$...`"),
    }
}

/// A word of the kernel command line.
pub(super) fn kernel_argument(text: &str) -> Result<(), &'static str> {
    let key = text.split('=').next().unwrap_or_default();
    match key {
        "" => Err("it is empty"),
        "root" | "init" | "rdinit" | "initrd" | "ro" | "rw" => Err("Kiln's own boot chain sets that word"),
        _ if !text.chars().all(|c| c.is_ascii_graphic()) => {
            Err("it has a blank or a character outside ASCII: one word an entry")
        }
        _ => Ok(()),
    }
}

/// A systemd unit's name (systemd.unit(5)).
pub(super) fn unit(text: &str) -> Result<(), &'static str> {
    const KINDS: [&str; 6] = ["service", "socket", "timer", "target", "mount", "path"];
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    match text.rsplit_once('.') {
        Some((name, kind)) if !name.is_empty() && KINDS.contains(&kind) && text.chars().all(fits) => Ok(()),
        _ => Err("it is not the name of a systemd unit"),
    }
}

/// A kernel module's name.
pub(super) fn module(text: &str) -> Result<(), &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if text.is_empty() || !text.chars().all(fits) {
        Err("it is not the name of a kernel module")
    } else {
        Ok(())
    }
}
