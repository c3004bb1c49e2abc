//! Whom others' certificates may come from, and when. rustls takes every configured authority at its word for ever;
//! here, as on nats-server, one counts only in its own time, and if it may give out certificates for their purpose at all.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use rustls::{DistinguishedName, RootCertStore};
use rustls_pki_types::CertificateDer;

use super::certificate::{Purpose, gives_for, validity_seconds};

/// Authorities, and those of them that are configured by name.
#[derive(Debug)]
pub(super) struct Authorities {
    all: RootCertStore,
    vouching: Vec<Authority>,
    named: HashSet<CertificateDer<'static>>,
}

/// One that may give out certificates, in its time, in seconds since 1970.
#[derive(Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    for_clients: bool,
    for_servers: bool,
    time: RangeInclusive<u64>,
}

/// What [`Authorities::add`] refuses.
#[derive(Debug)]
pub(super) struct NoAuthority;

impl Authorities {
    pub(super) fn new() -> Self {
        Self {
            all: RootCertStore::empty(),
            vouching: Vec::new(),
            named: HashSet::new(),
        }
    }

    /// Adds one.
    pub(super) fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), NoAuthority> {
        self.all.add(certificate.clone()).map_err(|_| NoAuthority)?;
        if let Some(time) = validity_seconds(&certificate) {
            self.vouching.push(Authority {
                for_clients: gives_for(Purpose::Clients, &certificate),
                for_servers: gives_for(Purpose::Servers, &certificate),
                certificate,
                time,
            });
        }
        Ok(())
    }

    /// Adds one that is configured by name.
    pub(super) fn add_named(
        &mut self,
        certificate: CertificateDer<'static>,
    ) -> Result<(), NoAuthority> {
        self.named.insert(certificate.clone());
        self.add(certificate)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn named(&self) -> &HashSet<CertificateDer<'static>> {
        &self.named
    }

    pub(super) fn subjects(&self) -> Vec<DistinguishedName> {
        self.all.subjects()
    }

    /// Those that vouch for certificates of a purpose at a time in seconds since 1970, and from when until when these are
    /// all.
    pub(super) fn at(&self, now: u64, purpose: Purpose) -> (RootCertStore, RangeInclusive<u64>) {
        let mut store = RootCertStore::empty();
        let (mut begin, mut end) = (0, u64::MAX);
        for authority in &self.vouching {
            let is_meant = match purpose {
                Purpose::Clients => authority.for_clients,
                Purpose::Servers => authority.for_servers,
            };
            if !is_meant {
                continue;
            }
            let (first, last) = (*authority.time.start(), *authority.time.end());
            if now < first {
                end = end.min(first - 1);
            } else if now > last {
                begin = begin.max(last + 1);
            } else {
                (begin, end) = (begin.max(first), end.min(last));
                // It was understood before.
                let _ = store.add(authority.certificate.clone());
            }
        }
        (store, begin..=end)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;

    fn certificate(
        years: (i32, i32),
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params
            .self_signed(&key)
            .expect("a certificate")
            .der()
            .clone()
    }

    fn second(year: i32) -> u64 {
        u64::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).expect("after 1970")
    }

    #[test]
    fn each_counts_in_its_time() {
        let mut authorities = Authorities::new();
        for years in [(2020, 2030), (2025, 2040)] {
            authorities.add(certificate(years, |_| {})).expect("one");
        }
        let check = |year: i32, count: usize, from: u64, until: u64| {
            let (store, time) = authorities.at(second(year), Purpose::Clients);
            assert_eq!((store.len(), time), (count, from..=until), "{year}");
        };
        check(2019, 0, 0, second(2020) - 1);
        check(2020, 1, second(2020), second(2025) - 1);
        check(2025, 2, second(2025), second(2030));
        check(2030, 2, second(2025), second(2030));
        check(2031, 1, second(2030) + 1, second(2040));
        check(2041, 0, second(2040) + 1, u64::MAX);
    }

    #[test]
    fn only_those_that_give_for_the_purpose_count() {
        let counts = |change: fn(&mut CertificateParams)| {
            let mut authorities = Authorities::new();
            authorities
                .add_named(certificate((2020, 2030), change))
                .expect("one");
            assert_eq!((authorities.all.len(), authorities.named().len()), (1, 1));
            [Purpose::Clients, Purpose::Servers]
                .map(|purpose| authorities.at(second(2025), purpose).0.len() == 1)
        };
        assert_eq!(counts(|_| {}), [true, true]);
        assert_eq!(counts(|params| params.is_ca = IsCa::NoCa), [false, false]);
        assert_eq!(
            counts(|params| params.is_ca = IsCa::ExplicitNoCa),
            [false, false]
        );
        assert_eq!(
            counts(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            [false, true]
        );
        assert_eq!(
            counts(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            [true, false]
        );
        assert_eq!(
            counts(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
            [true, true]
        );
    }
}
