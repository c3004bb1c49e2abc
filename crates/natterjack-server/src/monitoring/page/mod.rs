//! `/`: the live page, for people.
//!
//! One document with everything it needs in it. Without JavaScript it is an index of the other pages; with it, it asks
//! those pages once a second and draws what they say. It shows nothing that they do not.

use std::fmt::Write as _;
use std::sync::LazyLock;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use super::facts::ServerFacts;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The pages, in the order they are shown.
const LINKS: [(&str, &str); 11] = [
    ("varz", "Server"),
    ("connz", "Connections"),
    ("accountz", "Accounts"),
    ("accstatz", "Account statistics"),
    ("subsz", "Subscriptions"),
    ("routez", "Routes"),
    ("gatewayz", "Gateways"),
    ("leafz", "Leaf nodes"),
    ("jsz", "JetStream"),
    ("healthz", "Health"),
    ("metrics", "Metrics for Prometheus"),
];

/// What a browser may do on behalf of the page: run its own script, and ask this server.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64.encode(&Sha256::digest(text));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// `extra`: the name of a page of something else in the process.
pub(super) fn page(facts: &ServerFacts, extra: Option<&str>) -> String {
    let prefix = prefix(&facts.options.monitoring.base_path);
    let name = escaped(&facts.info.server_name);
    let version = escaped(&facts.info.go);
    let links = links(&prefix);
    let extra = escaped(extra.unwrap_or_default());
    fill(TEMPLATE, |part| match part {
        "name" => &name,
        "version" => &version,
        "prefix" => &prefix,
        "links" => &links,
        "extra" => &extra,
        "style" => STYLE,
        "script" => SCRIPT,
        _ => unreachable!("the template has no other parts"),
    })
}

/// What links begin with: relative, and from the last part of the base path, since its page has no slash at its end.
fn prefix(base_path: &str) -> String {
    let base = base_path.trim_matches('/');
    let folder = base.rsplit('/').next().unwrap_or_default();
    if folder.is_empty() {
        "./".to_owned()
    } else {
        format!("./{}/", escaped(folder))
    }
}

fn links(prefix: &str) -> String {
    let mut text = String::new();
    for (page, title) in LINKS {
        let link = format!("<a href=\"{prefix}{page}\">{title}</a> <code>/{page}</code>");
        writeln!(text, "    <li>{link}</li>").expect("a string takes everything");
    }
    text
}

/// The template with its parts in place. What is put in is not looked through for further parts.
fn fill<'a>(template: &'a str, part: impl Fn(&str) -> &'a str) -> String {
    let mut text = String::with_capacity(template.len() + STYLE.len() + SCRIPT.len() + 1024);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        text.push_str(part(name));
        rest = after;
    }
    text.push_str(rest);
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_and_style_cannot_end_early() {
        assert!(!SCRIPT.contains("</"), "it would end the script");
        assert!(!STYLE.contains("</"), "it would end the style");
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
        ] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        for text in [TEMPLATE, STYLE, SCRIPT] {
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("//cdn") && !elsewhere.contains("http"));
        }
    }

    #[test]
    fn what_is_filled_in_is_not_looked_through() {
        let filled = fill("<{{a}}|{{b}}>", |part| match part {
            "a" => "{{b}}",
            _ => "x",
        });
        assert_eq!(filled, "<{{b}}|x>");
    }

    #[test]
    fn links_are_relative_to_the_base_path() {
        assert_eq!(prefix("/"), "./");
        assert_eq!(prefix("/nats/a"), "./a/");
        assert_eq!(prefix("/<b>"), "./&lt;b&gt;/");
    }
}
