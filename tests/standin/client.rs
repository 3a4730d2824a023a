//! The side of those who join: HTTPS that believes a token's CA.

use crate::Outcome;
use crate::config::Config;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned,
};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// What k3s makes of `K10<hash>::<user>:<secret>` or of a bare secret.
pub(crate) struct Token {
    hash: String,
    pub(crate) secret: String,
}

impl Token {
    /// Hash and secret; a bare secret pins nothing.
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        let Some(rest) = text.strip_prefix("K10") else {
            return Ok(Self { hash: String::new(), secret: text.to_owned() });
        };
        let (hash, credentials) = rest.split_once("::").ok_or("invalid token format")?;
        let (_, secret) = credentials.split_once(':').ok_or("invalid token format")?;
        Ok(Self { hash: hash.to_owned(), secret: secret.to_owned() })
    }
}

/// A server and how it is believed.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The CA bundle, once it was fetched and found to be the token's.
    pub(crate) authority: String,
    /// Certificate and key of whoever asks, in PEM.
    pub(crate) identity: Option<(String, String)>,
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: Vec<u8>,
}

impl<'a> Ask<'a> {
    /// A GET without anything.
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: Vec::new(), body: Vec::new() }
    }

    /// With a user and a secret.
    pub(crate) fn with(mut self, user: &str, secret: &str) -> Self {
        self.headers
            .push(("Authorization", format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))));
        self
    }
}

impl Peer {
    /// `https://host:port` from the configuration: fetches the CA and compares it with the token's hash.
    pub(crate) fn find(url: &str, token: &Token) -> Outcome<Self> {
        let rest =
            url.strip_prefix("https://").ok_or("only https:// URLs are supported")?.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host.trim_matches(['[', ']']), port.parse()?),
            None => (rest, 443),
        };
        let mut peer = Self { host: host.to_owned(), port, authority: String::new(), identity: None };
        let bundle = peer.ask(Ask::get("/cacerts"))?;
        let hash = Sha256::digest(&bundle).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        if !token.hash.is_empty() && token.hash != hash {
            return Err("token CA hash does not match the Cluster CA certificate hash".into());
        }
        peer.authority = String::from_utf8(bundle)?;
        Ok(peer)
    }

    /// The answer's body; any status but a good one is an error.
    pub(crate) fn ask(&self, ask: Ask<'_>) -> Outcome<Vec<u8>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from(self.host.clone())?;
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(self.tls()?), name)?, stream);
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", ask.method, ask.path, self.host);
        for (name, value) in &ask.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", ask.body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(&ask.body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(start) = parsed.parse(&bytes)? else {
            return Err("half an answer".into());
        };
        match parsed.code {
            Some(200 | 201) => Ok(bytes.split_off(start)),
            code => Err(format!("{}: {}", ask.path, code.unwrap_or_default()).into()),
        }
    }

    fn tls(&self) -> Outcome<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.authority.as_bytes()) {
            roots.add(root?)?;
        }
        let builder = if roots.is_empty() {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        } else {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_webpki_verifier(verifier)
        };
        Ok(match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain =
                    CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
            }
        })
    }
}

/// `ask METHOD PATH`: asks this machine's own server as its administrator, with what is on standard input.
pub(crate) fn ask(words: &[String]) -> Outcome<()> {
    let [method, path] = words else { return Err("k3s-standin ask METHOD PATH".into()) };
    let text = std::fs::read_to_string(Config::read(&[])?.path("/etc/rancher/k3s/k3s.yaml"))?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        value.ok_or_else(|| format!("k3s.yaml has no {name}"))
    };
    let data = |name: &str| -> Outcome<String> { Ok(String::from_utf8(STANDARD.decode(field(name)?)?)?) };
    let (host, port) = field("server")?.trim_start_matches("https://").rsplit_once(':').ok_or("no port")?;
    let peer = Peer {
        host: host.to_owned(),
        port: port.parse()?,
        authority: data("certificate-authority-data")?,
        identity: Some((data("client-certificate-data")?, data("client-key-data")?)),
    };
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body)?;
    let answer = peer.ask(Ask { method, path, headers: Vec::new(), body })?;
    std::io::stdout().write_all(&answer)?;
    Ok(())
}

/// Whom the CA is fetched from, before there is one to judge by.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

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
