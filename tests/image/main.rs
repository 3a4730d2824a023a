//! The built images, judged by other people's tools, and the build as a command.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod artefacts;
mod formats;
mod hostile;
mod opened;
mod power;
mod private;
mod programs;
mod reproducible;
mod tree;
mod trust;
mod verbs;
