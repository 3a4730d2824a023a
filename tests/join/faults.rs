//! What keeps a node from joining, each with the exact line that the console shows.

use crate::rig::{AGENT_SECRET, Cluster, Node, PASSWORD, Server, port};
use std::time::Duration;

const TWO_YEARS: i64 = 2 * 365 * 86_400;

/// What is said first about a step, without the port.
fn waits(node: &Node, step: &str, port: u16) -> String {
    let supervisor = node.supervise();
    let line = supervisor.line(&format!("join: {step}: waiting"));
    // It goes on trying, and nothing is lost meanwhile.
    std::thread::sleep(Duration::from_millis(300));
    node.assert_secrets_are_there();
    assert!(!node.path("standin.pid").exists(), "k3s was started");
    line.replace(&port.to_string(), "PORT")
}

/// Headers that could carry a secret, of all requests that came.
fn credentials(server: &Server) -> Vec<String> {
    let all = server.requests();
    let headers = all.iter().flat_map(|request| request["headers"].as_array().unwrap());
    let names = headers.map(|header| header[0].as_str().unwrap().to_lowercase());
    names.filter(|name| name == "authorization" || name.starts_with("k3s-")).collect()
}

#[test]
fn another_ca_is_refused_before_any_secret_leaves() {
    let (ours, theirs) = (Cluster::new("demo"), Cluster::new("demo"));
    let server = Server::started(&theirs);
    let node = Node::new(&ours, ("agent", server.port));
    assert_eq!(
        waits(&node, "server", server.port),
        format!(
            "join: server: waiting: 127.0.0.1:PORT has another CA (hash {}) than the one that this node's seed pins (hash {}). Another cluster's server, or somebody in between: nothing secret was sent. Correct the endpoint, or build this node's seed with that cluster's secrets",
            theirs.short(),
            ours.short()
        )
    );
    let asked = server.requests();
    assert!(!asked.is_empty() && asked.iter().all(|request| request["path"] == "/cacerts"), "{asked:#?}");
    assert!(credentials(&server).is_empty(), "{asked:#?}");
    let sent = asked.iter().map(ToString::to_string).collect::<String>();
    assert!(!sent.contains(AGENT_SECRET) && !sent.contains(PASSWORD), "{sent}");

    // The same look at a server that is the right one finds them.
    let server = Server::started(&ours);
    let node = Node::new(&ours, ("agent", server.port));
    node.supervise().line("join: password: the server takes it");
    let found = credentials(&server);
    for name in ["authorization", "k3s-node-name", "k3s-node-password", "k3s-node-ip"] {
        assert!(found.iter().any(|header| header == name), "{name}: {found:?}");
    }
}

#[test]
fn a_token_of_another_ca_stays_here() {
    let cluster = Cluster::new("demo");
    let other = Cluster::new("other");
    let server = Server::started(&cluster);
    let node = Node::new(&cluster, ("agent", server.port));
    node.put("etc/rancher/k3s/token", &other.token("node", AGENT_SECRET));
    assert_eq!(
        waits(&node, "token", server.port),
        format!(
            "join: token: waiting: the token in /etc/rancher/k3s/token is for a CA {}, and this node's seed pins {}. Token and CA are of two clusters: build the seed anew",
            other.short(),
            cluster.short()
        )
    );
    assert!(credentials(&server).is_empty());
}

#[test]
fn a_wrong_token() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let line = "join: token: waiting: the server does not know this node's token (401). Just after its start that passes; else the token was rotated, or is of another cluster or another role (agents join by the agents' token, servers by the servers'): build this node's seed with the cluster's present secrets";
    for role in ["agent", "server"] {
        let node = Node::new(&cluster, (role, server.port));
        node.put("etc/rancher/k3s/token", &cluster.token("node", "not-it"));
        assert_eq!(waits(&node, "token", server.port), line, "{role}");
    }
}

#[test]
fn a_damaged_token() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let node = Node::new(&cluster, ("agent", server.port));
    node.put("etc/rancher/k3s/token", "agent-secret-93ab\n");
    assert_eq!(
        waits(&node, "token", server.port),
        "join: token: waiting: /etc/rancher/k3s/token holds no full token. K10, 64 hexadecimal digits, ::user:secret is what it must be: build the seed anew"
    );
}

#[test]
fn a_wrong_node_password() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    // The first machine of that name.
    let first = Node::new(&cluster, ("agent", server.port));
    first.supervise().line("join: password: the server takes it");
    let node = Node::new(&cluster, ("agent", server.port));
    node.put("etc/rancher/node/password", "ffffffffffffffffffffffffffffffff\n");
    assert_eq!(
        waits(&node, "password", server.port),
        "join: password: waiting: the server knows a node k3s2 by another password (403). Two machines with one name, or one that was built anew with other secrets: rename it, or `kubectl -n kube-system delete secret NAME.node-password.k3s`"
    );
}

#[test]
fn nobody_listens() {
    let cluster = Cluster::new("demo");
    let port = port();
    let node = Node::new(&cluster, ("agent", port));
    let supervisor = node.supervise();
    let first = supervisor.line("join: connect: waiting:").replace(&port.to_string(), "PORT");
    let said = "127.0.0.1:PORT is there, and nothing listens on that port. Is k3s running there (`systemctl status k3s`), and is it the server's address?";
    assert_eq!(first, format!("join: connect: waiting: {said}"));
    // Half a minute at twenty times the pace.
    let again = supervisor.line("join: connect: waiting (for").replace(&port.to_string(), "PORT");
    assert!(again.ends_with(said) && again.starts_with("join: connect: waiting (for 1 s): "), "{again}");
    assert_eq!(supervisor.lines().iter().filter(|line| line.contains("waiting")).count(), 2);
}

#[test]
fn a_server_that_is_late() {
    let cluster = Cluster::new("demo");
    let mut server = Server::new(&cluster);
    server.start(&[("K3S_STANDIN_LATE", "3")]);
    let node = Node::new(&cluster, ("agent", server.port));
    let supervisor = node.supervise();
    assert_eq!(
        supervisor.line("join: token: waiting"),
        "join: token: waiting: the server is still starting (503). Nothing to do but wait; its journal tells (`journalctl -u k3s`)"
    );
    node.assert_secrets_are_there();
    supervisor.ends();
    node.assert_secrets_are_gone();
}

/// It ends itself at each of the requests that a supervisor makes, and comes back.
#[test]
fn a_server_that_restarts_midway() {
    let cluster = Cluster::new("demo");
    // Its own node registers with two requests, in between or before.
    for number in 1..=5 {
        let mut server = Server::new(&cluster);
        server.start(&[("K3S_STANDIN_DIE", &number.to_string())]);
        let node = Node::new(&cluster, ("agent", server.port));
        let supervisor = node.supervise();
        assert_eq!(server.ended(), 3);
        server.start(&[]);
        supervisor.ends();
        node.assert_secrets_are_gone();
    }
}

#[test]
fn a_connection_that_breaks_is_told() {
    let cluster = Cluster::new("demo");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let node = Node::new(&cluster, ("agent", port));
    let line = waits(&node, "server", port);
    assert_eq!(
        line,
        "join: server: waiting: the connection to 127.0.0.1:PORT was closed by the server. The server may be starting; its journal tells (`journalctl -u k3s`)"
    );
}

#[test]
fn something_else_listens() {
    use std::io::Write;
    let cluster = Cluster::new("demo");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let node = Node::new(&cluster, ("agent", port));
    assert_eq!(
        waits(&node, "server", port),
        "join: server: waiting: 127.0.0.1:PORT does not speak TLS as k3s does. Is another program listening on that port?"
    );
}

#[test]
fn a_name_that_nobody_knows() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let mut node = Node::new(&cluster, ("agent", server.port));
    node.document["server"]["host"] = "k3s1.lan".into();
    node.put("etc/hosts", "127.0.0.1 localhost\n");
    let supervisor = node.supervise();
    assert_eq!(
        supervisor.line("join: name: waiting"),
        "join: name: waiting: nobody knows an address of k3s1.lan: /etc/hosts does not list it; systemd-resolved does not run; DNS has no server in /etc/resolv.conf. Is the name right, and who is to know it? An address as the cluster's endpoint needs nobody"
    );
    // Somebody corrects it, and the server has a certificate for other names alone.
    node.put("etc/hosts", "127.0.0.1 k3s1.lan\n");
    assert_eq!(supervisor.line("join: name: k3s1"), "join: name: k3s1.lan is 127.0.0.1, says /etc/hosts");
    assert_eq!(
        supervisor.line("join: server: waiting"),
        "join: server: waiting: the server's certificate is not for k3s1.lan, but for 127.0.0.1, 0::1, localhost, k3s1. Name it in the server's tls-san, or dial the server by a name that it has"
    );
    assert!(credentials(&server).is_empty());
}

#[test]
fn a_clock_two_years_behind() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let mut node = Node::new(&cluster, ("agent", server.port));
    node.offset = -TWO_YEARS;
    let line = waits(&node, "clock", server.port);
    let times = dates(&line);
    assert_eq!(times.len(), 2, "{line}");
    let without = times.iter().fold(line.clone(), |line, time| line.replace(time, "TIME"));
    assert_eq!(
        without,
        "join: clock: waiting: the clock says TIME, which is before this node was made (TIME). Set the clock in the firmware's setup, or give the node a time server (`timedatectl`)"
    );
    assert!(server.requests().is_empty());

    // A node that does not know when it was made learns it from the certificate.
    node.document["earliest"] = 0.into();
    let line = waits(&node, "server", server.port);
    let times = dates(&line);
    assert_eq!(times.len(), 2, "{line}");
    let without = times.iter().fold(line.clone(), |line, time| line.replace(time, "TIME"));
    assert_eq!(
        without,
        "join: server: waiting: the server's certificate is not valid yet: it begins TIME, and the clock here says TIME. One of the two clocks is wrong: compare `date` here and on the server, and set it"
    );
    assert!(credentials(&server).is_empty());
}

/// A line with `TIME` for its times.
fn timeless(line: &str, port: u16) -> String {
    let line = dates(line).iter().fold(line.to_owned(), |line, time| line.replace(time, "TIME"));
    line.replace(&port.to_string(), "PORT")
}

/// Before the first server there is nobody to ask. A machine whose clock goes on while it is off is believed sooner.
#[test]
fn a_clock_that_nobody_sets() {
    let cluster = Cluster::new("demo");
    for rtc in [false, true] {
        let server = Server::new(&cluster);
        let mut node = Node::new(&cluster, ("server", server.port));
        node.document["first"] = true.into();
        std::fs::remove_file(node.path("run/systemd/timesync/synchronized")).unwrap();
        if rtc {
            node.put("sys/class/rtc/rtc0/name", "rtc_cmos\n");
        }
        let since = std::time::Instant::now();
        let supervisor = node.supervise();
        assert_eq!(
            timeless(&supervisor.line("join: clock: waiting"), server.port),
            "join: clock: waiting: no time server has set the clock yet, it says TIME. The join goes on without one when none answers soon"
        );
        let line = timeless(&supervisor.line("join: clock: nobody"), server.port);
        assert_eq!(line, "join: clock: nobody has set it, and TIME is plausible");
        // 60 s and 5 s at twenty times the pace.
        let lasted = since.elapsed();
        assert_eq!(lasted < Duration::from_millis(2900), rtc, "{lasted:?}");
    }
}

/// A server of the cluster is a witness where no time server is.
#[test]
fn a_clock_that_a_server_knows() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let node = |offset: i64| {
        let mut node = Node::new(&cluster, ("agent", server.port));
        node.offset = offset;
        std::fs::remove_file(node.path("run/systemd/timesync/synchronized")).unwrap();
        node
    };
    let right = node(0);
    let line = timeless(&right.supervise().line("join: clock: 2"), server.port);
    assert_eq!(line, "join: clock: TIME, and 127.0.0.1:PORT agrees");

    // No certificate is valid by this one.
    let behind = node(-TWO_YEARS);
    let supervisor = behind.supervise();
    let words = "the clock here is 730 days behind the one of 127.0.0.1:PORT (TIME)";
    assert_eq!(
        timeless(&supervisor.line("join: clock: waiting"), server.port),
        format!(
            "join: clock: waiting: no time server has set the clock yet, and {words}. The join goes on without one when none answers soon"
        )
    );
    assert_eq!(
        timeless(&supervisor.line("join: clock: set"), server.port),
        format!("join: clock: set to TIME, since no time server answers, and {words}")
    );
    supervisor.line("join: token: the server takes");

    // A time server knows better; the difference is told.
    let mut ahead = node(3 * 3600);
    ahead.put("run/systemd/timesync/synchronized", "");
    ahead.document["earliest"] = 0.into();
    let line = timeless(&ahead.supervise().line("join: clock: set"), server.port);
    assert_eq!(
        line,
        "join: clock: set by a time server, TIME; the clock here is 3 h ahead of the one of 127.0.0.1:PORT (TIME)"
    );

    // A stranger's word counts for nothing.
    let stranger = Server::started(&Cluster::new("other"));
    let mut lost = Node::new(&cluster, ("agent", stranger.port));
    lost.offset = -TWO_YEARS;
    std::fs::remove_file(lost.path("run/systemd/timesync/synchronized")).unwrap();
    let line = lost.supervise().line("join: clock: waiting");
    assert!(line.contains("which is before this node was made"), "{line}");
    assert!(credentials(&stranger).is_empty());
}

#[test]
fn a_clock_two_years_ahead() {
    let cluster = Cluster::new("demo");
    let server = Server::started(&cluster);
    let mut node = Node::new(&cluster, ("agent", server.port));
    node.offset = TWO_YEARS;
    let line = waits(&node, "server", server.port);
    let times = dates(&line);
    assert_eq!(times.len(), 2, "{line}");
    let without = times.iter().fold(line.clone(), |line, time| line.replace(time, "TIME"));
    assert_eq!(
        without,
        "join: server: waiting: the server's certificate has expired: it ended TIME, and the clock here says TIME. If the clock here is right (`date`), renew it on the server: `k3s certificate rotate`, or restart k3s there"
    );
    assert!(credentials(&server).is_empty());
}

#[test]
fn no_cable_no_address_no_route() {
    let cluster = Cluster::new("demo");
    let mut node = Node::new(&cluster, ("agent", 6443));
    node.put("sys/class/net/eth0/carrier", "0\n");
    node.put("proc/net/fib_trie", "");
    node.put("proc/net/route", "");
    node.document["server"]["host"] = "192.0.2.1".into();
    let supervisor = node.supervise();
    assert_eq!(
        supervisor.line("join: link: waiting"),
        "join: link: waiting: no network interface has a link: eth0. Plug in the cable, or look at the switch's port"
    );
    node.put("sys/class/net/eth0/carrier", "1\n");
    assert_eq!(
        supervisor.line("join: address: waiting"),
        "join: address: waiting: this node is to have 192.168.86.72, and has no address. The network is not configured yet, or the cluster file means another machine (`ip addr`)"
    );
    node.put("proc/net/fib_trie", "Local:\n     |-- 192.168.86.72\n        /32 host LOCAL\n");
    assert_eq!(
        supervisor.line("join: route: waiting"),
        "join: route: waiting: no route leads to 192.0.2.1. Is the gateway in the cluster file right (`ip route`)?"
    );
    node.put("proc/net/route", "Iface Destination\neth0 00000000 0156A8C0 0003 0 0 0 00000000\n");
    assert_eq!(supervisor.line("join: route: by"), "join: route: by the gateway, through eth0");
}

/// `2026-01-01 00:00:00 UTC` wherever it stands.
fn dates(line: &str) -> Vec<String> {
    let ends = line.match_indices(" UTC").map(|(at, _)| at);
    ends.filter_map(|at| Some(line.get(at.checked_sub(19)?..at + 4)?.to_owned())).collect()
}
