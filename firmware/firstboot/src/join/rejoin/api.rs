//! The Kubernetes API of another server, by a certificate that was made for this and lives for minutes.

use super::credential;
use crate::join::tls::{self, Answer, Client, Dial, Question};
use crate::join::words::{Cause, Trouble};
use crate::join::{Around, server};
use kiln_contract::join::Join;
use rustls::AlertDescription;
use serde_json::Value;

/// Objects asked for at once, of as many pages at most.
const PAGE: usize = 50;
const PAGES: usize = 200;

/// The API.
pub(super) struct Api {
    client: Client,
    pub(super) dial: Dial,
    join: Join,
    /// What time it is by the server's clock: seconds since 1970.
    pub(super) now: u64,
}

impl Api {
    /// Makes a certificate by the server's clock, and shows it to that server alone.
    pub(super) fn connect(around: &Around, join: &Join, dial: Dial) -> Result<Self, Trouble> {
        let failed = |error: &tls::Error| server::failed(&dial, join, error);
        let now = tls::time_of(&dial, &join.ca.pem).map_err(|error| failed(&error))?;
        let now = now.ok_or_else(|| Trouble::new(Cause::ApiSilent, "it does not say what time it is"))?;
        let identity = credential::administrator(around, &join.node, now)?;
        let client = Client::new(&dial, &join.ca.pem, Some(&identity), around.clock);
        let client = client.map_err(|error| failed(&error))?;
        Ok(Self { client, dial, join: join.clone(), now })
    }

    fn ask(&self, question: Question<'_>) -> Result<Answer, Trouble> {
        let path = question.path.to_owned();
        let answer = self.client.ask(question).map_err(|error| match error.tls() {
            Some(rustls::Error::AlertReceived(alert)) if is_refusal(*alert) => {
                Trouble::new(Cause::RejoinRefused, format!("TLS ended with {alert:?}"))
            }
            _ => server::failed(&self.dial, &self.join, &error),
        })?;
        match answer.status {
            200 | 201 | 404 | 409 => Ok(answer),
            401 | 403 => {
                Err(Trouble::new(Cause::RejoinRefused, format!("it answered {} to {path}", answer.status)))
            }
            status => Err(Trouble::new(Cause::ApiSilent, format!("it answered {status} to {path}"))),
        }
    }

    /// An object; nothing where there is none.
    pub(super) fn get(&self, path: &str) -> Result<Option<Value>, Trouble> {
        let answer = self.ask(Question { method: "GET", path, ..Question::default() })?;
        if answer.status == 404 { Ok(None) } else { parsed(&answer).map(Some) }
    }

    /// All objects of a collection.
    pub(super) fn list(&self, collection: &str) -> Result<Vec<Value>, Trouble> {
        let mut all = Vec::new();
        let mut next = String::new();
        for _ in 0..PAGES {
            let path = format!("{collection}?limit={PAGE}{next}");
            let mut page = self.get(&path)?.unwrap_or_default();
            if let Value::Array(items) = page["items"].take() {
                all.extend(items);
            }
            match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
                // What the API gives as a token needs no escapes but that (Base64).
                Some(token) => next = format!("&continue={}", token.replace('+', "%2B").replace('=', "%3D")),
                None => return Ok(all),
            }
        }
        Err(Trouble::new(Cause::ApiSilent, format!("{collection} has no end")))
    }

    /// POST, PUT, or a merge patch. False when it is there already, or somebody has changed it since it was read.
    pub(super) fn write(&self, (method, path): (&str, &str), body: &Value) -> Result<bool, Trouble> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let headers = vec![("Content-Type", kind.to_owned())];
        let answer = self.ask(Question { method, path, headers, body: body.to_string().into_bytes() })?;
        match answer.status {
            409 => Ok(false),
            404 => Err(Trouble::new(Cause::ApiSilent, format!("it answered 404 to {path}"))),
            _ => Ok(true),
        }
    }
}

/// Alerts that mean the certificate (RFC 8446, section 6.2).
fn is_refusal(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied
    )
}

fn parsed(answer: &Answer) -> Result<Value, Trouble> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Trouble::new(Cause::ApiSilent, format!("it sent no JSON: {error}")))
}
