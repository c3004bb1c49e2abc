//! Nodes and clients over our own server, with TLS and certificates as Puppet makes them.
#![forbid(unsafe_code)]

mod support;

mod asking;
mod hostile;
mod independent;
mod mcollective;
mod working;
