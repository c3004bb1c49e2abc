//! `/healthz`: whether the server takes connections.

use serde::Serialize;

use super::format::is_default;

/// What is asked besides: all that nats-server can be asked. What is about JetStream makes no difference where that is not
/// there, as on a nats-server that has it switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthzOptions {
    /// Whether JetStream is switched on, and nothing else of it (`js-enabled-only`, formerly `js-enabled`).
    pub js_enabled_only: bool,
    /// Whether it works on this server (`js-server-only`).
    pub js_server_only: bool,
    /// Whether this server knows the others of it (`js-meta-only`).
    pub js_meta_only: bool,
    /// The account of the stream.
    pub account: Option<String>,
    /// A stream. Asks for its account, too.
    pub stream: Option<String>,
    /// A consumer. Asks for its stream, too.
    pub consumer: Option<String>,
    /// Whether faults are listed with their kinds.
    pub details: bool,
}

/// Whether the server takes connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Healthz {
    /// `ok`, or `error`.
    pub status: &'static str,
    /// What is wrong.
    #[serde(skip_serializing_if = "is_default")]
    pub error: String,
    /// What is wrong, if details were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<HealthzFault>,
    /// The status of HTTP that says the same.
    #[serde(skip)]
    pub status_code: u16,
}

/// [`Healthz`] where there is no HTTP to carry the status.
#[derive(Serialize)]
pub(crate) struct HealthzWithStatus {
    status: &'static str,
    status_code: u16,
    #[serde(skip_serializing_if = "is_default")]
    error: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<HealthzFault>,
}

impl Healthz {
    pub(crate) fn with_status_code(self) -> HealthzWithStatus {
        HealthzWithStatus {
            status: self.status,
            status_code: self.status_code,
            error: self.error,
            errors: self.errors,
        }
    }

    /// What is wrong, wherever it is told.
    pub(super) fn fault(&self) -> &str {
        let listed = self.errors.first().map(|fault| &fault.error);
        listed.unwrap_or(&self.error)
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HealthzFault {
    /// With what: `CONNECTION`, `BAD_REQUEST`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What.
    pub error: String,
}

/// `is_accepting`: whether the server takes connections, which it does not in lame duck mode.
pub(crate) fn healthz(is_accepting: bool, options: &HealthzOptions) -> Healthz {
    let must = |name, what| format!("\"{name}\" must not be empty when checking {what} health");
    let fault = if options.stream.is_some() && options.account.is_none() {
        Some((400, "BAD_REQUEST", must("account", "stream")))
    } else if options.consumer.is_some() && options.stream.is_none() {
        Some((400, "BAD_REQUEST", must("stream", "consumer")))
    } else if !is_accepting {
        let error = "failed to be ready for connections after 1ms: server";
        Some((500, "CONNECTION", error.to_owned()))
    } else {
        None
    };
    let Some((status_code, kind, error)) = fault else {
        return Healthz {
            status: "ok",
            error: String::new(),
            errors: Vec::new(),
            status_code: 200,
        };
    };
    let (error, errors) = if options.details {
        (String::new(), vec![HealthzFault { kind, error }])
    } else {
        (error, Vec::new())
    };
    Healthz {
        status: "error",
        error,
        errors,
        status_code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitoring::format::compact_json;

    fn check(is_accepting: bool, options: &HealthzOptions, status_code: u16, body: &str) {
        let health = healthz(is_accepting, options);
        assert_eq!(health.status_code, status_code);
        assert_eq!(String::from_utf8_lossy(&compact_json(&health)), body);
    }

    #[test]
    fn answers_are_those_of_nats_server() {
        let plain = HealthzOptions::default();
        check(true, &plain, 200, r#"{"status":"ok"}"#);
        check(
            false,
            &plain,
            500,
            r#"{"status":"error","error":"failed to be ready for connections after 1ms: server"}"#,
        );
        let stream = HealthzOptions {
            stream: Some("s".to_owned()),
            ..plain.clone()
        };
        check(
            true,
            &stream,
            400,
            r#"{"status":"error","error":"\"account\" must not be empty when checking stream health"}"#,
        );
        let consumer = HealthzOptions {
            consumer: Some("c".to_owned()),
            details: true,
            ..plain
        };
        check(
            true,
            &consumer,
            400,
            r#"{"status":"error","errors":[{"type":"BAD_REQUEST","error":"\"stream\" must not be empty when checking consumer health"}]}"#,
        );
    }
}
