//! To be written.

pub mod depmod;

#[cfg(test)]
mod oracle;
