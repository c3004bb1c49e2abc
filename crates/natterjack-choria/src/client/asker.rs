//! Who asks: makes requests and signs them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::configuration::Configuration;
use crate::filter::Filter;
use crate::identity::{CallerId, Identity};
use crate::ssl::{Signer, Ssl};
use crate::wire::{KeyError, Request, SecureRequest, SigningKey, Wrapping};

/// Somebody with a certificate, on some machine.
#[derive(Debug)]
pub struct Asker {
    identity: Identity,
    caller: CallerId,
    signer: Signer,
    /// Where the signer comes from, if files of it may change.
    ssl: Option<Ssl>,
    lifetime: Duration,
}

/// What is asked, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// In which collective.
    pub collective: &'a str,
    /// Which agent.
    pub agent: &'a str,
    /// What it gets.
    pub body: &'a str,
    /// Which nodes are meant.
    pub filter: &'a Filter,
}

/// A request that can be sent, to as many nodes as need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// Its identifier, which answers bear.
    pub id: String,
    /// The secure request.
    pub content: Vec<u8>,
}

impl Asker {
    /// Takes names and a key. The lifetime is for how long requests are good; nodes of Choria want 30 seconds at least.
    #[must_use]
    pub fn new(
        identity: Identity,
        caller: CallerId,
        key: SigningKey,
        certificate_pem: &str,
        lifetime: Duration,
    ) -> Self {
        Self {
            identity,
            caller,
            signer: Signer {
                key: Arc::new(key),
                certificate_pem: crate::pem::certificates(certificate_pem.as_bytes()).into(),
            },
            ssl: None,
            lifetime,
        }
    }

    /// Whom a configuration and the files it names describe. Each request is signed with what the files said last.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn of(configuration: &Configuration, ssl: &Ssl) -> Result<Self, KeyError> {
        Ok(Self {
            identity: configuration.identity.clone(),
            caller: ssl.caller.clone(),
            signer: ssl.signer()?,
            ssl: Some(ssl.clone()),
            lifetime: configuration.request_lifetime,
        })
    }

    /// The caller id.
    #[must_use]
    pub const fn caller(&self) -> &CallerId {
        &self.caller
    }

    /// Signs a question. A millisecond.
    #[must_use]
    pub fn sign(&self, question: &Question<'_>, now: SystemTime) -> SignedRequest {
        self.sign_as(identifier(), question, now)
    }

    /// The same for a request that is one of several with this identifier. No node must get two of them.
    pub(super) fn sign_as(
        &self,
        id: String,
        question: &Question<'_>,
        now: SystemTime,
    ) -> SignedRequest {
        let request = Request {
            body: question.body.to_owned(),
            id,
            sender: self.identity.clone(),
            caller: self.caller.clone(),
            collective: question.collective.to_owned(),
            agent: question.agent.to_owned(),
            lifetime: self.lifetime,
            time: now,
            filter: question.filter.clone(),
        };
        let renewed = self.ssl.as_ref().and_then(|ssl| ssl.signer().ok());
        let signer = renewed.as_ref().unwrap_or(&self.signer);
        let secure = SecureRequest::sign(request.to_text(), &signer.key, &signer.certificate_pem);
        SignedRequest {
            id: request.id,
            content: secure.to_bytes(Wrapping::None),
        }
    }
}

/// Thirty-two hexadecimal digits that nobody can guess. Choria takes those of a UUID, and looks at none of them.
pub(super) fn identifier() -> String {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.expect("the system has randomness: TLS could not go without");
    HEXLOWER.encode(&bytes)
}
