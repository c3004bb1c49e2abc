//! `/`: a page for people, with links to the others.

use super::facts::ServerFacts;

/// The pages, in the order they are shown.
const LINKS: [(&str, &str); 7] = [
    ("varz", "Server"),
    ("connz", "Connections"),
    ("accountz", "Accounts"),
    ("accstatz", "Account statistics"),
    ("subsz", "Subscriptions"),
    ("routez", "Routes"),
    ("healthz", "Health"),
];

pub(super) fn root(facts: &ServerFacts) -> String {
    // Relative links, and from the last part of the base path: its page has no slash at its end.
    let base = facts.options.monitoring.base_path.trim_matches('/');
    let folder = base.rsplit('/').next().unwrap_or_default();
    let prefix = if folder.is_empty() {
        "./".to_owned()
    } else {
        format!("./{}/", escaped(folder))
    };
    let links: String = LINKS
        .iter()
        .map(|(page, title)| {
            format!("  <li><a href=\"{prefix}{page}\">{title}</a> <code>/{page}</code></li>\n")
        })
        .collect();
    let (name, version) = (escaped(&facts.info.server_name), escaped(&facts.info.go));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{name}</title>\n<style>\n\
         body {{ font-family: system-ui, sans-serif; margin: 2em; color: #333 }}\n\
         ul {{ list-style: none; padding: 0; line-height: 1.8 }}\ncode {{ color: #999 }}\n\
         </style>\n</head>\n<body>\n<h1>{name}</h1>\n<p>{version}</p>\n<ul>\n{links}</ul>\n</body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
