//! Whose certificates are believed, against a server with a certificate of an authority that nobody knows.

use crate::verbs::site;
use kiln_tests::{kiln, said};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const STRANGE: &str = "its certificate is by an authority that this machine does not trust: add the authority to the machine's \
                       (update-ca-certificates), or name its file in SSL_CERT_FILE";
const REACHED: &str = "it has no such file (HTTP 410)";

fn authority() -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of one's own");
    (params, KeyPair::generate().unwrap())
}

/// Answers every request alike, and gives the port and the authority's certificate.
fn server() -> (u16, String) {
    let (params, key) = authority();
    let certificate = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der())),
        )
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, certificate)
}

/// What comes of asking `port` first for the release file.
fn asked(folder: &Path, port: u16, variable: Option<(&str, &Path)>) -> String {
    let mut command = kiln();
    command.args(["lock", "--check", "-v"]).current_dir(folder).env_remove("SSL_CERT_FILE");
    command.env("KILN_MIRROR", format!("https://127.0.0.1:{port}/debian"));
    command.envs(variable);
    let text = said(&command.output().unwrap());
    let line = text
        .lines()
        .find(|line| line.contains(&format!("https://127.0.0.1:{port}/debian/dists/trixie/InRelease")));
    line.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn an_authority_of_ones_own_is_believed_where_it_is_named() {
    let folder = site("trust");
    let ((port, own), (_, other)) = (server(), server());
    let (file, strange, certificates) =
        (folder.join("own.pem"), folder.join("other.pem"), folder.join("certificates"));
    fs::write(&file, format!("# ours\n{own}")).unwrap();
    fs::write(&strange, other).unwrap();
    fs::create_dir(&certificates).unwrap();
    fs::write(certificates.join("README"), "no certificate").unwrap();
    fs::write(certificates.join("0a1b2c3d.0"), &own).unwrap();
    for (variable, words) in [
        (None, STRANGE),
        (Some(("SSL_CERT_FILE", &*file)), REACHED),
        (Some(("SSL_CERT_DIR", &*certificates)), REACHED),
        (Some(("SSL_CERT_FILE", &*strange)), STRANGE),
        // What is named and holds none is not a reason to believe others.
        (Some(("SSL_CERT_FILE", &*certificates.join("README"))), STRANGE),
    ] {
        let line = asked(&folder, port, variable);
        assert!(line.contains(words), "{variable:?}: {line}");
    }
    fs::remove_dir_all(folder).unwrap();
}
