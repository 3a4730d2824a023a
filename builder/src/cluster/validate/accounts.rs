//! Who is made before whom. cloud-init makes the groups that a user is to be in and that are not there, and then the user
//! with `useradd` (25.1.4, `distros/__init__.py`, `add_user`); shadow's `useradd` (4.17.4) makes a group of the user's own
//! name and refuses where there is one: "group anna exists". The module then ends, and no further user is made: nobody can
//! log in.

/// An account in the order in which it is made.
#[derive(Debug, Clone)]
pub(super) struct Account<'a> {
    pub(super) name: &'a str,
    pub(super) groups: Vec<&'a str>,
    /// `useradd` makes a group of its name.
    pub(super) own_group: bool,
}

/// A group that is in the way of an account: the number of that account, and of the one whose groups it is among, with the
/// group's number there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) account: usize,
    pub(super) by: usize,
    pub(super) group: usize,
}

/// All of them. The time is that of the accounts and groups, not of their pairs: files have thousands of nodes.
pub(super) fn clashes(accounts: &[Account<'_>]) -> Vec<Clash> {
    let mut made = std::collections::BTreeMap::new();
    let mut clashes = Vec::new();
    let mut users = std::collections::BTreeSet::new();
    for (account, one) in accounts.iter().enumerate() {
        for (group, name) in one.groups.iter().enumerate() {
            if !users.contains(name) {
                made.entry(*name).or_insert((account, group));
            }
        }
        if let (true, Some((by, group))) = (one.own_group, made.get(one.name)) {
            clashes.push(Clash { account, by: *by, group: *group });
        }
        users.insert(one.name);
    }
    clashes
}

#[cfg(test)]
mod tests {
    use super::{Account, Clash, clashes};

    fn account<'a>(name: &'a str, groups: &[&'a str]) -> Account<'a> {
        Account { name, groups: groups.to_vec(), own_group: true }
    }

    #[test]
    fn whose_group_is_in_the_way() {
        assert_eq!(clashes(&[account("anna", &["adm", "anna"])]), [Clash { account: 0, by: 0, group: 1 }]);
        assert_eq!(
            clashes(&[account("anna", &["bob"]), account("bob", &[])]),
            [Clash { account: 1, by: 0, group: 0 }]
        );
        // A user who is there already has a group.
        assert_eq!(clashes(&[account("bob", &[]), account("anna", &["bob"])]), []);
        let own = Account { own_group: false, ..account("anna", &["anna"]) };
        assert_eq!(clashes(&[own]), []);
    }
}
