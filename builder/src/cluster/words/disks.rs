//! The syntax of what `disks` names.

/// Devices whose names count in letters, and in numbers.
const LETTERED: [&str; 4] = ["hd", "sd", "vd", "xvd"];
const NUMBERED: [&str; 9] = ["dm-", "fd", "loop", "md", "mmcblk", "nbd", "nvme", "sg", "sr"];
/// Folders of /dev.
const FOLDERS: [&str; 13] =
    ["block", "bus", "char", "cpu", "disk", "dri", "input", "mapper", "net", "pts", "shm", "snd", "vfio"];

/// A volume group's name that does not hide a device: LVM keeps volumes in /dev/<group>.
pub(in crate::cluster) fn volume_group(text: &str) -> Result<(), &'static str> {
    let letters = |rest: &str| {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
        (1..=3).contains(&(rest.len() - number.len())) && number.chars().all(|c| c.is_ascii_digit())
    };
    let number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    if LETTERED.iter().any(|device| text.strip_prefix(device).is_some_and(letters))
        || NUMBERED.iter().any(|device| text.strip_prefix(device).is_some_and(number))
        || FOLDERS.contains(&text)
    {
        return Err("/dev has a device or a folder of that name");
    }
    Ok(())
}

/// A qualified name of Kubernetes, which Longhorn's tags are: a name, ahead of which a domain and a slash may stand.
pub(in crate::cluster) fn kubernetes_name(text: &str) -> Result<(), &'static str> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if let Some(prefix) = prefix {
        super::domain(prefix)?;
    }
    let ends = |c: char| c.is_ascii_alphanumeric();
    match name {
        "" => Err("it is empty"),
        _ if text.len() > 253 => Err("it has more than 253 characters"),
        _ if name.len() > 63 => Err("it has more than 63 characters"),
        _ if !name.starts_with(ends) || !name.ends_with(ends) => {
            Err("it starts or ends with something other than a letter or a digit")
        }
        _ if !name.chars().all(|c| ends(c) || matches!(c, '-' | '_' | '.')) => {
            Err("it has a character other than letters, digits, `-`, `_` and `.`")
        }
        _ => Ok(()),
    }
}

/// Places where nothing may be mounted, nor below.
const SYSTEM: [&str; 23] = [
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/initrd.img",
    "/initrd.img.old",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/lost+found",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var/lib/dpkg",
    "/var/lib/kiln",
    "/vmlinuz",
    "/vmlinuz.old",
];
/// Directories that `rootfs::seal` makes links into /var of; below is free.
const LINKS: [&str; 4] = ["/home", "/mnt", "/opt", "/srv"];
/// Places where nothing may be mounted; below is free.
const NEEDED: [&str; 8] = [
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lib/cloud",
    "/var/lib/systemd",
    "/var/log",
    "/var/spool",
    "/var/tmp",
];
/// Where those links and two others lead to.
const LINKED: [&str; 7] =
    ["/var/directories", "/var/home", "/var/mnt", "/var/opt", "/var/roothome", "/var/srv", "/var/usrlocal"];
/// Places of the root that are there for what is mounted.
const MOUNTS: [&str; 2] = ["/media", "/mnt"];

/// A place for a data disk: a whole, plain path outside of what the system needs.
pub(in crate::cluster) fn mount_point(text: &str) -> Result<(), &'static str> {
    plain(text)?;
    let below = |place: &str| is_below(text, place);
    match text {
        _ if SYSTEM.iter().any(|place| below(place)) || NEEDED.contains(&text) => {
            Err("the system itself needs that place")
        }
        _ if LINKS.contains(&text) => Err("it is a link into /var, and only places below it are free"),
        _ if ["/var/run", "/var/lock"].iter().any(|place| below(place)) => Err("it is a link into /run"),
        _ if LINKED.iter().any(|place| below(place)) => {
            Err("the name of that place is the one without /var, such as /srv for /var/srv")
        }
        _ => Ok(()),
    }
}

/// A place for a folder that can be written to: a name at the top that the root has not, or a folder below one that leads to
/// /var.
pub(in crate::cluster) fn directory(text: &str) -> Result<(), &'static str> {
    plain(text)?;
    match text {
        _ if is_below(text, "/var") || is_below(text, "/root") => {
            Err("that place can be written to without this")
        }
        _ if LINKS.contains(&text) && text != "/mnt" => Err("that place can be written to without this"),
        _ if MOUNTS.iter().any(|place| is_below(text, place)) => {
            Err("that place is for what is mounted, and is made anew at each boot")
        }
        _ if SYSTEM.iter().any(|place| is_below(text, place)) => Err("the system itself has that place"),
        _ => Ok(()),
    }
}

fn is_below(text: &str, place: &str) -> bool {
    text.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A whole path as it is written in its shortest form, of plain letters.
fn plain(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text.strip_prefix('/') else { return Err("it does not start with `/`") };
    let mut parts = rest.split('/');
    match text {
        "/" => Err("that is the root itself"),
        _ if text.ends_with('/') => Err("it ends with `/`"),
        _ if parts.clone().any(str::is_empty) => Err("it has two `/` in a row"),
        _ if parts.clone().any(|part| part == "." || part == "..") => Err("it has `.` or `..` in it"),
        _ if parts.any(|part| part.len() > 255) => Err("a part of it has more than 255 characters"),
        _ if !rest.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:".contains(c)) => {
            Err("it has a character other than letters, digits, `.`, `_`, `-`, `+`, `@` and `:`")
        }
        _ => Ok(()),
    }
}

/// Options that are not the user's to set: `mount_option` says why.
const OURS: [&str; 17] = [
    "_netdev", "auto", "bind", "defaults", "fail", "group", "loop", "move", "noauto", "nofail", "owner",
    "rbind", "remount", "ro", "rw", "user", "users",
];

/// An option of mount(8), one of those that leave open whether and when the disk is mounted.
pub(in crate::cluster) fn mount_option(text: &str) -> Result<(), &'static str> {
    let key = text.split('=').next().unwrap_or_default();
    match text {
        "" => Err("it is empty"),
        _ if text.contains(',') => Err("it has a comma, which ends an option"),
        _ if !text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '%' | '\\' | '"' | '\'')) => {
            Err("it has a blank, a quote, `%`, `\\` or a character outside ASCII")
        }
        _ if OURS.contains(&key) || key.to_ascii_lowercase().starts_with("x-") => {
            Err("Kiln decides what is mounted, when and whether for writing")
        }
        _ if text.len() > 255 => Err("it has more than 255 characters"),
        _ => Ok(()),
    }
}

/// A disk's serial number, exactly.
pub(in crate::cluster) fn serial(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("it is empty"),
        _ if text.contains(['*', '?', '[', ']']) => Err("it is a pattern, and `erase` takes none"),
        _ if text.trim() != text => Err("blanks at its ends are not part of what disks say"),
        _ if text.chars().any(char::is_control) => Err("it has a character that can't be printed"),
        _ if text.len() > 255 => Err("it has more than 255 bytes"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{mount_option, mount_point, volume_group};

    #[test]
    fn places() {
        for good in [
            "/srv/data",
            "/storage",
            "/storage/a-b_c.d",
            "/var/lib/rancher/k3s/storage",
            "/mnt/longhorn/sdf-1",
            "/media",
            "/usrlocal",
            "/home/anna",
            "/var/log/archive",
        ] {
            assert_eq!(mount_point(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "srv",
            "/",
            "//srv",
            "/srv/",
            "/srv//a",
            "/srv/./a",
            "/srv/../etc",
            "/srv/a b",
            "/srv/%i",
            "/srv/ö",
            "/usr",
            "/usr/local",
            "/etc/x",
            "/var",
            "/var/lib",
            "/var/lib/kiln",
            "/var/lib/kiln/etc",
            "/var/srv/x",
            "/var/run/x",
            "/srv",
            "/root/x",
            "/boot/efi",
            "/var/log",
        ] {
            assert!(mount_point(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn options() {
        for good in ["noatime", "commit=60", "nodev", "discard", "user_xattr", "logbsize=256k"] {
            assert_eq!(mount_option(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a,b",
            "a b",
            "noauto",
            "nofail",
            "x-systemd.automount",
            "X-mount.mkdir",
            "ro",
            "loop=/dev/loop0",
            "%i",
        ] {
            assert!(mount_option(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn groups() {
        for good in ["data", "vg-data", "storage", "sdata-pool", "mdraid-set", "fdisks"] {
            assert_eq!(volume_group(good), Ok(()), "{good}");
        }
        for bad in ["sda", "sda1", "vdb", "nvme0n1", "md127", "dm-0", "mapper", "disk"] {
            assert!(volume_group(bad).is_err(), "{bad}");
        }
    }
}
