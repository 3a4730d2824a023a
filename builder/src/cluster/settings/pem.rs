//! Certificates in PEM (RFC 7468).

use x509_parser::pem::Pem;

const BEGIN: &str = "-----BEGIN ";
const CERTIFICATE: [&str; 2] = ["CERTIFICATE", "X509 CERTIFICATE"];
/// Nobody's chain is longer.
const MOST: usize = 64;

/// The blocks of `text`, each from its BEGIN line to its END line; why they are not all certificates, when they are not.
/// Text between blocks, as bundles have, is nobody's business.
pub(crate) fn certificates(text: &str) -> Result<Vec<String>, String> {
    if text.contains("PRIVATE KEY-----") {
        return Err("it is a private key, which everybody would read".to_owned());
    }
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let body = &rest[start..];
        let label = body[BEGIN.len()..].split("-----").next().unwrap_or_default();
        if !CERTIFICATE.contains(&label) {
            return Err("it has something other than certificates in it".to_owned());
        }
        let end = format!("-----END {label}-----");
        let Some(length) = body.find(&end) else { return Err(format!("it has no `{end}`")) };
        let block = &body[..length + end.len()];
        let number = blocks.len() + 1;
        if number > MOST {
            return Err(format!("it has more than {MOST} certificates"));
        }
        let lines: Vec<&str> = block.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let block = lines.join("\n");
        let parsed = Pem::iter_from_buffer(block.as_bytes()).next().and_then(Result::ok);
        let good = parsed.is_some_and(|pem| {
            x509_parser::parse_x509_certificate(&pem.contents).is_ok_and(|(rest, _)| rest.is_empty())
        });
        if !good {
            return Err(format!("what is between BEGIN and END of block {number} is no X.509 certificate"));
        }
        blocks.push(block);
        rest = &body[length + end.len()..];
    }
    if blocks.is_empty() { Err("it has no `-----BEGIN CERTIFICATE-----`".to_owned()) } else { Ok(blocks) }
}

#[cfg(test)]
mod tests {
    use super::certificates;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["kiln.test".to_owned()]).expect("made");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn only_certificates_are_taken() {
        let (one, key) = made();
        let (two, _) = made();
        let taken = certificates(&one).expect("one");
        assert_eq!(taken, [one.replace('\r', "").trim()]);
        assert_eq!(certificates(&format!("# mine\n{one}\n\nand\n{two}")).expect("two").len(), 2);
        let cut: String = one.lines().filter(|line| !line.starts_with("MII")).collect::<Vec<_>>().join("\n");
        let swapped = one.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        for bad in [
            "",
            &"x".repeat(300),
            &key,
            &format!("{one}{key}"),
            &cut,
            &swapped,
            &one[..one.len() - 30],
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert!(certificates(bad).is_err(), "{bad}");
        }
    }
}
