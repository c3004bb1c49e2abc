//! Client certificates are verified by rustls. Who was let in is remembered, so that a fleet that comes back need not
//! be verified all over; and who was refused, for the log, which rustls' error does not tell.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};

use super::authorities::Authorities;
use super::certificate::{Purpose, describe, is_for, validity};

/// Certificates that may come along between somebody's own and an authority. Finding the way among them takes steps that
/// grow like all their orders, and whoever shows them need not be anybody: with 16 of one name it takes a processor for
/// 70 ms. Authorities have one or two between.
const INTERMEDIATES_MAX: usize = 5;

/// Chains that are remembered, twice: about 1.2 MB at most.
const CHAINS_MAX: usize = 7 * 1024;

thread_local! {
    /// The certificate this thread refused last. A handshake's step runs on one thread from beginning to end,
    /// and takes it from here when it has failed.
    static REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whether a certificate was refused because it is an authority's.
pub(crate) fn is_authority_shown(error: &Error) -> bool {
    is_called(error, "CaUsedAsEndEntity")
}

/// Whether a certificate was refused because it is not of version 3 of X.509.
pub(crate) fn is_of_old_version(error: &Error) -> bool {
    is_called(error, "UnsupportedCertVersion")
}

/// The error's type is not rustls' own, and so only its name can be compared.
fn is_called(error: &Error, name: &str) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            other.to_string() == name
        }
        _ => false,
    }
}

/// The certificate that was refused in the step that this thread has just made.
pub(crate) fn take_refused() -> Option<String> {
    REFUSED.take()
}

/// Delegates, and remembers whom it refused.
///
/// It also lets in a certificate that is one of the configured authorities' itself. That is what a self-signed
/// client certificate is, which an operator trusts by naming it in `ca_file`; rustls takes no authority's
/// certificate for anybody's own, while nats-server does.
#[derive(Debug)]
pub(super) struct Witness {
    authorities: Arc<Authorities>,
    subjects: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
    present: Mutex<Arc<Period>>,
}

/// A time in which the same authorities count.
#[derive(Debug)]
struct Period {
    /// In seconds since 1970.
    seconds: RangeInclusive<u64>,
    /// `None` if nobody counts.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Authorities in `ca_file` that do not count.
    left_out: usize,
    verified: Mutex<Verified>,
}

impl Witness {
    pub(super) fn new(authorities: Arc<Authorities>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            subjects: authorities.subjects(),
            present: Mutex::new(Arc::new(Period::new(&authorities, &provider, 0))),
            authorities,
            provider,
        }
    }

    fn period(&self, now: UnixTime) -> Arc<Period> {
        let now = now.as_secs();
        let mut present = self.present.lock();
        if !present.seconds.contains(&now) {
            *present = Arc::new(Period::new(&self.authorities, &self.provider, now));
        }
        Arc::clone(&present)
    }

    fn is_authority(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        self.authorities.named().contains(certificate) && is_for(Purpose::Clients, certificate, now)
    }
}

impl Period {
    fn new(authorities: &Authorities, provider: &Arc<CryptoProvider>, now: u64) -> Self {
        let (roots, seconds) = authorities.at(now, Purpose::Clients);
        let (named, count) = (authorities.named().len(), roots.len());
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        Self {
            seconds,
            left_out: named.saturating_sub(count),
            verifier: builder.build().ok(),
            verified: Mutex::default(),
        }
    }
}

impl ClientCertVerifier for Witness {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = Chain::of(end_entity, intermediates);
        let period = self.period(now);
        if period.verified.lock().holds(chain, now) {
            return Ok(ClientCertVerified::assertion());
        }
        let verified = match &period.verifier {
            _ if are_too_many(intermediates) => Err(too_many(intermediates.len())),
            Some(verifier) => verifier.verify_client_cert(end_entity, intermediates, now),
            None => Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        };
        match verified {
            Err(error) => {
                // Whether it is an authority's or nobody else's is all the same: it is known.
                let is_nobodys =
                    error == Error::InvalidCertificate(CertificateError::UnknownIssuer);
                if (is_authority_shown(&error) || is_nobodys) && self.is_authority(end_entity, now)
                {
                    return Ok(ClientCertVerified::assertion());
                }
                let left_out = period.left_out;
                let mut refused = describe(end_entity);
                if let Some(refused) = refused.as_mut().filter(|_| is_nobodys && left_out > 0) {
                    // An operator sees the authority in the file, and wonders.
                    let _ = write!(
                        refused,
                        "; {left_out} in ca_file left out: expired, not valid yet, or no authorities for clients"
                    );
                }
                REFUSED.set(refused);
                Err(error)
            }
            Ok(result) => {
                if let Some(time) = time_of(end_entity, intermediates) {
                    period.verified.lock().add(chain, time);
                }
                Ok(result)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// What was shown, down to the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Chain([u8; 32]);

impl Chain {
    fn of(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Self {
        let mut hash = Sha256::new();
        for certificate in std::iter::once(end_entity).chain(intermediates) {
            hash.update((certificate.len() as u64).to_be_bytes());
            hash.update(certificate);
        }
        Self(hash.finalize().into())
    }
}

/// Chains that these very authorities vouch for, and when. Nothing but time changes that: signatures stay right, there
/// are no lists of what was revoked, and other authorities come with another [`Period`] or [`Witness`]. That a client holds the key of
/// its certificate is verified each time, elsewhere.
#[derive(Debug, Default)]
struct Verified {
    recent: HashMap<Chain, RangeInclusive<SystemTime>>,
    /// Those before, until they are shown again or `recent` is full again.
    former: HashMap<Chain, RangeInclusive<SystemTime>>,
}

impl Verified {
    fn holds(&mut self, chain: Chain, now: UnixTime) -> bool {
        if let Some(time) = self.former.remove(&chain) {
            self.add(chain, time);
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let known = self.recent.get(&chain);
        known.is_some_and(|time| time.contains(&now))
    }

    fn add(&mut self, chain: Chain, time: RangeInclusive<SystemTime>) {
        if self.recent.len() >= CHAINS_MAX {
            self.former = std::mem::take(&mut self.recent);
        }
        self.recent.insert(chain, time);
    }
}

/// Nobody looks for a way among so many certificates.
pub(super) fn too_many(intermediates: usize) -> Error {
    let what = format!(
        "{intermediates} certificates came along with it, of which {INTERMEDIATES_MAX} may"
    );
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(
        io::Error::other(what),
    ))))
}

/// Whether there are more certificates between a peer's own and an authority than there may be.
pub(super) fn are_too_many(intermediates: &[CertificateDer<'_>]) -> bool {
    intermediates.len() > INTERMEDIATES_MAX
}

/// The time in which all of the certificates are valid.
fn time_of(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Option<RangeInclusive<SystemTime>> {
    let (mut begin, mut end) = validity(end_entity)?;
    for certificate in intermediates {
        let (not_before, not_after) = validity(certificate)?;
        begin = begin.max(not_before);
        end = end.min(not_after);
    }
    Some(begin..=end)
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };

    use super::*;

    fn certificate(until: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        made.der().clone()
    }

    /// The first of a year, near enough.
    fn year(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952 + 86_400))
    }

    #[test]
    fn an_authority_vouches_in_its_own_time() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let client = params.signed_by(&key, &issuer).expect("a certificate");
        let mut authorities = Authorities::new();
        let named = authorities.add_named(authority.der().clone());
        named.expect("an authority");
        let witness = Witness::new(
            Arc::new(authorities),
            Arc::new(rustls::crypto::ring::default_provider()),
        );
        // Each twice: it is remembered.
        for (at, is_let_in) in [
            (2019, false),
            (2021, true),
            (2021, true),
            (2029, true),
            (2031, false),
            (2031, false),
        ] {
            let verified = witness.verify_client_cert(client.der(), &[], year(at));
            assert_eq!(verified.is_ok(), is_let_in, "{at}: {verified:?}");
            let told = take_refused().is_some_and(|refused| refused.contains("; 1 in ca_file"));
            assert_eq!(told, !is_let_in, "{at}");
        }
    }

    /// An authority, and `links` more, each between the former and the next; the client's certificate first.
    fn chain(links: usize) -> (CertificateDer<'static>, Vec<CertificateDer<'static>>) {
        let authority = |name: String| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2040, 1, 1);
            params.distinguished_name.push(DnType::CommonName, name);
            (params, KeyPair::generate().expect("a key"))
        };
        let (params, key) = authority("root".to_owned());
        let root = params.self_signed(&key).expect("a certificate");
        let mut issuer = Issuer::new(params, key);
        let mut shown = Vec::new();
        for link in 0..links {
            let (params, key) = authority(format!("link {link}"));
            shown.insert(
                0,
                params.signed_by(&key, &issuer).expect("one").der().clone(),
            );
            issuer = Issuer::new(params, key);
        }
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let own = params.signed_by(&key, &issuer).expect("a certificate");
        shown.insert(0, own.der().clone());
        (root.der().clone(), shown)
    }

    #[test]
    fn no_way_is_looked_for_among_many() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        for (links, is_let_in) in [
            (0, true),
            (INTERMEDIATES_MAX, true),
            (INTERMEDIATES_MAX + 1, false),
        ] {
            let (root, shown) = chain(links);
            let mut authorities = Authorities::new();
            authorities.add_named(root).expect("an authority");
            let witness = Witness::new(Arc::new(authorities), Arc::clone(&provider));
            let verified = witness.verify_client_cert(&shown[0], &shown[1..], year(2030));
            assert_eq!(verified.is_ok(), is_let_in, "{links}: {verified:?}");
        }
        // As one who wants to keep a processor busy would do it.
        let (root, mut shown) = chain(0);
        for _ in 0..15 {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, "one");
            let key = KeyPair::generate().expect("a key");
            shown.push(params.self_signed(&key).expect("one").der().clone());
        }
        let mut authorities = Authorities::new();
        authorities.add_named(root).expect("an authority");
        let witness = Witness::new(Arc::new(authorities), provider);
        let refused = witness.verify_client_cert(&shown[0], &shown[1..], year(2030));
        let told = refused.expect_err("too many").to_string();
        assert!(told.contains("15 certificates came along"), "{told}");
    }

    #[test]
    fn a_chain_is_known_as_long_as_all_of_it_is_valid() {
        let (own, other) = (certificate(2040), certificate(2030));
        let chain = Chain::of(&own, std::slice::from_ref(&other));
        let time = time_of(&own, std::slice::from_ref(&other)).expect("valid at some time");
        let mut verified = Verified::default();
        verified.add(chain, time);
        let mut known = |at| verified.holds(chain, year(at));
        assert!(known(2021) && known(2029));
        assert!(!known(2019) && !known(2031));
        assert!(!verified.holds(Chain::of(&own, &[]), year(2025)));
        assert!(!verified.holds(Chain::of(&other, &[own]), year(2025)));
    }

    #[test]
    fn those_shown_lately_are_kept_and_no_more_than_allowed() {
        let mut verified = Verified::default();
        let time = time_of(&certificate(2040), &[]).expect("valid at some time");
        let chain = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            Chain(bytes)
        };
        for number in 0..5 * CHAINS_MAX {
            verified.add(chain(number), time.clone());
            assert!(verified.holds(chain(0), year(2025)), "shown every time");
        }
        assert!(!verified.holds(chain(1), year(2025)));
        for kept in [&verified.recent, &verified.former] {
            assert!(kept.len() <= CHAINS_MAX);
            assert!(kept.capacity() <= CHAINS_MAX, "{}", kept.capacity());
        }
    }
}
