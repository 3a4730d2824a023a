//! `kiln secrets`.

mod ask;
mod rotate;

use super::FileArg;
use crate::cluster::{self, Cluster, FILE_NAME};
use crate::diag::Ui;
use crate::secrets::{Former, Held, Identities, Place, Secrets};
use anyhow::bail;
use clap::Subcommand;
use serde_json::json;
use std::path::Path;

/// Arguments of `kiln secrets`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Private keys are taken from the file that KILN_IDENTITY names; without it from SOPS_AGE_KEY_FILE, \
    SOPS_AGE_KEY, ~/.config/sops/age/keys.txt and ~/.config/kiln/identity.txt.\n\
    Examples:\n  kiln secrets init\n  kiln secrets list\n  \
    kiln secrets set restic-password < password.txt\n  kiln secrets rotate node-passwords node-2"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the cluster's CAs, tokens, node passwords and SSH host keys; a second time, only what is missing.
    Init(InitArgs),
    /// Make secrets anew, and say what must be rebuilt.
    Rotate(rotate::Args),
    /// Print what there is: names, kinds, fingerprints and dates, never a value.
    List(ListArgs),
    /// Keep a value, read from standard input, under a name.
    Set(SetArgs),
}

#[derive(Debug, clap::Args)]
struct InitArgs {
    #[command(flatten)]
    file: FileArg,
    /// Who can decrypt: an age or SSH public key; may be given several times. Left out: who could before, and for a
    /// new file your own key.
    #[arg(long = "recipient", value_name = "KEY")]
    recipients: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    file: FileArg,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "One line is kept without its newline; a text of several lines as it is.")]
struct SetArgs {
    #[command(flatten)]
    file: FileArg,
    /// Name of the value: letters, digits, `.`, `_` and `-`.
    name: String,
}

/// Does what the words say.
pub fn run(args: &Args, ui: &Ui) -> anyhow::Result<()> {
    match &args.verb {
        Verb::Init(args) => init(args, ui),
        Verb::Rotate(args) => rotate::run(args, ui),
        Verb::List(args) => list(args, ui),
        Verb::Set(args) => set(args, ui),
    }
}

/// The cluster, and where its secrets are.
pub(super) struct Site {
    pub(super) cluster: Cluster,
    pub(super) place: Place,
    pub(super) identities: Identities,
}

impl Site {
    /// The embedded example has no secrets: they would lie in a folder that knows nothing of it.
    pub(super) fn open(file: &FileArg, recipients: &[String]) -> anyhow::Result<Self> {
        let path = file.file.as_deref().unwrap_or(Path::new(FILE_NAME));
        if file.file.is_none() && !path.exists() {
            bail!("there is no {FILE_NAME} here: name the file with `-f`, or let `kiln init` write one");
        }
        let cluster = cluster::load(path)?.cluster;
        let mut place = Place::of(&cluster.secrets, path.parent().unwrap_or(Path::new("")));
        place
            .recipients
            .extend(recipients.iter().filter(|key| !cluster.secrets.recipients.contains(key)).cloned());
        let identities = Identities::find(|name| std::env::var_os(name))?;
        Ok(Self { cluster, place, identities })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.cluster.nodes.iter().map(|node| node.name.as_str())
    }

    /// The secrets, which must be there and be this cluster's.
    pub(super) fn secrets(&self, held: &Held<'_>) -> anyhow::Result<Secrets> {
        let Some(secrets) = held.open(&self.identities)? else {
            bail!("{} is not there yet: `kiln secrets init` makes it", self.place.file.display());
        };
        secrets.check_cluster(self.cluster.id, &self.cluster.name, &self.place)?;
        Ok(secrets)
    }
}

fn init(args: &InitArgs, ui: &Ui) -> anyhow::Result<()> {
    let mut site = Site::open(&args.file, &args.recipients)?;
    let place = site.place.clone();
    let path = place.file.display();
    let held = Held::take(&place)?;
    if !place.file.exists() && site.identities.is_empty() && place.recipients.is_empty() {
        let (identities, made) = Identities::make_own(|name| std::env::var_os(name))?;
        ui.say(format!("made {}, the key to your secrets", made.display()));
        ui.warn(format!("back {} up: without it nothing opens {path} again", made.display()));
        site.identities = identities;
    }
    let before = held.open(&site.identities)?;
    let is_new = before.is_none();
    let mut secrets = match before {
        Some(secrets) => secrets,
        None => Secrets::make(site.cluster.id, &site.cluster.name)?,
    };
    secrets.check_cluster(site.cluster.id, &site.cluster.name, &place)?;
    let added = secrets.add_nodes(site.names())?;
    let other_recipients = !place.recipients.is_empty() && place.recipients != secrets.recipients();
    let changed = is_new || !added.is_empty() || other_recipients;
    if changed {
        held.save(&mut secrets, &site.identities, Former::Replace)?;
    }
    if ui.json() {
        let file = place.file.display().to_string();
        let answer =
            json!({"file": file, "new": is_new, "nodes_added": added, "recipients": secrets.recipients()});
        return Ok(ui.print_json(&answer)?);
    }
    match (is_new, added.is_empty()) {
        (true, _) => ui.result(format!(
            "{path} is new: 5 certificate authorities, the service-account key, 2 tokens; node password and SSH host \
             key of {}",
            added.join(", ")
        ))?,
        (false, false) => {
            ui.result(format!("{path}: added node password and SSH host key of {}", added.join(", ")))?;
        }
        (false, true) => ui.result(format!("{path}: nothing is missing"))?,
    }
    let gone: Vec<&str> = secrets.nodes().filter(|name| !site.names().any(|node| node == *name)).collect();
    if !gone.is_empty() {
        ui.say(format!("kept, though the cluster file has no such node: {}", gone.join(", ")));
    }
    if is_new || other_recipients {
        ui.result("it opens with the private key of any of:")?;
        for recipient in secrets.recipients() {
            ui.result(format!("  {recipient}"))?;
        }
    }
    if other_recipients && !is_new {
        ui.say("whoever could read the file before still can read the copies that they have");
    }
    if is_new {
        ui.say(format!(
            "next: keep {path} beside the cluster file, in version control too, and keep the key out of it"
        ));
    }
    Ok(())
}

fn list(args: &ListArgs, ui: &Ui) -> anyhow::Result<()> {
    let site = Site::open(&args.file, &[])?;
    let secrets = Secrets::open(&site.place, &site.identities)?;
    secrets.check_cluster(site.cluster.id, &site.cluster.name, &site.place)?;
    let items = secrets.list()?;
    if ui.json() {
        return Ok(ui.print_json(&items)?);
    }
    let width = items.iter().map(|item| item.name.len()).max().unwrap_or(0);
    for item in &items {
        let print = item.fingerprint.as_deref().unwrap_or("-");
        let line = format!("{:width$}  {:21}  {}  {print}", item.name, item.kind, item.made);
        ui.result(line)?;
    }
    Ok(())
}

fn set(args: &SetArgs, ui: &Ui) -> anyhow::Result<()> {
    let site = Site::open(&args.file, &[])?;
    // Who cannot write is told before being asked for the value.
    let held = Held::take(&site.place)?;
    let mut secrets = site.secrets(&held)?;
    let replaced = secrets.set(&args.name, ask::value(&args.name)?)?;
    held.save(&mut secrets, &site.identities, Former::Replace)?;
    if ui.json() {
        let file = site.place.file.display().to_string();
        return Ok(ui.print_json(&json!({"file": file, "name": args.name, "replaced": replaced}))?);
    }
    let what = if replaced { "replaced" } else { "new" };
    Ok(ui.result(format!("{}: value {} is {what}", site.place.file.display(), args.name))?)
}
