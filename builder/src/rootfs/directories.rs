//! Folders that people write to on a root that can't be written to: links at its top, and what makes the folders behind them at
//! each boot, so that a root that is newer than /var has its folders, too.

use super::Error;
use super::formats::tree::{Entry, Timestamp, Tree};
use crate::cluster::{DIRECTORIES, content_of, link_of};
use std::collections::BTreeSet;

/// What systemd-tmpfiles reads.
const MAKER: &str = "usr/lib/tmpfiles.d/kiln-directories.conf";

/// Puts the links and the list of folders into a tree; all of it gets the time `stamp`.
///
/// # Errors
/// [`Error::Taken`] where a package, an overlay or an artefact has such a place already.
pub fn directories(tree: &mut Tree, paths: &BTreeSet<String>, stamp: Timestamp) -> Result<(), Error> {
    let stamped = |mut entry: Entry| {
        entry.meta.mtime = stamp;
        entry
    };
    let mut links = BTreeSet::new();
    for path in paths {
        let Some(link) = link_of(path).filter(|link| links.insert(*link)) else { continue };
        if tree.contains(link) {
            return Err(Error::Taken { path: path.clone(), link: link.to_owned() });
        }
        // Relative, as the others at the top: it holds where the root is seen from elsewhere, such as a container.
        let target = content_of(&format!("/{link}"));
        tree.insert(link, stamped(Entry::symlink(target.trim_start_matches('/'))));
    }
    let contents: BTreeSet<String> = paths.iter().flat_map(|path| with_parents(&content_of(path))).collect();
    if contents.is_empty() {
        return Ok(());
    }
    let mut text =
        String::from("# `directories` of the cluster file. Mode and owner are the user's to change.\n");
    text.extend(contents.iter().map(|path| format!("d {path} :0755 :root :root -\n")));
    let parent = stamped(Entry::directory());
    tree.make_parents(MAKER, &parent);
    tree.insert(MAKER, stamped(Entry::file(text.into_bytes())));
    Ok(())
}

/// The folder and those above it, as far as they are Kiln's to make.
fn with_parents(content: &str) -> Vec<String> {
    let parents =
        content.match_indices('/').map(|(end, _)| &content[..end]).filter(|path| path.len() > "/var".len());
    parents.filter(|path| path.starts_with(DIRECTORIES)).chain([content]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{Error, MAKER, directories};
    use crate::rootfs::formats::tree::{Entry, Kind, Timestamp, Tree};

    const TIME: Timestamp = Timestamp { secs: 5, nanos: 0 };

    fn text(tree: &Tree, path: &str) -> String {
        match &tree.get(path).unwrap_or_else(|| panic!("no {path}")).kind {
            Kind::File(content) => String::from_utf8(content.read().unwrap()).unwrap(),
            Kind::Symlink(to) => String::from_utf8_lossy(to).into_owned(),
            other => panic!("{path} is {other:?}"),
        }
    }

    #[test]
    fn links_lead_to_what_is_made_at_each_boot() {
        let mut tree = Tree::new();
        let paths = ["/data/app", "/data", "/srv/media", "/tank/a/b"].map(str::to_owned).into();
        directories(&mut tree, &paths, TIME).unwrap();
        assert_eq!(text(&tree, "data"), "var/directories/data");
        assert_eq!(text(&tree, "tank"), "var/directories/tank");
        assert!(!tree.contains("srv"));
        let made: Vec<String> = text(&tree, MAKER).lines().skip(1).map(str::to_owned).collect();
        let want = ["", "/data", "/data/app", "/tank", "/tank/a", "/tank/a/b"]
            .map(|path| format!("d /var/directories{path} :0755 :root :root -"));
        assert_eq!(made[..6], want);
        assert_eq!(made[6..], ["d /var/srv/media :0755 :root :root -"]);
    }

    #[test]
    fn what_the_root_has_is_not_replaced() {
        let mut tree = Tree::new();
        tree.insert("data", Entry::directory());
        let error = directories(&mut tree, &["/data/a".to_owned()].into(), TIME).unwrap_err();
        assert!(matches!(error, Error::Taken { .. }));
        assert_eq!(
            error.to_string(),
            "`directories` has /data/a, and a package, an overlay or an artefact has put /data into the root: take another \
             first name"
        );
        let mut tree = Tree::new();
        directories(&mut tree, &[].into(), TIME).unwrap();
        assert_eq!(tree.len(), 0);
    }
}
