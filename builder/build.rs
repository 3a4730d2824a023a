//! Builds `kiln-firstboot`, the static helper that every image carries, so that `kiln` is one file with nothing
//! to install beside it. `KILN_FIRSTBOOT_BIN` names a ready one instead. Embeds the overlays, too.

#[path = "build/overlays.rs"]
mod overlays;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What images run on, whatever this builder runs on.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "firstboot";
const BINARY: &str = "kiln-firstboot";

fn main() -> Result<(), Box<dyn Error>> {
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().ok_or("the builder's directory has no parent")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for path in ["firmware", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-env-changed=KILN_FIRSTBOOT_BIN");
    let ready = env::var_os("KILN_FIRSTBOOT_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = &ready {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    overlays::embed(&workspace.join("overlays"), &out)?;
    let binary = match ready {
        Some(path) => path,
        None => build(workspace, &out.join("helper"))?,
    };
    fs::copy(&binary, out.join(BINARY)).map_err(|error| format!("{}: {error}", binary.display()))?;
    Ok(())
}

/// Builds the helper with its own profile and target directory, and returns its path.
fn build(workspace: &Path, target_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let cargo = env::var_os("CARGO").ok_or("cargo did not say where it is")?;
    let mut command = Command::new(cargo);
    // What was meant for the build of `kiln` must not reach the helper: its bytes are a function of its sources
    // and the compiler. The wrappers are those of clippy and of compiler caches.
    for (name, _) in env::vars_os() {
        let meant_for_us = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PROFILE_")
                || name.starts_with("CARGO_FEATURE_")
                || name.starts_with("CARGO_CFG_")
                || name.starts_with("CARGO_BUILD_")
                || name.starts_with("CARGO_TARGET_")
                || name.starts_with("CARGO_PKG_")
                || matches!(name, "RUSTFLAGS" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "CLIPPY_ARGS")
        });
        if meant_for_us {
            command.env_remove(name);
        }
    }
    command
        .current_dir(workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, target_dir).join("\x1f"))
        .args(["build", "--locked", "--package", BINARY, "--profile", PROFILE, "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir);
    let status = command.status()?;
    if !status.success() {
        return Err(format!(
            "building {BINARY} for {TARGET} failed ({status}); it needs that target's standard library and a C \
             linker with a static libc (Debian: libc6-dev). KILN_FIRSTBOOT_BIN may name a ready one"
        )
        .into());
    }
    Ok(target_dir.join(TARGET).join(PROFILE).join(BINARY))
}

/// Static, and without a word of where it was built.
fn flags(workspace: &Path, target_dir: &Path) -> Vec<String> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    // rustc takes the last prefix that fits, so the longest goes last.
    let prefixes = [(home.as_deref(), "/cargo"), (Some(workspace), "/kiln"), (Some(target_dir), "/target")];
    for (path, short) in prefixes {
        if let Some(path) = path {
            flags.push(format!("--remap-path-prefix={}={short}", path.display()));
        }
    }
    flags
}
