//! Why a name cannot be looked up, and what to do about it.

use thiserror::Error;

/// Why a name cannot be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LookupProblem {
    /// The name does not exist.
    #[error("there is no such name")]
    NoSuchName,
    /// It has no records of the kind that was asked for.
    #[error("the name has no such records")]
    NoRecords,
    /// Its records say that nobody offers the service.
    #[error("the records of the service name no server")]
    NotOffered,
    /// What was asked for is no name.
    #[error("this cannot be a name")]
    Malformed,
    /// The system's configuration names no DNS server, or cannot be read.
    #[error("no DNS server is configured")]
    NoServers,
    /// Nobody answered in time.
    #[error("no DNS server answers")]
    NoAnswer,
    /// A DNS server answered that it will not say.
    #[error("the DNS server refuses to answer")]
    Refused,
    /// A DNS server answered that it cannot say.
    #[error("the DNS server reports a failure")]
    ServerFailure,
    /// The answer is not understood.
    #[error("the answer of the DNS server cannot be understood")]
    BadAnswer,
}

impl LookupProblem {
    /// What an operator can do.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoSuchName => "correct the name, or add it to the zone",
            Self::NoRecords => "add A or AAAA records for a host, SRV records for a service",
            Self::NotOffered => "let its SRV records name hosts and ports",
            Self::Malformed => "correct the name",
            Self::NoServers => "name a DNS server in /etc/resolv.conf",
            Self::NoAnswer => {
                "see that the DNS servers in /etc/resolv.conf run and can be reached from here"
            }
            Self::Refused => "allow this machine to ask the DNS server",
            Self::ServerFailure => "see the DNS server's log",
            Self::BadAnswer => "see what `dig` says of the name",
        }
    }
}
