//! What other people's programs say of the things made here.

use super::super::{Authority, Identities, Secret, Secrets, User, bundle_hash, full_token};
use super::{CLUSTER, place, written};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

/// The outside tool, or words on stderr that it is not here.
fn tool(name: &str) -> Option<Command> {
    let found = Command::new(name).arg("--version").stdin(Stdio::null()).output();
    if found.is_err() {
        eprintln!("SKIPPED: {name} is not installed, so it judges nothing");
        return None;
    }
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    Some(command)
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Judged by openssl: self-signed, P-256, CA, the uses of k3s, ten years; the service key is RSA.
#[test]
fn openssl_accepts_the_authorities() {
    let Some(_) = tool("openssl") else { return };
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::make(CLUSTER, "home").unwrap();
    let openssl = |args: &[&str]| output(tool("openssl").unwrap().args(args).current_dir(folder.path()));
    for authority in Authority::ALL {
        fs::write(folder.path().join("ca.crt"), secrets.certificate(authority).unwrap()).unwrap();
        let key = secrets.authority_key(authority).unwrap().expose();
        assert!(key.starts_with("-----BEGIN EC PRIVATE KEY-----\n"));
        fs::write(folder.path().join("ca.key"), key).unwrap();
        assert_eq!(
            openssl(&["verify", "-x509_strict", "-check_ss_sig", "-CAfile", "ca.crt", "ca.crt"]),
            "ca.crt: OK\n"
        );
        let text = openssl(&["x509", "-in", "ca.crt", "-noout", "-text"]);
        let name = format!("Subject: CN = {}-ca@", authority.common_name());
        let wanted = [
            name.as_str(),
            "CA:TRUE",
            "Digital Signature, Key Encipherment, Certificate Sign",
            "ASN1 OID: prime256v1",
            "ecdsa-with-SHA256",
            "X509v3 Subject Key Identifier",
        ];
        for words in wanted {
            assert!(text.contains(words) || text.replace("CN=", "CN = ").contains(words), "{words}: {text}");
        }
        let years = |seconds: u64| {
            let mut command = tool("openssl").unwrap();
            command.args(["x509", "-in", "ca.crt", "-noout", "-checkend", &seconds.to_string()]);
            command.current_dir(folder.path()).output().unwrap().status.success()
        };
        assert!(years(3650 * 86400) && !years(3655 * 86400), "{text}");
        let public = openssl(&["x509", "-in", "ca.crt", "-noout", "-pubkey"]);
        assert_eq!(openssl(&["pkey", "-in", "ca.key", "-pubout"]), public, "the key is another's");
    }
    fs::write(folder.path().join("service.key"), secrets.service_key().expose()).unwrap();
    let key = openssl(&["rsa", "-in", "service.key", "-check", "-noout", "-text"]);
    assert!(key.contains("RSA key ok") && key.contains("2048 bit"), "{}", &key[..100]);
    let listed = secrets.list().unwrap();
    let public =
        openssl(&["pkey", "-in", "service.key", "-pubout", "-outform", "DER", "-out", "service.der"]);
    assert_eq!(public, "");
    let print = openssl(&["dgst", "-sha256", "-r", "service.der"]);
    let item = listed.iter().find(|item| item.name == "service.key").unwrap();
    assert_eq!(print.split(' ').next(), item.fingerprint.as_deref());
}

/// The hash in a token, computed by sha256sum and openssl: of the file for one certificate, of the root's DER for
/// a chain.
#[test]
fn tokens_carry_the_hash_that_k3s_computes() {
    let (Some(_), Some(mut sha256sum)) = (tool("openssl"), tool("sha256sum")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let secrets = Secrets::make(CLUSTER, "home").unwrap();
    fs::write(folder.path().join("server-ca.crt"), secrets.certificate(Authority::Server).unwrap()).unwrap();
    let sum = output(sha256sum.arg("server-ca.crt").current_dir(folder.path()));
    let token = secrets.server_token().unwrap();
    assert_eq!(token.expose()[3..67], sum[..64]);

    let openssl =
        |args: &str| output(tool("openssl").unwrap().args(args.split(' ')).current_dir(folder.path()));
    fs::write(folder.path().join("ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    for (name, issuer) in [("root", None), ("middle", Some("root")), ("leaf", Some("middle"))] {
        openssl(&format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
        openssl(&format!("req -new -nodes -subj /CN={name} -key {name}.key -out {name}.csr"));
        let by = issuer.map_or_else(
            || format!("-signkey {name}.key"),
            |issuer| format!("-CA {issuer}.crt -CAkey {issuer}.key -CAcreateserial"),
        );
        openssl(&format!("x509 -req -days 9 -extfile ext -in {name}.csr {by} -out {name}.crt"));
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let bundle = ["leaf.crt", "middle.crt", "root.crt"].map(read).concat();
    let print = openssl("x509 -in root.crt -noout -fingerprint -sha256");
    let print = print.trim().split_once('=').unwrap().1.replace(':', "").to_ascii_lowercase();
    let token = full_token(&bundle, User::Node, &Secret::new("secret".to_owned())).unwrap();
    assert_eq!(token.expose(), format!("K10{print}::node:secret"));
    let rootless = ["leaf.crt", "middle.crt"].map(read).concat();
    fs::write(folder.path().join("rootless"), &rootless).unwrap();
    let sum = output(tool("sha256sum").unwrap().arg("rootless").current_dir(folder.path()));
    assert_eq!(bundle_hash(&rootless, "").unwrap().to_string(), sum[..64]);
    assert!(bundle_hash("", "server-ca").is_err());
    assert!(bundle_hash(&bundle[..100], "server-ca").is_err());
}

/// Judged by ssh-keygen: the private key is whole, and its public half is the line that is kept.
#[test]
fn ssh_keygen_accepts_the_host_keys() {
    if Command::new("ssh-keygen").arg("-?").output().is_err() {
        eprintln!("SKIPPED: ssh-keygen is not installed, so it judges nothing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut secrets = Secrets::make(CLUSTER, "home").unwrap();
    secrets.add_nodes(["k3s1"]).unwrap();
    let node = secrets.node("k3s1").unwrap();
    let path = folder.path().join("key");
    fs::write(&path, node.ssh_host_key().expose()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let public = output(Command::new("ssh-keygen").args(["-y", "-f"]).arg(&path).stdin(Stdio::null()));
    assert_eq!(public.trim(), node.ssh_host_key_public());
    let print = output(Command::new("ssh-keygen").args(["-l", "-f"]).arg(&path).stdin(Stdio::null()));
    let item = secrets.list().unwrap().into_iter().find(|item| item.kind == "SSH host key").unwrap();
    assert_eq!(print.split(' ').nth(1), item.fingerprint.as_deref());
}

/// Judged by age: it opens our file, and we open what it wrote.
#[test]
fn the_age_tool_opens_the_file() {
    let Some(mut age) = tool("age") else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().as_os_str().to_owned();
    let (identities, key) =
        Identities::make_own(|name| (name == "XDG_CONFIG_HOME").then(|| config.clone())).unwrap();
    let place = place(folder.path());
    let secrets = written(&place, &identities);
    let text = output(age.arg("-d").arg("-i").arg(&key).arg(&place.file));
    assert!(text.contains("\"version\": 1") && text.contains("correct horse"));
    fs::write(folder.path().join("plain"), &text).unwrap();
    let recipient = &identities.recipients()[0];
    output(
        tool("age").unwrap().args(["-r", recipient, "-o"]).arg(&place.file).arg(folder.path().join("plain")),
    );
    assert!(Secrets::open(&place, &identities).unwrap() == secrets);
}
