//! The built images, judged by other people's tools, and the build as a command.

mod formats;
mod reproducible;
mod tree;
mod verbs;
