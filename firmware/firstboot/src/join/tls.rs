//! HTTPS to a server that must prove itself by the pinned CA. A secret can only be given to a [`Client`], and there is no way
//! to make one that trusts anybody else; a [`stranger`] is asked for its CA alone.

use super::clock::Clock;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Request, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};

/// As long as k3s itself waits (pkg/clientaccess/token.go: defaultClientTimeout).
const PATIENCE: Duration = Duration::from_secs(10);
/// No answer that is of use here is larger.
const MOST: u64 = 2 << 20;

/// Whom to dial, after its name was resolved.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    /// Name or address, as certificates and requests name it.
    pub(super) host: String,
    /// Where it is.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Dial {
    /// Host and port as they are shown and requested.
    pub(super) fn authority(&self) -> String {
        let port = self.addresses.first().map_or(0, SocketAddr::port);
        match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            _ => format!("{}:{port}", self.host),
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The header `Date`: seconds since 1970.
    pub(super) date: Option<u64>,
}

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Names and values; the values may be secret.
    pub(super) headers: Vec<(&'a str, String)>,
    pub(super) body: Vec<u8>,
}

/// Who a client is to Kubernetes: a certificate and its key, both in PEM.
pub(super) struct Identity {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// On the way or at the handshake.
    #[error(transparent)]
    Http(#[from] ureq::Error),
    /// The pinned CA or the node's certificate.
    #[error("{0} can't be used")]
    Material(&'static str),
}

impl Error {
    /// What TLS found, when it was TLS.
    pub(super) fn tls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Http(ureq::Error::Io(error)) => error.get_ref()?.downcast_ref(),
            Self::Http(ureq::Error::Rustls(error)) => Some(error),
            _ => None,
        }
    }
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    /// A client that trusts `authority` (PEM) alone, and shows who it is where that is given.
    pub(super) fn new(
        dial: &Dial,
        authority: &str,
        identity: Option<&Identity>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(authority.as_bytes()).filter_map(Result::ok);
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(Error::Material("the pinned CA"));
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Now(clock)))
            .with_safe_default_protocol_versions()
            .map_err(|_| Error::Material("TLS"))?
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain =
                    CertificateDer::pem_slice_iter(&identity.certificate).filter_map(Result::ok).collect();
                let key = PrivateKeyDer::from_pem_slice(&identity.key);
                let key = key.map_err(|_| Error::Material("the client's key"))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|_| Error::Material("the client's certificate"))?
            }
        };
        Ok(Self::with(dial, config))
    }

    fn with(dial: &Dial, config: ClientConfig) -> Self {
        let settings = ureq::config::Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment is for the world outside, and would see the join.
            .proxy(None)
            // The server may restart between two requests.
            .max_idle_connections(0)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("kiln-firstboot/", env!("CARGO_PKG_VERSION")))
            .build();
        let connector = ().chain(TcpConnector::default()).chain(Tls(Arc::new(config)));
        let agent = ureq::Agent::with_parts(settings, connector, Known(dial.addresses.clone()));
        Self { agent, base: format!("https://{}", dial.authority()) }
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&self, question: Question<'_>) -> Result<Answer, Error> {
        let request = |error| Error::Http(ureq::Error::Http(error));
        let mut response = if question.body.is_empty() {
            self.agent.run(build(&question, &self.base).body(()).map_err(request)?)?
        } else {
            self.agent.run(build(&question, &self.base).body(question.body.as_slice()).map_err(request)?)?
        };
        let status = response.status().as_u16();
        let date = response.headers().get("date").and_then(|value| date(value.to_str().ok()?));
        let body = response.body_mut().with_config().limit(MOST).read_to_vec()?;
        Ok(Answer { status, body, date })
    }
}

fn build(question: &Question<'_>, base: &str) -> ureq::http::request::Builder {
    let request = Request::builder().method(question.method).uri(format!("{base}{}", question.path));
    question.headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
}

/// The CA that anybody at that address calls its own. It is asked without any header of ours, and what it says is used for
/// words alone.
pub(super) fn stranger(dial: &Dial) -> Result<Vec<u8>, Error> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::Material("TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let question = Question { method: "GET", path: "/cacerts", ..Question::default() };
    Ok(Client::with(dial, config).ask(question)?.body)
}

/// RFC 9110, section 5.6.7.
fn date(text: &str) -> Option<u64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(time.as_second()).ok()
}

/// What time it is by a server that proves itself by the pinned CA. Since that is asked where the clock here may be wrong,
/// the times of certificates do not count for this one question; it has no header of ours and no secret.
pub(super) fn time_of(dial: &Dial, authority: &str) -> Result<Option<u64>, Error> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(authority.as_bytes()).filter_map(Result::ok);
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(Error::Material("the pinned CA"));
    }
    let provider = Arc::new(ring::default_provider());
    let pinned = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|_| Error::Material("the pinned CA"))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::Material("TLS"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Timeless(pinned)))
        .with_no_client_auth();
    let question = Question { method: "GET", path: "/cacerts", ..Question::default() };
    Ok(Client::with(dial, config).ask(question)?.date)
}

/// The pinned CA at whatever time a certificate is valid.
#[derive(Debug)]
struct Timeless(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Timeless {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut at = now;
        // A chain has few certificates, and each may want another time.
        for _ in 0..6 {
            let judged = self.0.verify_server_cert(certificate, between, name, ocsp, at);
            at = match judged {
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) => not_before,
                Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                    not_after,
                    ..
                })) => not_after,
                other => return other,
            };
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::Expired))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The node's clock for certificates.
#[derive(Debug)]
struct Now(Clock);

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now())))
    }
}

/// Addresses that are known already.
#[derive(Debug)]
struct Known(Vec<SocketAddr>);

impl Resolver for Known {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        // As many as the type holds.
        self.0.iter().take(16).for_each(|address| found.push(*address));
        Ok(found)
    }
}

/// TLS of our own settings over ureq's TCP.
struct Tls(Arc<ClientConfig>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Secured;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        under: Option<In>,
    ) -> Result<Option<Secured>, ureq::Error> {
        let Some(under) = under else { return Ok(None) };
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name =
            ServerName::try_from(host).map_err(|_| ureq::Error::Tls("not a name that TLS can ask for"))?;
        let mut connection = ClientConnection::new(self.0.clone(), name)?;
        let mut socket = TransportAdapter::new(under.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Secured { buffers, stream: StreamOwned { conn: connection, sock: socket } }))
    }
}

struct Secured {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secured(..)")
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Connections are never kept.
        false
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Takes any certificate: of a stranger, who is given nothing.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for bad in ["", "now", "Sun, 06 Nov 1994", "784111777", "Sun, 06 Nov 1954 08:49:37 GMT"] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }
}
