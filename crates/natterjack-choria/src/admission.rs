//! Which requests a node takes: the only way from bytes to a [`Request`] that may be acted upon.
//!
//! In this order, so that as little as possible is done for strangers: the certificate that came along is one of the
//! authorities'; it signed exactly these bytes; only then they are parsed, and whether the certificate may ask in this
//! caller's name, when that was, where the answer goes and whether it was there before are looked at.

mod taken;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::identity::{CallerId, Identity};
use crate::keeping::Keeping;
use crate::pattern::NamePatterns;
use crate::pins::{PinError, Pins, Sight};
use crate::revocation::RevocationProblem;
use crate::subject::Collectives;
use crate::trust::{Authorities, CertificateNames, TrustError};
use crate::wire::{FormatError, Headers, Request, SecureRequest, SignatureError};
use taken::{Addition, Taken};

/// No request is good for longer, whatever it says itself.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a request is dropped. Whoever sent it hears nothing; it is for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not what it should be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It is not proven.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The certificate is not trusted.
    #[error("the certificate of {certname} is not trusted: {reason}")]
    Untrusted {
        /// Whom it names.
        certname: String,
        /// Why.
        reason: TrustError,
    },
    /// By lists of what was revoked it is not trusted, or nobody can tell.
    #[error("the certificate of {certname} is not trusted: {problem}")]
    Revocation {
        /// Whom it names.
        certname: String,
        /// Why, and what to do.
        problem: RevocationProblem,
    },
    /// The certificate is good, but not for requests.
    #[error("{certname} may not ask: it is not among plugin.choria.security.certname_whitelist")]
    NotAllowed {
        /// Whom it names.
        certname: String,
    },
    /// The certificate is somebody else's.
    #[error("{caller} did not sign: the certificate is that of {certname}")]
    Impostor {
        /// Who is said to ask.
        caller: CallerId,
        /// Who signed.
        certname: String,
    },
    /// Certificates prove callers of one kind.
    #[error("{caller} cannot be proven: callers with certificates are called choria=…")]
    CallerKind {
        /// Who is said to ask.
        caller: CallerId,
    },
    /// Another certificate was seen before.
    #[error(transparent)]
    Pinned(#[from] PinError),
    /// It is too old, or from the future.
    #[error(
        "request {id} of {caller} is out of date: made {}, and good for {} s; are the clocks right?",
        beside(*time, *now),
        lifetime.as_secs()
    )]
    OutOfDate {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
        /// When it was made.
        time: SystemTime,
        /// For how long it is good.
        lifetime: Duration,
        /// When it came.
        now: SystemTime,
    },
    /// It wants to be good for longer than any may be.
    #[error(
        "request {id} of {caller} has a ttl of {} s, and {} s are the most that is taken",
        lifetime.as_secs(),
        LIFETIME_MAX.as_secs()
    )]
    LivesTooLong {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
        /// For how long it says it is good.
        lifetime: Duration,
    },
    /// It was there before.
    #[error("request {id} of {caller} was taken before")]
    Repeated {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
    },
    /// It may have been there before this node started, which does not know what it took then.
    #[error(
        "request {id} of {caller} was made before this node started, and may have been taken then; are the clocks right?"
    )]
    BeforeStart {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
    },
    /// So many of the same signer are remembered that there is no room for more.
    #[error(
        "request {id} of {caller} is dropped: {count} that {certname} signed are remembered until their ttl is over, and there \
         is no room for more of them"
    )]
    TooMany {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
        /// Who signed.
        certname: String,
        /// How many there are.
        count: usize,
    },
    /// There is nowhere to answer to.
    #[error("request {id} of {caller} has no reply-to header")]
    NoReplySubject {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
    },
    /// The answer would go to somebody else.
    #[error("request {id} of {caller} asks for answers to {subject:?}, which is not the caller's")]
    ForeignReplySubject {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
        /// Where.
        subject: String,
    },
    /// It is for a collective that this node is not in.
    #[error("request {id} of {caller} is for the collective {collective:?}")]
    OtherCollective {
        /// The request.
        id: String,
        /// Who asks.
        caller: CallerId,
        /// Which one.
        collective: String,
    },
}

/// What a node goes by.
#[derive(Debug)]
pub struct Admission {
    authorities: Authorities,
    allowed: NamePatterns,
    privileged: NamePatterns,
    collectives: Collectives,
    pins: Option<Pins>,
    taken: Mutex<Taken>,
    /// From when on requests must have been made.
    begin: Option<SystemTime>,
}

/// A request that may be acted upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The request.
    pub request: Request,
    /// Whose certificate signed it: the caller's own, or one that may ask for others.
    pub signed_by: String,
    /// Where the answer goes.
    pub reply_to: String,
}

impl Admission {
    /// Goes by these; with `pins`, the first certificate seen of a caller is the only one until its end.
    #[must_use]
    pub fn new(
        authorities: Authorities,
        allowed: NamePatterns,
        privileged: NamePatterns,
        collectives: Collectives,
        pins: Option<Pins>,
    ) -> Self {
        Self {
            authorities,
            allowed,
            privileged,
            collectives,
            pins,
            taken: Mutex::default(),
            begin: None,
        }
    }

    /// The same, but it knows what a node of this name has taken before it was started, and will be again: it is kept in a
    /// folder, beside the certificates of callers. Where there is none, or nothing was kept in it so far, or can be, requests
    /// from before `now` are refused instead, since nobody knows whether they were taken.
    #[must_use]
    pub fn since(mut self, ssldir: Option<&Path>, node: &Identity, now: SystemTime) -> Self {
        let keeping = ssldir.map(|ssldir| Keeping::new(ssldir, "taken"));
        match keeping.map(|keeping| (Taken::kept_in(keeping.clone(), node, now), keeping)) {
            Some((Ok((taken, is_known)), _)) => {
                self.taken = Mutex::new(taken);
                self.begin = (!is_known).then_some(now);
            }
            Some((Err(error), keeping)) => {
                tracing::warn!(
                    folder = %keeping.path("").display(), %error,
                    "cannot keep which requests were taken; those from before this start are refused"
                );
                self.begin = Some(now);
            }
            None => self.begin = Some(now),
        }
        self
    }

    /// Takes a request, or not. `content` and `headers` are those of a [`crate::wire::Transport`].
    ///
    /// # Errors
    /// Why not.
    pub fn admit(
        &self,
        content: &[u8],
        headers: &Headers,
        now: SystemTime,
    ) -> Result<Admitted, Refusal> {
        let secure = SecureRequest::from_bytes(content)?;
        let chain = secure.certificates()?;
        let names = CertificateNames::of(&chain[0]).map_err(|_| SignatureError::Certificate)?;
        let vouched = self.authorities.vouch_for(&chain, now);
        vouched.map_err(|reason| {
            let certname = names.shown().unwrap_or("(no name)").to_owned();
            match self.authorities.explain(reason) {
                Ok(problem) => Refusal::Revocation { certname, problem },
                Err(reason) => Refusal::Untrusted { certname, reason },
            }
        })?;
        let request = Request::from_proven(secure.prove(&chain[0])?)?;
        let (id, caller) = (&request.id, &request.caller);
        if caller.kind() != CallerId::KIND_OF_CERTIFICATES {
            return Err(Refusal::CallerKind {
                caller: caller.clone(),
            });
        }
        let signed_by = self.signed_by(&names, caller)?;
        if request.lifetime > LIFETIME_MAX {
            return Err(Refusal::LivesTooLong {
                id: id.clone(),
                caller: caller.clone(),
                lifetime: request.lifetime,
            });
        }
        if request.is_out_of_date(now) {
            return Err(Refusal::OutOfDate {
                id: id.clone(),
                caller: caller.clone(),
                time: request.time,
                lifetime: request.lifetime,
                now,
            });
        }
        if self
            .begin
            .is_some_and(|begin| is_before(request.time, begin))
        {
            return Err(Refusal::BeforeStart {
                id: id.clone(),
                caller: caller.clone(),
            });
        }
        if !self.collectives.names().contains(&request.collective) {
            return Err(Refusal::OtherCollective {
                id: id.clone(),
                caller: caller.clone(),
                collective: request.collective.clone(),
            });
        }
        let reply_to = self.reply_to(&request, headers)?;
        if let Some(pins) = &self.pins {
            let sight = Sight {
                sender: request.sender.as_str(),
                request_id: id,
                time: now,
            };
            pins.hold(&signed_by, &chain, &sight, |pinned| {
                // Not by what came with this one, which would then be who says so.
                let vouched = self.authorities.vouch_for(pinned, now);
                vouched.is_err_and(|reason| reason.is_final())
            })?;
        }
        match self.remember(&request, &signed_by, now) {
            Addition::First => {}
            Addition::Repeated => {
                return Err(Refusal::Repeated {
                    id: id.clone(),
                    caller: caller.clone(),
                });
            }
            Addition::TooMany(count) => {
                return Err(Refusal::TooMany {
                    id: id.clone(),
                    caller: caller.clone(),
                    certname: signed_by,
                    count,
                });
            }
        }
        Ok(Admitted {
            reply_to,
            signed_by,
            request,
        })
    }

    /// Whose certificate it is, if that one may ask for this caller.
    fn signed_by(&self, names: &CertificateNames, caller: &CallerId) -> Result<String, Refusal> {
        let certname = names.shown().unwrap_or("(no name)").to_owned();
        // The name becomes that of a file.
        let is_name = crate::identity::check(&certname).is_ok();
        if is_name && is_exactly(names, &certname) && self.privileged.fits(&certname) {
            return Ok(certname);
        }
        if !is_exactly(names, caller.certname()) {
            return Err(Refusal::Impostor {
                caller: caller.clone(),
                certname,
            });
        }
        if !self.allowed.fits(caller.certname()) {
            return Err(Refusal::NotAllowed {
                certname: caller.certname().to_owned(),
            });
        }
        Ok(caller.certname().to_owned())
    }

    /// Through a federation an answer goes back to the federation's broker, which takes it to the caller.
    fn reply_to(&self, request: &Request, headers: &Headers) -> Result<String, Refusal> {
        let no_subject = || Refusal::NoReplySubject {
            id: request.id.clone(),
            caller: request.caller.clone(),
        };
        let subject = headers.reply_to.as_ref().ok_or_else(no_subject)?;
        let federation = headers.federation.as_ref();
        let at_caller = match federation.and_then(|federation| federation.reply_to.as_ref()) {
            Some(at_caller) if crate::subject::is_federation_reply(subject) => at_caller,
            Some(_) | None => subject,
        };
        if self.collectives.is_reply_to(at_caller, &request.caller) {
            return Ok(subject.clone());
        }
        Err(Refusal::ForeignReplySubject {
            id: request.id.clone(),
            caller: request.caller.clone(),
            subject: at_caller.clone(),
        })
    }

    fn remember(&self, request: &Request, signer: &str, now: SystemTime) -> Addition {
        let mut taken = self
            .taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // After that it is out of date by itself.
        let until = request.time + request.lifetime;
        taken.add(signer, request.caller.as_str(), &request.id, until, now)
    }
}

/// How far from now, for people.
fn beside(time: SystemTime, now: SystemTime) -> String {
    match now.duration_since(time) {
        Ok(since) => format!("{} s ago", since.as_secs()),
        Err(ahead) => format!("{} s from now", ahead.duration().as_secs()),
    }
}

/// Whether a request was made before the second in which this began: requests say no more than seconds.
fn is_before(time: SystemTime, begin: SystemTime) -> bool {
    let seconds = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    seconds(time) < seconds(begin)
}

/// Whether it is this one's certificate, letter by letter. Hosts may be written in any case; a caller who could be would be
/// several to whatever keeps apart who asks: pinned certificates, lists of who may do what, subjects of replies.
fn is_exactly(names: &CertificateNames, name: &str) -> bool {
    let own = if names.has_alternatives {
        names.alternatives.iter().any(|own| own == name)
    } else {
        names.common_name.as_deref() == Some(name)
    };
    own && names.prove(name)
}

#[cfg(test)]
mod tests;
