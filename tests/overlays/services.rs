//! Configuration of programs that judge it themselves.

use crate::rendering::{PLAIN, rendered};
use kiln_tests::said;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The program where it is installed; else says what is left out.
fn judge(program: &str, package: &str) -> Option<Command> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let path = folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    if path.is_none() {
        eprintln!("SKIPPED: {program} is not installed (Debian package {package})");
    }
    path.map(Command::new)
}

/// named-checkconf(8) on a copy in `folder`, zones and all.
fn named(folder: &Path, files: &[(&str, &str)]) -> Option<Result<(), String>> {
    let place = folder.to_str().expect("UTF-8");
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap_or_default();
        let text = text.replace("/etc/kiln/bind", place).replace("/var/cache/bind", place);
        fs::write(folder.join(name), text).expect("written");
    }
    let output = judge("named-checkconf", "bind9-utils")?.arg("-z").arg(folder.join("named.conf")).output();
    let output = output.expect("named-checkconf");
    Some(if output.status.success() { Ok(()) } else { Err(said(&output)) })
}

#[test]
fn name_servers_take_their_zones() {
    let mut zones = 0;
    for node in rendered(PLAIN) {
        let files: Vec<(&str, &str)> = node
            .files
            .iter()
            .filter(|file| file.path.starts_with("/etc/kiln/bind/"))
            .map(|file| (file.path.as_str(), file.text.as_str()))
            .collect();
        if files.is_empty() {
            continue;
        }
        zones += files.len() - 1;
        let folder = tempfile::tempdir().expect("folder");
        let Some(result) = named(folder.path(), &files) else { return };
        result.unwrap_or_else(|error| panic!("{}/{}: {error}\n{files:#?}", node.cluster, node.node.name));
    }
    assert!(zones >= 4, "{zones} zones only");
}

#[test]
fn name_servers_can_refuse() {
    let folder = tempfile::tempdir().expect("folder");
    let conf = "options { directory \"/var/cache/bind\"; };\nzone \"a\" { type primary; file \"/etc/kiln/bind/a.zone\"; };\n";
    let files = [("named.conf", conf), ("a.zone", "$TTL 1\n@ IN A 10.0.0.1\n")];
    if let Some(result) = named(folder.path(), &files) {
        assert!(result.is_err(), "a zone without an SOA record was taken");
    }
}

/// The files of the node `out` of a cluster with these zones, or what is said of them.
fn named_files(zones: &str) -> Result<Vec<(String, String)>, String> {
    let text = format!(
        "apiVersion: kiln/v1\ncluster: {{ name: home }}\nusers: [{{ name: ops, password_hash: $y$j9T$abc$def }}]\n\
         nodes: [{{ name: out, network: {{ address: 10.0.0.4/24 }}, overlays: [{{ name: external-services, dns: {{ zones: [{zones}] }} }}] }}, {{ name: a1, network: {{ address: \"fd00::5/64\" }} }}]\n"
    );
    let path = Path::new("cluster.yaml");
    let cluster = match kiln::cluster::parse(text.as_bytes(), path, Path::new("/nonexistent")) {
        Ok(loaded) => loaded.cluster,
        Err(kiln::cluster::Error::Faults(report)) => return Err(format!("{:?}", report.faults())),
        Err(error) => panic!("{error}"),
    };
    let node = cluster.nodes.iter().find(|node| node.name == "out").expect("the node");
    let vault: std::sync::Arc<dyn kiln::render::Vault> = std::sync::Arc::new(PLAIN);
    let files = kiln::render::files(&cluster, node, &vault).expect("rendered");
    let named = files.into_iter().filter(|file| file.path.starts_with("/etc/kiln/bind/"));
    Ok(named.map(|file| (file.path, file.text)).collect())
}

/// Names, types and values, right and wrong ones: all of their combinations are tried below.
const NAMES: [&str; 16] = [
    "@",
    "out",
    "a1",
    "www",
    "WWW",
    "_dmarc",
    "_a._tcp",
    "*",
    "*.apps",
    "a.b.c",
    "-a",
    "a b",
    "x..y",
    "www.home0.arpa.",
    "www.example.com.",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
const RECORDS: [(&str, &str); 30] = [
    ("A", "10.0.0.9"),
    ("A", "10.0.0.300"),
    ("A", "10.0.0.09"),
    ("AAAA", "fd00::9"),
    ("AAAA", "10.0.0.9"),
    ("CNAME", "mail"),
    ("CNAME", "a_b.example.com."),
    ("CNAME", "two words"),
    ("MX", "10 mail"),
    ("MX", "mail"),
    ("MX", "10 a_b"),
    ("MX", "65536 mail"),
    ("MX", "0 ."),
    ("NS", "out"),
    ("NS", "nobody"),
    ("NS", "ns.example.com."),
    ("NS", "a_b"),
    ("PTR", "mail.example.com."),
    ("PTR", "a_b"),
    ("SRV", "0 1 993 mail"),
    ("SRV", "0 1 993 ."),
    ("SRV", "0 1 mail"),
    ("SRV", "0 1 70000 mail"),
    ("SRV", "0 1 9 a_b"),
    ("CAA", "0 issue \\\"letsencrypt.org\\\""),
    ("CAA", "0 issue x"),
    ("CAA", "256 issue x"),
    ("CAA", "0 i-s x"),
    ("TXT", "one; \\\"two\\\" é"),
    ("TXT", "x"),
];

/// Every record that `kiln check` takes is loaded by BIND, and none that it refuses is: each in a zone of its own.
#[test]
fn name_servers_refuse_what_check_refuses() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().to_str().expect("UTF-8");
    let (mut conf, mut taken, mut refused) = (format!("options {{ directory \"{place}\"; }};\n"), 0, 0);
    let mut expected = std::collections::BTreeMap::new();
    let all = NAMES.iter().flat_map(|name| RECORDS.iter().map(move |(kind, value)| (*name, *kind, *value)));
    for (at, (name, kind, value)) in all.enumerate() {
        let zone = if at % 7 == 6 { format!("{at}.10.in-addr.arpa") } else { format!("home{at}.arpa") };
        let name = name.replace("home0.arpa", &zone);
        let record = format!("{{ name: \"{name}\", type: {kind}, value: \"{value}\" }}");
        let found = named_files(&format!("{{ name: {zone}, nodes: true, records: [{record}] }}"));
        let text = match &found {
            Ok(files) => {
                taken += 1;
                files.iter().find(|(path, _)| path.ends_with(".zone")).expect("the zone").1.clone()
            }
            // As the overlay would have written it.
            Err(_) => {
                refused += 1;
                let value = value.replace("\\\"", "\"");
                format!(
                    "$ORIGIN {zone}.\n$TTL 300\n@ IN SOA out hostmaster ( 1 3600 600 1209600 300 )\n@ IN NS out\nout IN A 10.0.0.4\n\
                     a1 IN AAAA fd00::5\n{name} IN {kind} {value}\n"
                )
            }
        };
        fs::write(folder.path().join(format!("{zone}.zone")), text).expect("written");
        conf += &format!("zone \"{zone}\" {{ type primary; file \"{place}/{zone}.zone\"; }};\n");
        expected.insert(zone, (found.is_ok(), record, found.err()));
    }
    fs::write(folder.path().join("named.conf"), conf).expect("written");
    let Some(mut command) = judge("named-checkconf", "bind9-utils") else { return };
    let output = command.arg("-z").arg(folder.path().join("named.conf")).output().expect("named-checkconf");
    let words = said(&output);
    for (zone, (good, record, reason)) in expected {
        // What is outside of the zone is loaded without it.
        let ignored = words.lines().any(|line| {
            line.contains(&format!("{zone}.zone:")) && line.contains("ignoring out-of-zone data")
        });
        let loaded = words.contains(&format!("zone {zone}/IN: loaded serial")) && !ignored;
        assert_eq!(
            good,
            loaded,
            "{zone} {record}\n{reason:?}\n{}",
            words.lines().filter(|line| line.contains(&zone)).collect::<Vec<_>>().join("\n")
        );
    }
    assert!(taken > 150 && refused > 150, "{taken} taken, {refused} refused");
}

/// Several records of one zone, and what no text of a record can show.
#[test]
fn zones_are_whole() {
    let long = "k".repeat(700);
    let zone = format!(
        "{{ name: home.arpa, nodes: true, serial: 4294967295, records: [{{ name: dkim._domainkey, type: TXT, value: \"{long}\" }}, \
         {{ name: a, type: CNAME, value: out }}, {{ name: a, type: CNAME, value: out }}, {{ name: out, type: TXT, value: x }}] }}, \
         {{ name: lan, records: [{{ name: out, type: TXT, value: x }}, {{ name: \"@\", type: NS, value: out }}] }}"
    );
    let folder = tempfile::tempdir().expect("folder");
    let files = named_files(&zone).expect("taken");
    let texts: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let Some(result) = named(folder.path(), &texts) else { return };
    result.expect("loaded");
    let broken = [
        ("an alias beside a node's address", "a1 IN CNAME out", "{ name: a1, type: CNAME, value: out }"),
        (
            "an alias of two names",
            "b IN CNAME out\nb IN CNAME a1",
            "{ name: b, type: CNAME, value: out }, { name: b, type: CNAME, value: a1 }",
        ),
        ("a name server without address", "@ IN NS b", "{ name: \"@\", type: NS, value: b }"),
        (
            "a name server that is an alias",
            "@ IN NS b\nb IN CNAME out",
            "{ name: \"@\", type: NS, value: b }, { name: b, type: CNAME, value: out }",
        ),
    ];
    for (what, lines, records) in broken {
        assert!(
            named_files(&format!("{{ name: home.arpa, nodes: true, records: [{records}] }}")).is_err(),
            "{what} is taken"
        );
        let conf = "options { directory \"/var/cache/bind\"; };\nzone \"home.arpa\" { type primary; file \"/etc/kiln/bind/a.zone\"; };\n";
        let zone = format!(
            "$ORIGIN home.arpa.\n$TTL 300\n@ IN SOA out hostmaster ( 1 3600 600 1209600 300 )\n@ IN NS out\nout IN A 10.0.0.4\na1 IN AAAA fd00::5\n{lines}\n"
        );
        let result = named(folder.path(), &[("named.conf", conf), ("a.zone", &zone)]).expect("the judge");
        assert!(result.is_err(), "BIND takes {what}");
    }
}

#[test]
fn the_load_balancer_takes_its_configuration() {
    let folder = tempfile::tempdir().expect("folder");
    let mut seen = 0;
    for node in rendered(PLAIN) {
        let Some(file) = node.file("/etc/kiln/haproxy.cfg") else { continue };
        seen += 1;
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, &file.text).expect("written");
        let Some(mut command) = judge("haproxy", "haproxy") else { return };
        let output = command.args(["-c", "-f"]).arg(&path).output().expect("haproxy");
        assert!(output.status.success(), "{}\n{}", file.text, said(&output));
        assert!(file.text.contains("server s1 10.0.0.1:6443"), "{}", file.text);
    }
    assert!(seen > 0);
}

/// A server that is down is not waited for: with the real program, one server that refuses and one that drops, an answer comes
/// from the third within seconds, over IPv4 and IPv6.
#[test]
fn dead_servers_do_not_hang_connections() {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};
    let nodes = rendered(PLAIN);
    let file = nodes.iter().find_map(|node| node.file("/etc/kiln/haproxy.cfg")).expect("a load balancer");
    // It drops what comes, as a machine without power does.
    let full = Full::new();
    let refuses =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let answers = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = TcpListener::bind("[::]:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let good = answers.local_addr().expect("its port").port();
    std::thread::spawn(move || {
        for connection in answers.incoming() {
            let Ok(mut connection) = connection else { return };
            let _ = connection.write_all(b"here");
        }
    });
    let (head, _) = file.text.split_once("    server ").expect("servers");
    let bind = head.lines().find(|line| line.trim().starts_with("bind")).expect("a listener").to_owned();
    assert_eq!(bind.trim(), "bind :::6444 v4v6");
    // The checks are slow here, so that connections meet the dead ones; nothing else is changed.
    let head = head.replace(":::6444", &format!(":::{port}")).replace("inter 2s", "inter 60s");
    let text = format!(
        "{head}    server one 127.0.0.1:{refuses}\n    server two 127.0.0.1:{}\n    server three 127.0.0.1:{good}\n",
        full.port
    );
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("haproxy.cfg");
    fs::write(&path, text).expect("written");
    let Some(mut command) = judge("haproxy", "haproxy") else { return };
    let mut running = command.arg("-db").arg("-f").arg(&path).spawn().expect("haproxy");
    let asked = |host: &str| {
        let begin = Instant::now();
        let mut connection = loop {
            match TcpStream::connect((host, port)) {
                Ok(connection) => break connection,
                Err(error) if begin.elapsed() > Duration::from_secs(20) => panic!("{host}: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        connection.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        let begin = Instant::now();
        let mut text = String::new();
        let read = connection.read_to_string(&mut text);
        (text, begin.elapsed(), read.err())
    };
    let answers: Vec<_> =
        ["127.0.0.1", "::1", "127.0.0.1", "::1", "127.0.0.1", "::1"].iter().map(|host| asked(host)).collect();
    running.kill().expect("ended");
    running.wait().expect("ended");
    for (text, took, error) in &answers {
        assert!(text == "here" && *took < Duration::from_secs(5), "{answers:?} {error:?}");
    }
}

/// A port where nobody answers and nothing is refused, for as long as this lives: the queue of its listener is full.
struct Full {
    port: u16,
    listener: std::process::Child,
    _waiting: Vec<std::net::TcpStream>,
}

impl Full {
    fn new() -> Self {
        use std::io::BufRead as _;
        // The standard library's own queues are too long to be filled.
        let script = "import socket, time\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen(0)\nprint(s.getsockname()[1], flush=True)\ntime.sleep(600)";
        let mut command = kiln_tests::debian_python("python3");
        let mut listener =
            command.args(["-c", script]).stdout(std::process::Stdio::piped()).spawn().expect("python3");
        let mut line = String::new();
        let output = listener.stdout.take().expect("its output");
        std::io::BufReader::new(output).read_line(&mut line).expect("its port");
        let port: u16 = line.trim().parse().expect("a number");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let mut waiting = Vec::new();
        while let Ok(connection) =
            std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(300))
        {
            waiting.push(connection);
            assert!(waiting.len() < 20, "the queue is never full");
        }
        Self { port, listener, _waiting: waiting }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = self.listener.kill();
        let _ = self.listener.wait();
    }
}

/// What `kiln check` can't see is said when the node's files are made: MinIO takes no shorter password.
#[test]
fn short_passwords_are_refused() {
    let nodes = crate::rendering::clusters();
    let cluster = nodes.iter().find(|cluster| cluster.name == "picluster").expect("the example");
    let node = cluster.nodes.iter().find(|node| node.name == "node1").expect("the node");
    let vault: std::sync::Arc<dyn kiln::render::Vault> = std::sync::Arc::new(Short);
    let error = kiln::render::files(cluster, node, &vault).expect_err("refused").to_string();
    assert!(
        error.contains("minio.env.j2")
            && error.contains("a secret has 7 characters, and the program takes no less than 8"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
}

#[derive(Debug)]
struct Short;

impl kiln::render::Vault for Short {
    fn reveal(&self, _: &kiln::cluster::settings::Secret) -> Result<String, String> {
        Ok("hunter2".to_owned())
    }
    fn own(&self, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(Some("x".to_owned()))
    }
    fn public(&self, _: &str, _: &str) -> Result<Option<String>, String> {
        Ok(Some("1790000000".to_owned()))
    }
    fn digest(&self, _: &[u8]) -> String {
        String::new()
    }
}
