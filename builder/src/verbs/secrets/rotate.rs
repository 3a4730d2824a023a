//! `kiln secrets rotate`.

use super::Site;
use crate::diag::{Ui, nearest};
use crate::secrets::{Former, Held, Rotated, What, Wish};
use crate::verbs::FileArg;
use anyhow::bail;
use serde_json::json;

/// Arguments of `kiln secrets rotate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "WHAT is among tokens, node-passwords [NODE...], ssh-host-keys [NODE...], service-key, cas; without \
    names, of all nodes. The file before is kept as FILE.previous.\n\
    Examples:\n  kiln secrets rotate node-passwords node-2 ssh-host-keys node-2\n  kiln secrets rotate tokens --yes"
)]
pub(super) struct Args {
    #[command(flatten)]
    file: FileArg,
    /// What to make anew.
    #[arg(required = true, value_name = "WHAT")]
    words: Vec<String>,
    /// Do it, where a running cluster needs more than new images; without it, only say what would happen.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    let wishes = parse(&args.words)?;
    let site = Site::open(&args.file, &[])?;
    let held = Held::take(&site.place)?;
    let mut secrets = site.secrets(&held)?;
    let rotated = secrets.rotate(&wishes)?;
    let destructive: Vec<&str> =
        wishes.iter().filter(|wish| wish.what.is_destructive()).map(|wish| wish.what.as_str()).collect();
    let done = args.yes || destructive.is_empty();
    if done {
        held.save(&mut secrets, &site.identities, Former::Keep)?;
    }
    let path = site.place.file.display();
    if ui.json() {
        ui.print_json(&json!({"file": path.to_string(), "done": done, "rotated": rotated}))?;
    } else {
        for rotated in &rotated {
            print(rotated, done, ui)?;
        }
    }
    if !done {
        bail!(
            "nothing was made anew yet: {} would reach into a cluster that runs; read what is above, and say it again \
             with `--yes`",
            destructive.join(", ")
        );
    }
    ui.say(format!("{path} is written; the one before it is {path}.previous"));
    Ok(())
}

fn print(rotated: &Rotated, done: bool, ui: &Ui) -> anyhow::Result<()> {
    let verb = if done { "made anew" } else { "would be made anew" };
    let whose =
        if rotated.nodes.is_empty() { String::new() } else { format!(" of {}", rotated.nodes.join(", ")) };
    ui.result(format!("{}{whose}: {verb}", rotated.what))?;
    for sentence in rotated.consequences {
        ui.result(format!("  - {sentence}"))?;
    }
    Ok(())
}

/// `node-passwords a b tokens`: a word that is no kind is a node of the kind before it.
fn parse(words: &[String]) -> anyhow::Result<Vec<Wish>> {
    let mut wishes: Vec<Wish> = Vec::new();
    for word in words {
        if let Some(what) = What::ALL.into_iter().find(|what| what.as_str() == word) {
            if wishes.iter().any(|wish| wish.what == what) {
                bail!("{what} is named twice");
            }
            wishes.push(Wish { what, nodes: Vec::new() });
            continue;
        }
        match wishes.last_mut() {
            Some(wish) if wish.what.is_per_node() => wish.nodes.push(word.clone()),
            _ => {
                let kinds = What::ALL.map(What::as_str);
                let near = nearest(word, kinds).map(|near| format!("; did you mean `{near}`?"));
                let near = near.unwrap_or_else(|| format!("; there are {}", kinds.join(", ")));
                bail!("`{word}` is nothing that can be made anew{near}");
            }
        }
    }
    Ok(wishes)
}
