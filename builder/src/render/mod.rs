//! Templates to documents: the cloud-init seed of a node and the file of `kiln init`. Pure.

/// Placeholder.
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
/// The file that `kiln init` writes.
pub fn starter(_user: &str, _keys: &[String]) -> Result<String, Error> {
    Ok(String::new())
}
