//! To be written.

pub mod catalog;
pub mod certs;
pub mod depmod;
pub mod ldso;

#[cfg(test)]
mod oracle;
