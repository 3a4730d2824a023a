//! Login shells: one that is not there locks its user out (`sshd` and `login` refuse, OpenSSH 10.0 "because shell … does not
//! exist").

/// What brings a shell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Brought {
    /// Every image has it.
    Base,
    /// This package of trixie.
    Package(&'static str),
    /// Nothing that Kiln knows.
    Unknown,
}

/// Names of programs below /bin or /usr/bin, and trixie's packages that bring them.
const PACKAGES: [(&str, &str); 22] = [
    ("busybox", "busybox"),
    ("csh", "csh"),
    ("elvish", "elvish"),
    ("fish", "fish"),
    ("git-shell", "git"),
    ("ksh", "ksh93u+m"),
    ("ksh93", "ksh93u+m"),
    ("lksh", "mksh"),
    ("mksh", "mksh"),
    ("mksh-static", "mksh"),
    ("posh", "posh"),
    ("rksh93", "ksh93u+m"),
    ("rzsh", "zsh"),
    ("sash", "sash"),
    ("screen", "screen"),
    ("tcsh", "tcsh"),
    ("tmux", "tmux"),
    ("xonsh", "xonsh"),
    ("yash", "yash"),
    ("zsh", "zsh"),
    ("zsh-static", "zsh-static"),
    ("zsh5", "zsh"),
];

/// What brings the program at that path.
pub(super) fn brought(path: &str) -> Brought {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    match (folder, name) {
        ("/bin" | "/usr/bin", "bash" | "dash" | "false" | "rbash" | "sh" | "true") => Brought::Base,
        ("/sbin" | "/usr/sbin", "nologin") => Brought::Base,
        ("/bin" | "/usr/bin", name) => PACKAGES
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(Brought::Unknown, |(_, package)| Brought::Package(package)),
        _ => Brought::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{Brought, brought};

    #[test]
    fn where_shells_come_from() {
        for path in ["/bin/sh", "/usr/bin/bash", "/usr/sbin/nologin", "/bin/false"] {
            assert_eq!(brought(path), Brought::Base, "{path}");
        }
        assert_eq!(brought("/usr/bin/zsh"), Brought::Package("zsh"));
        for path in ["/usr/local/bin/zsh", "/bin/nologin", "/sbin/bash", "/opt/sh"] {
            assert_eq!(brought(path), Brought::Unknown, "{path}");
        }
    }
}
