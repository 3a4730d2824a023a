//! passwd, group, shadow and gshadow: base-passwd's masters, then the system accounts that postinsts ask
//! adduser and addgroup for, then sysusers.d(5).
//!
//! Numbers that a configured Debian gives out depend on the order of installation. Kiln's must not: files in
//! /var outlive the root, so an account keeps its number whatever packages come and go. Well-known accounts
//! have theirs in a table (those that Debian's usual order gives); others take the first free one.

use super::Error;
use super::root::Root;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers kept for accounts and groups by name, present or not.
const PINNED: [(&str, u32); 20] = [
    ("systemd-journal", 999),
    ("systemd-network", 998),
    ("systemd-timesync", 997),
    ("messagebus", 996),
    ("input", 995),
    ("sgx", 994),
    ("clock", 993),
    ("kvm", 992),
    ("render", 991),
    ("systemd-resolve", 990),
    ("sshd", 989),
    ("polkitd", 988),
    ("systemd-coredump", 987),
    ("_rpc", 100),
    ("_ssh", 101),
    ("dhcpcd", 103),
    ("statd", 102),
    ("uuidd", 104),
    ("tcpdump", 105),
    ("tss", 106),
];

const NOLOGIN: &str = "/usr/sbin/nologin";

#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
    shadow: String,
}

#[derive(Debug, Clone)]
struct Group {
    name: String,
    gid: u32,
    members: String,
    password: &'static str,
}

/// The account databases in the making.
#[derive(Debug, Default)]
struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
    /// Days since the epoch.
    today: i64,
}

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    let (Some(passwd), Some(group)) =
        (root.text("usr/share/base-passwd/passwd.master")?, root.text("usr/share/base-passwd/group.master")?)
    else {
        return Ok(());
    };
    let mut accounts = Accounts { today: root.options.source_date.div_euclid(86400), ..Accounts::default() };
    accounts.masters(&passwd, &group)?;
    for package in &root.packages {
        for words in &package.postinst.commands {
            match words[0].as_str() {
                "adduser" => accounts.adduser(&words[1..])?,
                "addgroup" => accounts.addgroup(&words[1..])?,
                _ => {}
            }
        }
    }
    let mut lines = Vec::new();
    for name in root.names("usr/lib/sysusers.d").iter().filter(|name| name.ends_with(".conf")) {
        let path = format!("usr/lib/sysusers.d/{name}");
        lines.extend(root.text(&path)?.unwrap_or_default().lines().map(str::to_owned));
    }
    accounts.sysusers(&lines)?;
    accounts.write(root);
    Ok(())
}

impl Accounts {
    fn masters(&mut self, passwd: &str, group: &str) -> Result<(), Error> {
        let bad = |file: &str, line: &str| Error::Malformed {
            path: format!("usr/share/base-passwd/{file}"),
            reason: format!("{line:?} is not an account"),
        };
        for line in passwd.lines() {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, gid, gecos, home, shell] = fields[..] else {
                return Err(bad("passwd.master", line));
            };
            self.users.push(User {
                name: name.to_owned(),
                uid: uid.parse().map_err(|_| bad("passwd.master", line))?,
                gid: gid.parse().map_err(|_| bad("passwd.master", line))?,
                gecos: gecos.to_owned(),
                home: home.to_owned(),
                shell: shell.to_owned(),
                shadow: format!("*:{}:0:99999:7:::", self.today),
            });
        }
        for line in group.lines() {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, gid, members] = fields[..] else { return Err(bad("group.master", line)) };
            let gid = gid.parse().map_err(|_| bad("group.master", line))?;
            self.groups.push(Group {
                name: name.to_owned(),
                gid,
                members: members.to_owned(),
                password: "*",
            });
        }
        Ok(())
    }

    fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|group| group.name == name).map(|group| group.gid)
    }

    /// The pinned number of `name`, or the first of `range` that nobody has and that is nobody's.
    fn number(&self, name: &str, range: impl Iterator<Item = u32>) -> Result<u32, Error> {
        let taken: BTreeSet<u32> =
            self.users.iter().map(|user| user.uid).chain(self.groups.iter().map(|group| group.gid)).collect();
        if let Some((_, id)) = PINNED.iter().find(|(pinned, _)| *pinned == name) {
            return Ok(*id);
        }
        let free = |id: &u32| !taken.contains(id) && PINNED.iter().all(|(_, pinned)| pinned != id);
        range.into_iter().find(free).ok_or_else(|| Error::NoId(name.to_owned()))
    }

    /// `addgroup --system NAME`, adduser(8): numbers from 100 up.
    fn addgroup(&mut self, words: &[String]) -> Result<(), Error> {
        let Some(name) = words.iter().rfind(|word| !word.starts_with('-')) else { return Ok(()) };
        if name.contains('$') || self.gid(name).is_some() {
            return Ok(());
        }
        let gid = self.number(name, 100..1000)?;
        self.groups.push(Group { name: name.clone(), gid, members: String::new(), password: "!" });
        Ok(())
    }

    /// `adduser --system …`: the group is nogroup unless `--group` or `--ingroup` says otherwise.
    fn adduser(&mut self, words: &[String]) -> Result<(), Error> {
        let mut options = BTreeMap::new();
        let mut names = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--home" | "--gecos" | "--comment" | "--shell" | "--ingroup" | "--uid" | "--gid" => {
                    options.insert(word.as_str(), words.next().cloned().unwrap_or_default());
                }
                word if word.starts_with("--") => {
                    options.insert(word, String::new());
                }
                _ => names.push(word.clone()),
            }
        }
        let ([name], true) = (&names[..], options.contains_key("--system")) else { return Ok(()) };
        if name.contains('$') || self.user(name).is_some() {
            return Ok(());
        }
        let uid = self.number(name, 100..1000)?;
        let gid = match options.get("--ingroup") {
            Some(group) => self.gid(group).unwrap_or(65534),
            None if options.contains_key("--group") => {
                self.groups.push(Group {
                    name: name.clone(),
                    gid: uid,
                    members: String::new(),
                    password: "!",
                });
                uid
            }
            None => 65534,
        };
        let text = |key: &str| options.get(key).cloned();
        self.users.push(User {
            name: name.clone(),
            uid,
            gid,
            gecos: text("--gecos").or_else(|| text("--comment")).unwrap_or_default(),
            home: text("--home").unwrap_or_else(|| "/nonexistent".to_owned()),
            shell: text("--shell").unwrap_or_else(|| NOLOGIN.to_owned()),
            shadow: format!("!:{}::::::", self.today),
        });
        Ok(())
    }

    /// sysusers.d(5): `u`, `u!`, `g`, `m`; numbers from 999 down.
    fn sysusers(&mut self, lines: &[String]) -> Result<(), Error> {
        let lines: Vec<Vec<String>> = lines.iter().map(|line| words(line)).collect();
        for line in lines.iter().filter(|line| line.len() >= 2) {
            let field =
                |at: usize| line.get(at).map(String::as_str).filter(|text| *text != "-" && !text.is_empty());
            let name = line[1].as_str();
            match line[0].as_str() {
                "g" if self.gid(name).is_none() => {
                    let gid = match field(2).and_then(|id| id.parse().ok()) {
                        Some(gid) => gid,
                        None => self.number(name, (1..1000).rev())?,
                    };
                    self.groups.push(Group {
                        name: name.to_owned(),
                        gid,
                        members: String::new(),
                        password: "!*",
                    });
                }
                kind @ ("u" | "u!") if self.user(name).is_none() => {
                    let (id, group) = match field(2).map(|id| id.split_once(':').unwrap_or((id, ""))) {
                        Some((id, group)) => (id.parse().ok(), Some(group).filter(|group| !group.is_empty())),
                        None => (None, None),
                    };
                    let uid = match id {
                        Some(uid) => uid,
                        None => self.number(name, (1..1000).rev())?,
                    };
                    let gid = match group {
                        Some(group) => match group.parse().ok().or_else(|| self.gid(group)) {
                            Some(gid) => gid,
                            None => {
                                return Err(Error::NoId(format!("{name}: its group {group} is not known")));
                            }
                        },
                        None => self.gid(name).unwrap_or(uid),
                    };
                    if group.is_none() && self.gid(name).is_none() {
                        self.groups.push(Group {
                            name: name.to_owned(),
                            gid,
                            members: String::new(),
                            password: "!*",
                        });
                    }
                    let expiry = if kind == "u!" { "1" } else { "" };
                    self.users.push(User {
                        name: name.to_owned(),
                        uid,
                        gid,
                        gecos: field(3).unwrap_or("").to_owned(),
                        home: field(4).unwrap_or("/").to_owned(),
                        shell: field(5).unwrap_or(NOLOGIN).to_owned(),
                        shadow: format!("!*:{}:::::{expiry}:", self.today),
                    });
                }
                _ => {}
            }
        }
        for line in lines.iter().filter(|line| line.len() >= 3 && line[0] == "m") {
            if let Some(group) = self.groups.iter_mut().find(|group| group.name == line[2]) {
                let separator = if group.members.is_empty() { "" } else { "," };
                group.members.extend([separator, &line[1]]);
            }
        }
        Ok(())
    }

    fn write(&self, root: &mut Root<'_>) {
        let (mut passwd, mut shadow, mut group, mut gshadow) = Default::default();
        fn line(text: &mut String, fields: &[&str]) {
            text.push_str(&fields.join(":"));
            text.push('\n');
        }
        for user in &self.users {
            let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
            line(&mut passwd, &[&user.name, "x", &uid, &gid, &user.gecos, &user.home, &user.shell]);
            line(&mut shadow, &[&user.name, &user.shadow]);
        }
        for entry in &self.groups {
            line(&mut group, &[&entry.name, "x", &entry.gid.to_string(), &entry.members]);
            line(&mut gshadow, &[&entry.name, entry.password, "", &entry.members]);
        }
        let secret = self.gid("shadow").unwrap_or(0);
        root.put_file("etc/passwd", passwd, 0o644);
        root.put_file("etc/group", group, 0o644);
        root.put_file("etc/subuid", "", 0o644);
        root.put_file("etc/subgid", "", 0o644);
        for (path, text) in [("etc/shadow", shadow), ("etc/gshadow", gshadow)] {
            root.put_file(path, text, 0o640);
            root.own(path, (0, secret), 0o640);
        }
    }
}

/// The number of an account (`passwd`) or group (`group`) by name, from the files in the root.
pub(super) fn id(root: &Root<'_>, file: &str, name: &str) -> Result<Option<u32>, Error> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let text = root.text(&format!("etc/{file}"))?.unwrap_or_default();
    let line = text.lines().find(|line| line.split(':').next() == Some(name));
    Ok(line.and_then(|line| line.split(':').nth(2)?.parse().ok()))
}

/// Words of a configuration line: blanks separate, double or single quotes hold together.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '"' | '\'') if word.is_none() => {
                quote = Some(c);
                word = Some(String::new());
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
