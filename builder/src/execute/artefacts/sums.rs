//! Published digests.

use crate::digest::Sha256;

/// The digest of the file `name`: of its line, as sha256sum(1) writes lines, with or without a folder; or the only word
/// that there is. The error is for people.
pub(super) fn digest(text: &[u8], name: &str) -> Result<Sha256, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8 text".to_owned())?;
    let mut words = text.split_whitespace();
    if let (Some(word), None) = (words.next(), words.next()) {
        return word.parse().map_err(|_| "its only word is not a SHA-256 digest".to_owned());
    }
    let of_line = |line: &str| {
        let (digest, file) = line.split_once([' ', '\t'])?;
        // Behind one blank stands ` `, for text, or `*`, for binary files.
        let file = file.strip_prefix([' ', '*']).unwrap_or(file).trim_start();
        (file.rsplit('/').next()? == name).then(|| digest.parse::<Sha256>().ok())?
    };
    let mut found: Vec<Sha256> = text.lines().filter_map(|line| of_line(line.trim_end())).collect();
    found.dedup();
    match found[..] {
        [digest] => Ok(digest),
        [] => Err(format!("it names no SHA-256 digest for {name}")),
        _ => Err(format!("it names more than one SHA-256 digest for {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::digest;
    use crate::digest::Sha256;

    #[test]
    fn lines_of_sha256sum_and_the_digest_alone() {
        let (a, b) = (Sha256::of(b"a"), Sha256::of(b"b"));
        let text = format!("{a}  k3s\n{b} *bin/arm/k3s+arm\r\n{a}  ./k3s.txt\n");
        assert_eq!(digest(text.as_bytes(), "k3s"), Ok(a));
        assert_eq!(digest(text.as_bytes(), "k3s+arm"), Ok(b));
        assert_eq!(digest(text.as_bytes(), "k3s.txt"), Ok(a));
        assert_eq!(digest(text.as_bytes(), "3s"), Err("it names no SHA-256 digest for 3s".to_owned()));
        assert_eq!(digest(format!("\n{b}\n").as_bytes(), "any"), Ok(b));
        assert_eq!(digest(b"Sorry\n", "any"), Err("its only word is not a SHA-256 digest".to_owned()));
        let two = format!("{a}  a/k3s\n{b}  b/k3s\n");
        assert_eq!(
            digest(two.as_bytes(), "k3s"),
            Err("it names more than one SHA-256 digest for k3s".to_owned())
        );
        assert_eq!(digest(format!("{a} x\n{a} x\n").as_bytes(), "x"), Ok(a));
        assert!(digest(b"", "x").is_err() && digest(b"\xff\xff", "x").is_err());
    }
}
