//! Everything that keeps a node from joining: in which words it is said, and what a person can do about it. One table,
//! so that they are read and corrected beside each other.

use kiln_contract::ending::Known;
use std::fmt;

/// Makes the causes and the table of their words from one list: a cause without words does not compile.
macro_rules! causes {
    ($($cause:ident: $words:literal, $remedy:literal;)*) => {
        /// Why a step can't be done yet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Cause { $(#[doc = $words] $cause),* }

        impl Cause {
            /// What is said, `{}` standing for the facts, and the way out.
            fn row(self) -> (&'static str, &'static str) {
                match self { $(Self::$cause => ($words, $remedy)),* }
            }

            #[cfg(test)]
            fn all() -> &'static [Self] {
                &[$(Self::$cause),*]
            }
        }
    };
}

causes! {
    NoInterface: "there is no network interface{}", "Is the card's driver in the system (`ip link`)?";
    NoCarrier: "no network interface has a link: {}", "Plug in the cable, or look at the switch's port";
    NoAddress: "no network interface has an address{}", "Is there a DHCP server, or a static address in the cluster file?";
    OtherAddress: "this node is to have {}", "The network is not configured yet, or the cluster file means another machine (`ip addr`)";
    NoRoute: "no route leads to {}", "Is the gateway in the cluster file right (`ip route`)?";
    NameUnknown: "{}", "Is the name right, and who is to know it? An address as the cluster's endpoint needs nobody";
    ClockEarly: "the clock says {}", "Set the clock in the firmware's setup, or give the node a time server (`timedatectl`)";
    ClockLate: "the clock says {}", "Set the clock in the firmware's setup, or give the node a time server (`timedatectl`)";
    ClockUnset: "no time server has set the clock yet{}", "The join goes on without one when none answers soon";
    Refused: "{} is there, and nothing listens on that port", "Is k3s running there (`systemctl status k3s`), and is it the server's address?";
    Unreachable: "{} can't be reached", "Is the server switched on, and is a cable, VLAN or gateway between here and there?";
    Silent: "{} does not answer", "Is the server switched on, and does a firewall let TCP port 6443 through?";
    Broken: "the connection to {}", "The server may be starting; its journal tells (`journalctl -u k3s`)";
    OtherCa: "{}", "Another cluster's server, or somebody in between: nothing secret was sent. Correct the endpoint, or build this node's seed with that cluster's secrets";
    OtherHash: "{}", "Build this node's seed with the cluster's present secrets: k3s would refuse it as it is";
    CertificateEarly: "the server's certificate is not valid yet: {}", "One of the two clocks is wrong: compare `date` here and on the server, and set it";
    CertificateExpired: "the server's certificate has expired: {}", "If the clock here is right (`date`), renew it on the server: `k3s certificate rotate`, or restart k3s there";
    CertificateName: "the server's certificate is not for {}", "Name it in the server's tls-san, or dial the server by a name that it has";
    NotTls: "{} does not speak TLS as k3s does", "Is another program listening on that port?";
    NoToken: "the token can't be read: {}", "Cloud-init writes it from the seed (`cloud-init status --long`)";
    BadToken: "{} holds no full token", "K10, 64 hexadecimal digits, ::user:secret is what it must be: build the seed anew";
    TokenOfOther: "{}", "Token and CA are of two clusters: build the seed anew";
    BadRequest: "the server found the request incomplete (400): {}", "Versions of k3s there and of Kiln here may not fit";
    Unauthorised: "the server does not know this node's token (401){}", "Just after its start that passes; else the token was rotated, or is of another cluster or another role (agents join by the agents' token, servers by the servers'): build this node's seed with the cluster's present secrets";
    WrongRole: "the server lets nobody ask that in this way (403): {}", "Does a proxy in between take the Authorization header away? Versions of k3s there and of Kiln here may not fit either";
    NotK3s: "the server has no {} (404)", "Is k3s listening there, and not a proxy or an ingress?";
    Busy: "the server has too many requests (429){}", "Many nodes join at once; nothing to do but wait";
    Starting: "the server is still starting (503){}", "Nothing to do but wait; its journal tells (`journalctl -u k3s`)";
    Failing: "the server failed: {}", "Its journal tells (`journalctl -u k3s`)";
    NoPassword: "the node password can't be read: {}", "Cloud-init writes it from the seed (`cloud-init status --long`)";
    WrongPassword: "the server knows a node {} by another password (403)", "Two machines with one name, or one that was built anew with other secrets: rename it, or `kubectl -n kube-system delete secret NAME.node-password.k3s`";
    AfterNotReady: "server {} is not ready", "Servers join one after another; look at that one first";
    UnitFailed: "systemd can't start {}", "`systemctl status` and `journalctl` tell more";
    NotStarted: "k3s has made no credentials for the kubelet yet: {}", "Its journal tells what it waits for (`journalctl -u k3s -u k3s-agent`)";
    Ended: "{}", "Its journal tells more (`journalctl -u k3s -u k3s-agent`)";
    ApiConflict: "others change the Node object all the time (409){}", "It is tried again; who writes to it so often (`kubectl get node -w`)?";
    ApiSilent: "the Kubernetes API does not answer: {}", "It may still be starting (`journalctl -u k3s -u k3s-agent`)";
    ApiRefused: "the Kubernetes API refused this node: {}", "Its certificate is of another cluster, or its Node object was deleted";
    NotRegistered: "Kubernetes has no node {} yet", "The kubelet registers it (`journalctl -u k3s -u k3s-agent`)";
    NotReady: "Kubernetes says that the node is not ready: {}", "The network plugin or images may be missing (`kubectl describe node`)";
    KindAbsent: "Kubernetes does not know {} yet", "What brings that kind is not installed yet (`kubectl get helmcharts,jobs -A`); it is made when it is";
    NodeAbsent: "node {} has not joined yet", "What belongs to it is made when it has";
    NotTaken: "Kubernetes does not take {}", "It is tried again: what it says may pass (a namespace, a webhook), or the cluster file must change";
    NotLaid: "a manifest can't be laid into k3s' folder: {}", "Mend what is named";
    CloudInitRuns: "cloud-init is still at work{}", "Its copies of the seed's secrets are removed when it is done (`cloud-init status`)";
    CloudInitFailed: "cloud-init had errors: {}", "The seed keeps its secrets: mend what is named by `cloud-init status --long`, and restart the node";
    UnitsNotWell: "not all that this node is for runs: {}", "The seed keeps its secrets until it does: `systemctl status` and `journalctl -u` tell more";
    NoDisk: "the data disk that keeps this server's datastore is not there: {}", "Plug it in: without it nothing is started. If it is lost, docs/servers.md has the ways out";
    ForeignDatastore: "the datastore is another's: {}", "Give this node its own disk, or remove the folder k3s-server from that one";
    DatastoreInTheWay: "the cluster file puts the datastore on the data disk {}, and /var/lib/rancher/k3s/server/db holds one already", "Move what is in that folder into k3s-server/db on the disk (`cp -a`, k3s being stopped), and remove the folder";
    DatastoreUnread: "the datastore can't be looked at: {}", "Nothing is started before that: mend what is named (`dmesg`, `fsck`)";
    NoFoundingWord: "there is no datastore here and no founding word in this node's seed: {}", "Ways out: switch on another server of the cluster, and this one joins it; or restore a snapshot (docs/servers.md); or, if the cluster is to begin anew and empty, build this node with `--found`";
    FoundingSpent: "the datastore is gone, and the founding word of this node's seed is spent, since the node was Ready once: {}", "Ways out: switch on another server of the cluster, and this one joins it; or restore a snapshot (docs/servers.md); or, if the cluster is to begin anew and empty, flash this node again with an image that was built with `--found`";
    OtherUnsure: "no cluster is founded while another server may have it: {}", "It may be starting; its console tells more. If it is of another cluster, correct its address in the cluster file";
    OtherAlone: "server {} keeps SQLite, which no server can join", "It is to be the first server of the cluster file: its next start then turns SQLite into etcd (docs/servers.md)";
    TwoDatastores: "there is SQLite here, and server {} has a datastore of this cluster as well", "Two clusters of one name: which of them is to stay? docs/servers.md has the steps";
    SqliteNotFirst: "there is SQLite here, and the cluster file has this server as a later one{}", "Put it first in the cluster file and build it anew: SQLite is then turned into etcd, which others join";
    EtcdDisabled: "server {} keeps SQLite, which no server can join (400)", "Give that server its new seed and start it again: it then turns SQLite into etcd (docs/servers.md)";
    Stopped: "a key stopped this: {}", "`systemctl restart kiln-join`, or a restart of the node, asks again";
    NotConfigured: "k3s can't be told how to begin: {}", "Mend what is named";
    NotCopied: "SQLite's files can't be copied before they become etcd: {}", "Mend what is named: the copy needs as much room as they have";
    EtcdSilent: "etcd itself does not answer on {}", "Look at that server (`journalctl -u k3s`): without a majority of healthy servers nothing is taken out";
    RejoinStarts: "etcd has lost this node's old member{}, and k3s joins as a new one", "It takes a minute; its journal tells (`journalctl -u k3s`)";
    RejoinEmptied: "{}", "Kiln takes no member out of etcd for that: if this is the machine that is to stay, do it yourself on another server, `kubectl annotate node NAME etcd.k3s.cattle.io/remove=true` (docs/servers.md)";
    RejoinOnce: "{}", "Once a state is what Kiln does by itself: two machines of one name would take each other out for ever. Is there another one? If not, on another server: `kubectl annotate node NAME etcd.k3s.cattle.io/remove=true` (docs/servers.md)";
    RejoinNoNode: "Kubernetes has no node {}, and etcd has a member of that name", "k3s takes a member out when its Node is deleted: look at `kubectl get nodes`, and at the other servers' journals";
    RejoinYounger: "{}", "Look for that machine and switch one of the two off; `kubectl get node -o yaml` has its addresses";
    RejoinNoMember: "{}", "k3s joins at its next start, within seconds (`journalctl -u k3s`)";
    RejoinMembers: "{}", "More than one machine may have had this name: take out by hand what is old (docs/servers.md)";
    RejoinLearner: "{}", "One at a time: this goes on when that one votes";
    RejoinUnhealthy: "{}", "Taking a member out needs a majority, and leaves less to lose: bring the other servers up first";
    RejoinAlive: "{}", "Switch one of the two off, or give it another name: nothing is taken out while it lives";
    RejoinAllStill: "{}", "Other nodes' kubelets are to run before that can be judged: look at `kubectl get nodes`, and at the servers' journals";
    RejoinHeld: "another server's rejoin is under way: {}", "One at a time: this goes on when that one is Ready, or ten minutes after it was last heard of";
    RejoinKey: "a certificate for this node's rejoin can't be made: {}", "The seed puts the CA of clients there: build this node's seed anew; or do it on another server, `kubectl annotate node NAME etcd.k3s.cattle.io/remove=true`";
    RejoinRefused: "the Kubernetes API does not take the certificate that this node made with its seed's CA: {}", "The CA of clients was rotated, or is another cluster's: build this node's seed with the cluster's present secrets";
    RejoinAsks: "a person is asked whether to {}", "If so, type `kiln-firstboot rejoin` on this node (on an image of Kiln /usr/lib/kiln/kiln-firstboot)";
    RejoinStill: "etcd still has the member {}, which k3s was asked to take out", "k3s does it within seconds (`journalctl -u k3s` on the other servers)";
    NotShredded: "secrets can't be removed: {}", "Remove them by hand, or mend what is named";
}

/// A cause and its facts. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) cause: Cause,
    facts: String,
    /// What k3s' last words mean, where they are known.
    pub(super) known: Option<Known>,
}

impl Trouble {
    /// Without the way out.
    pub(super) fn said(&self) -> String {
        self.cause.row().0.replacen("{}", &self.facts, 1)
    }

    /// Facts that others wrote lose what could move a cursor.
    pub(super) fn new(cause: Cause, facts: impl Into<String>) -> Self {
        let facts = facts.into().replace(|c: char| c.is_control(), " ");
        Self { cause, facts, known: None }
    }

    /// With what k3s' last words mean.
    pub(super) fn knowing(self, known: Option<Known>) -> Self {
        Self { known, ..self }
    }

    /// True when it is the same that is in the way: it need not be told at once.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.cause, self.known) == (other.cause, other.known)
    }

    /// False when time alone does not help: somebody must do something about this node or its seed.
    pub(super) fn heals(&self) -> bool {
        let never = matches!(
            self.cause,
            Cause::OtherCa
                | Cause::OtherHash
                | Cause::CertificateName
                | Cause::NotTls
                | Cause::BadToken
                | Cause::TokenOfOther
                | Cause::Unauthorised
                | Cause::WrongRole
                | Cause::NotK3s
                | Cause::WrongPassword
                | Cause::ApiRefused
                | Cause::RejoinEmptied
                | Cause::RejoinOnce
                | Cause::RejoinYounger
                | Cause::RejoinMembers
                | Cause::RejoinKey
                | Cause::RejoinRefused
                | Cause::RejoinAsks
        );
        !never && self.known.is_none_or(Known::heals)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.said(), self.known.map_or(self.cause.row().1, Known::way_out))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Trouble};

    #[test]
    fn every_cause_has_a_place_for_facts_and_a_way_out() {
        for cause in Cause::all() {
            let (words, remedy) = cause.row();
            assert_eq!(words.matches("{}").count(), 1, "{cause:?}");
            assert!(!remedy.is_empty() && !remedy.ends_with('.') && !words.ends_with('.'), "{cause:?}");
        }
    }

    #[test]
    fn facts_cant_move_the_cursor() {
        let trouble = Trouble::new(Cause::Failing, "\u{1b}[2J\r\nx");
        assert_eq!(
            trouble.to_string(),
            "the server failed:  [2J  x. Its journal tells (`journalctl -u k3s`)"
        );
    }
}
