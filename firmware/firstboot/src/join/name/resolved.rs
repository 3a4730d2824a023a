//! systemd-resolved over varlink: JSON with a NUL behind it, over a socket (org.varlink, io.systemd.Resolve).

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Where it listens.
pub(super) const SOCKET: &str = "/run/systemd/resolve/io.systemd.Resolve";
/// It gives up on a server by itself, after longer than a person would believe.
const PATIENCE: Duration = Duration::from_secs(10);

/// The addresses of a host, or what was said.
pub(super) fn ask(socket: &Path, host: &str) -> Result<Vec<IpAddr>, String> {
    let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => "does not run".to_owned(),
        _ => format!("can't be asked: {error}"),
    })?;
    let reply = exchange(&stream, host).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("did not answer in {} s", PATIENCE.as_secs()),
        _ => format!("can't be asked: {error}"),
    })?;
    let reply: Value =
        serde_json::from_slice(&reply).map_err(|error| format!("answered no JSON: {error}"))?;
    if let Some(error) = reply["error"].as_str() {
        return Err(in_words(error, &reply["parameters"]));
    }
    let addresses = reply["parameters"]["addresses"].as_array().into_iter().flatten();
    let found: Vec<IpAddr> = addresses.filter_map(|one| address(&one["address"])).collect();
    if found.is_empty() { Err("knows no address".to_owned()) } else { Ok(found) }
}

fn exchange(mut stream: &UnixStream, host: &str) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let call =
        json!({ "method": "io.systemd.Resolve.ResolveHostname", "parameters": { "name": host, "flags": 0 } });
    let mut bytes = call.to_string().into_bytes();
    bytes.push(0);
    stream.write_all(&bytes)?;
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(0, &mut reply)?;
    reply.pop_if(|last| *last == 0);
    Ok(reply)
}

/// Four or sixteen numbers.
fn address(bytes: &Value) -> Option<IpAddr> {
    let bytes: Vec<u8> =
        bytes.as_array()?.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

fn in_words(error: &str, parameters: &Value) -> String {
    match (error.rsplit('.').next().unwrap_or(error), parameters["rcode"].as_u64()) {
        ("NoNameServers", _) => "has no name server to ask".to_owned(),
        ("QueryTimedOut", _) => "got no answer from its name servers".to_owned(),
        ("NetworkDown", _) => "says that the network is down".to_owned(),
        // RFC 1035, section 4.1.1.
        ("DNSError", Some(3)) => "says that the name does not exist".to_owned(),
        ("DNSError", Some(code)) => format!("got the DNS error {code}"),
        (other, _) => format!("says {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::ask;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    /// What is asked, and what becomes of `reply`.
    fn told(reply: &'static str) -> (String, Result<Vec<std::net::IpAddr>, String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut call = Vec::new();
            BufReader::new(&stream).read_until(0, &mut call).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            String::from_utf8(call).unwrap()
        });
        let answer = ask(&path, "k3s1.lan");
        (server.join().unwrap(), answer)
    }

    #[test]
    fn it_is_asked_over_varlink() {
        let reply = "{\"parameters\":{\"addresses\":[{\"ifindex\":2,\"family\":2,\"address\":[10,0,0,1]},{\"family\":10,\"address\":[32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,5]}],\"name\":\"k3s1.lan\",\"flags\":1}}\0";
        let (asked, answer) = told(reply);
        assert_eq!(
            asked,
            "{\"method\":\"io.systemd.Resolve.ResolveHostname\",\"parameters\":{\"flags\":0,\"name\":\"k3s1.lan\"}}\0"
        );
        assert_eq!(
            answer.unwrap(),
            ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "2001:db8::5".parse().unwrap()]
        );
    }

    #[test]
    fn its_errors_are_words() {
        let table = [
            (
                r#"{"error":"io.systemd.Resolve.DNSError","parameters":{"rcode":3}}"#,
                "says that the name does not exist",
            ),
            (r#"{"error":"io.systemd.Resolve.NoNameServers","parameters":{}}"#, "has no name server to ask"),
            (r#"{"error":"io.systemd.Resolve.Odd","parameters":{}}"#, "says Odd"),
            (r#"{"parameters":{}}"#, "knows no address"),
        ];
        for (reply, words) in table {
            assert_eq!(told(reply).1.unwrap_err(), words);
        }
        assert_eq!(ask(std::path::Path::new("/nowhere"), "x").unwrap_err(), "does not run");
    }
}
