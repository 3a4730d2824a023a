//! Secrets in what a program said of itself.

/// What stands where a secret was.
const HIDDEN: &str = "…";
/// Fewer characters than this are no secret: replacing them would only garble the words.
const SHORTEST: usize = 6;
/// As many hexadecimal digits in a row are a password, a key or a hash.
const DIGITS: usize = 32;
/// What names a secret: the value behind it goes.
const NAMES: [&str; 8] =
    ["token", "password", "passwd", "secret", "passphrase", "api-key", "apikey", "access-key"];

/// A text without the secrets that are known, and without what looks like one: tokens of k3s, users and passwords in
/// addresses, values behind names of secrets, private keys, tokens of service accounts, long hexadecimal numbers.
pub fn clean(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    let mut known: Vec<&str> =
        secrets.iter().map(|secret| secret.trim()).filter(|secret| secret.len() >= SHORTEST).collect();
    // One that holds another goes first.
    known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in known {
        text = text.replace(secret, HIDDEN);
    }
    if let Some(at) = text.find("-----BEGIN ").filter(|at| text[*at..].contains("PRIVATE KEY")) {
        text.truncate(at);
        text.push_str(HIDDEN);
    }
    by_words(&without_users(&text))
}

/// What is to come next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Words,
    /// After a secret's name in quotes: what says whether its value follows.
    Colon,
    Secret,
    /// A secret up to its closing quote; true when its mark is there already.
    Until(char, bool),
}

fn by_words(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut next = Next::Words;
    for piece in text.split_inclusive(is_end) {
        let end = piece.chars().next_back().filter(|c| is_end(*c));
        let word = &piece[..piece.len() - end.map_or(0, char::len_utf8)];
        let quote = end.filter(|c| matches!(c, '"' | '\'' | '`'));
        let value = quote.map_or(Next::Secret, |quote| Next::Until(quote, false));
        next = match next {
            Next::Until(quote, marked) => {
                let closed = end == Some(quote);
                if !(marked || word.is_empty() && closed) {
                    cleaned.push_str(HIDDEN);
                }
                if !closed {
                    next = Next::Until(quote, true);
                    continue;
                }
                Next::Words
            }
            Next::Secret if word.is_empty() => value,
            Next::Colon if matches!(word, ":" | "=") => {
                cleaned.push_str(word);
                value
            }
            Next::Secret => {
                cleaned.push_str(HIDDEN);
                Next::Words
            }
            Next::Words | Next::Colon => {
                cleaned.push_str(&cleaned_word(word));
                let lower = word.to_ascii_lowercase();
                match (announces(&lower), quote) {
                    (true, _) => value,
                    (false, Some(_)) if names_secret(&lower) => Next::Colon,
                    _ => Next::Words,
                }
            }
        };
        cleaned.extend(end);
    }
    cleaned
}

/// Users and passwords of addresses, `postgres://user:password@host` and `user:password@tcp(host)`, where a password may hold
/// whatever ends a word elsewhere.
fn without_users(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    let mut cleaned = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends) {
        let (before, rest) = piece.split_once("://").map_or(("", piece), |(scheme, rest)| (scheme, rest));
        let mark = if before.is_empty() { "" } else { "://" };
        let dsn = rest.find("@tcp(").or_else(|| rest.find("@unix("));
        match dsn.or_else(|| rest.rfind('@').filter(|_| !mark.is_empty())) {
            Some(at) => cleaned.extend([before, mark, HIDDEN, &rest[at..]]),
            None => cleaned.push_str(piece),
        }
    }
    cleaned
}

fn is_end(c: char) -> bool {
    c.is_whitespace() || "\"'`\\,;(){}[]<>".contains(c)
}

/// Is the next word a secret? `--token X`, `password= X`, `Bearer X`.
fn announces(lower: &str) -> bool {
    let named = |name: &str| names_secret(name);
    matches!(lower, "bearer" | "basic")
        || lower.strip_prefix("--").is_some_and(named)
        || lower.strip_suffix('=').is_some_and(named)
}

/// `K3S_TOKEN`, `agent-token`, `datastore.password`.
fn names_secret(name: &str) -> bool {
    NAMES.iter().any(|known| name.ends_with(known))
}

fn cleaned_word(word: &str) -> String {
    // `K10<hash>::<user>:<secret>`; a hash alone says nothing, but who knows what follows it.
    if let Some(at) = word.find("K10").filter(|at| word[*at..].len() > 16) {
        return format!("{}K10{HIDDEN}", &word[..at]);
    }
    // A service account's token (RFC 7519).
    if let Some(at) = word.find("eyJ").filter(|at| word[*at..].matches('.').count() >= 2) {
        return format!("{}{HIDDEN}", &word[..at]);
    }
    if let Some((name, value)) = word.split_once('=')
        && names_secret(&name.to_ascii_lowercase())
        && !value.is_empty()
    {
        return format!("{name}={HIDDEN}");
    }
    if let Some((name, value)) = word.split_once(':')
        && names_secret(&name.to_ascii_lowercase())
        && !value.is_empty()
    {
        return format!("{name}:{HIDDEN}");
    }
    if let Some((user, host)) = word.rsplit_once('@')
        && !user.ends_with(HIDDEN)
    {
        return format!("{HIDDEN}@{host}");
    }
    without_long_numbers(word)
}

fn without_long_numbers(word: &str) -> String {
    let mut kept = String::with_capacity(word.len());
    let mut run = String::new();
    for c in word.chars().map(Some).chain([None]) {
        match c {
            Some(c) if c.is_ascii_hexdigit() => run.push(c),
            other => {
                kept.push_str(if run.len() >= DIGITS { HIDDEN } else { &run });
                run.clear();
                kept.extend(other);
            }
        }
    }
    kept
}
