//! What the crate shows from outside: what is written reads the same, and what real servers wrote does too.

mod clients;
mod recorded;
mod routes;
mod stream;
