//! A TLS-only connector for Choria and MCollective fleets: servers found through DNS, Puppet's certificates.
//!
//! Nothing is here yet. The room exists so that the walls around it do: it will use the public API of the
//! other crates only, and know nothing of a server's inside.
#![forbid(unsafe_code)]
