//! Addresses as people write them: `host:port`, where an IPv6 address stands in brackets.

/// Splits a host from what follows its colon, if anything does; the brackets are taken off. `None` if brackets are
/// missing, or there are too many.
pub(crate) fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return None,
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    (!host.contains(['[', ']'])).then_some((host, port))
}

/// Where others are told to connect to: what `advertise` says, and `port` if it says none. As on nats-server, 0 and -1
/// stand for that port, too.
pub(crate) fn advertised(advertise: &str, port: u16) -> (String, u16) {
    // An IPv6 address without brackets has colons, but no port.
    let (host, given) = split(advertise).unwrap_or((advertise, None));
    let given = given.and_then(|given| given.parse().ok());
    (
        host.to_owned(),
        given.filter(|&given| given > 0).unwrap_or(port),
    )
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn hosts_and_what_follows() {
        for (text, expected) in [
            ("h:1", Some(("h", Some("1")))),
            (":1", Some(("", Some("1")))),
            ("h:", Some(("h", Some("")))),
            ("h", Some(("h", None))),
            ("[::1]:1", Some(("::1", Some("1")))),
            ("[::1]", Some(("::1", None))),
            ("::1", None),
            ("::1:1", None),
            ("[::1", None),
            ("h]:1", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
