//! UEFI firmware for the machine: where distributions put it.

use crate::Error;
use std::path::{Path, PathBuf};

/// Names the firmware's code.
const CODE: &str = "KILN_OVMF_CODE";
/// Names the firmware's empty variable store.
const VARS: &str = "KILN_OVMF_VARS";

/// Code and variable store, which belong together: their sizes make one flash chip.
/// Builds with secure boot enforced are left out; they would refuse unsigned kernels.
const PLACES: &[(&str, &str)] = &[
    // Debian, Ubuntu: 4 MiB flash, then the 2 MiB of older releases.
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    // Fedora.
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    // Arch.
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    // openSUSE.
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
    // QEMU's own build.
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),
    ("/usr/local/share/qemu/edk2-x86_64-code.fd", "/usr/local/share/qemu/edk2-i386-vars.fd"),
];

/// What runs before the disk is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI in flash: code that is only read, and variables of which each machine gets its own copy.
    Uefi {
        /// Raw image of the code.
        code: PathBuf,
        /// Raw image of an empty variable store.
        vars: PathBuf,
    },
    /// QEMU's own BIOS.
    Bios,
}

impl Firmware {
    /// The UEFI firmware that `KILN_OVMF_CODE` and `KILN_OVMF_VARS` name, else the first at a usual place.
    pub fn find() -> Result<Self, Error> {
        Self::find_with(|name| std::env::var_os(name).map(PathBuf::from), PLACES)
    }

    fn find_with(variable: impl Fn(&str) -> Option<PathBuf>, places: &[(&str, &str)]) -> Result<Self, Error> {
        let named = |name: &'static str| match variable(name) {
            Some(path) if path.is_file() => Ok(path),
            Some(path) => Err(Error::FirmwareSetting {
                name,
                problem: format!("names {}, which is no file", path.display()),
            }),
            None => Err(Error::FirmwareSetting { name, problem: "is not set".to_owned() }),
        };
        if variable(CODE).is_some() || variable(VARS).is_some() {
            return Ok(Self::Uefi { code: named(CODE)?, vars: named(VARS)? });
        }
        let found = places.iter().find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file());
        match found {
            Some((code, vars)) => Ok(Self::Uefi { code: code.into(), vars: vars.into() }),
            None => Err(Error::NoFirmware { looked: places.iter().map(|(code, _)| code.into()).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CODE, Firmware, VARS};
    use std::fs;

    #[test]
    fn the_environment_comes_first_and_must_be_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["code", "vars", "usual-code", "usual-vars"] {
            fs::write(path(name), "").unwrap();
        }
        let (code, vars) = (path("usual-code"), path("usual-vars"));
        let places = [("/nowhere/code", "/nowhere/vars"), (code.to_str().unwrap(), vars.to_str().unwrap())];

        let usual = Firmware::find_with(|_| None, &places).unwrap();
        assert_eq!(usual, Firmware::Uefi { code: code.clone(), vars: vars.clone() });

        let own = Firmware::find_with(|name| Some(path(if name == CODE { "code" } else { "vars" })), &places);
        assert_eq!(own.unwrap(), Firmware::Uefi { code: path("code"), vars: path("vars") });

        let half = Firmware::find_with(|name| (name == CODE).then(|| path("code")), &places).unwrap_err();
        assert_eq!(half.to_string(), "KILN_OVMF_VARS is not set: it and its partner must both name a file");

        let gone = Firmware::find_with(|name| (name == VARS).then(|| path("gone")), &places).unwrap_err();
        assert!(gone.to_string().contains("KILN_OVMF_CODE is not set"), "{gone}");

        let none = Firmware::find_with(|_| None, &places[..1]).unwrap_err().to_string();
        assert!(none.contains("apt-get install ovmf") && none.contains("/nowhere/code"), "{none}");
    }
}
