//! From a path and its query to an answer: which pages there are, what is counted, what a bad request is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::absent::{gatewayz, jsz, leafz};
use super::accountz::accountz;
use super::accstatz::accstatz;
use super::connz::{ConnzOptions, Subscriptions, connz};
use super::format::{compact_json, indented_json};
use super::healthz::{HealthzOptions, healthz};
use super::innards;
use super::metrics::ExpositionFormat;
use super::page;
use super::process::thread_time;
use super::query::{BadValue, Query, percent_decoded};
use super::routez::routez;
use super::subsz::{SubszOptions, subsz};
use super::varz::varz;
use crate::server::Shared;

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Page {
    Root,
    Varz,
    Connz,
    Routez,
    Subsz,
    Accountz,
    Accstatz,
    Gatewayz,
    Leafz,
    Jsz,
    Healthz,
    Metrics,
    Stacksz,
    Expvarz,
    Ipqueuesz,
    Raftz,
}

/// The names pages are counted by, in the order of [`Page`], whose last ones nobody counts.
pub(super) const NAMES: [&str; 12] = [
    "/",
    "/varz",
    "/connz",
    "/routez",
    "/subsz",
    "/accountz",
    "/accstatz",
    "/gatewayz",
    "/leafz",
    "/jsz",
    "/healthz",
    "/metrics",
];

/// Pages that take longer than the time it takes to hand them to another thread: from this many connections,
/// subscriptions and accounts on. They then hold up no connection that this thread serves.
const LARGE: usize = 256;

/// What long pages may take together while they are sent, in KiB. Whoever asks for pages and does not read them keeps
/// them in memory.
pub(super) const LARGE_KIB_MAX: u32 = 64 * 1024;

/// How long a long page waits for others to be sent. One that is not taken is dropped earlier.
const LARGE_WAIT_MAX: Duration = Duration::from_secs(20);

/// What is sent back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    /// Whether scripts of any web page may read it.
    pub(super) is_for_any_origin: bool,
    /// Whether a browser must take it for what it is said to be.
    pub(super) is_as_said: bool,
    pub(super) location: Option<String>,
    /// What a browser may do on behalf of the page.
    pub(super) policy: Option<&'static str>,
}

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

impl Answer {
    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: text.into().into(),
            is_for_any_origin: false,
            is_as_said: false,
            location: None,
            policy: None,
        }
    }

    pub(super) fn not_found() -> Self {
        Self {
            is_as_said: true,
            ..Self::text(StatusCode::NOT_FOUND, "404 page not found\n")
        }
    }

    fn json(body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json",
            body: body.into(),
            is_for_any_origin: true,
            is_as_said: false,
            location: None,
            policy: None,
        }
    }

    fn page(page: &impl Serialize) -> Self {
        Self::json(indented_json(page))
    }

    fn html(status: StatusCode, text: String) -> Self {
        Self {
            content_type: HTML,
            ..Self::text(status, text)
        }
    }

    /// A link to the same page, without detours in its path (Go `http.ServeMux`).
    fn moved_to(path: &str, query: &str) -> Self {
        let mut location = path
            .bytes()
            .map(|byte| match byte {
                b'%' | b'"' | b'<' | b'>' | b'?' | b'#' | b'\\' | 0..=b' ' | 0x7f.. => {
                    format!("%{byte:02X}")
                }
                _ => char::from(byte).to_string(),
            })
            .collect::<String>();
        if !query.is_empty() {
            location = format!("{location}?{query}");
        }
        let link = location.replace('&', "&amp;").replace('"', "&#34;");
        Self {
            location: Some(location),
            ..Self::html(
                StatusCode::TEMPORARY_REDIRECT,
                format!("<a href=\"{link}\">Temporary Redirect</a>.\n\n"),
            )
        }
    }
}

/// Answers a request for `path` with `query`, both as they were sent, by somebody who reads the kinds of text in `accept`.
pub(super) async fn answer(shared: Arc<Shared>, path: &str, query: &str, accept: &str) -> Answer {
    let Some(path) = percent_decoded(path) else {
        return Answer::text(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let clean = cleaned(&path);
    if clean != path {
        return Answer::moved_to(&clean, query);
    }
    let base = &shared.monitor.base_path;
    let Some(page) = page_at(base, &path) else {
        let added = name_below(base, &path).and_then(|name| shared.monitor.sources.page(name));
        return added.map_or_else(Answer::not_found, |page| Answer::page(&page));
    };
    let query = Query::parse(query);
    let format = ExpositionFormat::accepted(accept);
    let is_listing = match page {
        Page::Connz | Page::Subsz | Page::Metrics | Page::Accountz | Page::Accstatz => true,
        Page::Routez => !query.text("subs").is_empty(),
        _ => false,
    };
    let engine = &shared.engine;
    let size = engine.connections()
        + engine.closed_connections()
        + shared.subscriptions()
        + engine.accounts().len();
    if !is_listing || size < LARGE {
        return written(&shared, page, &query, format);
    }
    let Ok(_turn) = shared.monitor.turns.acquire().await else {
        return Answer::not_found();
    };
    // Many may have come this far while nothing was owed.
    shared.monitor.pace.keep().await;
    let work = Arc::clone(&shared);
    let built = tokio::task::spawn_blocking(move || written(&work, page, &query, format)).await;
    match built {
        Ok(answer) => within_bounds(&shared, answer).await,
        Err(_) => Answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "500 Internal Server Error",
        ),
    }
}

/// Waits until there is room for a long page, which it then takes until the page is sent.
async fn within_bounds(shared: &Shared, answer: Answer) -> Answer {
    let kib = u32::try_from(answer.body.len() / 1024).unwrap_or(u32::MAX);
    let room = Arc::clone(&shared.monitor.room);
    let room = room.acquire_many_owned(kib.min(LARGE_KIB_MAX));
    let Ok(Ok(room)) = timeout(LARGE_WAIT_MAX, room).await else {
        return Answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 Service Unavailable: too many pages wait to be read",
        );
    };
    let body = Bytes::from_owner(Held {
        body: answer.body,
        _room: room,
    });
    Answer { body, ..answer }
}

/// A page and the room it takes.
struct Held {
    body: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn written(shared: &Shared, page: Page, query: &Query, format: ExpositionFormat) -> Answer {
    let begin = thread_time();
    let built = build(shared, page, query, format);
    let time = thread_time().saturating_sub(begin);
    shared.monitor.pace.took(time);
    built.unwrap_or_else(|refusal| Answer::text(StatusCode::BAD_REQUEST, refusal.0))
}

/// Why a request is bad, in nats-server's words.
struct Refusal(String);

/// Everything that can be wrong with a request has the words as its text.
impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

fn build(
    shared: &Shared,
    page: Page,
    query: &Query,
    format: ExpositionFormat,
) -> Result<Answer, Refusal> {
    let (monitor, engine) = (&shared.monitor, &*shared.engine);
    let count = || monitor.count(page as usize);
    // Whether a request with a bad parameter is counted differs from page to page, as in nats-server.
    match page {
        Page::Connz => {
            let options = connz_options(query)?;
            count();
            Ok(Answer::page(&connz(&shared.facts(), engine, &options)?))
        }
        Page::Routez => {
            let subscriptions = subscriptions(query)?;
            count();
            Ok(Answer::page(&routez(
                &shared.facts(),
                engine,
                subscriptions,
            )))
        }
        Page::Root => {
            count();
            Ok(Answer {
                policy: Some(&page::POLICY),
                is_as_said: true,
                ..Answer::html(
                    StatusCode::OK,
                    page::page(&shared.facts(), monitor.sources.page_name()),
                )
            })
        }
        Page::Metrics => {
            count();
            Ok(Answer {
                content_type: format.content_type(),
                ..Answer::text(StatusCode::OK, shared.metrics(format))
            })
        }
        Page::Varz => {
            count();
            Ok(Answer::page(&varz(&shared.facts(), shared.load())))
        }
        Page::Subsz => {
            count();
            let options = subsz_options(query)?;
            Ok(Answer::page(&subsz(&shared.facts(), engine, &options)?))
        }
        Page::Accountz => {
            count();
            let account = optional(query, "acc");
            let page = accountz(&shared.facts(), engine, account.as_deref())?;
            Ok(Answer::page(&page))
        }
        Page::Accstatz => {
            count();
            let with_unused = query.boolean("unused")?;
            Ok(Answer::page(&accstatz(
                &shared.facts(),
                engine,
                with_unused,
            )))
        }
        Page::Gatewayz => {
            count();
            subscriptions(query)?;
            query.boolean("accs")?;
            Ok(Answer::page(&gatewayz(&shared.facts())))
        }
        Page::Leafz => {
            count();
            query.boolean("subs")?;
            Ok(Answer::page(&leafz(&shared.facts())))
        }
        Page::Jsz => {
            count();
            check_jsz(query)?;
            Ok(Answer::page(&jsz(&shared.facts())))
        }
        Page::Healthz => {
            count();
            let options = healthz_options(query)?;
            let health = healthz(shared.is_accepting(), options);
            if health.status_code != 200 {
                tracing::warn!("Healthcheck failed: {:?}", health.fault());
            }
            let status = StatusCode::from_u16(health.status_code);
            Ok(Answer {
                status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                ..Answer::json(compact_json(&health))
            })
        }
        // That no JSON follows is nats-server's.
        Page::Stacksz => Ok(Answer::json(innards::threads().into_bytes())),
        Page::Expvarz => Ok(Answer {
            content_type: "application/json; charset=utf-8",
            is_for_any_origin: false,
            ..Answer::json(compact_json(&innards::expvarz()))
        }),
        Page::Ipqueuesz => {
            query.boolean("all")?;
            Ok(Answer::page(&innards::ipqueuesz()))
        }
        Page::Raftz => Ok(Answer::text(StatusCode::NOT_FOUND, innards::NO_RAFT)),
    }
}

fn connz_options(query: &Query) -> Result<ConnzOptions, Refusal> {
    // In this order, because the first fault is told.
    Ok(ConnzOptions {
        auth: query.boolean("auth")?,
        subscriptions: subscriptions(query)?,
        offset: not_negative(query.integer("offset")?),
        limit: not_negative(query.integer("limit")?),
        cid: Some(query.unsigned("cid")?).filter(|&id| id > 0),
        state: query.text("state").parse()?,
        user: optional(query, "user"),
        account: optional(query, "acc"),
        mqtt_client: optional(query, "mqtt_client"),
        filter_subject: None,
        sort: query.text("sort").parse()?,
    })
}

fn subsz_options(query: &Query) -> Result<SubszOptions, BadValue> {
    Ok(SubszOptions {
        subscriptions: query.boolean("subs")?,
        offset: not_negative(query.integer("offset")?),
        limit: not_negative(query.integer("limit")?),
        test: optional(query, "test"),
        account: optional(query, "acc"),
    })
}

fn healthz_options(query: &Query) -> Result<HealthzOptions, BadValue> {
    // What is asked about JetStream must be readable, and makes no difference without it.
    for name in [
        "js-enabled",
        "js-enabled-only",
        "js-server-only",
        "js-meta-only",
    ] {
        query.boolean(name)?;
    }
    Ok(HealthzOptions {
        details: query.boolean("details")?,
        has_account: !query.text("account").is_empty(),
        has_stream: !query.text("stream").is_empty(),
        has_consumer: !query.text("consumer").is_empty(),
    })
}

/// Without JetStream parameters make no difference, but they must be readable.
fn check_jsz(query: &Query) -> Result<(), Refusal> {
    for name in [
        "accounts",
        "streams",
        "consumers",
        "direct-consumers",
        "config",
    ] {
        query.boolean(name)?;
    }
    query.integer("offset")?;
    query.integer("limit")?;
    let is_for_leader = query.boolean("leader-only")?;
    query.boolean("raft")?;
    query.boolean("stream-leader-only")?;
    if is_for_leader {
        return Err(Refusal("filtered response: not leader".to_owned()));
    }
    Ok(())
}

fn subscriptions(query: &Query) -> Result<Subscriptions, BadValue> {
    if query.text("subs").to_lowercase() == "detail" {
        return Ok(Subscriptions::Detail);
    }
    Ok(match query.boolean("subs")? {
        true => Subscriptions::Subjects,
        false => Subscriptions::Count,
    })
}

fn not_negative(number: i64) -> usize {
    usize::try_from(number.max(0)).unwrap_or(usize::MAX)
}

fn optional(query: &Query, name: &str) -> Option<String> {
    Some(query.text(name).to_owned()).filter(|text| !text.is_empty())
}

/// The page at a clean path. `base` is a clean path too.
fn page_at(base: &str, path: &str) -> Option<Page> {
    if path == base {
        return Some(Page::Root);
    }
    Some(match name_below(base, path)? {
        "varz" => Page::Varz,
        "connz" => Page::Connz,
        "routez" => Page::Routez,
        "subsz" | "subscriptionsz" => Page::Subsz,
        "accountz" => Page::Accountz,
        "accstatz" => Page::Accstatz,
        "gatewayz" => Page::Gatewayz,
        "leafz" => Page::Leafz,
        "jsz" => Page::Jsz,
        "stacksz" => Page::Stacksz,
        "debug/vars" => Page::Expvarz,
        "ipqueuesz" => Page::Ipqueuesz,
        "raftz" => Page::Raftz,
        "healthz" => Page::Healthz,
        "metrics" => Page::Metrics,
        _ => return None,
    })
}

/// What stands behind the base, without the slash between them.
fn name_below<'a>(base: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(base.trim_end_matches('/'))?
        .strip_prefix('/')
}

/// The path without empty parts, `.` and `..`; it begins with a slash, and ends with one if it did.
pub(super) fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, clean) in [
            ("", "/"),
            ("/", "/"),
            ("//varz", "/varz"),
            ("/a/../varz", "/varz"),
            ("/../../varz", "/varz"),
            ("/./varz/", "/varz/"),
            ("/varz/.", "/varz"),
            ("varz", "/varz"),
        ] {
            assert_eq!(cleaned(path), clean, "{path}");
        }
    }

    #[test]
    fn pages_are_found_below_the_base() {
        assert_eq!(page_at("/", "/"), Some(Page::Root));
        assert_eq!(page_at("/", "/varz"), Some(Page::Varz));
        assert_eq!(page_at("/", "/varz/"), None);
        assert_eq!(page_at("/", "/VARZ"), None);
        assert_eq!(page_at("/nats", "/nats"), Some(Page::Root));
        assert_eq!(page_at("/nats", "/nats/subscriptionsz"), Some(Page::Subsz));
        assert_eq!(page_at("/nats", "/nats/"), None);
        assert_eq!(page_at("/nats", "/natsvarz"), None);
        assert_eq!(page_at("/nats", "/varz"), None);
        assert_eq!(page_at("/nats", "/"), None);
    }

    #[test]
    fn every_page_is_counted_by_its_name() {
        for (index, name) in NAMES.iter().enumerate() {
            let page = page_at("/", name).expect("a page of that name");
            assert_eq!(page as usize, index);
        }
    }
}
