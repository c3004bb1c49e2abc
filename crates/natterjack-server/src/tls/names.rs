//! Cipher suites and curves by the names Go gives them, as configuration files spell them.

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite};

use super::problem::TlsProblem;
use crate::options::{Tls, TlsVersion};

/// What there is, for messages.
pub(super) const SUITES: &[&str] = &[
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// What nats-server 2.15.1 takes and the TLS library here does not have: no forward secrecy, or a mode of
/// operation known to be fragile.
const SUITES_LEFT_OUT: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

/// What there is, for messages.
pub(super) const CURVES: &[&str] = &["X25519", "CurveP256", "CurveP384"];

const CURVES_LEFT_OUT: &[&str] = &["CurveP521", "X25519MLKEM768"];

/// The crypto provider with the suites and curves that `options` allow.
///
/// As with nats-server, a list that names no suite of TLS 1.3 says nothing about TLS 1.3 (Go does not let
/// those be chosen). One that does is taken at its word.
pub(super) fn provider(options: &Tls, problems: &mut Vec<TlsProblem>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !options.cipher_suites.is_empty() {
        choose_suites(&mut provider, &options.cipher_suites, problems);
    }
    if !options.curve_preferences.is_empty() {
        choose_curves(&mut provider, &options.curve_preferences, problems);
    }
    let is_usable = |suite: &SupportedCipherSuite| match options.min_version {
        TlsVersion::V1_2 => true,
        TlsVersion::V1_3 => suite.tls13().is_some(),
    };
    if !provider.cipher_suites.iter().any(is_usable) {
        problems.push(TlsProblem::NoCipherSuite);
    }
    if provider.kx_groups.is_empty() {
        problems.push(TlsProblem::NoCurve);
    }
    provider
}

fn choose_suites(provider: &mut CryptoProvider, wanted: &[String], problems: &mut Vec<TlsProblem>) {
    let is_new = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    for name in wanted {
        let known = provider
            .cipher_suites
            .iter()
            .find(|suite| suite_name(suite.suite()) == Some(name));
        match known {
            Some(suite) => chosen.push(*suite),
            None if SUITES_LEFT_OUT.contains(&name.as_str()) => {
                problems.push(TlsProblem::CipherSuiteLeftOut(name.clone()));
            }
            None => problems.push(TlsProblem::UnknownCipherSuite(name.clone())),
        }
    }
    if !chosen.iter().any(is_new) {
        chosen.extend(provider.cipher_suites.iter().copied().filter(is_new));
    }
    provider.cipher_suites = chosen;
}

fn choose_curves(provider: &mut CryptoProvider, wanted: &[String], problems: &mut Vec<TlsProblem>) {
    let mut chosen: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in wanted {
        let known = provider
            .kx_groups
            .iter()
            .find(|group| curve_name(group.name()) == Some(name));
        match known {
            Some(group) => chosen.push(*group),
            None if CURVES_LEFT_OUT.contains(&name.as_str()) => {
                problems.push(TlsProblem::CurveLeftOut(name.clone()));
            }
            None => problems.push(TlsProblem::UnknownCurve(name.clone())),
        }
    }
    provider.kx_groups = chosen;
}

/// A suite's name as Go and RFC 8446 spell it.
pub(crate) fn suite_name(suite: CipherSuite) -> Option<&'static str> {
    Some(match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => SUITES[0],
        CipherSuite::TLS13_AES_256_GCM_SHA384 => SUITES[1],
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => SUITES[2],
        other => {
            let name = other.as_str()?;
            SUITES.iter().copied().find(|known| *known == name)?
        }
    })
}

fn curve_name(group: NamedGroup) -> Option<&'static str> {
    match group {
        NamedGroup::X25519 => Some(CURVES[0]),
        NamedGroup::secp256r1 => Some(CURVES[1]),
        NamedGroup::secp384r1 => Some(CURVES[2]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(suites: &[&str], curves: &[&str]) -> Tls {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Tls {
            cipher_suites: owned(suites),
            curve_preferences: owned(curves),
            ..Tls::default()
        }
    }

    #[test]
    fn every_suite_and_curve_of_the_library_has_its_name() {
        let provider = ring::default_provider();
        for suite in &provider.cipher_suites {
            assert!(suite_name(suite.suite()).is_some(), "{suite:?}");
        }
        for group in &provider.kx_groups {
            assert!(curve_name(group.name()).is_some(), "{group:?}");
        }
        assert_eq!(provider.cipher_suites.len(), SUITES.len());
        assert_eq!(provider.kx_groups.len(), CURVES.len());
    }

    #[test]
    fn lists_are_kept_in_order_and_tls_1_3_stays_unless_it_is_named() {
        let mut problems = Vec::new();
        let old = SUITES[6];
        let chosen = provider(&options(&[old], &["CurveP384", "X25519"]), &mut problems);
        assert_eq!(problems, []);
        let suites: Vec<_> = chosen
            .cipher_suites
            .iter()
            .filter_map(|suite| suite_name(suite.suite()))
            .collect();
        assert_eq!(suites[0], old);
        assert_eq!(suites.len(), 4);
        let groups: Vec<_> = chosen.kx_groups.iter().map(|group| group.name()).collect();
        assert_eq!(groups, [NamedGroup::secp384r1, NamedGroup::X25519]);
        let chosen = provider(&options(&[SUITES[1]], &[]), &mut problems);
        assert_eq!(chosen.cipher_suites.len(), 1);
        assert_eq!(problems, []);
    }

    #[test]
    fn names_that_are_not_there_are_told() {
        let mut problems = Vec::new();
        provider(
            &options(
                &["TLS_RSA_WITH_RC4_128_SHA", "TLS_NONE"],
                &["CurveP521", "P"],
            ),
            &mut problems,
        );
        assert_eq!(
            problems,
            [
                TlsProblem::CipherSuiteLeftOut("TLS_RSA_WITH_RC4_128_SHA".to_owned()),
                TlsProblem::UnknownCipherSuite("TLS_NONE".to_owned()),
                TlsProblem::CurveLeftOut("CurveP521".to_owned()),
                TlsProblem::UnknownCurve("P".to_owned()),
                TlsProblem::NoCurve,
            ]
        );
        assert!(problems[1].to_string().contains("TLS_AES_128_GCM_SHA256"));
    }
}
