//! Machines that boot: each test holds one set of promises of a node, from UEFI to its own report, or to the words
//! that help when it can't start. The machines run on what is proved to work on this host, or on translation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod buses;
mod cable;
mod clusters;
mod crypt;
mod cuts;
mod damage;
mod data;
mod direct;
mod disks;
mod early;
mod ext4;
mod foreign;
mod handoff;
mod healthy;
mod identity;
mod iscsi;
mod join;
mod nodes;
mod own;
mod real;
mod seed;
mod ssh;
mod stock;
mod user;
mod verb;
mod words;
