//! Owns what must hold for whatever peers send, as functions that panic when it does not. Fuzzers call them; a connector has
//! no use for them. What needs certificates or files is with the fuzz program.

use crate::wire::{Proven, Reply, Request, SecureReply, SecureRequest, Transport, Wrapping};

/// A message as it comes over NATS: what can be read is written and read the same, in both wrappings.
pub fn transport(data: &[u8]) {
    let Ok(transport) = Transport::from_bytes(data) else {
        return;
    };
    for wrapping in [Wrapping::Lines, Wrapping::None] {
        let again = Transport::from_bytes(&transport.to_bytes(wrapping));
        assert_eq!(again.expect("what we write can be read"), transport);
    }
}

/// A reply: what is opened has the hash that it says, and is read and written the same.
pub fn secure_reply(data: &[u8]) {
    let Ok(text) = SecureReply::open(data) else {
        return;
    };
    let again = SecureReply::open(&SecureReply::new(text.clone()).to_bytes());
    assert_eq!(again.expect("what we write can be read"), text);
    if let Ok(reply) = Reply::from_text(&text) {
        let again = Reply::from_text(&reply.to_text());
        assert_eq!(again.expect("what we write can be read"), reply);
    }
}

/// A secure request of a stranger: reading it, and what came as its certificates, and asking for its proof.
pub fn secure_request(data: &[u8]) {
    let Ok(secure) = SecureRequest::from_bytes(data) else {
        return;
    };
    let again = SecureRequest::from_bytes(&secure.to_bytes(Wrapping::Lines));
    assert_eq!(again.expect("what we write can be read"), secure);
    for certificate in secure.certificates().unwrap_or_default() {
        let _ = secure.prove(&certificate);
    }
}

/// A request of somebody who may ask: what can be read is written and read the same.
pub fn request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(request) = Request::from_proven(Proven { message: text }) else {
        return;
    };
    let text = request.to_text();
    let again = Request::from_proven(Proven { message: &text });
    assert_eq!(again.expect("what we write can be read"), request);
    let _ = request.is_out_of_date(std::time::UNIX_EPOCH);
}
