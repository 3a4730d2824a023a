//! `kiln init`.

use crate::cluster::{self, FILE_NAME};
use crate::diag::Ui;
use crate::render;
use anyhow::{Context as _, bail};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Arguments of `kiln init`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kiln init\n  kiln init my-cluster && kiln check -f my-cluster/cluster.yaml"
)]
pub struct Args {
    /// Folder for `cluster.yaml`; made when it is not there.
    #[arg(default_value = ".", value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,
}

/// Writes the file; never over another.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let path = args.dir.join(FILE_NAME);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let found = home.map(|home| public_keys(&home.join(".ssh"))).unwrap_or_default();
    let keys: Vec<String> = found.iter().map(|(_, key)| key.clone()).collect();
    let user = std::env::var("USER").ok().filter(|name| cluster::is_free_login(name));
    let user = user.unwrap_or_else(|| "ops".to_owned());
    let text = render::starter(&user, &keys)?;

    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make the folder {}", args.dir.display()))?;
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "{} is there already and stays as it is: name another folder, or move it away",
                path.display()
            )
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;

    ui.say(format!("wrote {}", path.display()));
    for (source, _) in &found {
        ui.say(format!("`{user}` may log in with the key of {}", source.display()));
    }
    if found.is_empty() {
        ui.warn(format!(
            "no public key in ~/.ssh: nobody can log in before `ssh_keys` of `{user}` holds one"
        ));
    }
    ui.say("next: look through it, then `kiln check` and `kiln build`");
    Ok(())
}

/// Sound public keys among `<folder>/*.pub`, in the order of their names.
fn public_keys(folder: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
    paths.sort();
    let key = |path: PathBuf| {
        let line = std::fs::read_to_string(&path).ok()?.trim().to_owned();
        cluster::is_ssh_key(&line).then_some((path, line))
    };
    paths.into_iter().filter_map(key).collect()
}
