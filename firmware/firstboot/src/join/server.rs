//! What a server that is to be joined says, in the order of a join: is anybody there, is it the right one, does it take the
//! token and the node's password, and is the one before it ready. Requests are those that k3s itself makes next, so they
//! change nothing that k3s would not (k3s, pkg/server/handlers/router.go).

use super::Around;
use super::clock;
use super::name;
use super::tls::{self, Answer, Client, Dial, Error, Question};
use super::token::{self, Token};
use super::words::{Cause, Trouble};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_contract::join::{Endpoint, Join, Role};
use rustls::CertificateError;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long one address may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// What servers fetch when they join.
pub(super) const BOOTSTRAP: &str = "/v1-k3s/server-bootstrap";

/// What a step gives: what later steps need, and what was found in words.
type Found<T> = Result<(T, String), Trouble>;

/// The server's addresses.
pub(super) fn find(around: &Around, endpoint: &Endpoint) -> Found<Dial> {
    let (addresses, found) = name::resolve(around, &endpoint.host)?;
    let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, endpoint.port)).collect();
    Ok((Dial { host: endpoint.host.clone(), addresses }, found))
}

/// The same, once more where it is a name: a wait may be longer than a lease.
pub(super) fn again(around: &Around, endpoint: &Endpoint, dial: &Dial) -> Result<Dial, Trouble> {
    match dial.host.parse::<IpAddr>() {
        Ok(_) => Ok(dial.clone()),
        Err(_) => Ok(find(around, endpoint)?.0),
    }
}

/// Does anybody listen there? TCP's own answer is clearer than what is left of it behind HTTP.
pub(super) fn reach(dial: &Dial) -> Found<()> {
    let mut last = Trouble::new(Cause::Silent, dial.authority());
    for address in &dial.addresses {
        match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => return Ok(((), format!("{} answers", dial.authority()))),
            Err(error) => last = unreachable(dial, &error),
        }
    }
    Err(last)
}

fn unreachable(dial: &Dial, error: &io::Error) -> Trouble {
    let cause = match error.kind() {
        ErrorKind::ConnectionRefused => Cause::Refused,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Cause::Unreachable,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Cause::Silent,
        _ => return Trouble::new(Cause::Broken, format!("{} broke: {error}", dial.authority())),
    };
    Trouble::new(cause, dial.authority())
}

/// Is it the cluster's own server, and what time does it say? Nothing secret was sent before this has said yes.
pub(super) fn recognise(around: &Around, join: &Join, dial: &Dial) -> Found<Option<u64>> {
    let client = pinned(around, join, dial)?;
    let answer = match client.ask(Question { method: "GET", path: "/cacerts", ..Question::default() }) {
        Ok(answer) => answer,
        Err(error) => return Err(failed(dial, join, &error)),
    };
    if answer.status != 200 {
        return Err(refused(answer.status, "/cacerts"));
    }
    if !token::is_pinned(&answer.body, &join.ca.sha256) {
        let facts = format!(
            "{} has a certificate of the pinned CA, and serves another CA to those who join ({}, and the token pins {}…)",
            dial.authority(),
            token::hash_in_words(&answer.body),
            &join.ca.sha256[..12],
        );
        return Err(Trouble::new(Cause::OtherHash, facts));
    }
    Ok((answer.date, format!("{} is a server of cluster {}", dial.authority(), join.cluster)))
}

/// The token, when it is of the pinned CA.
pub(super) fn token(around: &Around, join: &Join) -> Result<Token, Trouble> {
    let token = Token::read(&around.path(&join.token_file), &join.token_file)?;
    if token.hash != join.ca.sha256 {
        let (has, pins) = (&token.hash[..12], &join.ca.sha256[..12]);
        let facts =
            format!("the token in {} is for a CA {has}…, and this node's seed pins {pins}…", join.token_file);
        return Err(Trouble::new(Cause::TokenOfOther, facts));
    }
    Ok(token)
}

/// Does the server take the token? An agent fetches what it would configure itself by, a server the head of what it would
/// be given. Where servers keep etcd, 400 means that this one keeps SQLite, which nobody can join.
pub(super) fn credentials(around: &Around, join: &Join, dial: &Dial) -> Found<()> {
    let (status, path, user) = match join.role {
        Role::Agent => {
            let secret = token(around, join)?.secret;
            let headers = vec![("Authorization", basic("node", secret.reveal()))];
            let path = "/v1-k3s/config";
            let question = Question { method: "GET", path, headers, body: Vec::new() };
            (ask(around, join, dial, question)?.status, path, "node")
        }
        Role::Server => (bootstrap(around, join, dial)?, BOOTSTRAP, "server"),
    };
    let etcd = join.store.as_ref().is_some_and(|store| !store.external);
    match (status, join.role) {
        (400, Role::Server) if etcd => Err(Trouble::new(Cause::EtcdDisabled, dial.authority())),
        (200, _) | (400, Role::Server) => Ok(((), format!("the server takes the token of {user}"))),
        (status, _) => Err(refused(status, path)),
    }
}

/// The status of the head of what a server would be given: not a byte of the cluster's keys is sent. k3s without embedded
/// etcd says 400 there, after the password.
pub(super) fn bootstrap(around: &Around, join: &Join, dial: &Dial) -> Result<u16, Trouble> {
    let secret = token(around, join)?.secret;
    let headers = vec![("Authorization", basic("server", secret.reveal()))];
    Ok(ask(around, join, dial, Question { method: "HEAD", path: BOOTSTRAP, headers, body: Vec::new() })?
        .status)
}

/// Does the server take the node's password? A head of the kubelet's certificate is asked for: the server compares the
/// password first, and keeps the first one that it is given for a name, which is what k3s would give it next (one that no
/// node comes for is forgotten after ten minutes: k3s, pkg/nodepassword/controller.go). The certificate itself is not sent. On servers the kubelet asks its own k3s, so there is nothing to ask elsewhere.
pub(super) fn password(around: &Around, join: &Join, dial: &Dial) -> Found<()> {
    let read = std::fs::read_to_string(around.path(&join.password_file));
    let password = read
        .map_err(|error| Trouble::new(Cause::NoPassword, format!("{}: {error}", join.password_file)))?
        .trim()
        .to_owned();
    if join.role == Role::Server {
        return Ok(((), "is there".to_owned()));
    }
    let secret = token(around, join)?.secret;
    let mut headers = vec![
        ("Authorization", basic("node", secret.reveal())),
        ("k3s-Node-Name", join.node.clone()),
        ("k3s-Node-Password", password),
    ];
    headers.extend(join.address.map(|address| ("k3s-Node-IP", address.to_string())));
    let path = "/v1-k3s/serving-kubelet.crt";
    let answer = ask(around, join, dial, Question { method: "HEAD", path, headers, body: Vec::new() })?;
    match answer.status {
        200 => Ok(((), format!("the server takes it for {}", join.node))),
        403 => Err(Trouble::new(Cause::WrongPassword, &join.node)),
        400 | 401 | 429 | 503 => Err(refused(answer.status, path)),
        // A k3s that answers this request in another way judges the password when the kubelet comes.
        status => Ok(((), format!("the server does not say before the join ({status})"))),
    }
}

/// Is the server before this one ready? Nobody who has not joined may read nodes, so that server is asked itself: its
/// `/v1-k3s/readyz` is 200 once its Kubernetes runs. It is for agents' tokens; with a server's alone the head of its
/// bootstrap data has to do, which is there when it takes joins.
pub(super) fn hold(around: &Around, join: &Join) -> Found<()> {
    let Some(after) = &join.after else { return Ok(((), "there is no server to wait for".to_owned())) };
    let not_ready = |said: String| Trouble::new(Cause::AfterNotReady, format!("{} ({said})", after.name));
    let ask_it = || -> Result<u16, Trouble> {
        let (dial, _) = find(around, &after.server)?;
        reach(&dial)?;
        let agents = match &join.agent_token_file {
            Some(file) => Token::read(&around.path(file), file)?,
            None => token(around, join)?,
        };
        let head = |method, path, credentials| {
            let headers = vec![("Authorization", credentials)];
            ask(around, join, &dial, Question { method, path, headers, body: Vec::new() })
        };
        let status = head("GET", "/v1-k3s/readyz", basic("node", agents.secret.reveal()))?.status;
        if status == 401 && join.agent_token_file.is_none() {
            let secret = token(around, join)?.secret;
            return Ok(head("HEAD", "/v1-k3s/server-bootstrap", basic("server", secret.reveal()))?.status);
        }
        Ok(status)
    };
    match ask_it() {
        Ok(200) => Ok(((), format!("server {} is ready", after.name))),
        Ok(status) => Err(not_ready(format!("it answers {status}"))),
        Err(trouble) => Err(not_ready(trouble.said())),
    }
}

pub(super) fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

fn pinned(around: &Around, join: &Join, dial: &Dial) -> Result<Client, Trouble> {
    Client::new(dial, &join.ca.pem, None, around.clock).map_err(|error| failed(dial, join, &error))
}

pub(super) fn ask(
    around: &Around,
    join: &Join,
    dial: &Dial,
    question: Question<'_>,
) -> Result<Answer, Trouble> {
    pinned(around, join, dial)?.ask(question).map_err(|error| failed(dial, join, &error))
}

/// What a status means that was not hoped for.
pub(super) fn refused(status: u16, path: &str) -> Trouble {
    match status {
        400 => Trouble::new(Cause::BadRequest, path),
        401 => Trouble::new(Cause::Unauthorised, ""),
        403 => Trouble::new(Cause::WrongRole, path),
        404 => Trouble::new(Cause::NotK3s, path),
        429 => Trouble::new(Cause::Busy, ""),
        503 => Trouble::new(Cause::Starting, ""),
        other => Trouble::new(Cause::Failing, format!("{path} answered {other}")),
    }
}

/// What went wrong on the way, told apart as far as TLS tells it.
pub(super) fn failed(dial: &Dial, join: &Join, error: &Error) -> Trouble {
    let authority = dial.authority();
    match (error, error.tls()) {
        (_, Some(rustls::Error::InvalidCertificate(bad))) => certificate(dial, join, bad),
        (_, Some(rustls::Error::InvalidMessage(_))) => Trouble::new(Cause::NotTls, authority),
        (_, Some(other)) => Trouble::new(Cause::Broken, format!("{authority} failed: {other}")),
        (Error::Http(ureq::Error::Io(error)), None) => match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                Trouble::new(Cause::Broken, format!("{authority} was closed by the server"))
            }
            _ => unreachable(dial, error),
        },
        (Error::Http(ureq::Error::Timeout(_)), None) => Trouble::new(Cause::Silent, authority),
        (Error::Http(error), None) => Trouble::new(Cause::Broken, format!("{authority} failed: {error}")),
        (Error::Material(what), None) => {
            Trouble::new(Cause::Broken, format!("{authority} can't be made: {what} can't be used"))
        }
    }
}

/// Why the server's certificate was not taken.
fn certificate(dial: &Dial, join: &Join, bad: &CertificateError) -> Trouble {
    let times = |ours: u64, what: &str, theirs: u64| {
        format!("it {what} {}, and the clock here says {}", clock::in_words(theirs), clock::in_words(ours))
    };
    match bad {
        CertificateError::NotValidYetContext { time, not_before } => {
            Trouble::new(Cause::CertificateEarly, times(time.as_secs(), "begins", not_before.as_secs()))
        }
        CertificateError::ExpiredContext { time, not_after } => {
            Trouble::new(Cause::CertificateExpired, times(time.as_secs(), "ended", not_after.as_secs()))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            // `DnsName("k3s1")`, `IpAddress(10.0.0.1)`.
            let bare = |name: &String| {
                let inner =
                    name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
                inner.trim_matches('"').to_owned()
            };
            let shown: Vec<String> = presented.iter().map(bare).take(8).collect();
            Trouble::new(Cause::CertificateName, format!("{}, but for {}", dial.host, shown.join(", ")))
        }
        // Another issuer, or one of the same name with another key.
        _ => {
            let theirs = match tls::stranger(dial) {
                Ok(bundle) => token::hash_in_words(&bundle),
                Err(_) => "which it does not show".to_owned(),
            };
            let facts = format!(
                "{} has another CA ({theirs}) than the one that this node's seed pins (hash {}…)",
                dial.authority(),
                &join.ca.sha256[..12]
            );
            Trouble::new(Cause::OtherCa, facts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{basic, refused, unreachable};
    use crate::join::tls::Dial;
    use std::io::{Error, ErrorKind};

    #[test]
    fn every_status_has_words_of_its_own() {
        let said = |status| refused(status, "/v1-k3s/config").said();
        assert_eq!(said(400), "the server found the request incomplete (400): /v1-k3s/config");
        assert_eq!(said(401), "the server does not know this node's token (401)");
        assert_eq!(said(403), "the server lets nobody ask that in this way (403): /v1-k3s/config");
        assert_eq!(said(404), "the server has no /v1-k3s/config (404)");
        assert_eq!(said(429), "the server has too many requests (429)");
        assert_eq!(said(500), "the server failed: /v1-k3s/config answered 500");
        assert_eq!(said(503), "the server is still starting (503)");
    }

    #[test]
    fn every_way_of_not_being_there_has_words_of_its_own() {
        let dial = Dial { host: "::1".to_owned(), addresses: vec!["[::1]:6443".parse().unwrap()] };
        let said = |kind: ErrorKind| unreachable(&dial, &Error::from(kind)).said();
        assert_eq!(
            said(ErrorKind::ConnectionRefused),
            "[::1]:6443 is there, and nothing listens on that port"
        );
        assert_eq!(said(ErrorKind::HostUnreachable), "[::1]:6443 can't be reached");
        assert_eq!(said(ErrorKind::NetworkUnreachable), "[::1]:6443 can't be reached");
        assert_eq!(said(ErrorKind::TimedOut), "[::1]:6443 does not answer");
        assert_eq!(said(ErrorKind::Other), "the connection to [::1]:6443 broke: other error");
    }

    /// RFC 7617, section 2.
    #[test]
    fn credentials_are_basic() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
