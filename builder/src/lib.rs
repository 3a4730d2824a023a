//! Kiln's builder: one cluster file in, a bootable disk image and a cloud-init seed for every node out.
//!
//! Modules import downwards only, and the workers (`fetch archive rootfs render boot image`) never import
//! one another; `tests/house` holds them to it. `docs/architecture.md` draws the rooms.

pub mod archive;
pub mod boot;
pub mod cache;
pub mod cli;
pub mod cluster;
pub mod diag;
pub mod digest;
pub mod execute;
pub mod fetch;
pub mod image;
pub mod lock;
pub mod plan;
pub mod render;
pub mod rootfs;
pub mod secrets;
pub mod verbs;
