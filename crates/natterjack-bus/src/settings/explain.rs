//! Settings as a document that can be read again, each line with where its value comes from, and what it comes to.

use std::fmt::Write as _;

use super::origin::Origins;
use super::table::ROWS;
use super::value::{Shown, show};
use super::{
    Endpoint, Listen, Loaded, Nats, Origin, Settings, TransportKind, is_loopback, unbracketed,
};

/// Where origins begin, if values leave the room.
const ORIGIN_COLUMN: usize = 52;

impl Loaded {
    /// The settings in force as a YAML document, each line with where its value comes from. Reading it gives the same
    /// settings, wherever it is read.
    #[must_use]
    pub fn explain(&self) -> String {
        explain(&self.settings, &self.origins)
    }
}

fn explain(settings: &Settings, origins: &Origins) -> String {
    let mut text = String::new();
    let mut open: Vec<&str> = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        let names: Vec<&str> = row.path.split('.').collect();
        let (name, sections) = names.split_last().expect("no path is empty");
        let common = open
            .iter()
            .zip(sections)
            .take_while(|(one, other)| one == other)
            .count();
        open.truncate(common);
        for section in &sections[common..] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}{section}:", "  ".repeat(open.len()));
            open.push(section);
        }
        let indent = "  ".repeat(open.len());
        let origin = origins.at(index);
        match show(row.slot, settings) {
            Shown::One(value) => line(
                &mut text,
                format!("{indent}{name}: {}", scalar(&value)),
                origin,
            ),
            Shown::Many(values) if !values.is_empty() => {
                line(&mut text, format!("{indent}{name}:"), origin);
                for value in values {
                    let _ = writeln!(text, "{indent}  - {}", scalar(&value));
                }
            }
            Shown::Nothing | Shown::Many(_) => {
                let _ = writeln!(text, "{indent}# {name}: none");
            }
        }
    }
    for sentence in summary(settings) {
        let _ = writeln!(text, "# {sentence}");
    }
    text
}

/// What all of it comes to: who connects where.
fn summary(settings: &Settings) -> Vec<String> {
    if settings.transport == TransportKind::Local {
        return vec!["Events stay in this process: there is no server and no connection.".into()];
    }
    let Nats {
        client,
        server,
        tls,
    } = &settings.nats;
    let own = settings.nats.own_server();
    let endpoint = match &client.endpoint {
        Some(endpoint) if endpoint.is_in_process() => "the server in this process".into(),
        Some(endpoint) => endpoint.to_string(),
        None if server.enable => format!("{own}, the server in this process"),
        None => Endpoint::standard().to_string(),
    };
    let security = if tls.enable { ", with TLS" } else { "" };
    let subject = &client.subject;
    let mut sentences = vec![format!(
        "This node connects to {endpoint}{security}; its events are on `{subject}`."
    )];
    if !server.enable {
        sentences.push("It runs no server, and has no monitoring pages.".into());
        return sentences;
    }
    let reach = |listen: &Listen| {
        if is_loopback(&listen.host) {
            "from this host alone"
        } else {
            "from other hosts, too"
        }
    };
    let cluster = &server.cluster;
    let scheme = if tls.enable { "https" } else { "http" };
    let routes = match cluster.routes.len() {
        0 => "dials no other".to_owned(),
        1 => "dials 1 route".into(),
        count => format!("dials {count} routes"),
    };
    sentences.extend([
        format!(
            "Clients connect at nats://{} {}.",
            address(&server.client),
            reach(&server.client)
        ),
        format!(
            "Other servers of cluster `{}` connect at {} {}; this one {routes}.",
            cluster.name,
            address(&cluster.listen),
            reach(&cluster.listen)
        ),
        format!(
            "Monitoring pages are at {scheme}://{}/ {}: /healthz, /metrics, /busz and others.",
            address(&server.http),
            reach(&server.http)
        ),
    ]);
    sentences
}

/// As in URLs.
fn address(Listen { host, port }: &Listen) -> String {
    match unbracketed(host) {
        address if address.contains(':') => format!("[{address}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

fn line(text: &mut String, written: String, origin: &Origin) {
    let width = ORIGIN_COLUMN.max(written.chars().count() + 2);
    // A name of a file is whatever it is; a comment is one line.
    let origin = origin.to_string().escape_debug().to_string();
    let _ = writeln!(text, "{written:width$}# {origin}");
}

/// A value as YAML, quoted wherever it might be taken for something else.
fn scalar(value: &str) -> String {
    let is_number = value
        .parse::<u64>()
        .is_ok_and(|number| number.to_string() == value);
    let is_word = |word: &str| {
        !word.is_empty()
            && word.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/')
            && word
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter))
    };
    // The words that some reader of YAML or other takes for something else.
    let is_taken = ["null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|taken| taken.eq_ignore_ascii_case(value));
    if (is_number || is_word(value)) && !is_taken {
        value.into()
    } else {
        // Every JSON text is YAML.
        serde_json::Value::from(value).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn comes_to(yaml: &str) -> Vec<String> {
        let loaded = Settings::load(&Sources::new().text("c", yaml));
        summary(&loaded.expect("they are good").settings)
    }

    #[test]
    fn what_settings_come_to() {
        assert_eq!(
            comes_to("eventBus: {}"),
            ["Events stay in this process: there is no server and no connection."]
        );
        assert_eq!(
            comes_to("eventBus: {type: nats, nats: {client: {endpoint: 'nats://b:4222'}}}"),
            [
                "This node connects to nats://b:4222; its events are on `bindplane-event-bus`.",
                "It runs no server, and has no monitoring pages."
            ]
        );
        let yaml = "eventBus: {type: nats, nats: {server: {enable: true, http: {port: 8300}, cluster: {host: 0.0.0.0, \
                    routes: ['nats://a:6222', 'nats://b:6222']}}}}";
        assert_eq!(
            comes_to(yaml),
            [
                "This node connects to nats://localhost:4222, the server in this process; its events are on \
                 `bindplane-event-bus`.",
                "Clients connect at nats://localhost:4222 from this host alone.",
                "Other servers of cluster `bindplane` connect at 0.0.0.0:6222 from other hosts, too; this one dials 2 routes.",
                "Monitoring pages are at http://localhost:8300/ from this host alone: /healthz, /metrics, /busz and others.",
            ]
        );
        let yaml = "eventBus: {type: nats, nats: {server: {enable: true, client: {host: '::1'}, http: {host: '[::1]'}}}}";
        let told = comes_to(yaml);
        assert!(
            told[0].starts_with(
                "This node connects to nats://[::1]:4222, the server in this process;"
            )
        );
        assert_eq!(
            told[1],
            "Clients connect at nats://[::1]:4222 from this host alone."
        );
        assert!(told[3].starts_with("Monitoring pages are at http://[::1]:8222/ from"));
        // Everywhere is here as well, and has a name here.
        let yaml =
            "eventBus: {type: nats, nats: {server: {enable: true, client: {host: '0.0.0.0'}}}}";
        let told = comes_to(yaml);
        assert!(told[0].starts_with("This node connects to nats://localhost:4222, the server"));
        assert_eq!(
            told[1],
            "Clients connect at nats://0.0.0.0:4222 from other hosts, too."
        );
        let yaml =
            "eventBus: {type: nats, nats: {client: {endpoint: 'inproc:'}, server: {enable: true}}}";
        assert!(comes_to(yaml)[0].starts_with("This node connects to the server in this process;"));
    }
}
