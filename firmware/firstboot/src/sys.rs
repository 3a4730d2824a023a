//! System calls, thinly: everything that std does not have. The only file that may hold `unsafe`: ioctls that
//! rustix has no safe form of.
#![allow(unsafe_code, reason = "the one room for it; tests/house looks that it stays so")]

use rustix::fs::{AtFlags, CWD, FileType, IFlags, MemfdFlags, Mode, Timespec, Timestamps, XattrFlags};
use rustix::ioctl;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::termios::{InputModes, LocalModes, OptionalActions, SpecialCodeIndex};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

pub(crate) use rustix::termios::Termios as Terminal;

pub(crate) use rustix::mount::MountFlags as Flags;

/// Mounts `source` of type `fstype` on `target` with the file system's own `options`.
pub(crate) fn mount(source: &str, target: &str, fstype: &str, with: (Flags, &str)) -> io::Result<()> {
    let options = CString::new(with.1)?;
    Ok(rustix::mount::mount(source, target, fstype, with.0, options.as_c_str())?)
}

/// Moves a mount (MS_MOVE).
pub(crate) fn move_mount(from: &str, to: &str) -> io::Result<()> {
    Ok(rustix::mount::mount_move(from, to)?)
}

/// Unmounts lazily: what is still open goes when it is closed.
pub(crate) fn unmount(target: &str) -> io::Result<()> {
    Ok(rustix::mount::unmount(target, UnmountFlags::DETACH)?)
}

/// Nothing on it is a program or a device: for a volume that is written to by us alone.
pub(crate) fn quiet() -> Flags {
    MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

/// Writes out the file system that `path` lies on.
pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// What a file system has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Its size (bytes).
    pub(crate) bytes: u64,
    /// What root may still fill.
    pub(crate) free: u64,
    /// What anybody may still fill.
    pub(crate) available: u64,
    /// Files that it may have; 0 when it does not count them.
    pub(crate) inodes: u64,
    /// Files that it may still get.
    pub(crate) inodes_free: u64,
}

/// The room of the file system that `path` lies on.
pub(crate) fn room(path: &Path) -> io::Result<Room> {
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Room {
        bytes: bytes(found.f_blocks),
        free: bytes(found.f_bfree),
        available: bytes(found.f_bavail),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

/// Major and minor number of a device, links followed.
pub(crate) fn device_number(path: &Path) -> io::Result<(u32, u32)> {
    let device = std::fs::metadata(path)?.rdev();
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Gives a file `bytes` of room, which nothing is written to.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?)
}

/// Read-only and nothing that could harm: for a volume that is only looked into.
pub(crate) fn read_only_data() -> Flags {
    MountFlags::RDONLY | quiet()
}

/// Loads a kernel module. A module that is loaded already is fine.
pub(crate) fn load_module(file: &File, parameters: &str) -> io::Result<()> {
    let parameters = CString::new(parameters)?;
    match rustix::system::finit_module(file, &parameters, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Fills `bytes` from the kernel's random numbers; waits until it has any.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// A file that is in memory alone and goes with its last descriptor, holding `bytes`, read from its start. A program can
/// seek in it, which it can't in a pipe.
pub(crate) fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(c"kiln", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// `uname -r`.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Time since the kernel started.
pub(crate) fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither part of the boot clock is negative.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Seconds since 1970; 0 when the clock stands before that.
pub(crate) fn now() -> u64 {
    u64::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// Sets the clock.
pub(crate) fn set_clock(seconds: u64) -> io::Result<()> {
    let tv_sec = i64::try_from(seconds).map_err(|_| io::ErrorKind::InvalidInput)?;
    let time = rustix::time::Timespec { tv_sec, tv_nsec: 0 };
    Ok(rustix::time::clock_settime(rustix::time::ClockId::Realtime, time)?)
}

/// Writes everything out and restarts the machine.
pub(crate) fn reboot() {
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
}

/// Makes a terminal give single keys, none of them shown or taken for a signal, and a read return at once (termios(3):
/// MIN and TIME both 0). What was typed before is thrown away. Gives how the terminal was set.
pub(crate) fn take_keys(terminal: &File) -> io::Result<Terminal> {
    let before = rustix::termios::tcgetattr(terminal)?;
    let mut now = before.clone();
    now.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
    // XON and XOFF are keys as well; a line that is not connected sends breaks.
    now.input_modes -= InputModes::IXON;
    now.input_modes |= InputModes::IGNBRK;
    now.special_codes[SpecialCodeIndex::VMIN] = 0;
    now.special_codes[SpecialCodeIndex::VTIME] = 0;
    rustix::termios::tcsetattr(terminal, OptionalActions::Flush, &now)?;
    Ok(before)
}

/// Sets a terminal as it was, and throws away what was typed in between.
pub(crate) fn give_back(terminal: &File, before: &Terminal) -> io::Result<()> {
    Ok(rustix::termios::tcsetattr(terminal, OptionalActions::Flush, before)?)
}

/// Has the kernel read a disk's partition table again. Fails with EBUSY while a partition is in use.
pub(crate) fn reread_partitions(disk: &File) -> io::Result<()> {
    // BLKRRPART of linux/fs.h: _IO(0x12, 95).
    const BLKRRPART: ioctl::Opcode = ioctl::opcode::none(0x12, 95);
    // SAFETY: this ioctl takes no argument.
    let call = unsafe { ioctl::NoArg::<BLKRRPART>::new() };
    // SAFETY: it reads and writes no memory of this process, whatever the descriptor is.
    Ok(unsafe { ioctl::ioctl(disk, call) }?)
}

/// Grows a mounted ext4 file system to `blocks` of its own blocks.
pub(crate) fn grow_ext4(mount_point: &File, blocks: u64) -> io::Result<()> {
    // EXT4_IOC_RESIZE_FS of linux/fs/ext4/ext4.h: _IOW('f', 16, __u64).
    const RESIZE: ioctl::Opcode = ioctl::opcode::write::<u64>(b'f', 16);
    // SAFETY: this ioctl reads one u64 from its argument, which is one.
    let call = unsafe { ioctl::Setter::<RESIZE, u64>::new(blocks) };
    // SAFETY: as above; another kind of file answers ENOTTY.
    Ok(unsafe { ioctl::ioctl(mount_point, call) }?)
}

/// Makes a directory immutable: nothing can be made in it, by nobody, until it is not. True when it was not so before.
pub(crate) fn make_immutable(directory: &File) -> io::Result<bool> {
    let flags = rustix::fs::ioctl_getflags(directory)?;
    if flags.contains(IFlags::IMMUTABLE) {
        return Ok(false);
    }
    rustix::fs::ioctl_setflags(directory, flags | IFlags::IMMUTABLE)?;
    Ok(true)
}

/// Makes a device node, pipe or socket like the one that `metadata` is of.
pub(crate) fn make_node(path: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
    let kind = FileType::from_raw_mode(metadata.mode());
    let mode = Mode::from_raw_mode(metadata.mode());
    Ok(rustix::fs::mknodat(CWD, path, kind, mode, metadata.rdev())?)
}

/// Sets access and modification time, links not followed.
pub(crate) fn set_times(path: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Copies all extended attributes, links not followed.
pub(crate) fn copy_xattrs(from: &Path, to: &Path) -> io::Result<()> {
    // XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h.
    const MOST: usize = 65536;
    let mut names = vec![0; MOST];
    let length = match rustix::fs::llistxattr(from, &mut names) {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0; MOST];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(from, name, &mut value)?;
        rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
