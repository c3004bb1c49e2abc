//! What to do about what a server says, or the way to it. It is told as an error's second line.

/// What is known of the connection that an advice is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Situation {
    /// A user, token, key or credentials were given.
    pub(super) has_login: bool,
    /// An address says `tls://`.
    pub(super) wants_tls: bool,
    /// Authorities were given.
    pub(super) has_authority: bool,
    /// A certificate was given.
    pub(super) has_certificate: bool,
}

/// About a server's own words, as they stand in its protocol's errors, in any case.
pub(super) fn of_refusal(words: &str, situation: Situation) -> Option<&'static str> {
    let words = words.to_ascii_lowercase();
    let says = |part: &str| words.contains(part);
    Some(if says("no responders requires headers") {
        "the server has message headers switched off (no_header_support), which this client cannot do without: \
         switch them on there"
    } else if says("headers") {
        "the server has message headers switched off (no_header_support): leave them out, or switch them on there"
    } else if says("maximum payload") {
        "the message, headers included, is larger than the server's max_payload: send less at a time, or raise that"
    } else if says("permissions violation") {
        "log in as somebody who may do this, or change the permissions of this user"
    } else if says("authorization violation") || says("authentication error") {
        if situation.has_login {
            "it refuses this login"
        } else {
            "it wants a login: see --user, --token, --creds and --nkey"
        }
    } else if says("authentication timeout") {
        "the login took longer than the server allows: is one of the two, or the network, overloaded?"
    } else if says("expired") {
        "get new credentials: the time of these is over"
    } else if says("revoked") {
        "get new credentials: the server does not accept these any more"
    } else if says("maximum connections") || says("active connections") {
        "end other clients, or raise max_connections on the server or in its account"
    } else if says("maximum subscriptions") {
        "subscribe to less, or raise max_subscriptions on the server or in its account"
    } else if says("slow consumer") {
        "messages were read more slowly than they came: subscribe to less, or raise max_pending on the server"
    } else if says("stale connection") {
        "one of the two was silent for too long: is this machine, or the network, overloaded?"
    } else if says("tls required") || says("tls handshake") {
        "it wants TLS: see --tlsca, --tlscert and --tlskey"
    } else {
        return None;
    })
}

/// About why a connection could not be made encrypted, in the words of rustls.
pub(super) fn of_tls(words: &str, situation: Situation) -> Option<&'static str> {
    let says = |part: &str| words.contains(part);
    let is_no_tls = ["InvalidContentType", "corrupt message", "handshake eof"]
        .iter()
        .any(|part| says(part));
    Some(if is_no_tls && situation.wants_tls {
        // What answers a TLS greeting with something else is no TLS server.
        "it does not speak TLS: write nats:// instead of tls:// to go without"
    } else if says("UnknownIssuer") {
        if situation.has_authority {
            "its certificate is not of the authority in --tlsca"
        } else {
            "name the authority that its certificate comes from with --tlsca"
        }
    } else if says("not valid for name") || says("NotValidForName") {
        "write a host that its certificate names"
    } else if says("certificate expired") || says("Expired") {
        "its certificate is out of its time: have it renewed, or check the clocks"
    } else if says("CertificateRequired") || says("certificate required") {
        "it wants a certificate from this side: see --tlscert and --tlskey"
    } else if says("fatal alert") {
        if situation.has_certificate {
            "it refuses the certificate in --tlscert: `natterjack certs inspect` may tell why"
        } else {
            "it may want a certificate from this side: see --tlscert and --tlskey"
        }
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_has_an_advice() {
        let situation = Situation::default();
        for (words, part) in [
            (
                "no responders requires headers support",
                "no_header_support",
            ),
            ("message headers not supported", "leave them out"),
            ("Maximum Payload Violation", "max_payload"),
            ("Permissions Violation for Publish to \"a\"", "permissions"),
            ("Authorization Violation", "--creds"),
            ("Authentication Timeout", "overloaded"),
            ("User Authentication Expired", "new credentials"),
            ("User Authentication Revoked", "new credentials"),
            ("maximum connections exceeded", "max_connections"),
            (
                "maximum account active connections exceeded",
                "max_connections",
            ),
            ("maximum subscriptions exceeded", "max_subscriptions"),
            ("Slow Consumer", "max_pending"),
            ("Stale Connection", "silent"),
            ("Secure Connection - TLS Required", "--tlsca"),
        ] {
            let advice = of_refusal(words, situation).unwrap_or_default();
            assert!(advice.contains(part), "{words}: {advice}");
        }
        assert_eq!(of_refusal("Server Shutdown", situation), None);
        let logged_in = Situation {
            has_login: true,
            ..situation
        };
        let advice = of_refusal("authorization violation", logged_in);
        assert_eq!(advice, Some("it refuses this login"));
    }
}
