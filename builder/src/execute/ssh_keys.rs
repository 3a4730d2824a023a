//! SSH public keys that people publish elsewhere: asked for when the lock is made, and never by a build or a node.

use crate::cache::Cache;
use crate::cluster;
use crate::fetch::Progress;
use crate::fetch::download::{self, Fetcher};
use crate::fetch::http::Patience;
use crate::fetch::mirrors::Location;
use std::collections::{BTreeMap, BTreeSet};

/// Where what is called `<prefix>:NAME` is published: `{}` stands for the name. GitHub: docs.github.com, "SSH keys of a user";
/// GitLab: docs.gitlab.com, "View a user's SSH keys".
pub const PUBLISHERS: [(&str, &str); 2] =
    [("github", "https://github.com/{}.keys"), ("gitlab", "https://gitlab.com/{}.keys")];

/// No answer is longer.
const MOST: u64 = 256 << 10;

/// The keys of each source, such as `github:NAME`. One without keys, or with a line that is none, is an error.
pub fn fetch(
    sources: &BTreeSet<String>,
    publishers: &[(&str, &str)],
    (cache, progress): (&Cache, &dyn Progress),
) -> Result<BTreeMap<String, Vec<String>>, download::Error> {
    let fetcher = Fetcher::new(cache, progress, Patience::default());
    let mut found = BTreeMap::new();
    for source in sources {
        let address = source.split_once(':').and_then(|(prefix, name)| {
            let (_, address) = publishers.iter().find(|(known, _)| *known == prefix)?;
            Some(Location::Http(address.replace("{}", name)))
        });
        let from: Vec<Location> = address.into_iter().collect();
        let keys =
            fetcher.fresh(&format!("the SSH keys of {source}"), (&from, MOST), |bytes, _| keys(&bytes))?;
        found.insert(source.clone(), keys);
    }
    Ok(found)
}

fn keys(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "what it sends is not text".to_owned())?;
    let lines: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    match lines.iter().position(|line| !cluster::is_ssh_key(line)) {
        Some(at) => Err(format!("line {} of what it sends is no SSH public key", at + 1)),
        None if lines.is_empty() => Err("there are no keys of that name".to_owned()),
        None => Ok(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::{fetch, keys};
    use crate::cache::Cache;
    use crate::fetch::Silent;
    use crate::fetch::server::Server;
    use std::collections::BTreeSet;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGV4YW1wbGUga2V5IG9mIGtpbG4sIG5vYm9keSdzIG93";

    #[test]
    fn what_is_published_is_taken_or_refused() {
        assert_eq!(keys(format!("{KEY}\n\n{KEY}\n").as_bytes()).unwrap().len(), 2);
        for bad in ["", "\n", "Not Found", "<html>", "ssh-ed25519 AAAA"] {
            assert!(keys(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_come_from_where_their_source_says() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let server = Server::new();
        server.put("anna.keys", format!("{KEY}\n").into_bytes());
        let base = server.at("{}.keys");
        let publishers = [("github", base.as_str())];
        let of = |source: &str| fetch(&BTreeSet::from([source.to_owned()]), &publishers, (&cache, &Silent));
        assert_eq!(of("github:anna").unwrap()["github:anna"], [KEY]);
        let error = of("github:bert").unwrap_err().to_string();
        assert!(error.starts_with("cannot get the SSH keys of github:bert: "), "{error}");
    }
}
