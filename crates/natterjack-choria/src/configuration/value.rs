//! From the text of a value to what it means.

use std::path::PathBuf;
use std::time::Duration;

use crate::revocation::Depth;
use crate::server::ServerAddress;

/// Why a text is no value of its kind.
pub(super) type Wrong = String;

/// MCollective's words, in any case.
pub(super) fn boolean(text: &str) -> Result<bool, Wrong> {
    let is_one_of = |words: [&str; 5]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_one_of(["1", "yes", "true", "y", "t"]) {
        Ok(true)
    } else if is_one_of(["0", "no", "false", "n", "f"]) {
        Ok(false)
    } else {
        Err("it must be one of 1, yes, true, y, t or 0, no, false, n, f".into())
    }
}

/// As `plugin.choria.use_srv` has always been read: whatever is not among these words is no.
pub(super) fn lenient_boolean(text: &str) -> bool {
    ["t", "true", "yes", "1"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// Puppet's words for its `certificate_revocation`, and those for yes and no.
pub(super) fn revocation_depth(text: &str) -> Result<Depth, Wrong> {
    if text.eq_ignore_ascii_case("leaf") {
        return Ok(Depth::Leaf);
    }
    match boolean(text) {
        Ok(false) => Ok(Depth::Off),
        Ok(true) => Ok(Depth::Chain),
        Err(_) if text.eq_ignore_ascii_case("chain") => Ok(Depth::Chain),
        Err(_) => Err("it must be chain, leaf or false".into()),
    }
}

pub(super) fn integer(text: &str) -> Result<u64, Wrong> {
    text.parse()
        .map_err(|_| "it must be a whole number, not negative".into())
}

pub(super) fn seconds(text: &str) -> Result<Duration, Wrong> {
    let whole = text.strip_suffix('s').unwrap_or(text);
    let number = whole.parse::<u32>();
    number
        .map(|number| Duration::from_secs(number.into()))
        .map_err(|_| "it must be a whole number of seconds".into())
}

pub(super) fn port(text: &str) -> Result<u16, Wrong> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a port is a number from 1 to 65535".into()),
        Ok(port) => Ok(port),
    }
}

/// A host without a port. Addresses of IPv6 may be in brackets.
pub(super) fn host(text: &str) -> Result<String, Wrong> {
    let is_bare_address = text.parse::<std::net::Ipv6Addr>().is_ok();
    let with_port = if is_bare_address {
        format!("[{text}]:1")
    } else {
        format!("{text}:1")
    };
    match with_port.parse::<ServerAddress>() {
        Ok(server) => Ok(server.host),
        Err(_) => Err("it must be the name or address of a host, without a port".into()),
    }
}

/// What stands between commas; empty parts are left out.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(String::from)
        .collect()
}

/// The same, each part of this kind; what is wrong is said of all.
pub(super) fn each<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    let (mut values, mut wrong) = (Vec::new(), Vec::new());
    for part in list(text) {
        match parse(&part) {
            Ok(value) => values.push(value),
            Err(reason) => wrong.push(reason),
        }
    }
    if wrong.is_empty() {
        Ok(values)
    } else {
        Err(wrong.join("; "))
    }
}

pub(super) fn servers(text: &str) -> Result<Vec<ServerAddress>, Wrong> {
    each(text, |server| {
        let address = server.parse();
        address.map_err(|error: crate::server::AddressError| error.to_string())
    })
}

/// A path, in which `~` stands for the home.
pub(super) fn path(text: &str, home: Option<&std::path::Path>) -> Result<PathBuf, Wrong> {
    if text == "~" || text.starts_with("~/") {
        let home = home.ok_or("`~` stands for the home, which HOME does not tell")?;
        return Ok(home.join(text[1..].trim_start_matches('/')));
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn words_for_yes_and_no() {
        for text in ["1", "yes", "TRUE", "y", "T"] {
            assert_eq!(boolean(text), Ok(true));
        }
        for text in ["0", "No", "false", "n", "f"] {
            assert_eq!(boolean(text), Ok(false));
        }
        for text in ["", "2", "on", "yess"] {
            assert!(boolean(text).is_err());
        }
        assert!(lenient_boolean("Yes") && !lenient_boolean("y") && !lenient_boolean("on"));
    }

    #[test]
    fn numbers() {
        assert_eq!(seconds("60"), Ok(Duration::from_secs(60)));
        assert_eq!(seconds("60s"), Ok(Duration::from_secs(60)));
        for text in ["", "s", "-1", "1.5", "1m", "99999999999"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
        assert_eq!(port("4222"), Ok(4222));
        for text in ["0", "65536", "x", ""] {
            assert!(port(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("puppet", "puppet"),
            ("ca.example.net.", "ca.example.net"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected));
        }
        for text in ["", "puppet:8140", "https://puppet", "a b", "a@b", "[a]"] {
            assert!(host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_in_homes() {
        let home = Path::new("/home/rip");
        assert_eq!(path("~/a", Some(home)), Ok("/home/rip/a".into()));
        assert_eq!(path("~", Some(home)), Ok("/home/rip".into()));
        assert_eq!(path("/a", None), Ok("/a".into()));
        assert_eq!(path("~a", Some(home)), Ok("~a".into()));
        assert!(path("~/a", None).is_err());
    }
}
