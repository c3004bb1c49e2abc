//! Names of services, and the hosts that offer them: SRV records (RFC 2782). Asks nobody.

use thiserror::Error;

/// Longest name, in bytes (RFC 1035, section 2.3.4: 255 on the wire).
const NAME_BYTES_MAX: usize = 253;
/// Longest part of a name, in bytes (there).
const LABEL_BYTES_MAX: usize = 63;

/// Why a text names no service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadServiceName {
    /// It does not begin with two names that begin with underscores.
    #[error("the name of a service begins like _nats-route._tcp")]
    NoService,
    /// The second of them is not `_tcp`.
    #[error("the protocol of a service must be _tcp")]
    Protocol,
    /// It has an empty or too long part, or characters that names do not have.
    #[error(
        "the name of a service is of letters, digits, hyphens and underscores, with single dots between"
    )]
    Label,
    /// It is too long.
    #[error("the name of a service has at most 253 characters")]
    TooLong,
}

/// Whether a text can name a service: `_service._tcp.domain`. Without a domain it is looked for in those that the
/// system searches; a dot at the end keeps it from being searched for.
///
/// # Errors
///
/// Why it cannot, if it cannot.
pub fn check_name(name: &str) -> Result<(), BadServiceName> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut labels = name.split('.');
    let is_marked = |label: &str| label.len() > 1 && label.starts_with('_');
    let service = labels.next().is_some_and(is_marked);
    let Some(protocol) = labels.next().filter(|label| service && is_marked(label)) else {
        return Err(BadServiceName::NoService);
    };
    if !protocol.eq_ignore_ascii_case("_tcp") {
        return Err(BadServiceName::Protocol);
    }
    let is_named = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !name.split('.').all(is_named) {
        return Err(BadServiceName::Label);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(BadServiceName::TooLong);
    }
    Ok(())
}

/// Whether a host is written like the name of a service.
#[must_use]
pub fn looks_like_service(host: &str) -> bool {
    check_name(host).is_ok()
}

/// A host that offers a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceRecord {
    /// Those with a lower one are to be tried first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    /// Name of the host, without a dot at its end.
    pub host: String,
    /// Where it listens.
    pub port: u16,
}

/// The order in which to try: by priority, and by lot within one, where chances are as weights (RFC 2782, "Weight").
/// Quadratic in the records of one priority.
pub fn in_order(mut records: Vec<ServiceRecord>, random: &mut fastrand::Rng) -> Vec<ServiceRecord> {
    // Those without weight come first, so that they have a chance at all.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let same = records.partition_point(|record| record.priority == priority);
        let sum: u64 = records[..same]
            .iter()
            .map(|record| u64::from(record.weight))
            .sum();
        let lot = random.u64(..=sum);
        let mut passed = 0;
        let drawn = records[..same].iter().position(|record| {
            passed += u64::from(record.weight);
            passed >= lot
        });
        let drawn = drawn.unwrap_or(0);
        ordered.push(records.remove(drawn));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Result<(), BadServiceName>) {
        assert_eq!(check_name(name), expected, "{name}");
    }

    #[test]
    fn names_of_services() {
        check("_nats-route._tcp.example.net", Ok(()));
        check("_nats-route._TCP.example.net.", Ok(()));
        check("_nats-route._tcp", Ok(()));
        check("_n._tcp.a_b.x1", Ok(()));
        check("example.net", Err(BadServiceName::NoService));
        check("_nats-route.example.net", Err(BadServiceName::NoService));
        check(
            "nats-route._tcp.example.net",
            Err(BadServiceName::NoService),
        );
        check("__tcp.example.net", Err(BadServiceName::NoService));
        check("_._tcp.example.net", Err(BadServiceName::NoService));
        check("", Err(BadServiceName::NoService));
        check("_nats-route", Err(BadServiceName::NoService));
        check(
            "_nats-route._udp.example.net",
            Err(BadServiceName::Protocol),
        );
        check("_nats-route._tcp..net", Err(BadServiceName::Label));
        check("_nats-route._tcp.example.net..", Err(BadServiceName::Label));
        check("_nats route._tcp.example.net", Err(BadServiceName::Label));
        check("_nats-route._tcp.exämple.net", Err(BadServiceName::Label));
        check(
            &format!("_nats-route._tcp.{}", "x".repeat(64)),
            Err(BadServiceName::Label),
        );
        check(
            &format!("_nats-route._tcp{}", ".x".repeat(120)),
            Err(BadServiceName::TooLong),
        );
    }

    fn record(priority: u16, weight: u16, host: &str) -> ServiceRecord {
        ServiceRecord {
            priority,
            weight,
            host: host.to_owned(),
            port: 6222,
        }
    }

    #[test]
    fn priorities_come_before_weights() {
        let records = vec![record(2, 9, "c"), record(1, 0, "a"), record(1, 0, "b")];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100 {
            let ordered = in_order(records.clone(), &mut random);
            assert_eq!(ordered.len(), 3);
            assert_eq!(ordered[2].host, "c");
        }
    }

    #[test]
    fn chances_are_as_weights() {
        let records = vec![record(1, 60, "a"), record(1, 30, "b"), record(1, 10, "c")];
        let mut random = fastrand::Rng::with_seed(7);
        let mut firsts = [0_u32; 3];
        for _ in 0..10_000 {
            let ordered = in_order(records.clone(), &mut random);
            let first = records.iter().position(|it| *it == ordered[0]).unwrap();
            firsts[first] += 1;
        }
        for (counted, expected) in firsts.into_iter().zip([6_000_u32, 3_000, 1_000]) {
            assert!(counted.abs_diff(expected) < 200, "{firsts:?}");
        }
    }

    #[test]
    fn those_without_weight_have_a_chance() {
        let records = vec![record(1, 3, "a"), record(1, 0, "b")];
        let mut random = fastrand::Rng::with_seed(7);
        let firsts = (0..10_000).filter(|_| {
            let ordered = in_order(records.clone(), &mut random);
            ordered[0].host == "b"
        });
        let counted = firsts.count();
        assert!((2_200..2_800).contains(&counted), "{counted} of 10,000");
    }
}
