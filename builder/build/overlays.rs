//! Embeds the overlays: a table of their documents, and one of names, files, modes and bytes.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Writes `overlays.rs` and `overlay_documents.rs` into `out` from the folders below `overlays`.
pub(crate) fn embed(overlays: &Path, out: &Path) -> io::Result<()> {
    println!("cargo::rerun-if-changed={}", overlays.display());
    let mut code = String::from("static OVERLAYS: &[(&str, &[Embedded])] = &[\n");
    let mut documents = String::from("pub(super) static BUILT_IN: &[(&str, &str)] = &[\n");
    for folder in sorted(overlays)?.into_iter().filter(|path| path.join("overlay.yaml").is_file()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != "base" {
            let document = folder.join("overlay.yaml").display().to_string();
            let _ = writeln!(documents, "    ({name:?}, include_str!({document:?})),");
        }
        let _ = writeln!(code, "    ({name:?}, &[");
        for file in files(&folder)? {
            let inner = file.strip_prefix(&folder).unwrap_or(&file).to_string_lossy().into_owned();
            let executable = fs::metadata(&file)?.permissions().mode() & 0o100 != 0;
            let mode = if executable { "0o755" } else { "0o644" };
            let _ = writeln!(
                code,
                "        ({inner:?}, {mode}, include_bytes!({:?})),",
                file.display().to_string()
            );
        }
        code.push_str("    ]),\n");
    }
    code.push_str("];\n");
    documents.push_str("];\n");
    fs::write(out.join("overlay_documents.rs"), documents)?;
    fs::write(out.join("overlays.rs"), code)
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in sorted(folder)? {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// In the order of names: the folder's own order is the file system's.
fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
