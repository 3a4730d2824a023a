//! systemd units of what this boot found: written to /run before systemd starts, so that it mounts the disks that are
//! there and waits for none that is not.

use crate::volumes;
use kiln_contract::policy::{Rule, Slot};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Where units of one boot go (systemd.unit(5)).
pub(crate) const FOLDER: &str = "/run/systemd/system";
/// Options of every data disk: nothing on it gives rights.
const OPTIONS: [&str; 2] = ["nosuid", "nodev"];

/// A data disk that is mounted.
#[derive(Debug, Clone)]
pub(crate) struct Mount<'a> {
    /// Its rule.
    pub(crate) rule: &'a Rule,
    /// Its slot.
    pub(crate) slot: &'a Slot,
    /// What is mounted.
    pub(crate) source: String,
    /// Where: a path without symbolic links.
    pub(crate) target: String,
}

/// Writes a mount unit for each disk, wanted by local-fs.target: a disk that can't be mounted makes the
/// unit fail, and the boot goes on.
pub(crate) fn write_mounts(folder: &Path, mounts: &[Mount<'_>]) -> io::Result<()> {
    let wants = folder.join("local-fs.target.wants");
    for mount in mounts {
        fs::create_dir_all(&wants)?;
        let name = format!("{}.mount", escape_path(&mount.target));
        fs::write(folder.join(&name), unit(mount))?;
        let link = wants.join(&name);
        let _ = fs::remove_file(&link);
        symlink(Path::new("..").join(&name), link)?;
    }
    Ok(())
}

fn unit(mount: &Mount<'_>) -> String {
    let Mount { rule, slot, source, target } = mount;
    let options: Vec<&str> =
        OPTIONS.into_iter().chain(rule.mount_options.iter().map(String::as_str)).collect();
    let check = format!("systemd-fsck@{}.service", escape_path(source));
    let opener = volumes::opener(source).map(|unit| format!(" {unit}")).unwrap_or_default();
    format!(
        "[Unit]\nDescription=Data disk {}\nRequires={check}{opener}\nAfter={check}{opener}\n\n\
         [Mount]\nWhat={source}\nWhere={}\nType={}\nOptions={}\n",
        slot.name,
        specifier(target),
        rule.filesystem.as_str(),
        specifier(&options.join(","))
    )
}

/// A percent sign begins a specifier (systemd.unit(5)).
fn specifier(text: &str) -> String {
    text.replace('%', "%%")
}

/// A path as systemd has it in unit names (systemd-escape(1), `--path`).
pub(crate) fn escape_path(path: &str) -> String {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return "-".to_owned();
    }
    let mut text = String::new();
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'/' => text.push('-'),
            b'.' if at == 0 => text.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => text.push(char::from(byte)),
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Mount, escape_path, write_mounts};
    use crate::data::tests::rule;
    use std::fs;

    /// The examples of systemd-escape(1) and of systemd.unit(5), and a device by partition GUID.
    #[test]
    fn paths_are_escaped_as_systemd_does() {
        let table = [
            ("/", "-"),
            ("/mnt/longhorn/sdf-1", r"mnt-longhorn-sdf\x2d1"),
            ("/dev/disk/by-partuuid/00-aa", r"dev-disk-by\x2dpartuuid-00\x2daa"),
            ("/.hidden/a b", r"\x2ehidden-a\x20b"),
        ];
        for (path, want) in table {
            assert_eq!(escape_path(path), want);
        }
    }

    #[test]
    fn a_unit_is_written_and_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let rule = rule("sdf", 2);
        let mount = Mount {
            rule: &rule,
            slot: &rule.slots[0],
            source: "/dev/disk/by-partuuid/01".to_owned(),
            target: "/mnt/longhorn/sdf-1".to_owned(),
        };
        write_mounts(folder.path(), &[mount]).unwrap();
        let name = r"mnt-longhorn-sdf\x2d1.mount";
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        let want = "[Unit]\nDescription=Data disk sdf-1\n\
            Requires=systemd-fsck@dev-disk-by\\x2dpartuuid-01.service\n\
            After=systemd-fsck@dev-disk-by\\x2dpartuuid-01.service\n\n\
            [Mount]\nWhat=/dev/disk/by-partuuid/01\nWhere=/mnt/longhorn/sdf-1\nType=ext4\n\
            Options=nosuid,nodev,noatime\n";
        assert_eq!(text, want);
        assert_eq!(fs::read_to_string(folder.path().join("local-fs.target.wants").join(name)).unwrap(), text);
    }
}
