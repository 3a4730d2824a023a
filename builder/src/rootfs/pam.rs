//! /etc/pam.d/common-*: the templates of libpam-runtime filled from the profiles in /usr/share/pam-configs,
//! as pam-auth-update(8) does for profiles that are on by default.

use super::Error;
use super::root::Root;
use std::collections::BTreeMap;

const PROFILES: &str = "usr/share/pam-configs";
const STACKS: [&str; 5] = ["auth", "account", "password", "session", "session-noninteractive"];

#[derive(Debug, Default)]
struct Profile {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Profile {
    fn parse(name: &str, text: &str) -> Self {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut key = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                fields.entry(key.clone()).and_modify(|value| {
                    if !value.is_empty() {
                        value.push('\n');
                    }
                    value.push_str(line.trim_start());
                });
            } else if let Some((name, value)) = line.split_once(':') {
                key = name.to_owned();
                fields.insert(key.clone(), value.trim().to_owned());
            }
        }
        Self { name: name.to_owned(), fields }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Position in the stack: higher first.
    fn priority(&self) -> i64 {
        self.field("Priority").parse().unwrap_or(0)
    }

    /// The lines for a stack (`Auth` …), in the form for the first of its block when there is one.
    fn lines(&self, stack: &str, first: bool) -> &str {
        let initial = self.field(&format!("{stack}-Initial"));
        if first && !initial.is_empty() { initial } else { self.field(stack) }
    }
}

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let mut profiles = Vec::new();
    for name in root.names(PROFILES) {
        let text = root.text(&format!("{PROFILES}/{name}"))?.unwrap_or_default();
        profiles.push(Profile::parse(&name, &text));
    }
    profiles.sort_by(|a, b| b.priority().cmp(&a.priority()).then_with(|| b.name.cmp(&a.name)));
    let seen: String = profiles.iter().map(|profile| format!("{}\n", profile.name)).collect();
    profiles.retain(|profile| profile.field("Default") == "yes");
    let mut any = false;
    for stack in STACKS {
        let Some(template) = root.text(&format!("usr/share/pam/common-{stack}"))? else { continue };
        any = true;
        let interactive = !stack.ends_with("-noninteractive");
        let kind = stack.trim_end_matches("-noninteractive");
        let chosen: Vec<&Profile> = profiles
            .iter()
            .filter(|profile| interactive || profile.field("Session-Interactive-Only") != "yes")
            .collect();
        root.put_file(&format!("etc/pam.d/common-{stack}"), fill(&template, kind, &chosen), 0o644);
        root.put_file(&format!("var/lib/pam/{stack}"), state(kind, &chosen), 0o644);
    }
    if any {
        root.put_file("var/lib/pam/seen", seen, 0o644);
    }
    Ok(())
}

/// `auth` as the profiles' fields are named.
fn title(kind: &str) -> String {
    kind[..1].to_uppercase() + &kind[1..]
}

/// Lines of the block `Primary` or `Additional` of a stack, unfilled.
fn block<'a>(kind: &str, place: &str, profiles: &[&'a Profile]) -> Vec<(&'a str, &'a str)> {
    let stack = title(kind);
    let members = profiles.iter().filter(|profile| profile.field(&format!("{stack}-Type")) == place);
    members.enumerate().map(|(at, profile)| (profile.name.as_str(), profile.lines(&stack, at == 0))).collect()
}

fn fill(template: &str, kind: &str, profiles: &[&Profile]) -> String {
    let mut text = String::new();
    for line in template.lines() {
        let place = match line.strip_prefix('$').and_then(|name| name.rsplit_once('_')) {
            Some((_, "primary")) => "Primary",
            Some((_, "additional")) => "Additional",
            _ => {
                text.extend([line, "\n"]);
                continue;
            }
        };
        let lines: Vec<&str> =
            block(kind, place, profiles).iter().flat_map(|(_, lines)| lines.lines()).collect();
        if lines.is_empty() && place == "Primary" {
            text.push_str(&format!("{kind}\t[default=1]\t\t\tpam_permit.so\n"));
        }
        let last = lines.len() - usize::from(place == "Additional" && !lines.is_empty());
        for (at, line) in lines.iter().enumerate() {
            let jump = last.saturating_sub(at).to_string();
            let (module, options) = split(line);
            text.push_str(&format!("{kind}\t{} {}\n", module.replace("end", &jump), options.join(" ")));
        }
    }
    text
}

/// A line as control and module, and options: the module ends the second word, or what follows a bracket.
fn split(line: &str) -> (&str, Vec<&str>) {
    let control = if line.starts_with('[') { line.find(']').map_or(0, |at| at + 1) } else { 0 };
    let word = |from: usize| {
        let start = line[from..].find(|c: char| !c.is_whitespace()).map_or(line.len(), |at| from + at);
        line[start..].find(char::is_whitespace).map_or(line.len(), |at| start + at)
    };
    let control = if control == 0 { word(0) } else { control };
    let end = word(control);
    (&line[..end], line[end..].split_whitespace().collect())
}

fn state(kind: &str, profiles: &[&Profile]) -> String {
    let mut text = String::new();
    let primary = block(kind, "Primary", profiles);
    if primary.is_empty() {
        text.push_str("Module: null\n[default=1]\t\t\tpam_permit.so\n");
    }
    for (name, lines) in primary.iter().chain(&block(kind, "Additional", profiles)) {
        text.push_str(&format!("Module: {name}\n{lines}\n"));
    }
    text
}
