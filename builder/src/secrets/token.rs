//! Full join tokens of k3s: `K10<hash of the server's CA>::<user>:<secret>`.

use super::Error;
use super::authority::bundle_hash;
use super::secret::Secret;
use zeroize::Zeroizing;

/// Who joins with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Servers, and agents where there is no agent token.
    Server,
    /// Agents.
    Node,
}

impl User {
    fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Node => "node",
        }
    }
}

/// The full token of a secret part, pinned to the CA in `bundle`, the PEM that `/cacerts` will serve.
pub fn full(bundle: &str, user: User, secret: &Secret) -> Result<Secret, Error> {
    let hash = bundle_hash(bundle, "server-ca")?;
    Ok(Secret::new(Zeroizing::new(format!("K10{hash}::{}:{}", user.as_str(), secret.expose()))))
}

/// True when k3s would take `secret` for a bootstrap token (`[a-z0-9]{6}\.[a-z0-9]{16}`), which expires.
pub fn is_bootstrap_token(secret: &str) -> bool {
    let small = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    secret.split_once('.').is_some_and(|(id, rest)| small(id, 6) && small(rest, 16))
}

#[cfg(test)]
mod tests {
    use super::is_bootstrap_token;

    #[test]
    fn the_shape_of_a_bootstrap_token() {
        assert!(is_bootstrap_token("abcdef.0123456789abcdef"));
        for other in
            ["abcdef.0123456789abcde", "Abcdef.0123456789abcdef", "abcdef0123456789abcdef0", "a.b", ""]
        {
            assert!(!is_bootstrap_token(other), "{other}");
        }
    }
}
