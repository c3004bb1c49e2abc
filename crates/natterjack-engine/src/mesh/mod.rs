//! The servers of a cluster: what they know of each other, and what they tell each other.
//!
//! Every server has a connection to every other one, and a message takes one hop. An account has an index of what
//! its own subscribers want and one of what peers want ([`remote`]); peers are told of changes in the first
//! ([`interest`]) and tell of theirs, which the session of their connection puts into the second.

pub(crate) mod interest;
pub(crate) mod link;
pub(crate) mod remote;
