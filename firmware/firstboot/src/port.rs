//! The virtio-serial ports of a virtual machine, by their names.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// O_NONBLOCK of asm-generic/fcntl.h: a host that does not read must not hold the boot.
const O_NONBLOCK: i32 = 0o4000;
/// What is kept for a host that does not read yet; a boot's events are a tenth of it.
const MOST: usize = 256 << 10;

/// The device of a port: udev's link, or the one that sysfs names when udev has made none.
pub(crate) fn find(dev: &Path, sysfs: &Path, name: &str) -> Option<PathBuf> {
    let link = dev.join("virtio-ports").join(name);
    if link.exists() {
        return Some(link);
    }
    let ports =
        fs::read_dir(sysfs.join("class/virtio-ports")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut named =
        ports.filter(|port| fs::read_to_string(port.join("name")).is_ok_and(|text| text.trim() == name));
    Some(dev.join(named.next()?.file_name()?))
}

/// Lines for a port that may not be there yet, and for a host that may never read. Nothing of it waits.
#[derive(Debug)]
pub(crate) struct Outlet {
    dev: PathBuf,
    sysfs: PathBuf,
    name: &'static str,
    port: Option<File>,
    /// Not written yet; its first line may be half written.
    pending: Vec<u8>,
}

impl Outlet {
    /// For the port of this name, whenever it appears.
    pub(crate) fn new(dev: &Path, sysfs: &Path, name: &'static str) -> Self {
        Self { dev: dev.to_owned(), sysfs: sysfs.to_owned(), name, port: None, pending: Vec::new() }
    }

    /// Sends a line, or keeps it until the port takes it. A line that finds no room is dropped whole.
    pub(crate) fn send(&mut self, line: &str) {
        if self.pending.len() + line.len() < MOST {
            self.pending.extend_from_slice(line.as_bytes());
            self.pending.push(b'\n');
        }
        self.flush();
    }

    /// Writes what the port takes right now.
    pub(crate) fn flush(&mut self) {
        if self.port.is_none()
            && let Some(path) = find(&self.dev, &self.sysfs, self.name)
        {
            self.port = OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path).ok();
        }
        let Some(port) = &mut self.port else { return };
        while !self.pending.is_empty() {
            match port.write(&self.pending) {
                Ok(count) if count > 0 => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Outlet, find};
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::Path;

    fn announce(sysfs: &Path, device: &str, name: &str) {
        let port = sysfs.join("class/virtio-ports").join(device);
        fs::create_dir_all(&port).unwrap();
        fs::write(port.join("name"), format!("{name}\n")).unwrap();
    }

    #[test]
    fn the_port_is_found_without_udev() {
        let root = tempfile::tempdir().unwrap();
        let (dev, sysfs) = (root.path().join("dev"), root.path().join("sys"));
        assert_eq!(find(&dev, &sysfs, "wanted"), None);
        announce(&sysfs, "vport1p1", "other");
        assert_eq!(find(&dev, &sysfs, "wanted"), None);
        announce(&sysfs, "vport1p2", "wanted");
        assert_eq!(find(&dev, &sysfs, "wanted"), Some(dev.join("vport1p2")));
    }

    #[test]
    fn what_came_before_the_port_is_sent_first() {
        let root = tempfile::tempdir().unwrap();
        let mut outlet = Outlet::new(root.path(), root.path(), "wanted");
        outlet.send("one");
        announce(root.path(), "vport1p1", "wanted");
        // Announced, but its device node is late.
        outlet.send("two");
        fs::write(root.path().join("vport1p1"), "").unwrap();
        outlet.send("three");
        assert_eq!(fs::read_to_string(root.path().join("vport1p1")).unwrap(), "one\ntwo\nthree\n");
    }

    /// A pipe that nobody reads behaves as a port does: it takes so much, and then refuses.
    #[test]
    fn a_host_that_does_not_read_holds_nobody_and_gets_whole_lines() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("vport1p1");
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        announce(root.path(), "vport1p1", "wanted");
        let mut reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut outlet = Outlet::new(root.path(), root.path(), "wanted");
        let line = "x".repeat(1000);
        for _ in 0..1000 {
            outlet.send(&line);
        }
        assert!(outlet.pending.len() <= MOST);
        let mut text = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        rustix::fs::fcntl_setfl(reader.as_fd(), rustix::fs::OFlags::NONBLOCK).unwrap();
        while let Ok(count) = std::io::Read::read(&mut reader, &mut buffer) {
            text.extend_from_slice(&buffer[..count]);
            outlet.flush();
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().count() > 200 && text.ends_with('\n'), "{} lines", text.lines().count());
        assert!(text.lines().all(|found| found == line));
    }
}
