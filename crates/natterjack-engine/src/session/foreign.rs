//! Who speaks something else than NATS, by its first bytes: browsers, checks of health, scanners, TLS where there is none.

/// First bytes of records of TLS, none of which begins an operation.
const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;

/// The methods that requests of HTTP begin with (RFC 9110, section 9).
const HTTP_METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"CONNECT ",
    b"TRACE ",
    b"PATCH ",
];

/// What every connection of HTTP/2 begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";

/// What a request's first line ends with, before the number of the version.
const HTTP_VERSION: &[u8] = b" HTTP/1.";

pub(super) fn speaks_http(input: &[u8]) -> bool {
    let mut methods = HTTP_METHODS.iter();
    methods.any(|method| input.starts_with(method)) || input.starts_with(HTTP2_PREFACE)
}

/// The same of what stands behind CONNECT, which is a word of NATS, too.
pub(super) fn asks_for_tunnel(arguments: &[u8]) -> bool {
    let mut windows = arguments.windows(HTTP_VERSION.len());
    !arguments.starts_with(b"{") && windows.any(|window| window == HTTP_VERSION)
}

pub(super) fn speaks_tls(input: &[u8]) -> bool {
    matches!(input.first(), Some(&(TLS_ALERT | TLS_HANDSHAKE)))
}
