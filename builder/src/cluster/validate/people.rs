//! `users` and their keys.

use super::{Check, Rule, Seen};
use crate::cluster::file::UserSection;
use crate::cluster::model::User;
use crate::cluster::read::Text;
use crate::cluster::{ssh_key, words};
use crate::diag::Fault;

const USER: Rule = Rule {
    check: words::login,
    what: "a user name",
    code: "user-name",
    help: "use a-z, 0-9, `_` and `-` behind a first letter, at most 32 of them",
};
const GROUP: Rule = Rule { what: "a group name", code: "group-name", ..USER };

impl Check<'_> {
    /// The users of a list on top of `inherited` ones; a name that is given again replaces.
    pub(super) fn users(&mut self, sections: Option<&Vec<UserSection>>, inherited: &[User]) -> Vec<User> {
        let mut users = inherited.to_vec();
        let mut seen = Seen::new("duplicate-user", "the user name", "keep one of the two");
        for section in sections.into_iter().flatten() {
            let name = section.name.as_ref().and_then(|name| self.login(name));
            if let (Some(name), Some(text)) = (&name, &section.name) {
                seen.check(name, &text.span, self.faults);
            }
            let shell = section.shell.as_ref().and_then(|shell| self.shell(shell));
            let user = User {
                name: name.unwrap_or_default(),
                ssh_keys: self.ssh_keys(section.ssh_keys.as_ref()),
                groups: self.set(section.groups.as_ref(), GROUP).into_iter().collect(),
                sudo: section.sudo.as_ref().is_none_or(|sudo| sudo.value),
                shell: shell.unwrap_or_else(|| "/bin/bash".to_owned()),
                password_hash: section.password_hash.as_ref().and_then(|hash| self.password_hash(hash)),
            };
            match users.iter_mut().find(|other| other.name == user.name) {
                Some(other) => *other = user,
                None => users.push(user),
            }
        }
        users
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
            match ssh_key::check(&key.value) {
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
