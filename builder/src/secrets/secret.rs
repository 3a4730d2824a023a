//! Text that must not be seen.

use std::fmt;
use zeroize::Zeroizing;

/// A secret text: erased from memory when dropped, and never shown by `Debug`. There is no `Display` and no
/// `Serialize`; [`expose`](Self::expose) is the one way to its content.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over; the caller keeps no copy.
    pub fn new(text: impl Into<Zeroizing<String>>) -> Self {
        Self(text.into())
    }
    /// The text itself. It goes into a seed or into the encrypted file, and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "Secret(..) Some(\n    Secret(..),\n)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
