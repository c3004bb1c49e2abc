//! `/subsz`: the index of subscriptions, and what is in it.

use natterjack_engine::{Engine, IndexCounters, SubscriptionFilter, SubscriptionSnapshot};
use natterjack_subject::{is_valid_publish_subject, matches};
use serde::Serialize;
use thiserror::Error;

use super::connz::LIMIT_DEFAULT;
use super::facts::ServerFacts;
use super::format::{Time, is_default};

/// Which subscriptions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubszOptions {
    /// Whether to list them, and not only to count.
    pub subscriptions: bool,
    /// Subscriptions to leave out at the beginning.
    pub offset: usize,
    /// The most to show; 0 for 1024.
    pub limit: usize,
    /// Only those that a message to this subject would reach.
    pub test: Option<String>,
    /// Only those in this account.
    pub account: Option<String>,
}

/// No subject to publish to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid test subject, must be valid publish subject: {0}")]
pub struct InvalidTestSubject(pub String);

/// The index of subscriptions, and a page of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Subsz {
    /// The server's id.
    pub server_id: String,
    /// When this was written.
    pub now: Time,
    /// How the index is used.
    #[serde(flatten)]
    pub index: IndexStats,
    /// Subscriptions that were to be listed.
    pub total: usize,
    /// Subscriptions left out at the beginning.
    pub offset: usize,
    /// The most this page could have.
    pub limit: usize,
    /// The subscriptions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subscriptions_list: Vec<SubscriptionDetail>,
}

/// How an index of subscriptions is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct IndexStats {
    /// Subscriptions in it.
    pub num_subscriptions: usize,
    /// Subjects in the index's own cache; it has none, sessions have.
    pub num_cache: usize,
    /// Subscriptions ever put into it.
    pub num_inserts: u64,
    /// Subscriptions taken out of it.
    pub num_removes: u64,
    /// Times the receivers of a subject were asked for.
    pub num_matches: u64,
    /// The share of them that a cache answered.
    pub cache_hit_rate: f64,
    /// The most receivers of a subject.
    pub max_fanout: u64,
    /// Receivers of a subject on average.
    pub avg_fanout: f64,
}

impl From<&IndexCounters> for IndexStats {
    fn from(counters: &IndexCounters) -> Self {
        Self {
            num_subscriptions: counters.subscriptions,
            num_cache: 0,
            num_inserts: counters.inserts,
            num_removes: counters.removes,
            num_matches: counters.matches,
            cache_hit_rate: counters.cache_hit_rate(),
            max_fanout: counters.fanout_max,
            avg_fanout: counters.fanout_average(),
        }
    }
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SubscriptionDetail {
    /// Its account; not shown with a connection.
    #[serde(skip_serializing_if = "is_default")]
    pub account: String,
    /// The account's tag, which is its name; not shown with a connection.
    #[serde(skip_serializing_if = "is_default")]
    pub account_tag: String,
    /// What it is for.
    pub subject: String,
    /// Its queue group.
    #[serde(rename = "qgroup", skip_serializing_if = "is_default")]
    pub queue: String,
    /// The client's id for it.
    pub sid: String,
    /// Messages delivered.
    pub msgs: u64,
    /// Messages after which it ends; 0 if it does not.
    #[serde(skip_serializing_if = "is_default")]
    pub max: u64,
    /// Number of the connection that holds it.
    pub cid: u64,
}

impl SubscriptionDetail {
    /// As it is shown with its connection, without the account.
    pub(super) fn of(subscription: &SubscriptionSnapshot<'_>) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self {
            account: String::new(),
            account_tag: String::new(),
            subject: text(subscription.subject),
            queue: subscription.queue.map(text).unwrap_or_default(),
            sid: text(subscription.sid),
            msgs: subscription.delivered,
            max: subscription.max.unwrap_or(0),
            cid: subscription.connection,
        }
    }

    /// With the account: in lists of all, and as nats-server shows it with connections that have ended.
    pub(super) fn with_account(subscription: &SubscriptionSnapshot<'_>) -> Self {
        Self {
            account: subscription.account.to_string(),
            account_tag: subscription.account.to_string(),
            ..Self::of(subscription)
        }
    }
}

/// Counts at once; a list is linear in the subscriptions of the accounts asked for, and keeps no more than the page.
pub(crate) fn subsz(
    facts: &ServerFacts,
    engine: &Engine,
    options: &SubszOptions,
) -> Result<Subsz, InvalidTestSubject> {
    if let Some(test) = &options.test
        && !is_valid_publish_subject(test.as_bytes())
    {
        return Err(InvalidTestSubject(test.clone()));
    }
    let limit = match options.limit {
        0 => LIMIT_DEFAULT,
        limit => limit,
    };
    let page = options.offset..options.offset.saturating_add(limit);
    let account = options.account.as_deref();
    let (mut total, mut list) = (0, Vec::new());
    if options.subscriptions {
        let filter = SubscriptionFilter {
            account,
            ..SubscriptionFilter::default()
        };
        engine.for_each_subscription(filter, |subscription| {
            let is_reached = options
                .test
                .as_ref()
                .is_none_or(|test| matches(subscription.subject, test.as_bytes()));
            if is_reached {
                if page.contains(&total) {
                    list.push(SubscriptionDetail::with_account(subscription));
                }
                total += 1;
            }
        });
    }
    Ok(Subsz {
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        index: index_stats(engine, account),
        total,
        offset: options.offset,
        limit,
        subscriptions_list: list,
    })
}

/// The page without a list, from counters that somebody has anyway.
pub(super) fn counters(facts: &ServerFacts, index: &IndexCounters) -> Subsz {
    Subsz {
        server_id: facts.info.server_id.clone(),
        now: facts.time_of(facts.now),
        index: index.into(),
        total: 0,
        offset: 0,
        limit: LIMIT_DEFAULT,
        subscriptions_list: Vec::new(),
    }
}

fn index_stats(engine: &Engine, account: Option<&str>) -> IndexStats {
    match account {
        None => (&engine.index_counters()).into(),
        Some(name) => {
            let snapshots = engine.account_snapshots();
            let found = snapshots.iter().find(|account| *account.name == *name);
            found.map_or_else(IndexStats::default, |account| (&account.index).into())
        }
    }
}
