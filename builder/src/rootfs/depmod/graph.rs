//! Which module needs which, and the two orders that reach the files: kmod's hash tables and its
//! topological sort (kmod 34, shared/hash.c and tools/depmod.c, depmod_calculate_dependencies).

use super::Module;
use std::collections::{BTreeMap, HashMap};

/// A module of one release.
pub(super) struct Node<'a> {
    /// Relative to the release's directory.
    pub(super) path: &'a str,
    /// As modprobe(8) calls it: the file's name up to the first dot, with underscores.
    pub(super) name: String,
    pub(super) module: &'a Module,
}

/// Where kmod's hash table of `buckets` (a power of two) puts a name: its iteration goes by bucket and,
/// within, by name. The function is Paul Hsieh's SuperFastHash as kmod has it.
pub(super) fn bucket(name: &str, buckets: u32) -> u32 {
    let bytes = name.as_bytes();
    let pair = |at: usize| u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    // The C code counts in an unsigned int, too.
    #[expect(clippy::cast_possible_truncation)]
    let mut hash = bytes.len() as u32;
    let whole = bytes.len() / 4 * 4;
    for at in (0..whole).step_by(4) {
        hash = hash.wrapping_add(pair(at));
        let mixed = (pair(at + 2) << 11) ^ hash;
        hash = (hash << 16) ^ mixed;
        hash = hash.wrapping_add(hash >> 11);
    }
    match bytes.len() - whole {
        3 => {
            hash = hash.wrapping_add(pair(whole));
            hash ^= hash << 16;
            hash ^= u32::from(bytes[whole + 2]) << 18;
            hash = hash.wrapping_add(hash >> 11);
        }
        2 => {
            hash = hash.wrapping_add(pair(whole));
            hash ^= hash << 11;
            hash = hash.wrapping_add(hash >> 17);
        }
        1 => {
            hash = hash.wrapping_add(u32::from(bytes[whole]));
            hash ^= hash << 10;
            hash = hash.wrapping_add(hash >> 1);
        }
        _ => {}
    }
    hash ^= hash << 3;
    hash = hash.wrapping_add(hash >> 5);
    hash ^= hash << 4;
    hash = hash.wrapping_add(hash >> 17);
    hash ^= hash << 25;
    hash = hash.wrapping_add(hash >> 6);
    hash & (buckets - 1)
}

/// Every exported symbol and its owner (an index into `nodes`), in the order of kmod's table of symbols.
pub(super) fn symbols<'a>(nodes: &[Node<'a>]) -> Vec<(&'a str, usize)> {
    let mut symbols = BTreeMap::new();
    for (owner, node) in nodes.iter().enumerate() {
        for name in node.module.exports.iter().filter(|name| !name.is_empty()) {
            // Of two owners the later counts.
            symbols.insert((bucket(name, 2048), name.as_str()), owner);
        }
    }
    symbols.into_iter().map(|((_, name), owner)| (name, owner)).collect()
}

/// For each node all it needs, directly or not, in the order modules.dep lists them. `Err` holds the nodes
/// on circles and what only they need.
pub(super) fn dependencies(
    nodes: &[Node<'_>],
    symbols: &[(&str, usize)],
) -> Result<Vec<Vec<usize>>, Vec<usize>> {
    let owners: HashMap<&str, usize> = symbols.iter().copied().collect();
    let mut direct = vec![Vec::new(); nodes.len()];
    let mut users = vec![0_usize; nodes.len()];
    let mut seen = vec![usize::MAX; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        for need in &node.module.needs {
            let Some(owner) = owners.get(need.as_str()) else { continue };
            if seen[*owner] != at {
                seen[*owner] = at;
                direct[at].push(*owner);
                users[*owner] += 1;
            }
        }
    }
    let rank = ranks(&direct, users)?;
    let mut seen = vec![usize::MAX; nodes.len()];
    let all = (0..nodes.len()).map(|at| {
        let mut found = Vec::new();
        let mut stack = direct[at].clone();
        while let Some(next) = stack.pop() {
            if seen[next] != at {
                seen[next] = at;
                found.push(next);
                stack.extend(&direct[next]);
            }
        }
        found.sort_by_key(|node| rank[*node]);
        found
    });
    Ok(all.collect())
}

/// Topological ranks, modules without users first; the last found root goes on.
fn ranks(direct: &[Vec<usize>], mut users: Vec<usize>) -> Result<Vec<usize>, Vec<usize>> {
    let mut roots: Vec<usize> = (0..users.len()).filter(|at| users[*at] == 0).collect();
    let mut rank = vec![usize::MAX; users.len()];
    let mut next = 0;
    while let Some(root) = roots.pop() {
        rank[root] = next;
        next += 1;
        for dependency in &direct[root] {
            users[*dependency] -= 1;
            if users[*dependency] == 0 {
                roots.push(*dependency);
            }
        }
    }
    if next == rank.len() {
        return Ok(rank);
    }
    Err((0..rank.len()).filter(|at| rank[*at] == usize::MAX).collect())
}
