//! One request: bytes of a location from an offset on.

use super::mirrors::Location;
use super::names::Remembering;
use super::proxy::{Proxied, apt};
use super::trust;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::tls::TlsConfig;
use ureq::{Agent, Proxy, http};

/// How long servers are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection, and for each piece of an answer.
    pub timeout: Duration,
    /// How often a location is asked when it fails in a way that may pass.
    pub tries: u32,
    /// Between the first and the second try; doubled for each further one.
    pub pause: Duration,
    /// How long a file may take beside what its bytes take at [`SLOWEST`].
    pub grace: Duration,
}

/// Bytes a second that a server must send on the average.
pub(super) const SLOWEST: u64 = 8 << 10;

impl Default for Patience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            tries: 4,
            pause: Duration::from_millis(250),
            grace: Duration::from_secs(60),
        }
    }
}

/// Why a location gives no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Asking again may help: the server is busy, the connection was cut.
    Passing(String),
    /// The server is not there: other files will fail in the same way.
    Unreachable(String),
    /// This location has not got the bytes.
    Lasting(String),
}

impl Fault {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Passing(text) | Self::Unreachable(text) | Self::Lasting(text) => text,
        }
    }
}

/// An answer that began.
pub(super) struct Answer {
    /// The offset of the first byte: what was asked for, or 0 when the server knows no ranges.
    pub(super) from: u64,
    /// Number of bytes that follow, where that is said.
    pub(super) length: Option<u64>,
    pub(super) bytes: Box<dyn Read>,
}

/// The host's apt configuration.
const APT: &str = "/etc/apt";

/// Asks servers, with the proxy that `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` give, in
/// capitals or not; where they give none, with apt's.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: Agent,
    /// apt's proxies for http and https.
    apt: [Option<Proxy>; 2],
}

impl Client {
    pub(super) fn new(patience: Patience) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(patience.timeout))
            .timeout_connect(Some(patience.timeout))
            .timeout_recv_response(Some(patience.timeout))
            .timeout_per_read(Some(patience.timeout))
            .max_idle_connections_per_host(8)
            .tls_config(
                TlsConfig::builder()
                    .root_certs(trust::roots(|name| std::env::var_os(name).map(PathBuf::from)))
                    .build(),
            )
            .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
            .build();
        let apt = match config.proxy() {
            Some(_) => [None, None],
            None => apt::proxies(Path::new(APT)).map(|address| Proxy::new(&address?).ok()),
        };
        let agent = Agent::with_parts(config, Proxied::default(), Remembering::default());
        Self { agent, apt }
    }

    /// Asks `location` for its bytes from offset `from` on.
    pub(super) fn get(&self, location: &Location, from: u64) -> Result<Answer, Fault> {
        match location {
            Location::Http(address) => self.get_http(address, from),
            Location::File(path) => {
                let open = || {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(from))?;
                    let length = Some(file.metadata()?.len().saturating_sub(from));
                    Ok(Answer { from, length, bytes: Box::new(file) })
                };
                open().map_err(|fault: std::io::Error| match fault.kind() {
                    ErrorKind::NotFound => Fault::Lasting("there is no such file".to_owned()),
                    _ => Fault::Lasting(fault.to_string()),
                })
            }
        }
    }

    fn get_http(&self, address: &str, from: u64) -> Result<Answer, Fault> {
        // Nobody vouches for what an answer over plain http leads to.
        let secure = address.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let mut config = self.agent.get(address).config().https_only(secure);
        if let Some(proxy) = self.apt[usize::from(secure)].clone().filter(|_| !is_here(address)) {
            config = config.proxy(Some(proxy));
        }
        let mut request = config.build();
        if from > 0 {
            request = request.header(http::header::RANGE, format!("bytes={from}-"));
        }
        let response = request.call().map_err(|fault| fault_of(&fault))?;
        let status = response.status();
        let starts_at = match status.as_u16() {
            200 => 0,
            206 => range_start(response.headers()).filter(|start| *start == from).ok_or_else(|| {
                Fault::Lasting("it sent another range of bytes than was asked for".to_owned())
            })?,
            // The server's file ends before the part that is here: begin anew.
            416 if from > 0 => return self.get_http(address, 0),
            404 | 410 => {
                return Err(Fault::Lasting(format!("it has no such file (HTTP {})", status.as_u16())));
            }
            408 | 425 | 429 | 500..=599 => return Err(Fault::Passing(format!("it answers HTTP {status}"))),
            _ => return Err(Fault::Lasting(format!("it answers HTTP {status}"))),
        };
        let length = response.headers().get(http::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.trim().parse().ok());
        Ok(Answer { from: starts_at, length, bytes: Box::new(response.into_body().into_reader()) })
    }
}

/// Whether an address is of this machine, which is asked without a proxy.
fn is_here(address: &str) -> bool {
    let uri = address.parse::<http::Uri>().ok();
    uri.as_ref().and_then(http::Uri::host).is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// The first byte of `Content-Range: bytes 5-9/10` (RFC 9110 §14.4).
fn range_start(headers: &http::HeaderMap) -> Option<u64> {
    let range = headers.get(http::header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn fault_of(fault: &ureq::Error) -> Fault {
    let text = fault.to_string();
    match fault {
        ureq::Error::RequireHttpsOnly(_) => Fault::Lasting(
            "it leads from https to plain http, where anybody may change what is sent".to_owned(),
        ),
        ureq::Error::HostNotFound => Fault::Unreachable("its name is not known".to_owned()),
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => Fault::Unreachable(text),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Fault::Unreachable("it does not answer".to_owned())
        }
        ureq::Error::Timeout(_) => Fault::Passing("it fell silent".to_owned()),
        ureq::Error::Io(fault) => match fault.kind() {
            ErrorKind::ConnectionRefused => Fault::Unreachable("it refuses the connection".to_owned()),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                Fault::Unreachable("there is no way to it from here".to_owned())
            }
            // The second is an authority of a trusted one's name with another key: one that was made anew.
            _ if ["UnknownIssuer", "BadSignature"].iter().any(|reason| text.contains(reason)) => Fault::Lasting(
                "its certificate is by an authority that this machine does not trust: add the authority to the machine's \
                 (update-ca-certificates), or name its file in SSL_CERT_FILE"
                    .to_owned(),
            ),
            _ => Fault::Passing(text),
        },
        ureq::Error::Protocol(_) | ureq::Error::BodyStalled => Fault::Passing(text),
        _ => Fault::Lasting(text),
    }
}
