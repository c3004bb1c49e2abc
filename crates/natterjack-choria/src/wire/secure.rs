//! The layer that proves: requests are signed by the key of a certificate that goes with them, replies have a hash.
//!
//! What is inside is handed out only by [`SecureRequest::prove`] and [`SecureReply::open`], so that nothing can be parsed
//! before it was proven.

use std::fmt;

use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::{FormatError, Wrapping, base64, is_protocol, read};

const REQUEST_PROTOCOL: &str = "choria:secure:request:1";
const REPLY_PROTOCOL: &str = "choria:secure:reply:1";

/// Certificates that a request may bring: its own and those between it and the authority. Few: who looks for a chain among
/// authorities that all have the same name tries each order of them, and anybody can send such.
const CERTIFICATES_MAX: usize = 4;

/// Why a key cannot sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No key is in the text.
    #[error("there is no private key in PEM")]
    Pem,
    /// Signatures are RSA's in this protocol.
    #[error("it is no RSA key, which this protocol needs")]
    NotRsa,
    /// Too short, damaged, or of a form that cannot be read.
    #[error("it cannot be used: {0}")]
    Rejected(String),
}

/// Why a request is not proven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// What came as certificate is none.
    #[error("the certificate of the request cannot be read")]
    Certificate,
    /// Another key signed, or what was signed has been changed.
    #[error("the signature is not that of the certificate over this request")]
    Mismatch,
}

/// A private key that signs requests.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// Reads an RSA key of at least 2,048 bits in PEM, PKCS#1 (as Puppet writes them) or PKCS#8.
    ///
    /// # Errors
    /// If there is none, or none that can be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let rejected = |error: ring::error::KeyRejected| KeyError::Rejected(error.to_string());
        let pair = match PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::Pem)? {
            PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
            _ => return Err(KeyError::NotRsa),
        };
        match pair {
            Ok(pair) => Ok(Self(pair)),
            Err(error) if error.to_string() == "WrongAlgorithm" => Err(KeyError::NotRsa),
            Err(error) => Err(rejected(error)),
        }
    }

    /// The other half, as certificates have it: PKCS#1 in DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.0.public().as_ref()
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        let signed = self.0.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        );
        signed.expect("the signature has the modulus's length, and the system has randomness");
        signature
    }
}

/// Tells nothing of the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey")
    }
}

/// A request with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureRequest {
    message: String,
    signature: Vec<u8>,
    /// The sender's certificate, and perhaps those above it, in PEM.
    certificates: String,
}

/// What a request says, once it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven<'a> {
    /// The request's text. See [`super::Request::from_proven`].
    pub message: &'a str,
}

#[derive(Serialize, Deserialize)]
struct RequestFields {
    protocol: String,
    message: String,
    signature: String,
    pubcert: String,
}

impl SecureRequest {
    /// Signs a request.
    #[must_use]
    pub fn sign(message: String, key: &SigningKey, certificates_pem: &str) -> Self {
        Self {
            signature: key.sign(message.as_bytes()),
            message,
            certificates: certificates_pem.to_owned(),
        }
    }

    /// As bytes, the content of a [`super::Transport`].
    #[must_use]
    pub fn to_bytes(&self, wrapping: Wrapping) -> Vec<u8> {
        let signature = match wrapping {
            // Without the last line break, as MCollective does.
            Wrapping::Lines => base64::encode_wrapped(&self.signature)
                .trim_end()
                .to_owned(),
            Wrapping::None => base64::encode(&self.signature),
        };
        let fields = RequestFields {
            protocol: REQUEST_PROTOCOL.to_owned(),
            message: self.message.clone(),
            signature,
            pubcert: self.certificates.clone(),
        };
        serde_json::to_vec(&fields).expect("text has a JSON form")
    }

    /// Reads the content of a [`super::Transport`]. Nothing is proven by that.
    ///
    /// # Errors
    /// If it is no secure request.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let fields: RequestFields = read("secure request", bytes)?;
        is_protocol(&fields.protocol, REQUEST_PROTOCOL)?;
        Ok(Self {
            signature: base64::decode("signature", &fields.signature)?,
            message: fields.message,
            certificates: fields.pubcert,
        })
    }

    /// The certificates that came along, the sender's first. Whether they are to be trusted is for the caller to find out.
    ///
    /// # Errors
    /// If they cannot be read, or there are none or too many.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, SignatureError> {
        let wrong = |_| SignatureError::Certificate;
        let certificates = CertificateDer::pem_slice_iter(self.certificates.as_bytes());
        let certificates: Vec<_> = certificates
            .take(CERTIFICATES_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(wrong)?;
        if certificates.is_empty() || certificates.len() > CERTIFICATES_MAX {
            return Err(SignatureError::Certificate);
        }
        Ok(certificates)
    }

    /// The request, if the owner of this certificate signed exactly it.
    ///
    /// # Errors
    /// If another key did, or something was changed.
    pub fn prove(&self, certificate: &CertificateDer<'_>) -> Result<Proven<'_>, SignatureError> {
        let certificate =
            Certificate::from_der(certificate).map_err(|_| SignatureError::Certificate)?;
        let key = certificate.tbs_certificate().subject_public_key_info();
        let key = UnparsedPublicKey::new(
            &RSA_PKCS1_2048_8192_SHA256,
            key.subject_public_key.raw_bytes(),
        );
        key.verify(self.message.as_bytes(), &self.signature)
            .map_err(|_| SignatureError::Mismatch)?;
        Ok(Proven {
            message: &self.message,
        })
    }
}

/// A reply with its hash, which shows that nothing was damaged on the way, and proves nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureReply {
    message: String,
}

#[derive(Serialize, Deserialize)]
struct ReplyFields {
    protocol: String,
    message: String,
    hash: String,
}

impl SecureReply {
    /// Takes a reply's text.
    #[must_use]
    pub const fn new(message: String) -> Self {
        Self { message }
    }

    /// As bytes, the content of a [`super::Transport`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let fields = ReplyFields {
            protocol: REPLY_PROTOCOL.to_owned(),
            hash: hash(&self.message),
            message: self.message.clone(),
        };
        serde_json::to_vec(&fields).expect("text has a JSON form")
    }

    /// Reads the content of a [`super::Transport`] and answers the reply's text.
    ///
    /// # Errors
    /// If it is no secure reply, or was changed on the way.
    pub fn open(bytes: &[u8]) -> Result<String, FormatError> {
        let fields: ReplyFields = read("secure reply", bytes)?;
        is_protocol(&fields.protocol, REPLY_PROTOCOL)?;
        // Ruby ends it with a line break where it is written by hand; only the letters count.
        if fields.hash.trim_end() != hash(&fields.message) {
            return Err(FormatError::Value {
                field: "hash",
                found: fields.hash.chars().take(100).collect(),
                reason: "the message has another one: it was changed on the way",
            });
        }
        Ok(fields.message)
    }
}

fn hash(message: &str) -> String {
    base64::encode(&Sha256::digest(message.as_bytes()))
}
