//! Embeds the overlays.
#[path = "build/overlays.rs"]
mod overlays;
use std::path::PathBuf;
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest_dir = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().ok_or("the builder's directory has no parent")?;
    overlays::embed(&workspace.join("overlays"), &PathBuf::from(std::env::var("OUT_DIR")?))?;
    Ok(())
}
