//! An operator of NATS, made up for a test: an account and a user whose tokens it vouches for, as `nsc` would make them.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

pub(super) struct Operator {
    keys: KeyPair,
    account: KeyPair,
    user: KeyPair,
}

impl Operator {
    pub(super) fn new() -> Self {
        Self {
            keys: KeyPair::new_operator(),
            account: KeyPair::new_account(),
            user: KeyPair::new_user(),
        }
    }

    /// What a server goes by, for its configuration file.
    pub(super) fn configuration(&self) -> String {
        let operator = token(
            &self.keys,
            &self.keys,
            json!({ "type": "operator", "version": 2 }),
        );
        let any = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        });
        let account = json!({ "type": "account", "version": 2, "limits": any });
        let account = token(&self.account, &self.keys, account);
        format!(
            "operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {}: {account} }}\n",
            self.account.public_key()
        )
    }

    /// The user's file.
    pub(super) fn credentials(&self) -> String {
        let user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        let token = token(&self.user, &self.account, user);
        let seed = self.user.seed().expect("it is whole");
        format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\nNobody else should have it.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// What `issuer` says about `subject`, signed.
fn token(subject: &KeyPair, issuer: &KeyPair, claims: Value) -> String {
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": BASE32_NOPAD.encode(subject.public_key().as_bytes()),
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "name": "test",
        "sub": subject.public_key(),
        "nats": claims,
    });
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let text = format!("{}.{}", part(head), part(body));
    let signature = issuer.sign(text.as_bytes()).expect("it can sign");
    format!("{text}.{}", BASE64URL_NOPAD.encode(&signature))
}
