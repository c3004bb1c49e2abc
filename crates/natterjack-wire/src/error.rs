//! Owns what can be wrong with input ([`ProtocolError`]), and every `-ERR` a server answers a client or a
//! route with ([`ErrorReply`]): its exact text and whether the connection closes, in one table. When an error is
//! sent is decided elsewhere.

use thiserror::Error;

/// Input that does not follow the protocol. The connection it came from cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// No operation starts like this.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// The arguments of an operation are longer than `max_control_line`.
    #[error("maximum control line exceeded")]
    ControlLineTooLong,
    /// A message announces more bytes than `max_payload`.
    #[error("maximum payload exceeded")]
    PayloadTooLarge,
    /// A payload is not followed by a carriage return and a line feed.
    #[error("payload is not followed by CR LF")]
    PayloadTerminator,
    /// `PUB` with other than two or three arguments.
    #[error("PUB takes a subject, an optional reply and a size")]
    PublishArguments,
    /// `HPUB` with other than three or four arguments.
    #[error("HPUB takes a subject, an optional reply and two sizes")]
    HeaderPublishArguments,
    /// `SUB` with other than two or three arguments.
    #[error("SUB takes a subject, an optional queue group and a subscription id")]
    SubscribeArguments,
    /// `UNSUB` with other than one or two arguments.
    #[error("UNSUB takes a subscription id and an optional number of messages")]
    UnsubscribeArguments,
    /// `MSG` with other than three or four arguments.
    #[error("MSG takes a subject, a subscription id, an optional reply and a size")]
    MessageArguments,
    /// `HMSG` with other than four or five arguments.
    #[error("HMSG takes a subject, a subscription id, an optional reply and two sizes")]
    HeaderMessageArguments,
    /// `RMSG` with fewer than a subject and a size behind the account, or more words without `+` or `|` before them.
    #[error(
        "RMSG takes an account, a subject, an optional reply or list of queue groups, and a size"
    )]
    RoutedMessageArguments,
    /// `HMSG` on a route, likewise.
    #[error(
        "HMSG takes an account, a subject, an optional reply or list of queue groups, and two sizes"
    )]
    RoutedHeaderMessageArguments,
    /// `LMSG`, likewise.
    #[error(
        "LMSG takes an origin, an account, a subject, an optional reply or list of queue groups, and two sizes"
    )]
    LeafMessageArguments,
    /// `RS+` or `LS+` with too few words, or with a queue group but no weight, or with more.
    #[error("RS+ and LS+ take an account, a subject, and optionally a queue group with its weight")]
    RemoteSubscribeArguments,
    /// `RS-` or `LS-` with too few words or too many.
    #[error("RS- and LS- take an account, a subject and an optional queue group")]
    RemoteUnsubscribeArguments,
    /// The size of a message is not one to nine digits.
    #[error("bad or missing size")]
    PayloadSize,
    /// The size of a header is not one to nine digits.
    #[error("bad or missing header size")]
    HeaderSize,
    /// `HPUB` from a client whose CONNECT did not announce headers.
    #[error("message headers not supported")]
    HeadersNotAnnounced,
    /// A header is said to be longer than the message it is part of.
    #[error("header size is larger than the total size")]
    HeaderLongerThanMessage,
    /// A carriage return inside the arguments of `PUB` or `HPUB`, which would travel on into the control
    /// line of every subscriber.
    #[error("carriage return inside a control line")]
    CarriageReturnInLine,
}

impl ProtocolError {
    /// What nats-server tells the client before it closes; `None` when it closes without a word (client
    /// protocol, section 8).
    pub const fn reply(&self) -> Option<ErrorReply<'static>> {
        match self {
            Self::UnknownOperation | Self::PayloadTerminator => Some(ErrorReply::UnknownOperation),
            Self::ControlLineTooLong => Some(ErrorReply::ControlLineTooLong),
            Self::PayloadTooLarge => Some(ErrorReply::PayloadTooLarge),
            Self::PublishArguments
            | Self::HeaderPublishArguments
            | Self::SubscribeArguments
            | Self::UnsubscribeArguments
            | Self::MessageArguments
            | Self::HeaderMessageArguments
            | Self::RoutedMessageArguments
            | Self::RoutedHeaderMessageArguments
            | Self::LeafMessageArguments
            | Self::RemoteSubscribeArguments
            | Self::RemoteUnsubscribeArguments
            | Self::PayloadSize
            | Self::HeaderSize
            | Self::HeadersNotAnnounced
            | Self::HeaderLongerThanMessage
            | Self::CarriageReturnInLine => None,
        }
    }
}

/// Builds [`ErrorReply`] from the table below: `Variant { parameters } closes|stays [text and parameters]`.
/// Parameters are quoted, those in parentheses, which are numbers, written as they are.
macro_rules! error_replies {
    ($(
        $(#[$doc:meta])*
        $name:ident $({ $($parameter:ident),+ })? $fate:ident [$($piece:tt)+]
    );+ $(;)?) => {
        /// An `-ERR` of nats-server, with its parameters as they came from the client (client protocol,
        /// section 8).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum ErrorReply<'a> {
            $(
                $(#[$doc])*
                $name $({ $(
                    #[doc = concat!("The ", stringify!($parameter), " in question.")]
                    $parameter: &'a [u8],
                )+ })?,
            )+
        }

        impl ErrorReply<'_> {
            /// Whether the server closes the connection after this.
            pub const fn closes(&self) -> bool {
                match self { $( Self::$name { .. } => fate!($fate), )+ }
            }

            /// Appends the text, without `-ERR` and the quotes around it.
            pub fn write_text(&self, out: &mut Vec<u8>) {
                match self { $(
                    Self::$name $({ $($parameter),+ })? => { $( piece!(out, $piece); )+ }
                )+ }
            }
        }

        /// One of each, for tests.
        #[cfg(test)]
        const EVERY_REPLY: &[ErrorReply<'static>] = &[
            $( ErrorReply::$name $({ $($parameter: stringify!($parameter).as_bytes()),+ })?, )+
        ];
    };
}

macro_rules! fate {
    (closes) => {
        true
    };
    (stays) => {
        false
    };
}

macro_rules! piece {
    ($out:ident, $text:literal) => {
        $out.extend_from_slice($text.as_bytes())
    };
    ($out:ident, $parameter:ident) => {
        quote($out, $parameter)
    };
    ($out:ident, ($number:ident)) => {
        $out.extend_from_slice($number)
    };
}

error_replies! {
    /// No such operation, or a payload without its terminator.
    UnknownOperation closes ["Unknown Protocol Operation"];
    /// See [`ProtocolError::ControlLineTooLong`].
    ControlLineTooLong closes ["maximum control line exceeded"];
    /// See [`ProtocolError::PayloadTooLarge`].
    PayloadTooLarge closes ["Maximum Payload Violation"];
    /// Bad or missing credentials, something else where `CONNECT` was due, or a `CONNECT` that names an
    /// account.
    AuthorizationViolation closes ["Authorization Violation"];
    /// No `CONNECT` in time.
    AuthenticationTimeout closes ["Authentication Timeout"];
    /// The credentials of the user have run out.
    UserAuthenticationExpired closes ["User Authentication Expired"];
    /// The account's own credentials have run out.
    AccountAuthenticationExpired closes ["Account Authentication Expired"];
    /// The server has as many connections as it may; sent after `INFO`.
    ConnectionsExceeded closes ["maximum connections exceeded"];
    /// More clients than allowed began a TLS handshake within a second; sent in clear text, after `INFO`.
    HandshakesExceeded closes ["Connection throttling is active. Please try again later."];
    /// The account has as many connections as it may; sent after `CONNECT`.
    AccountConnectionsExceeded closes ["maximum account active connections exceeded"];
    /// The connection or its account has as many subscriptions as it may. The connection stays; only when a
    /// new limit finds it above, it is closed as well.
    SubscriptionsExceeded stays ["maximum subscriptions exceeded"];
    /// `SUB` with an empty token, or `>` before the end.
    InvalidSubject stays ["Invalid Subject"];
    /// A pedantic client published to a subject that is empty in a token or has a wildcard.
    InvalidPublishSubject stays ["Invalid Publish Subject"];
    /// The client may not publish there.
    PublishDenied { subject } stays ["Permissions Violation for Publish to " subject];
    /// The client may not ask for answers there.
    ReplyDenied { reply } stays ["Permissions Violation for Publish with Reply of " reply];
    /// The client may not listen there.
    SubscribeDenied { subject } stays ["Permissions Violation for Subscription to " subject];
    /// The client may not listen there in this queue group.
    QueueSubscribeDenied { subject, queue } stays ["Permissions Violation for Subscription to " subject " using queue " queue];
    /// A reload took away the permission for a subscription that existed; it is gone.
    SubscriptionRevoked { subject, sid } stays ["Permissions Violation for Subscription to " subject " (sid " sid ")"];
    /// The same for a member of a queue group.
    QueueSubscriptionRevoked { subject, queue, sid } stays ["Permissions Violation for Subscription to " subject " using queue " queue " (sid " sid ")"];
    /// The subject has more tokens than `max_subscription_tokens`.
    TooManyTokens { subject } stays ["Permissions Violation for Subscription to " subject ", too many tokens"];
    /// `CONNECT` asked for a protocol other than 0 and 1.
    InvalidClientProtocol closes ["invalid client protocol"];
    /// `CONNECT` asked for `no_responders` without `headers`.
    NoRespondersRequiresHeaders closes ["no responders requires headers support"];
    /// Too many `PING`s went unanswered.
    StaleConnection closes ["Stale Connection"];
    /// The TLS handshake did not happen in time. Sent into the half-open handshake, so few will read it.
    TlsRequired closes ["Secure Connection - TLS Required"];
    /// The account could not take the connection.
    AccountRegistrationFailed stays ["Failed Account Registration"];
    /// A client on the port for routes.
    ClientOnRoutePort closes ["attempted to connect to route port"];
    /// A client on the port for leaf nodes.
    ClientOnLeafNodePort closes ["attempted to connect to leaf node port"];
    /// A client or route on the port for gateways.
    ClientOnGatewayPort closes ["attempted to connect to gateway port"];
    /// A route or leaf node announced interest in a subject that is none (route protocol, section 4).
    InvalidSubscription stays ["Invalid Subscription"];
    /// A gateway on the port for routes.
    GatewayOnRoutePort { gateway } closes ["Rejecting connection from gateway " gateway " on the Route port"];
    /// A route of another cluster (route protocol, section 8).
    ClusterNameMismatch { theirs, ours } closes ["Rejecting connection, cluster name " theirs " does not match " ours];
    /// A route asked for a place in the pool that is none (route protocol, section 6).
    InvalidPoolIndex { index, pool_size } closes ["Invalid route pool index: " (index) " - pool size is " (pool_size)];
    /// The side that accepted a route named a place in the pool, which is the other's to choose.
    UnexpectedPoolIndex { index } closes ["Route pool index should not be set but is set to " (index)];
    /// A route for one account, but one of the servers has no pools.
    DedicatedRouteImpossible { account } closes ["Not possible to have a dedicated route for account " account " between those servers"];
    /// A route for one account, which is not listed here.
    NoRouteForAccount { account } closes ["No route for account " account];
    /// A route for one account, which does not exist here.
    RouteAccountMissing { account } closes ["Unable to lookup account " account ": account missing"];
    /// A route asked for a compression that is not known (route protocol, section 11).
    UnsupportedCompression { mode } closes ["unsupported route compression mode " mode];
}

/// Appends `text` the way Go's `%q` prints a byte string: in double quotes, printable Unicode as it is,
/// everything else escaped.
fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            quote_character(out, character);
        }
        for &byte in chunk.invalid() {
            out.extend_from_slice(b"\\x");
            hexadecimal(out, u32::from(byte), 2);
        }
    }
    out.push(b'"');
}

fn quote_character(out: &mut Vec<u8>, character: char) {
    let short = match character {
        '"' => Some(b'"'),
        '\\' => Some(b'\\'),
        '\x07' => Some(b'a'),
        '\x08' => Some(b'b'),
        '\x0C' => Some(b'f'),
        '\n' => Some(b'n'),
        '\r' => Some(b'r'),
        '\t' => Some(b't'),
        '\x0B' => Some(b'v'),
        _ => None,
    };
    let code = u32::from(character);
    if let Some(short) = short {
        out.extend_from_slice(&[b'\\', short]);
    } else if is_printable(character) {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    } else if code < 0x80 {
        out.extend_from_slice(b"\\x");
        hexadecimal(out, code, 2);
    } else if code < 0x1_0000 {
        out.extend_from_slice(b"\\u");
        hexadecimal(out, code, 4);
    } else {
        out.extend_from_slice(b"\\U");
        hexadecimal(out, code, 8);
    }
}

/// Letters, marks, numbers, punctuation, symbols and the ASCII blank. The standard library knows this
/// table but shows it only through what `escape_debug` leaves alone; in second place, because in first
/// place it escapes combining marks too.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    let mut text = [b'x', 0, 0, 0, 0];
    let length = character.encode_utf8(&mut text[1..]).len();
    let text = core::str::from_utf8(&text[..=length]).unwrap_or_default();
    text.escape_debug().nth(1) == Some(character)
}

fn hexadecimal(out: &mut Vec<u8>, value: u32, digits: u32) {
    for place in (0..digits).rev() {
        let digit = (value >> (place * 4)) & 0xF;
        out.push(b"0123456789abcdef"[digit as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: &ErrorReply<'_>) -> String {
        let mut out = Vec::new();
        reply.write_text(&mut out);
        String::from_utf8(out).expect("quoted text is UTF-8")
    }

    #[test]
    fn texts_with_parameters() {
        #[track_caller]
        fn check(reply: ErrorReply<'_>, expected: &str) {
            assert_eq!(text(&reply), expected);
        }
        let (subject, queue, sid) = (&b"a.b"[..], &b"q"[..], &b"7"[..]);
        check(
            ErrorReply::PublishDenied { subject },
            r#"Permissions Violation for Publish to "a.b""#,
        );
        check(
            ErrorReply::ReplyDenied { reply: b"_R_.x" },
            r#"Permissions Violation for Publish with Reply of "_R_.x""#,
        );
        check(
            ErrorReply::SubscribeDenied { subject },
            r#"Permissions Violation for Subscription to "a.b""#,
        );
        check(
            ErrorReply::QueueSubscribeDenied { subject, queue },
            r#"Permissions Violation for Subscription to "a.b" using queue "q""#,
        );
        check(
            ErrorReply::SubscriptionRevoked { subject, sid },
            r#"Permissions Violation for Subscription to "a.b" (sid "7")"#,
        );
        check(
            ErrorReply::QueueSubscriptionRevoked {
                subject,
                queue,
                sid,
            },
            r#"Permissions Violation for Subscription to "a.b" using queue "q" (sid "7")"#,
        );
        check(
            ErrorReply::TooManyTokens { subject },
            r#"Permissions Violation for Subscription to "a.b", too many tokens"#,
        );
    }

    /// As nats-server 2.15.1 said them on connections made to be refused.
    #[test]
    fn what_routes_are_told() {
        #[track_caller]
        fn check(reply: ErrorReply<'_>, expected: &str) {
            assert_eq!(text(&reply), expected);
            assert!(reply.closes());
        }
        let account = &b"NOPE"[..];
        check(
            ErrorReply::GatewayOnRoutePort { gateway: b"G" },
            r#"Rejecting connection from gateway "G" on the Route port"#,
        );
        check(
            ErrorReply::ClusterNameMismatch {
                theirs: b"x\"y",
                ours: b"C",
            },
            r#"Rejecting connection, cluster name "x\"y" does not match "C""#,
        );
        check(
            ErrorReply::InvalidPoolIndex {
                index: b"7",
                pool_size: b"3",
            },
            "Invalid route pool index: 7 - pool size is 3",
        );
        check(
            ErrorReply::DedicatedRouteImpossible { account: b"$SYS" },
            r#"Not possible to have a dedicated route for account "$SYS" between those servers"#,
        );
        check(
            ErrorReply::NoRouteForAccount { account: b"$G" },
            r#"No route for account "$G""#,
        );
        check(
            ErrorReply::RouteAccountMissing { account },
            r#"Unable to lookup account "NOPE": account missing"#,
        );
        check(
            ErrorReply::UnsupportedCompression { mode: b"zstd" },
            r#"unsupported route compression mode "zstd""#,
        );
        check(
            ErrorReply::ClientOnRoutePort,
            "attempted to connect to route port",
        );
    }

    #[test]
    fn every_text_is_its_own_and_stays_on_its_line() {
        let texts: Vec<String> = EVERY_REPLY.iter().map(text).collect();
        for (index, text) in texts.iter().enumerate() {
            assert!(!text.is_empty());
            assert!(!text.contains(['\r', '\n']), "{text}");
            assert!(!texts[..index].contains(text), "{text} twice");
        }
    }

    #[test]
    fn what_goes_wrong_in_a_decoder_closes() {
        for error in [
            ProtocolError::UnknownOperation,
            ProtocolError::ControlLineTooLong,
            ProtocolError::PayloadTooLarge,
            ProtocolError::PayloadTerminator,
        ] {
            assert!(error.reply().expect("has a reply").closes(), "{error}");
        }
        assert_eq!(ProtocolError::PublishArguments.reply(), None);
    }

    #[test]
    fn quoting() {
        #[track_caller]
        fn check(bytes: &[u8], expected: &str) {
            let mut out = Vec::new();
            quote(&mut out, bytes);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
        check(b"", r#""""#);
        check(b"a b~", r#""a b~""#);
        check(br#"a"b\c"#, r#""a\"b\\c""#);
        check(b"\x00\x01\x1F\x7F", r#""\x00\x01\x1f\x7f""#);
        check(b"\x07\x08\x0C\n\r\t\x0B", r#""\a\b\f\n\r\t\v""#);
        check(b"\xFF\xC3", r#""\xff\xc3""#);
        check(b"\xE2\x82x", r#""\xe2\x82x""#);
        check("äöü 漢字 🐸".as_bytes(), r#""äöü 漢字 🐸""#);
        check("e\u{301}\u{301}".as_bytes(), "\"e\u{301}\u{301}\"");
        check("\u{301}".as_bytes(), "\"\u{301}\"");
        check(
            "\u{80}\u{a0}\u{200b}\u{2028}\u{feff}".as_bytes(),
            r#""\u0080\u00a0\u200b\u2028\ufeff""#,
        );
        check("\u{fffd}".as_bytes(), "\"\u{fffd}\"");
        check(
            "\u{e000}\u{e0001}\u{10ffff}".as_bytes(),
            r#""\ue000\U000e0001\U0010ffff""#,
        );
    }
}
