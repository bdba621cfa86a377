//! The node as a library; `main.rs` is the program `lotline`.
//!
//! Core, in reading order: [`feeds`] (THE JOURNEY), [`exchange`] (the protocol without sockets), [`ledger`].
//! Edges: [`store`] (journal and sled), [`net`] (libp2p), [`import`], [`keys`], [`config`], [`platform`].
#![deny(unsafe_code)]

pub mod answer;
pub mod api;
pub mod bench;
pub mod capture;
pub mod carry;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod desk;
pub mod evidence;
pub mod exchange;
pub mod feeds;
pub mod import;
pub mod invitation;
pub mod keys;
pub mod ledger;
pub mod links;
pub mod metrics;
pub mod net;
pub mod pairing;
pub mod platform;
pub mod relaying;
pub mod retention;
pub mod service;
pub mod store;
