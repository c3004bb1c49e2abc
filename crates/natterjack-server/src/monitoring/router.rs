//! From a path and its query to an answer: which pages there are, what is counted, what a bad request is told.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Serialize;

use super::absent::{gatewayz, jsz, leafz};
use super::accountz::accountz;
use super::accstatz::accstatz;
use super::connz::{ConnzOptions, Subscriptions, connz};
use super::format::{compact_json, indented_json};
use super::healthz::{Healthz, HealthzOptions, healthz};
use super::innards;
use super::metrics::ExpositionFormat;
use super::pace::Pace;
use super::page;
use super::places::Line;
use super::process::thread_time;
use super::query::{BadValue, Query, percent_decoded};
use super::room::Room;
use super::routez::routez;
use super::subsz::{SubszOptions, subsz};
use super::varz::varz;
use super::{Bounds, Monitor};
use crate::clock::now;
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
    /// Whether it takes some of the room that there is for long ones.
    pub(super) is_long: bool,
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
            is_long: false,
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
            is_long: false,
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
    let bounds = shared.monitor.bounds(page);
    let Ok(turn) = bounds.turns.acquire().await else {
        return Answer::not_found();
    };
    // Many may have come this far while nothing was owed.
    pace(&shared.monitor, page).keep().await;
    let work = Arc::clone(&shared);
    let built = tokio::task::spawn_blocking(move || written(&work, page, &query, format)).await;
    // Whoever waits for room, or does not read, keeps nobody from having a page made.
    drop(turn);
    match built {
        Ok(answer) => within(&shared.monitor.bounds(page).room, answer, &shared.monitor).await,
        Err(_) => Answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "500 Internal Server Error",
        ),
    }
}

/// The answer with the room that it takes until it is sent.
async fn within(room: &Arc<Room>, answer: Answer, monitor: &Monitor) -> Answer {
    match room.take(answer.body.clone(), &monitor.places).await {
        Some(body) => Answer {
            body,
            is_long: true,
            ..answer
        },
        None => Answer::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "503 Service Unavailable: too many pages wait to be read",
        ),
    }
}

fn written(shared: &Shared, page: Page, query: &Query, format: ExpositionFormat) -> Answer {
    let begin = thread_time();
    let built = build(shared, page, query, format);
    let time = thread_time().saturating_sub(begin);
    // What the state takes is less than its request, and may be asked for beyond its pace.
    if page != Page::Healthz {
        pace(&shared.monitor, page).took(time);
    }
    built.unwrap_or_else(|refusal| Answer::text(StatusCode::BAD_REQUEST, refusal.0))
}

/// What all pages of the kind may take.
fn pace(monitor: &Monitor, page: Page) -> &Arc<Pace> {
    let paces = &monitor.paces;
    match page {
        Page::Metrics => &paces.metrics,
        _ => &paces.pages,
    }
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
            // Looked at later than all else.
            let sort = query.text("sort").parse()?;
            let options = ConnzOptions { sort, ..options };
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
            let health = healthz(shared.is_accepting(), &options);
            monitor.tell_of(&health);
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
        ..ConnzOptions::default()
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
    // In this order, because the first fault is told.
    let js_enabled = query.boolean("js-enabled")?;
    Ok(HealthzOptions {
        js_enabled_only: query.boolean("js-enabled-only")? || js_enabled,
        js_server_only: query.boolean("js-server-only")?,
        js_meta_only: query.boolean("js-meta-only")?,
        details: query.boolean("details")?,
        account: optional(query, "account"),
        stream: optional(query, "stream"),
        consumer: optional(query, "consumer"),
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

/// Where whoever asks for this path, as it was sent, waits. `None` for how the server is and nothing else, which waits in no
/// line.
pub(super) fn line(monitor: &Monitor, path: &str) -> Option<Line> {
    match page_at(&monitor.base_path, path) {
        Some(Page::Healthz) => None,
        Some(Page::Metrics) => Some(Line::Metrics),
        _ => Some(Line::Pages),
    }
}

impl Monitor {
    /// Says in the log that clients are not taken. Whoever asks in another way, and wrongly, is told so and nobody else.
    fn tell_of(&self, health: &Healthz) {
        if !matches!(health.status_code, 200 | 400)
            && let Some(unsaid) = self.failed_checks.lock().note(now())
        {
            let fault = health.fault();
            match unsaid {
                0 => tracing::warn!("Healthcheck failed: {fault:?}"),
                _ => tracing::warn!("Healthcheck failed: {fault:?}, and {unsaid} times before"),
            }
        }
    }

    /// Within what long pages of the kind are made.
    fn bounds(&self, page: Page) -> &Bounds {
        match page {
            Page::Metrics => &self.long_metrics,
            _ => &self.long_pages,
        }
    }
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
