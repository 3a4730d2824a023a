//! Proxies. Plain http goes through one in absolute form (RFC 9112 §3.2.2), as apt, curl and wget do it: caches for packages
//! and careful proxies refuse CONNECT to any port but 443.

pub(super) mod apt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Agent, Error, Proxy, ProxyProtocol};

/// Connects as ureq does, but to an http proxy itself where plain http is asked for.
#[derive(Debug)]
pub(super) struct Proxied {
    inner: DefaultConnector,
    /// Settings without a proxy: those of the connection to it.
    direct: Config,
}

impl Default for Proxied {
    fn default() -> Self {
        Self { inner: DefaultConnector::default(), direct: Agent::config_builder().proxy(None).build() }
    }
}

impl Connector<()> for Proxied {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let proxy = details.config.proxy().filter(|proxy| {
            proxy.protocol() == ProxyProtocol::Http && !details.needs_tls() && !proxy.is_no_proxy(details.uri)
        });
        let Some(proxy) = proxy else { return self.inner.connect(details, chained) };
        let addrs = details.resolver.resolve(proxy.uri(), &self.direct, details.timeout)?;
        let to_proxy = ConnectionDetails {
            uri: proxy.uri(),
            addrs,
            config: &self.direct,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let Some(inner) = self.inner.connect(&to_proxy, chained)? else { return Ok(None) };
        Ok(Some(Box::new(Absolute { inner, target: target(details.uri), credentials: credentials(proxy) })))
    }
}

/// `http://host:port` of an address, without credentials.
fn target(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("http://{host}")
}

/// The header line with the proxy's credentials (RFC 7617), when it has any.
fn credentials(proxy: &Proxy) -> String {
    if proxy.username().is_none() && proxy.password().is_none() {
        return String::new();
    }
    let pair = format!("{}:{}", proxy.username().unwrap_or_default(), proxy.password().unwrap_or_default());
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

/// A connection to a proxy, on which requests get the whole address in their first line.
struct Absolute {
    inner: Box<dyn Transport>,
    target: String,
    credentials: String,
}

/// Credentials are nobody's business.
impl std::fmt::Debug for Absolute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a connection to a proxy for {}", self.target)
    }
}

impl Absolute {
    /// What is sent in place of `bytes`, when a request begins with them. Kiln sends GET alone, and no body.
    fn rewritten(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let rest = bytes.strip_prefix(b"GET ").filter(|rest| rest.starts_with(b"/"))?;
        let line = rest.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let (line, headers) = rest.split_at(line);
        Some([b"GET ", self.target.as_bytes(), line, self.credentials.as_bytes(), headers].concat())
    }
}

impl Transport for Absolute {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }
    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let bytes = self.inner.buffers().output().get(..amount).unwrap_or_default().to_vec();
        let Some(bytes) = self.rewritten(&bytes) else { return self.inner.transmit_output(amount, timeout) };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let room = self.inner.buffers().output();
            let (now, later) = rest.split_at(rest.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            let amount = now.len();
            rest = later;
            self.inner.transmit_output(amount, timeout)?;
        }
        Ok(())
    }
    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }
    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

#[cfg(test)]
mod tests {
    use crate::fetch::http::{Client, Patience};
    use crate::fetch::mirrors::Location;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::process::Command;

    /// Answers as squid and apt-cacher-ng do: GET of a whole address, and no CONNECT. Gives what it was asked.
    fn proxy() -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = std::thread::spawn(move || {
            let mut asked = Vec::new();
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            // Two requests on one connection.
            for body in ["one", "two"] {
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    lines.push(line.trim().to_owned());
                }
                asked.push(lines.join("\n"));
                let get = lines.first().is_some_and(|line| line.starts_with("GET http://"));
                let (status, body) = if get { ("200 OK", body) } else { ("403 Forbidden", "") };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
            asked
        });
        (address, asked)
    }

    /// Run by the test below, which sets the environment.
    #[test]
    #[ignore = "the child of another test"]
    fn child() {
        let client = Client::new(Patience::default());
        for path in ["/debian/dists/trixie/InRelease?x=1", "/b"] {
            let answer = client.get(&Location::Http(format!("http://mirror.invalid:8080{path}")), 0);
            let mut text = String::new();
            answer.map_err(|fault| fault.text().to_owned()).unwrap().bytes.read_to_string(&mut text).unwrap();
            println!("body {text}");
        }
    }

    #[test]
    fn plain_http_is_asked_for_in_absolute_form() {
        let (address, asked) = proxy();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["fetch::proxy::tests::child", "--exact", "--ignored", "--nocapture"])
            .env("http_proxy", format!("http://me:secret@{address}"))
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .env_remove("ALL_PROXY")
            .env_remove("all_proxy")
            .env_remove("HTTP_PROXY")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("body one") && text.contains("body two"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let asked = asked.join().unwrap();
        assert!(
            asked[0]
                .starts_with("GET http://mirror.invalid:8080/debian/dists/trixie/InRelease?x=1 HTTP/1.1\n"),
            "{asked:?}"
        );
        assert!(asked[0].to_ascii_lowercase().contains("\nhost: mirror.invalid:8080"), "{asked:?}");
        assert!(
            asked.iter().all(|asked| asked.contains("Proxy-Authorization: Basic bWU6c2VjcmV0")),
            "{asked:?}"
        );
        assert!(asked[1].starts_with("GET http://mirror.invalid:8080/b HTTP/1.1\n"), "{asked:?}");
    }
}
