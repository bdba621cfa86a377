//! Whole-node tests. Test support lives here: [`world`] founds firms, runs the real program and waits for what it says.
#![allow(clippy::unwrap_used, reason = "test support: what cannot be set up ends the test")]

pub mod canaries;
pub mod clock;
pub mod forge;
#[cfg(target_os = "linux")]
pub mod lab;
pub mod load;
pub mod sim;
pub mod web;
pub mod world;
