//! What is in the file, without a secret.

use super::authority::{self, Authority};
use super::{Error, Secrets};
use crate::digest::Sha256;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::EncodePublicKey as _;
use serde::Serialize;

/// One secret: what may be known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name, such as `server-ca`; a node's name for what belongs to a node.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// What it is compared by: `SHA256:` and base64 for SSH keys, else 64 hexadecimal digits of SHA-256. Nothing for
    /// what is only a secret.
    pub fingerprint: Option<String>,
    /// When it was made or set, RFC 3339.
    pub made: String,
}

impl Secrets {
    /// Everything in the file, in a steady order.
    pub fn list(&self) -> Result<Vec<Item>, Error> {
        let document = &self.document;
        let mut items = Vec::new();
        let item = |name: &str, kind, fingerprint, made: &str| Item {
            name: name.to_owned(),
            kind,
            fingerprint,
            made: made.to_owned(),
        };
        for authority in Authority::ALL {
            let certified = self.certified(authority)?;
            let print = authority::fingerprint(&certified.certificate, authority.name())?.to_string();
            items.push(item(authority.name(), "certificate authority", Some(print), &certified.made));
        }
        let account = &document.service_account;
        items.push(item("service.key", "service-account key", Some(self.public_key()?), &account.made));
        for name in ["server", "agent"] {
            items.push(item(name, "token", None, &document.tokens.made));
        }
        for (name, node) in &document.nodes {
            items.push(item(name, "node password", None, &node.password.made));
            let print = self.host_key_print(name)?;
            items.push(item(name, "SSH host key", Some(print), &node.ssh_host_key.made));
        }
        for (name, value) in &document.values {
            items.push(item(name, "value", None, &value.made));
        }
        Ok(items)
    }

    fn public_key(&self) -> Result<String, Error> {
        let key = self.document.service_account.key.0.expose();
        let wrong = |reason: String| Error::Certificate { what: "service.key".to_owned(), reason };
        let key = rsa::RsaPrivateKey::from_pkcs1_pem(key).map_err(|reason| wrong(reason.to_string()))?;
        let der = key.to_public_key().to_public_key_der().map_err(|reason| wrong(reason.to_string()))?;
        Ok(Sha256::of(der.as_bytes()).to_string())
    }

    fn host_key_print(&self, node: &str) -> Result<String, Error> {
        let key = self.node(node)?.ssh_host_key_public();
        let key = ssh_key::PublicKey::from_openssh(key).map_err(|reason| Error::Certificate {
            what: format!("SSH host key of {node}"),
            reason: reason.to_string(),
        })?;
        Ok(key.fingerprint(ssh_key::HashAlg::Sha256).to_string())
    }
}
