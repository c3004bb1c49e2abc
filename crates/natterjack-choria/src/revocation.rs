//! Which certificates authorities have taken back: the lists that Puppet keeps beside its certificates, in `crl.pem`.
//!
//! Neither of Choria's own programs reads them. Here they count where they are, as they do for Puppet: with a list there,
//! what no list speaks of is not trusted, and neither is anything by a list whose time is over. Whether a certificate is on
//! one is [`crate::trust`]'s to find out.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::name::Name;

use crate::trust::TrustError;

/// Whose revocation matters, in the words of Puppet's own setting `certificate_revocation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Depth {
    /// Everybody's between an authority without a superior and a certificate, and that one's (`chain`, `true`).
    #[default]
    Chain,
    /// That of a certificate alone (`leaf`).
    Leaf,
    /// Nobody's: lists are not read (`false`).
    Off,
}

/// Lists of what was revoked; none: nothing is known of that.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    lists: Vec<List>,
    depth: Depth,
    path: Option<Arc<Path>>,
}

#[derive(Clone, Debug)]
struct List {
    der: CertificateRevocationListDer<'static>,
    /// Whose it is.
    issuer: Name,
    /// Which part of what that one revoked, if not all.
    part: Option<Vec<u8>>,
    revoked: usize,
    this_update: SystemTime,
    next_update: Option<SystemTime>,
    signature: Vec<u8>,
}

/// From when on before its end the log hears of a list, unless a quarter of its life is less: those of some authorities are
/// made for a week, and replaced each day.
const EXPIRY_NOTICE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// When lists must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// When somebody should see to it.
    pub(crate) notice: SystemTime,
    /// When they are no good any more.
    pub(crate) end: SystemTime,
}

/// A certificate that is not trusted because of lists, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", remedy(reason, path.as_deref(), lacking))]
pub struct RevocationProblem {
    /// What is wrong.
    pub reason: TrustError,
    /// Where the lists are, if they are in a file.
    pub path: Option<Arc<Path>>,
    /// Authorities of whom there is no list, if that may be the reason.
    pub lacking: Vec<String>,
}

/// How lists are fetched, or done without.
pub(crate) const FETCH: &str = "fetch it anew with natterjack choria request-cert --crl-only, or set \
                                plugin.choria.security.certificate_revocation = false to do without";

/// Says so, if lists of somebody are missing.
pub(crate) fn without_list(lacking: &[String]) -> String {
    match lacking {
        [] => String::new(),
        lacking => format!(" (there is none of {})", lacking.join(", ")),
    }
}

fn remedy(reason: &TrustError, path: Option<&Path>, lacking: &[String]) -> String {
    let file = path.map_or_else(|| "the list".into(), |path| path.display().to_string());
    match reason {
        TrustError::Revoked => format!(" ({file} says so); its owner must request another"),
        TrustError::RevocationUnknown | TrustError::RevocationsExpired => {
            format!("{} (in {file}); {FETCH}", without_list(lacking))
        }
        _ => String::new(),
    }
}

/// The extension that names a part (RFC 5280, section 5.2.5).
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");

impl List {
    fn read(der: CertificateRevocationListDer<'static>) -> Option<Self> {
        let list = <CertificateList>::from_der(&der).ok()?;
        let signature = list.signature.as_bytes()?.to_vec();
        let body = list.tbs_cert_list;
        let extensions = body.crl_extensions.into_iter().flatten();
        let mut parts = extensions.filter(|one| one.extn_id == ISSUING_DISTRIBUTION_POINT);
        Some(Self {
            part: parts.next().map(|one| one.extn_value.into_bytes().into()),
            issuer: body.issuer,
            revoked: body.revoked_certificates.map_or(0, |revoked| revoked.len()),
            this_update: body.this_update.to_system_time(),
            next_update: body.next_update.map(|time| time.to_system_time()),
            signature,
            der,
        })
    }
}

impl Revocations {
    /// Nothing is known.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Takes the lists of a text in PEM: Puppet's `crl.pem` has one of each authority. Of several of one authority the
    /// newest counts, wherever it stands.
    ///
    /// # Errors
    /// If there is none, or one cannot be read.
    pub fn from_pem(pem: &[u8], depth: Depth) -> Result<Self, TrustError> {
        let mut revocations = Self {
            depth,
            ..Self::default()
        };
        for list in CertificateRevocationListDer::pem_slice_iter(pem) {
            let list = list.map_err(|_| TrustError::Revocations)?;
            revocations.add(List::read(list).ok_or(TrustError::Revocations)?);
        }
        if revocations.lists.is_empty() {
            return Err(TrustError::Revocations);
        }
        Ok(revocations)
    }

    fn add(&mut self, list: List) {
        let is_same = |known: &&mut List| known.issuer == list.issuer && known.part == list.part;
        match self.lists.iter_mut().find(is_same) {
            Some(known) if list.this_update < known.this_update => {}
            Some(known) => *known = list,
            None => self.lists.push(list),
        }
    }

    /// Whether each was signed by one of whom `is_signed` knows, given its issuer, the list and the signature, and is not over.
    pub(crate) fn check(
        &self,
        now: SystemTime,
        is_signed: impl Fn(&Name, &[u8], &[u8]) -> bool,
    ) -> Result<(), TrustError> {
        for list in &self.lists {
            if !is_signed(&list.issuer, &list.der, &list.signature) {
                return Err(TrustError::UnknownAuthority);
            }
            if list.next_update.is_some_and(|end| end < now) {
                return Err(TrustError::RevocationsExpired);
            }
        }
        Ok(())
    }

    /// Whose list is older here than among those that were there before, or lacks here. Only lists of those count who are
    /// an authority now.
    pub(crate) fn behind(
        &self,
        before: &Self,
        is_authority: impl Fn(&Name) -> bool,
    ) -> Option<String> {
        let counted = before
            .lists
            .iter()
            .filter(|list| is_authority(&list.issuer));
        let mut behind = counted.filter(|before| {
            let is_same = |list: &&List| list.issuer == before.issuer && list.part == before.part;
            let here = self.lists.iter().find(is_same);
            here.is_none_or(|list| list.this_update < before.this_update)
        });
        behind.next().map(|list| list.issuer.to_string())
    }

    /// The same with those from before that are newer than these, or lack here.
    pub(crate) fn with_newer(&self, before: &Self, is_authority: impl Fn(&Name) -> bool) -> Self {
        let counted = before
            .lists
            .iter()
            .filter(|list| is_authority(&list.issuer));
        let mut merged = Self {
            lists: counted.cloned().collect(),
            depth: self.depth,
            path: self.path.clone(),
        };
        for list in &self.lists {
            merged.add(list.clone());
        }
        merged
    }

    /// Whether one of them is of this authority.
    pub(crate) fn have(&self, issuer: &Name) -> bool {
        self.lists.iter().any(|list| list.issuer == *issuer)
    }

    /// How far they reach.
    #[must_use]
    pub const fn depth(&self) -> Depth {
        self.depth
    }

    /// How many lists there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.lists.len()
    }

    /// How many certificates are on them.
    #[must_use]
    pub fn revoked(&self) -> usize {
        self.lists.iter().map(|list| list.revoked).sum()
    }

    /// When the first of them is to be replaced. After that it is no good.
    #[must_use]
    pub fn next_update(&self) -> Option<SystemTime> {
        self.lists.iter().filter_map(|list| list.next_update).min()
    }

    /// When the oldest of them was made: what was revoked since is not on it.
    #[must_use]
    pub fn this_update(&self) -> Option<SystemTime> {
        self.lists.iter().map(|list| list.this_update).min()
    }

    /// The same, known to be kept in this file.
    #[must_use]
    pub fn kept_in(mut self, path: &Path) -> Self {
        self.path = Some(path.into());
        self
    }

    pub(crate) const fn path(&self) -> Option<&Arc<Path>> {
        self.path.as_ref()
    }

    /// When the first of them is to be replaced. `None`: never.
    pub(crate) fn expiry(&self) -> Option<Expiry> {
        let each = self.lists.iter().filter_map(|list| {
            let end = list.next_update?;
            let life = end.duration_since(list.this_update).unwrap_or_default();
            let notice = end.checked_sub(EXPIRY_NOTICE.min(life / 4)).unwrap_or(end);
            Some(Expiry { notice, end })
        });
        each.min_by_key(|expiry| expiry.notice)
    }

    pub(crate) fn lists(
        &self,
    ) -> impl ExactSizeIterator<Item = &CertificateRevocationListDer<'static>> {
        self.lists.iter().map(|list| &list.der)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
        ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
    };
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use std::time::Duration;
    use testkit::revocation_list;

    use super::*;
    use crate::pem;
    use crate::trust::Authorities;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_289_687)
    }

    fn params_of_authority(name: &str, serial: u64) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params
    }

    fn certificate(
        issuer: &Issuer<'_, KeyPair>,
        serial: u64,
        alternatives: &[&str],
    ) -> CertificateDer<'static> {
        let alternatives: Vec<String> = alternatives.iter().copied().map(String::from).collect();
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let name = "node1.example.net";
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap().der().clone()
    }

    fn list(issuer: &Issuer<'_, KeyPair>, serials: &[u64], until: i32) -> String {
        revocation_list(issuer, serials, 2019..until)
    }

    /// A root that signed an authority, as Puppet's are.
    struct Pair {
        root: CertifiedIssuer<'static, KeyPair>,
        between: CertifiedIssuer<'static, KeyPair>,
    }

    impl Pair {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let root = CertifiedIssuer::self_signed(params_of_authority("root", 1), key).unwrap();
            let key = KeyPair::generate().unwrap();
            let params = params_of_authority("between", 2);
            let between = CertifiedIssuer::signed_by(params, key, &root).unwrap();
            Self { root, between }
        }

        fn authorities(&self, lists: &str, depth: Depth) -> Authorities {
            let pem = format!("{}{}", self.between.pem(), self.root.pem());
            let revocations = Revocations::from_pem(lists.as_bytes(), depth).unwrap();
            Authorities::with_revocations(pem.as_bytes(), &revocations).unwrap()
        }

        fn lists(&self, of_root: &[u64], of_between: &[u64], until: i32) -> String {
            list(&self.root, of_root, until) + &list(&self.between, of_between, until)
        }

        /// What comes of serial 10 of the authority between, as somebody who asks and as a server.
        fn judge(&self, lists: &str, depth: Depth) -> Result<(), TrustError> {
            let authorities = self.authorities(lists, depth);
            let judged = authorities.vouch_for(&[certificate(&self.between, 10, &[])], now());
            let verifier = authorities.server_verifier();
            let name = ServerName::try_from("node1.example.net").unwrap();
            let seconds = now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            // By its common name, and by an alternative.
            for alternatives in [&[][..], &["node1.example.net"]] {
                let server = certificate(&self.between, 10, alternatives);
                let time = UnixTime::since_unix_epoch(seconds);
                let served = verifier.verify_server_cert(&server, &[], &name, &[], time);
                if let Err(error) = &served {
                    let is_told = error.to_string().contains("the list");
                    assert_eq!(is_told, TrustError::from(error.clone()).is_of_lists());
                }
                let served = served.map(drop).map_err(TrustError::from);
                assert_eq!(served, judged);
            }
            judged
        }
    }

    #[test]
    fn what_was_revoked_is_not_trusted() {
        let pair = Pair::new();
        let judge = |lists: String| pair.judge(&lists, Depth::Chain);
        assert_eq!(judge(pair.lists(&[], &[], 2100)), Ok(()));
        assert_eq!(judge(pair.lists(&[], &[9, 11], 2100)), Ok(()));
        assert_eq!(judge(pair.lists(&[10], &[], 2100)), Ok(()), "another's");
        let revoked = Err(TrustError::Revoked);
        assert_eq!(judge(pair.lists(&[], &[10], 2100)), revoked);
        assert_eq!(judge(pair.lists(&[2], &[], 2100)), revoked, "its authority");
    }

    #[test]
    fn what_no_list_speaks_of_is_not_trusted() {
        let pair = Pair::new();
        let unknown = Err(TrustError::RevocationUnknown);
        let of_root = list(&pair.root, &[], 2100);
        assert_eq!(pair.judge(&of_root, Depth::Chain), unknown);
        let of_between = list(&pair.between, &[], 2100);
        assert_eq!(pair.judge(&of_between, Depth::Chain), unknown);
        assert_eq!(pair.judge(&of_between, Depth::Leaf), Ok(()));
        let other = list(&Pair::new().between, &[], 2100) + &of_root;
        assert!(
            pair.judge(&other, Depth::Chain).is_err(),
            "not its signature"
        );
    }

    #[test]
    fn lists_have_their_time() {
        let pair = Pair::new();
        let old = pair.lists(&[], &[], 2020);
        let expired = Err(TrustError::RevocationsExpired);
        assert_eq!(pair.judge(&old, Depth::Chain), expired);
        let lists = list(&pair.root, &[3], 2099) + &list(&pair.between, &[10, 11], 2100);
        let revocations = Revocations::from_pem(lists.as_bytes(), Depth::Chain).unwrap();
        assert_eq!((revocations.count(), revocations.revoked()), (2, 3));
        let next = rcgen::date_time_ymd(2099, 1, 1);
        assert_eq!(revocations.next_update(), Some(next.into()));
        let made = rcgen::date_time_ymd(2019, 1, 1);
        assert_eq!(revocations.this_update(), Some(made.into()));
        let expiry = revocations.expiry().unwrap();
        assert_eq!(expiry.end, SystemTime::from(next));
        assert_eq!(expiry.end - EXPIRY_NOTICE, expiry.notice);
    }

    #[test]
    fn the_newest_list_of_an_authority_counts() {
        let pair = Pair::new();
        let of_root = list(&pair.root, &[], 2100);
        let old = revocation_list(&pair.between, &[], 2019..2100);
        let new = revocation_list(&pair.between, &[10], 2020..2100);
        for lists in [
            format!("{of_root}{old}{new}"),
            format!("{new}{of_root}{old}"),
        ] {
            let judged = pair.judge(&lists, Depth::Chain);
            assert_eq!(judged, Err(TrustError::Revoked));
            let read = Revocations::from_pem(lists.as_bytes(), Depth::Chain).unwrap();
            assert_eq!((read.count(), read.revoked()), (2, 1));
        }
        // One that was taken back for a while only.
        let newest = revocation_list(&pair.between, &[], 2021..2100);
        let lists = format!("{new}{newest}{of_root}");
        assert_eq!(pair.judge(&lists, Depth::Chain), Ok(()));
    }

    #[test]
    fn what_is_no_list() {
        let pair = Pair::new();
        for text in [
            "",
            "nothing",
            &pair.root.pem(),
            &pem::encode("X509 CRL", &[7; 40]),
        ] {
            let read = Revocations::from_pem(text.as_bytes(), Depth::Chain);
            assert!(matches!(read, Err(TrustError::Revocations)), "{text:?}");
        }
    }
}
