//! A plain question over UDP: to a name server (RFC 1035), or to everybody on the link (RFC 6762, section 5.1: a one-shot
//! query from a port of its own, which responders answer to that port).

use crate::sys;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Asks one server for both kinds of addresses.
pub(super) fn ask_server(server: SocketAddr, host: &str, patience: Duration) -> Result<Vec<IpAddr>, String> {
    ask(server, host, (patience, true))
}

/// Asks everybody on the link.
pub(super) fn ask_group(group: SocketAddr, host: &str, patience: Duration) -> Result<Vec<IpAddr>, String> {
    ask(group, host, (patience, false))
        .map_err(|said| said.replace("did not answer", "was answered by nobody"))
}

fn ask(to: SocketAddr, host: &str, (patience, one): (Duration, bool)) -> Result<Vec<IpAddr>, String> {
    let any: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).map_err(|error| error.to_string())?;
    if one {
        // Answers of anybody else are then dropped by the kernel.
        socket.connect(to).map_err(|error| error.to_string())?;
    }
    let mut found = Vec::new();
    let mut said = String::new();
    for kind in [TYPE::A, TYPE::AAAA] {
        match question(&socket, (to, one), (host, kind), patience) {
            Ok(addresses) => found.extend(addresses),
            // Who has no answer to the first question has none to the second, and the answer's absence costs time.
            Err(error) if found.is_empty() => return Err(error),
            Err(error) => said = error,
        }
    }
    match (found.is_empty(), said.is_empty()) {
        (false, _) => Ok(found),
        (true, true) => Err("knows no address".to_owned()),
        (true, false) => Err(said),
    }
}

fn question(
    socket: &UdpSocket,
    (to, one): (SocketAddr, bool),
    (host, kind): (&str, TYPE),
    patience: Duration,
) -> Result<Vec<IpAddr>, String> {
    let name =
        Name::new(host.trim_end_matches('.')).map_err(|_| "can't be asked: it is no DNS name".to_owned())?;
    let mut id = [0; 2];
    sys::random(&mut id).map_err(|error| error.to_string())?;
    let id = u16::from_be_bytes(id);
    let mut query = Packet::new_query(id);
    if one {
        query.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    query.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    let bytes = query.build_bytes_vec().map_err(|error| error.to_string())?;
    let sent = if one { socket.send(&bytes) } else { socket.send_to(&bytes, to) };
    sent.map_err(|error| format!("can't be asked: {error}"))?;
    let until = Instant::now() + patience;
    loop {
        match receive(socket, until) {
            Ok(bytes) => {
                if let Some(answer) = answer(&bytes, id, host) {
                    return answer;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(format!("did not answer in {} s", patience.as_secs_f32()));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Err("is no name server".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn receive(socket: &UdpSocket, until: Instant) -> io::Result<Vec<u8>> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    socket.set_read_timeout(Some(left))?;
    let mut bytes = vec![0; 9000];
    let length = socket.recv(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// What an answer says; nothing when it is not the answer to this question.
fn answer(bytes: &[u8], id: u16, host: &str) -> Option<Result<Vec<IpAddr>, String>> {
    let packet = Packet::parse(bytes).ok().filter(|packet| packet.id() == id)?;
    if !packet.has_flags(PacketFlag::RESPONSE) {
        return None;
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Some(Err("says that the name does not exist".to_owned())),
        other => return Some(Err(format!("answered {other:?}"))),
    }
    let wanted = host.trim_end_matches('.');
    // Behind an alias the addresses stand under another name; a server that is trusted with the one is with the other.
    let alias = packet.answers.iter().any(|record| matches!(record.rdata, RData::CNAME(_)));
    let fits = |name: String| alias || name.eq_ignore_ascii_case(wanted);
    let records = packet.answers.iter().filter(|record| fits(record.name.to_string()));
    let addresses = records.filter_map(|record| match &record.rdata {
        RData::A(a) => Some(IpAddr::V4(Ipv4Addr::from_bits(a.address))),
        RData::AAAA(a) => Some(IpAddr::V6(Ipv6Addr::from_bits(a.address))),
        _ => None,
    });
    Some(Ok(addresses.collect()))
}

#[cfg(test)]
mod tests {
    use super::{ask_group, ask_server};
    use simple_dns::rdata::{A, RData};
    use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    const SHORT: Duration = Duration::from_millis(300);

    /// A name server for two questions.
    fn server(code: RCODE) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            for _ in 0..2 {
                let mut bytes = [0; 512];
                let (length, from) = socket.recv_from(&mut bytes).unwrap();
                let query = Packet::parse(&bytes[..length]).unwrap();
                // Somebody else's answer comes first.
                let mut stray = Packet::new_reply(query.id().wrapping_add(1));
                stray.set_flags(PacketFlag::RESPONSE);
                socket.send_to(&stray.build_bytes_vec().unwrap(), from).unwrap();
                let mut reply = Packet::new_reply(query.id());
                *reply.rcode_mut() = code;
                let question = &query.questions[0];
                if question.qtype == QTYPE::TYPE(TYPE::A) && code == RCODE::NoError {
                    let a = RData::A(A { address: 0x0a00_0001 });
                    reply.answers.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, 9, a));
                }
                socket.send_to(&reply.build_bytes_vec().unwrap(), from).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_server_and_a_group_are_asked() {
        let one: std::net::IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(ask_server(server(RCODE::NoError), "k3s1.lan", SHORT).unwrap(), [one]);
        assert_eq!(ask_group(server(RCODE::NoError), "k3s1.local", SHORT).unwrap(), [one]);
        let unknown = ask_server(server(RCODE::NameError), "k3s1.lan", SHORT).unwrap_err();
        assert_eq!(unknown, "says that the name does not exist");
    }

    #[test]
    fn silence_is_told() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(ask_server(address, "k3s1.lan", SHORT).unwrap_err(), "did not answer in 0.3 s");
        assert_eq!(ask_group(address, "k3s1.local", SHORT).unwrap_err(), "was answered by nobody in 0.3 s");
        assert_eq!(
            ask_server(address, &"a".repeat(64), SHORT).unwrap_err(),
            "can't be asked: it is no DNS name"
        );
    }
}
