//! The block `permissions { … }` of users, accounts and the cluster, in all the forms nats-server reads.

use std::time::Duration;

use natterjack_conf::{Data, go_duration};
use natterjack_engine::access::{Permissions, ResponseLimit, SubjectRules};

use crate::configuration::codec::{self, TEXTS};
use crate::configuration::reader::Reader;
use crate::configuration::row::{Group, Row, Section, settled};
use crate::configuration::shape::{Codec, Custom, plain};

/// `permissions { … }`, with the names for clients and those for routes.
pub(super) static PERMISSIONS: Section<Permissions> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            plain!(
                Permissions,
                "publish",
                publish,
                PUBLISH_RULES,
                "Subjects to publish to: one, a list, or a block with allow and deny.",
            )
            .alias(&["pub", "import"]),
            plain!(
                Permissions,
                "subscribe",
                subscribe,
                SUBSCRIBE_RULES,
                "Subjects to subscribe to: one, a list, or a block with allow and deny; \
                 \"subject queue\" is about one queue group.",
            )
            .alias(&["sub", "export"]),
            plain!(
                Permissions,
                "allow_responses",
                responses,
                RESPONSES,
                "Permission to answer requests: true for one answer within 2m, or a block with max \
                 (max_msgs, max_messages, max_responses) and expires (expiration, ttl), negative for no bound.",
            )
            .alias(&["publish_allow_responses"]),
        ],
    }],
    settle: settled,
};

static PUBLISH_RULES: Codec<SubjectRules> = Codec {
    kind: "subjects",
    read: rules,
    show: show_rules,
    is_secret: false,
};

static SUBSCRIBE_RULES: Codec<SubjectRules> = Codec {
    kind: "subjects",
    read: rules,
    show: show_rules,
    is_secret: false,
};

fn rules(data: &Data, reader: &mut Reader<'_>) -> Option<SubjectRules> {
    let Data::Map(map) = data else {
        return Some(SubjectRules {
            allow: Some(codec::texts(data, reader)?),
            deny: Vec::new(),
        });
    };
    let mut rules = SubjectRules::default();
    RULES.read(&mut rules, map, reader);
    Some(rules)
}

fn show_rules(rules: &SubjectRules) -> Option<String> {
    let list = |subjects: &[String]| codec::show_list(subjects).unwrap_or_else(|| "[]".to_owned());
    match (&rules.allow, rules.deny.is_empty()) {
        (None, true) => None,
        (Some(allow), true) => Some(list(allow)),
        (None, false) => Some(format!("{{ deny: {} }}", list(&rules.deny))),
        (Some(allow), false) => Some(format!(
            "{{ allow: {}, deny: {} }}",
            list(allow),
            list(&rules.deny)
        )),
    }
}

static RULES: Section<SubjectRules> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            Row::new(
                "allow",
                &Custom::<SubjectRules>::shorthand(
                    "subjects",
                    |rules: &mut SubjectRules, data, reader| {
                        rules.allow = codec::texts(data, reader);
                    },
                ),
                "What is allowed.",
            ),
            plain!(
                SubjectRules,
                "deny",
                deny,
                TEXTS,
                "What is not, even where allow allows it."
            ),
        ],
    }],
    settle: settled,
};

static RESPONSES: Codec<Option<ResponseLimit>> = Codec {
    kind: "true or false, or a block",
    read: |data, reader| match data {
        Data::Bool(on) => Some(on.then(ResponseLimit::default)),
        Data::Map(map) => {
            let mut limit = ResponseLimit::default();
            RESPONSE_LIMIT.read(&mut limit, map, reader);
            Some(Some(limit))
        }
        other => {
            reader.expected("true or false, or a block with max and expires", other);
            None
        }
    },
    show: |limit| {
        let limit = limit.as_ref()?;
        if *limit == ResponseLimit::default() {
            return Some("true".to_owned());
        }
        let expires = if limit.never_expires {
            "\"-1s\"".to_owned()
        } else {
            codec::show_duration(limit.expires)
        };
        Some(format!(
            "{{ max: {}, expires: {expires} }}",
            limit.messages_max
        ))
    },
    is_secret: false,
};

static RESPONSE_LIMIT: Section<ResponseLimit> = Section {
    groups: &[Group {
        title: "",
        rows: &[
            Row::new(
                "max",
                &Custom::<ResponseLimit>::shorthand(
                    "a number",
                    |limit: &mut ResponseLimit, data, reader| match codec::number(
                        data,
                        i64::MIN..=i64::MAX,
                        reader,
                    ) {
                        None | Some(0) => {}
                        Some(number) => limit.messages_max = number,
                    },
                ),
                "Answers to one request; negative for no bound.",
            )
            .alias(&["max_msgs", "max_messages", "max_responses"]),
            Row::new(
                "expires",
                &Custom::<ResponseLimit>::shorthand("a duration", read_expiry),
                "How long a request may be answered; negative for ever.",
            )
            .alias(&["expiration", "ttl"]),
        ],
    }],
    settle: settled,
};

fn read_expiry(limit: &mut ResponseLimit, data: &Data, reader: &mut Reader<'_>) {
    let Data::Text(text) = data else {
        reader.expected("a duration in quotes", data);
        return;
    };
    match go_duration::parse(text) {
        Ok(Duration::ZERO) => {}
        Ok(expires) => limit.expires = expires,
        Err(go_duration::NoDuration::Negative) => limit.never_expires = true,
        Err(_) => {
            codec::duration(text, reader);
        }
    }
}
