//! A thin pool (lvmthin(7)): what LUNs that take room as they are written to share. It has all of its volume group but the
//! two places for its metadata: theirs, and as much again (lvm's `pmspare`), into which `lvconvert --repair` writes.

use super::group::Group;
use super::store::Error;
use kiln_contract::plan::human;

/// The pool's name. No LUN's has an underscore.
pub(super) const POOL: &str = "kiln_pool";
/// Its name while it is made, so that one that was cut short is known: it has no volumes yet.
const NEW: &str = "kiln_new";
/// lvm's kind of volume.
const KIND: &str = "thin-pool";
/// From here on a person should know (per cent of data or metadata); dmeventd begins to warn in the journal here, too.
const NEARLY_FULL: f64 = 80.0;

/// Makes the pool of a group whose volumes are active, when there is none. Gives what a person should know.
pub(super) fn open(group: &Group) -> Result<Option<String>, Error> {
    let pool = format!("{}/{POOL}", group.name());
    match group.show(&pool, "segtype,data_percent,metadata_percent") {
        Ok(text) => {
            let mut words = text.split_whitespace();
            match words.next() {
                Some(KIND) => Ok(nearly_full(words)),
                found => Err(Error::NotAPool { pool, found: found.unwrap_or("nothing").to_owned() }),
            }
        }
        Err(_) => make(group).map(Some),
    }
}

fn make(group: &Group) -> Result<String, Error> {
    let name = group.name();
    let new = format!("{name}/{NEW}");
    if let Ok(volumes) = group.show(&new, "thin_count") {
        if !matches!(volumes.trim(), "" | "0") {
            return Err(Error::NotAPool { pool: new, found: format!("{KIND} with volumes") });
        }
        group.lvm(["lvremove", "--yes", &new])?;
    }
    // lvm makes the spare as a volume `lvol0` before it renames it. Power that fails between the two leaves that behind, as
    // large as the metadata (128 MiB at most). It stays: nothing tells it from a volume that a person made without a name.

    // A full pool refuses writes at once. To let them wait, as lvm does by itself for a minute, helps where a pool can
    // grow meanwhile. This one has the whole group, and the target could not abort what waits: initiators would lose
    // their connection and reads with it, and have the same error a minute later. (lvcreate takes its own option for it,
    // `--errorwhenfull`, not together with the type: lvcreate.c, the arguments of thin pools.)
    let full = ["lvcreate", "--yes", "--config", "activation/error_when_full=1"];
    let all =
        ["--type", KIND, "--extents", "100%FREE", "--zero", "y", "--poolmetadataspare", "y", "-n", NEW, name];
    group.lvm(full.into_iter().chain(all))?;
    group.lvm(["lvrename", name, NEW, POOL])?;
    let size = group.show(&format!("{name}/{POOL}"), "lv_size")?.trim().parse().unwrap_or(0);
    Ok(format!("made a pool of {} in {name}", human(size)))
}

/// What to say of a pool of which these shares are in use.
fn nearly_full<'a>(mut percents: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut over = |what| {
        let percent = percents.next()?;
        let is_over = percent.parse::<f64>().ok()? >= NEARLY_FULL;
        is_over.then(|| format!("{percent} % of its {what}"))
    };
    let over: Vec<String> = [over("room"), over("room for metadata")].into_iter().flatten().collect();
    (!over.is_empty()).then(|| {
        let over = over.join(" and ");
        format!("the pool has given away {over}: when it is full, writes fail. Remove files and run fstrim on the initiators")
    })
}

#[cfg(test)]
mod tests {
    use super::{NEW, POOL, nearly_full};
    use kiln_contract::iscsi::label_fault;

    #[test]
    fn no_lun_is_called_as_the_pool_is() {
        for name in [POOL, NEW] {
            assert!(label_fault(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_pool_says_when_it_is_nearly_full() {
        let said = |text: &str| nearly_full(text.split_whitespace());
        for quiet in ["12.50 10.01", "79.99 0.00", "", "- -"] {
            assert_eq!(said(quiet), None, "{quiet}");
        }
        for (text, part) in [
            ("80.00 3.10", "given away 80.00 % of its room:"),
            ("3.10 99.00", "given away 99.00 % of its room for metadata:"),
            ("100.00 81.20", "given away 100.00 % of its room and 81.20 % of its room for metadata:"),
        ] {
            let said = said(text).unwrap();
            assert!(said.contains(part), "{said}");
        }
    }
}
