//! To be written.

pub mod depmod;
pub mod ldso;

#[cfg(test)]
mod oracle;
