//! What names stand for: addresses of hosts, hosts of services.
//!
//! Knows nothing of clusters, so that whoever else has to find servers by name can use it.

mod problem;
mod resolver;
mod service;

pub(crate) use self::problem::LookupProblem;
pub(crate) use self::resolver::{Answer, Resolver};
pub use self::service::BadServiceName;
pub(crate) use self::service::{ServiceRecord, check_name, in_order, looks_like_service};
