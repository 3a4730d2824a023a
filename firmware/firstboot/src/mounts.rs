//! The system's file systems: root read-only, /var, and /etc as an overlay whose upper layer lives in /var.

use crate::data::Present;
use crate::disks::Partition;
use crate::factory;
use crate::failure::Failure;
use crate::state;
use crate::steps::Steps;
use crate::switch::SYSTEMD;
use crate::sys::{self, Flags};
use crate::{places, seeded, units};
use kiln_contract::handoff::Handoff;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where the root is mounted until it is the root.
pub(crate) const ROOT: &str = "/sysroot";

/// Mounts the root and looks whether it holds a system.
pub(crate) fn root(partition: &Partition) -> Result<(), Failure> {
    let device = format!("/dev/{}", partition.name);
    let _ = fs::create_dir(ROOT);
    sys::mount(&device, ROOT, "ext4", (Flags::RDONLY, ""))
        .map_err(|error| Failure::RootMount { device, error })?;
    // Links in the root lead to paths of the root, so their targets are not looked at from here.
    match fs::symlink_metadata(format!("{ROOT}{SYSTEMD}")) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::NoSystemd { path: SYSTEMD }),
    }
}

/// Mounts /var, which is the state partition, and fills it from the image's factory settings.
pub(crate) fn var(steps: &mut Steps, device: &Path) -> Result<(), Failure> {
    let target = format!("{ROOT}/var");
    state::mount(steps, device, &target)?;
    factory::fill(Path::new(&format!("{ROOT}/usr/share/factory/var")), Path::new(&target))
        .map_err(step("fill /var from /usr/share/factory/var"))
}

/// Undoes what a first boot left half done. Before /etc is overlaid: most of it is there.
pub(crate) fn seeded(steps: &mut Steps) -> Result<(), Failure> {
    if seeded::begin(Path::new(ROOT)).map_err(step("undo what a boot that was cut short left in /var"))? {
        steps.note("seed", "", "the first boot was cut short: what the seed says is done anew");
    }
    Ok(())
}

/// Makes the mount points of all data disks, and has systemd mount those that are there.
pub(crate) fn data(handoff: &Handoff, present: &[Present<'_>]) -> Result<(), Failure> {
    let root = Path::new(ROOT);
    let slots = handoff.disks.data.iter().flat_map(|rule| &rule.slots);
    let disks = slots.filter_map(|slot| slot.mount_point.as_deref());
    // LUNs come when the network is there; their places must be there before.
    let luns = handoff.iscsi.iter().flat_map(|iscsi| &iscsi.luns).map(|lun| lun.mount_point.as_str());
    let points: Vec<String> = disks.chain(luns).map(|point| places::resolve(root, point)).collect();
    places::make(root, &points).map_err(step("make the mount points of the data disks"))?;
    let mounts: Vec<_> = present.iter().filter_map(|found| found.mount(root)).collect();
    units::write_mounts(Path::new(units::FOLDER), &mounts).map_err(step("write the units of the data disks"))
}

/// Lays the overlay over /etc.
pub(crate) fn etc() -> Result<(), Failure> {
    let layers = format!("{ROOT}/var/lib/kiln/etc");
    let (etc, upper, work) = (format!("{ROOT}/etc"), format!("{layers}/upper"), format!("{layers}/work"));
    for directory in [&upper, &work] {
        fs::create_dir_all(directory).map_err(step("make the layers of /etc below /var/lib/kiln"))?;
    }
    // The overlay's own root shows the upper directory's mode.
    fs::set_permissions(&upper, Permissions::from_mode(0o755)).map_err(step("make the layers of /etc"))?;
    let options = format!("lowerdir={etc},upperdir={upper},workdir={work}");
    sys::mount("overlay", &etc, "overlay", (Flags::empty(), &options)).map_err(step("overlay /etc"))
}

/// Writes /etc/machine-id, so that systemd finds an identity that was decided at build time.
pub(crate) fn machine_id(id: &str) -> Result<(), Failure> {
    let (path, text) = (format!("{ROOT}/etc/machine-id"), format!("{id}\n"));
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    // A whole file under its final name or none: power may fail between any two steps.
    let new = format!("{path}.kiln");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&new);
        fs::write(&new, &text)?;
        fs::set_permissions(&new, Permissions::from_mode(0o444))?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(Path::new(&path).parent().unwrap_or(Path::new(ROOT)))?.sync_all()
    };
    write().map_err(step("write /etc/machine-id"))
}

fn step(what: &str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Root { what: what.to_owned(), error }
}
