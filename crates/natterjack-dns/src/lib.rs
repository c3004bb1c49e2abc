//! What names stand for: addresses of hosts, hosts of services.
//!
//! [`Resolver`] asks, [`ServiceRecord`] is what it finds of services, and [`in_order`] in which order to try them. Knows
//! nothing of clusters and fleets, so that whoever has to find servers by name can use it.
#![forbid(unsafe_code)]

mod problem;
mod resolver;
mod service;

pub use self::problem::LookupProblem;
pub use self::resolver::{Answer, Resolver};
pub use self::service::{BadServiceName, ServiceRecord, check_name, in_order, looks_like_service};
