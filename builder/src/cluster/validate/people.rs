//! `users` and their keys.

use super::accounts::{self, Account};
use super::shells::{Brought, brought};
use super::user_data;
use super::{Check, Rule, Seen};
use crate::cluster::file::UserSection;
use crate::cluster::model::{Overlay, User};
use crate::cluster::read::Text;
use crate::cluster::user_data::{Content, UserData};
use crate::cluster::{ssh_key, words};
use crate::diag::{Fault, Span};
use std::collections::BTreeSet;

const USER: Rule = Rule {
    check: words::login,
    what: "a user name",
    code: "user-name",
    help: "use a-z, 0-9, `_` and `-` behind a first letter, at most 32 of them",
};
const GROUP: Rule = Rule { what: "a group name", code: "group-name", ..USER };

/// A user, and where the file says what of him.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) user: User,
    shell: Span,
    /// In their order in the file.
    groups: Vec<Text>,
}

/// The users of persons.
pub(super) fn of(persons: &[Person]) -> Vec<User> {
    persons.iter().map(|person| person.user.clone()).collect()
}

/// What a node has that may bring a shell.
pub(super) struct Shells<'a> {
    pub(super) packages: BTreeSet<&'a str>,
    /// Packages are among them that the user names, or layers of the user's own.
    pub(super) own: bool,
    pub(super) overlays: &'a [Overlay],
}

impl Check<'_> {
    /// The users of a list on top of `inherited` ones; a name that is given again replaces.
    pub(super) fn users(&mut self, sections: Option<&Vec<UserSection>>, inherited: &[Person]) -> Vec<Person> {
        let mut users = inherited.to_vec();
        let mut seen = Seen::new("duplicate-user", "the user name", "keep one of the two");
        for section in sections.into_iter().flatten() {
            let name = section.name.as_ref().and_then(|name| self.login(name));
            if let (Some(name), Some(text)) = (&name, &section.name) {
                seen.check(name, &text.span, self.faults);
            }
            let shell = section.shell.as_ref().and_then(|shell| self.shell(shell));
            let place = section.name.as_ref().map_or(&section.span, |name| &name.span).clone();
            let user = User {
                name: name.unwrap_or_default(),
                ssh_keys: self.ssh_keys(section.ssh_keys.as_ref()),
                groups: self.set(section.groups.as_ref(), GROUP).into_iter().collect(),
                sudo: section.sudo.as_ref().is_none_or(|sudo| sudo.value),
                shell: shell.unwrap_or_else(|| "/bin/bash".to_owned()),
                password_hash: section.password_hash.as_ref().and_then(|hash| self.password_hash(hash)),
            };
            let person = Person {
                user,
                shell: section.shell.as_ref().map_or(place, |shell| shell.span.clone()),
                groups: section.groups.clone().unwrap_or_default(),
            };
            match users.iter_mut().find(|other| other.user.name == person.user.name) {
                Some(other) => *other = person,
                None => users.push(person),
            }
        }
        users
    }

    /// Groups that are in the way of users: of `persons`, and of those that files of the user's own make.
    pub(super) fn clashes(&mut self, persons: &[Person], own: &[(&Text, &UserData)]) {
        let configs: Vec<_> = own
            .iter()
            .filter_map(|(text, data)| match &data.content {
                Content::CloudConfig(entries) => Some((*text, *data, entries)),
                _ => None,
            })
            .collect();
        let mut all = Vec::new();
        // Whose each is: none are of the cluster file.
        let mut whose = Vec::new();
        for (at, (_, _, entries)) in configs.iter().enumerate() {
            all.push(Account { name: "", groups: user_data::groups(entries), own_group: false });
            whose.push(Some(at));
        }
        for person in persons {
            let groups = person.groups.iter().map(|group| group.value.as_str()).collect();
            all.push(Account { name: &person.user.name, groups, own_group: true });
            whose.push(None);
        }
        for (at, (_, _, entries)) in configs.iter().enumerate() {
            let accounts = user_data::accounts(entries);
            whose.extend(std::iter::repeat_n(Some(at), accounts.len()));
            all.extend(accounts);
        }
        for clash in accounts::clashes(&all) {
            let (name, by) = (all[clash.account].name, &all[clash.by]);
            let file = whose[clash.by].or(whose[clash.account]).and_then(|at| configs.get(at));
            let in_file = file.map_or_else(String::new, |(_, data, _)| format!("{}: ", data.path.display()));
            let person = clash.by.checked_sub(configs.len()).and_then(|at| persons.get(at));
            let group = person.and_then(|person| person.groups.get(clash.group));
            let span = match (group, file) {
                (Some(group), _) => group.span.clone(),
                (None, Some((text, ..))) => text.span.clone(),
                (None, None) => continue,
            };
            if !self.said.insert((span.start, "group")) {
                continue;
            }
            let (message, help) = if clash.by == clash.account {
                (
                    format!("{in_file}`{name}` is in a group of the own name, which is made with the user"),
                    format!("remove `{name}` from `groups`: else `useradd` refuses, and nobody can log in"),
                )
            } else if by.name.is_empty() {
                (
                    format!("{in_file}`groups` makes the group `{name}` before the user `{name}`"),
                    "remove it from `groups`: it is made with the user; else `useradd` refuses, and nobody can log in".to_owned(),
                )
            } else {
                (
                    format!("{in_file}the group `{name}` of `{}` is made before the user `{name}`", by.name),
                    format!(
                        "write the user `{name}` ahead of `{}`, or take the group out: else `useradd` refuses, and nobody can log in",
                        by.name
                    ),
                )
            };
            self.faults.push(Fault::error("group-name", &span, message).label("this group").help(help));
        }
    }

    /// Is every user's shell there?
    pub(super) fn shells(&mut self, persons: &[Person], around: &Shells<'_>) {
        for person in persons {
            let shell = person.user.shell.as_str();
            let known = brought(shell);
            let name = shell.rsplit('/').next().unwrap_or_default();
            let literal = || {
                let mut folders = around.overlays.iter().filter_map(|overlay| overlay.folder.as_ref());
                folders.any(|folder| folder.join("files").join(shell.trim_start_matches('/')).exists())
            };
            let there = match known {
                Brought::Base => true,
                Brought::Package(package) => around.packages.contains(package),
                Brought::Unknown => around.packages.contains(name),
            };
            if there || literal() || !self.said.insert((person.shell.start, "shell")) {
                continue;
            }
            let message =
                format!("nothing brings the shell {shell}: `{}` could not log in", person.user.name);
            let fault = match known {
                Brought::Package(package) => Fault::error("shell", &person.shell, message)
                    .help(format!("add `{package}` to `base.packages`, or to `packages` of the node")),
                _ if !around.own => Fault::error("shell", &person.shell, message)
                    .help("name the package that brings it in `base.packages`, or leave `shell` out"),
                // What a package has in it is not known here.
                _ => Fault::warning(
                    "shell",
                    &person.shell,
                    format!("no package that Kiln knows brings the shell {shell}"),
                )
                .help(format!(
                    "see that one of the named packages does: `{}` can't log in without",
                    person.user.name
                )),
            };
            self.faults.push(fault.label("this shell"));
        }
    }

    fn login(&mut self, name: &Text) -> Option<String> {
        let value = self.word(name, USER)?;
        if words::SYSTEM_ACCOUNTS.contains(&value.as_str()) {
            let message = format!("`{value}` is an account of the system itself");
            let help = "give the person a name of their own; with `sudo: true` they may become root";
            self.faults.push(Fault::error("user-name", &name.span, message).label("taken").help(help));
            return None;
        }
        Some(value)
    }

    fn shell(&mut self, shell: &Text) -> Option<String> {
        if shell.value.starts_with('/') && shell.value.chars().all(|c| c.is_ascii_graphic() && c != ':') {
            return Some(shell.value.clone());
        }
        let message = format!("{:?} is not the path of a shell", shell.value);
        let help = "write the whole path, such as `/bin/bash`, and name its package in `packages`";
        self.faults.push(Fault::error("shell", &shell.span, message).label("here").help(help));
        None
    }

    /// Never quotes what it was given: that may be the password itself.
    fn password_hash(&mut self, hash: &Text) -> Option<String> {
        match words::password_hash(&hash.value) {
            Ok(()) => Some(hash.value.clone()),
            Err(reason) => {
                let message = format!("this is not a password hash: {reason}");
                let help = "`mkpasswd` (Debian package whois) asks for a password and prints its hash";
                self.faults
                    .push(Fault::error("password-hash", &hash.span, message).label("not shown").help(help));
                None
            }
        }
    }

    pub(super) fn ssh_keys(&mut self, keys: Option<&Vec<Text>>) -> Vec<String> {
        let mut good = Vec::new();
        for key in keys.into_iter().flatten() {
            match ssh_key::source(&key.value).unwrap_or_else(|| ssh_key::check(&key.value)) {
                Ok(()) if ssh_key::source(&key.value).is_some() => good.push(key.value.clone()),
                Ok(()) => good.push(ssh_key::tidy(&key.value)),
                Err(wrong) => {
                    let label = if wrong.code == "private-key" { "not shown" } else { "this key" };
                    let fault = Fault::error(wrong.code, &key.span, wrong.message);
                    self.faults.push(fault.label(label).help(wrong.help));
                }
            }
        }
        good
    }
}
