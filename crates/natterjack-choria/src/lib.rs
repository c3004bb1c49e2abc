//! A TLS-only connector for Choria and MCollective fleets: servers found through DNS, Puppet's certificates, almost
//! nothing to configure.
//!
//! [`configuration`] is what files and the environment say, [`ssl`] the keys and certificates that follow from it, [`trust`]
//! who vouches for others, [`finding`] which servers to talk to. [`identity`] says who somebody is, [`subject`] where
//! messages go, [`wire`] what they look like, and [`filter`] whom they are for.
//!
//! A [`node`] answers requests, a [`client`] makes them.
#![forbid(unsafe_code)]

pub mod admission;
pub mod client;
mod complaints;
pub mod configuration;
pub mod connector;
pub mod enrolment;
pub mod facter;
pub mod federation;
mod files;
pub mod filter;
pub mod finding;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
pub mod identity;
mod keeping;
pub mod node;
pub mod pattern;
mod pem;
pub mod pins;
pub mod revocation;
pub mod rpc;
pub mod server;
pub mod ssl;
pub mod subject;
#[cfg(test)]
mod test_log;
pub mod trust;
pub mod wire;
