//! Maintainer scripts as text: the simple commands in them, the files they write from here-documents, and
//! what is left once the parts are taken out that debhelper and its kin add.
//!
//! This is no shell: it reads words. Whether reading is enough for a script is decided by a person and kept
//! in the table of covered scripts.

use std::collections::BTreeMap;

/// A maintainer script.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// Simple commands in order, words unquoted; redirections and keywords left out.
    pub(super) commands: Vec<Vec<String>>,
    /// Here-documents by the file they are written to.
    pub(super) documents: BTreeMap<String, String>,
}

impl Script {
    /// Reads the commands of a POSIX shell script.
    pub(super) fn parse(text: &str) -> Self {
        let mut script = Self::default();
        // What is in files that are made under a name of the moment, and moved to their place.
        let mut drafts: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut line = line.trim().to_owned();
            if line.starts_with('#') {
                continue;
            }
            while line.ends_with('\\') {
                line.pop();
                line.push_str(lines.next().unwrap_or("").trim());
            }
            if let Some(here) = here_document(&line) {
                let mut body = String::new();
                for line in lines.by_ref() {
                    let line = if here.strip { line.trim_start_matches('\t') } else { line };
                    if line == here.delimiter {
                        break;
                    }
                    body.push_str(line);
                    body.push('\n');
                }
                let literal = (!expands(&body)).then_some(body);
                match (here.target, literal) {
                    (Some(path), Some(body)) if path.starts_with('/') => {
                        script.documents.entry(path).or_insert(body);
                    }
                    (Some(draft), body) if draft.starts_with('$') && !here.append => {
                        drafts.insert(draft, body);
                    }
                    (Some(draft), Some(body)) if draft.starts_with('$') => {
                        if let Some(Some(text)) = drafts.get_mut(&draft) {
                            text.push_str(&body);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            for words in commands(&line) {
                if let [command, .., from, to] = words.as_slice()
                    && command == "mv"
                    && let Some(Some(text)) = drafts.get(from)
                {
                    script.documents.entry(to.clone()).or_insert_with(|| text.clone());
                }
                script.commands.push(words);
            }
        }
        script
    }

    /// The commands whose first word is `name`.
    pub(super) fn calls(&self, name: &str) -> impl Iterator<Item = &[String]> {
        self.commands.iter().filter(move |words| words[0] == name).map(|words| &words[1..])
    }
}

/// The beginning of a here-document.
struct Here {
    delimiter: String,
    /// Tabs are taken off its lines.
    strip: bool,
    /// The file that it is written to: a path, or a variable that holds one.
    target: Option<String>,
    /// It is written behind what is in the file.
    append: bool,
}

fn here_document(line: &str) -> Option<Here> {
    let at = line.find("<<").filter(|at| !line[*at..].starts_with("<<<"))?;
    let rest = &line[at + 2..];
    let (strip, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start();
    let end = rest.find(|c: char| c.is_whitespace() || ";)>".contains(c)).unwrap_or(rest.len());
    let delimiter = rest[..end].trim_matches(['\'', '"', '\\']).to_owned();
    if delimiter.is_empty() || !delimiter.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let target = line.split_once('>').map(|(_, rest)| rest);
    let append = target.is_some_and(|rest| rest.starts_with('>'));
    let target = target.map(|rest| rest.trim_start_matches('>').trim_start());
    let target = target.and_then(|rest| rest.split_whitespace().next()).map(|word| word.trim_matches('"'));
    let target = target.filter(|word| word.starts_with(['/', '$'])).map(str::to_owned);
    Some(Here { delimiter, strip, target, append })
}

/// Whether the shell would put something else in the place of a part of the text. A dollar sign ahead of a blank is one.
fn expands(text: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphanumeric() || "_{(@*#?$!-".contains(c);
    text.contains('`')
        || text.match_indices('$').any(|(at, _)| text[at + 1..].chars().next().is_some_and(begins))
}

const KEYWORDS: [&str; 14] =
    ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "}", "(", "exec", "command", "time"];

fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut found, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '#') if word.is_none() => break,
            (None, ';' | '&' | '|' | '(' | ')') => {
                let redirection = c == '&' && word.as_deref().is_some_and(|word| word.ends_with(['>', '<']));
                if redirection {
                    word.get_or_insert_default().push(c);
                    continue;
                }
                words.extend(word.take());
                found.push(std::mem::take(&mut words));
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    found.push(words);
    for words in &mut found {
        let keywords = words.iter().take_while(|word| KEYWORDS.contains(&word.as_str())).count();
        words.drain(..keywords);
        words.retain(|word| !word.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(['>', '<']));
        words.retain(|word| !word.starts_with("/dev/null") && !word.starts_with("${DPKG_ROOT:+"));
    }
    found.retain(|words| !words.is_empty());
    found
}

/// A section that a helper added: the helper's name without version, and the lines between its marks.
const BEGIN: &str = "# Automatically added by ";
const END: &str = "# End automatically added section";

/// What remains of a script without comments, blank lines, `set -e`, a final `exit 0` and the sections of
/// helpers in `known`; words that differ by architecture or kernel are made alike. Empty when nothing is left.
pub(super) fn residue(text: &str, known: &[&str], volatile: &[(String, &str)]) -> String {
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in text.lines().map(str::trim) {
        if let Some(helper) = line.strip_prefix(BEGIN) {
            let name = helper.split(['/', ' ']).next().unwrap_or(helper);
            skipping = known.contains(&name);
        } else if line.starts_with(END) {
            skipping = false;
        } else if !skipping && !line.is_empty() && !line.starts_with('#') && line != "set -e" {
            kept.push(line);
        }
    }
    while kept.last() == Some(&"exit 0") {
        kept.pop();
    }
    let mut text = kept.join("\n");
    for (word, stand_in) in volatile {
        text = text.replace(word.as_str(), stand_in);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Script, residue};

    #[test]
    fn commands_are_read_through_shell_dressing() {
        let text = "#!/bin/sh\nif ! getent passwd x >/dev/null; then adduser --system --gecos 'A B' \\\n  --home /x x || true\nfi\n\
                    id -u y >/dev/null 2>&1 || adduser y\nsystemd-sysusers ${DPKG_ROOT:+--root=\"$DPKG_ROOT\"} a.conf\n# adduser z\n";
        let script = Script::parse(text);
        let calls: Vec<_> = script.calls("adduser").map(|words| words.join("|")).collect();
        assert_eq!(calls, ["--system|--gecos|A B|--home|/x|x", "y"]);
        assert_eq!(script.calls("systemd-sysusers").next().unwrap(), ["a.conf"]);
    }

    #[test]
    fn here_documents_are_not_commands() {
        let text = "cat > /etc/a <<-EOF\n\tadduser evil\n\tEOF\ncat <<END > /etc/b\nline\nEND\ncat > $X <<EOF\nq\nEOF\nadduser good\n";
        let script = Script::parse(text);
        assert_eq!(
            script.documents.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            ["/etc/a=adduser evil\n", "/etc/b=line\n"]
        );
        assert_eq!(script.calls("adduser").count(), 1);
    }

    #[test]
    fn a_draft_becomes_the_file_that_it_is_moved_to() {
        let text = "cat > \"$tmp\" <<E\n# $ dpkg-reconfigure\nE\nif [ -n \"$RET\" ]; then\ncat >> \"$tmp\" <<E\nA+=$RET\nE\n\
                    else\ncat >> \"$tmp\" <<E\n#A+=\nE\nfi\nmv -Z -f \"$tmp\" /etc/a\ncat > \"$tmp\" <<E\n`date`\nE\n\
                    cat >> \"$tmp\" <<E\nx\nE\nmv \"$tmp\" /etc/b\nmv /etc/c /etc/d\n";
        let script = Script::parse(text);
        assert_eq!(
            script.documents.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
            ["/etc/a=# $ dpkg-reconfigure\n#A+=\n"]
        );
    }

    #[test]
    fn residue_is_what_a_person_wrote() {
        let text = "#!/bin/sh\nset -e\n# Automatically added by dh_x/13\nfoo\n# End automatically added section\n\nbar amd64\n\
                    # Automatically added by dh_y\nbaz\n# End automatically added section\nexit 0\n";
        let volatile = [("amd64".to_owned(), "@ARCH@")];
        assert_eq!(residue(text, &["dh_x"], &volatile), "bar @ARCH@\nbaz");
        assert_eq!(residue("#!/bin/sh\nset -e\n\nexit 0\n", &[], &[]), "");
    }
}
