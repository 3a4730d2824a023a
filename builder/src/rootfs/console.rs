//! /etc/default/keyboard and /etc/default/console-setup: the files that the packages ship as their beginnings, with the
//! answers to debconf's questions that nobody was asked (keyboard-configuration and console-setup, postinst).

use super::Error;
use super::root::Root;

/// Names of variables, and their values.
type Answers = &'static [(&'static str, &'static str)];

/// The beginning, what becomes of it, and the answers.
const FILES: [(&str, &str, Answers); 2] = [
    (
        "usr/share/console-setup/keyboard",
        "etc/default/keyboard",
        &[
            ("XKBMODEL", "pc105"),
            ("XKBLAYOUT", "us"),
            ("XKBVARIANT", ""),
            ("XKBOPTIONS", ""),
            ("BACKSPACE", "guess"),
        ],
    ),
    (
        "usr/share/console-setup/console-setup",
        "etc/default/console-setup",
        &[
            ("ACTIVE_CONSOLES", "/dev/tty[1-6]"),
            ("CHARMAP", "UTF-8"),
            ("CODESET", "guess"),
            ("FONTFACE", "Fixed"),
            ("FONTSIZE", "8x16"),
        ],
    ),
];

pub(super) fn apply(root: &mut Root<'_>) -> Result<(), Error> {
    for (shipped, path, answers) in FILES {
        let Some(text) = root.text(shipped)?.filter(|_| !root.tree.contains(path)) else { continue };
        let line = |line: &str| {
            let name = line.split_once('=').map(|(name, _)| name.trim_start_matches(' '));
            match answers.iter().find(|(answer, _)| Some(*answer) == name) {
                Some((name, value)) => format!("{name}=\"{value}\"\n"),
                None => format!("{line}\n"),
            }
        };
        root.put_file(path, text.lines().map(line).collect::<String>(), 0o644);
    }
    Ok(())
}
