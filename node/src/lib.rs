//! The node as a library; `main.rs` is the program `lotline`.
//!
//! Core, in reading order: [`feeds`] (THE JOURNEY), [`exchange`] (the protocol without sockets), [`ledger`].
//! Edges: [`store`] (journal and sled), [`net`] (libp2p), [`import`], [`keys`], [`config`], [`platform`].
#![deny(unsafe_code)]

pub mod config;
pub mod exchange;
pub mod feeds;
pub mod keys;
pub mod ledger;
pub mod net;
pub mod platform;
pub mod store;
