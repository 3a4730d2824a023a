//! HTTP/1.1 over TLS, one request a connection.

use crate::Outcome;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A request.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The node that the client's certificate is of.
    pub(crate) node: Option<String>,
    /// The client's certificate is an administrator's.
    pub(crate) admin: bool,
}

impl Request {
    /// A header's value; names are the same in every case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Text with a status.
    pub(crate) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, kind: "text/plain", body: body.into() }
    }
}

/// TLS for a server: its certificate and key, and the CA of clients that show one.
pub(crate) fn tls((certificate, key): &(String, String), clients: &str) -> Outcome<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(clients.as_bytes()) {
        roots.add(root?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>()?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
    Ok(Arc::new(config))
}

/// Answers one request.
pub(crate) fn serve(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    answer: impl FnOnce(&Request) -> Answer,
) -> Outcome<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(ServerConnection::new(tls)?, stream);
    let mut request = read(&mut stream)?;
    request.node = stream.conn.peer_certificates().and_then(|chain| node(chain.first()?));
    request.admin =
        stream.conn.peer_certificates().and_then(|chain| is_admin(chain.first()?)).unwrap_or(false);
    let answer = answer(&request);
    let head = format!(
        "HTTP/1.1 {} Standin\r\nContent-Type: {}\r\nContent-Length: {}\r\nDate: {}\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.kind,
        answer.body.len(),
        date(OffsetDateTime::now_utc())
    );
    stream.write_all(head.as_bytes())?;
    // As Go's net/http does for every handler.
    if request.method != "HEAD" {
        stream.write_all(&answer.body)?;
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, as Go's net/http sends it with every answer.
fn date(time: OffsetDateTime) -> String {
    let (day, month) = (time.weekday().to_string(), time.month().to_string());
    let (hour, minute, second) = time.to_hms();
    let (day, month, year) = (&day[..3], &month[..3], time.year());
    format!("{day}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT", time.day())
}

fn read(stream: &mut impl Read) -> Outcome<Request> {
    let mut bytes = Vec::new();
    let (mut request, start, length) = loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some)?;
        if count == 0 {
            return Err("the client went away".into());
        }
        bytes.extend_from_slice(&some[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(start) = parsed.parse(&bytes)? {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let request = Request {
                method: parsed.method.unwrap_or_default().to_owned(),
                path: parsed.path.unwrap_or_default().to_owned(),
                headers: parsed.headers.iter().map(|one| (one.name.to_owned(), text(one.value))).collect(),
                body: Vec::new(),
                node: None,
                admin: false,
            };
            let length = request.header("content-length").map_or(Ok(0), str::parse::<usize>)?;
            break (request, start, length);
        }
    };
    let mut body = bytes.split_off(start);
    let have = body.len();
    body.resize(length, 0);
    if have < length {
        stream.read_exact(&mut body[have..])?;
    }
    request.body = body;
    Ok(request)
}

/// `O=system:masters`, whom nothing is refused.
fn is_admin(certificate: &CertificateDer<'_>) -> Option<bool> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut groups = certificate.subject().iter_organization();
    Some(groups.any(|group| group.as_str().is_ok_and(|group| group == "system:masters")))
}

/// `CN=system:node:NAME`; TLS has looked already who signed it.
fn node(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix("system:node:").map(str::to_owned)
}
