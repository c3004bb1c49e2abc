//! From the tree to [`Settings`]: which keys exist, what their values may be, and how the parts must fit together.
//!
//! Nothing stops at the first problem. A section hands out its keys by name; what nobody asked for is unknown, and
//! the names that were asked for are what it could have meant.

use natterjack_conf::{go_duration, nearest};

use super::TransportKind;
use super::problem::{Place, Problem, Problems, Severity};
use super::yaml::{self, Entry, Node, SECTION, Value};
use super::{
    Client, Cluster, Endpoint, Health, Listen, Loaded, Nats, Server, Settings, Tls, is_loopback,
};

/// The other transports the original knows. Their sections may stand in a file we share; their types we cannot serve.
const FOREIGN_TYPES: [&str; 4] = ["kafka", "googlePubSub", "azure", "pubsub"];

pub(super) fn read(text: &str, origin: &str) -> Result<Loaded, Problems> {
    let mut reader = Reader {
        origin,
        problems: Vec::new(),
    };
    let mut settings = Settings::default();
    match yaml::parse(text) {
        Err((place, message)) => reader.error(place, "", format!("not valid YAML: {message}")),
        Ok(document) => {
            reader.missing_section(&document);
            if let Some(section) = document.section {
                reader.event_bus(section, &mut settings);
            }
        }
    }
    let mut problems = reader.problems;
    problems.sort_by_key(|problem| problem.place);
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        return Err(Problems(problems));
    }
    Ok(Loaded {
        settings,
        warnings: problems,
    })
}

struct Reader<'a> {
    origin: &'a str,
    problems: Vec<Problem>,
}

/// One mapping of the document. `asked` is every name the reader knows here.
struct Section {
    path: String,
    entries: Vec<Option<Entry>>,
    asked: Vec<&'static str>,
}

/// A value taken out of a section, with the full name it goes by in messages.
struct Setting {
    option: String,
    node: Node,
}

impl Reader<'_> {
    fn event_bus(&mut self, entry: Entry, settings: &mut Settings) {
        let Some(mut section) = self.section(SECTION.into(), entry.node) else {
            return;
        };
        let kind = section.take(self, "type");
        settings.transport = kind
            .as_ref()
            .map_or_else(Default::default, |kind| self.kind(kind));
        let nats = section
            .take(self, "nats")
            .filter(|nats| !matches!(nats.node.value, Value::Null));
        if settings.transport == TransportKind::Nats && nats.is_none() {
            self.error(
                kind.map(|kind| kind.node.place),
                "eventBus.nats",
                "type is `nats`, so this section must be filled out: at least `client.endpoint`, or \
                 `server.enable: true`"
                    .into(),
            );
        }
        if let Some(nats) = nats {
            self.nats(nats, &mut settings.nats);
        }
        if let Some(health) = section.take(self, "health") {
            self.health(health, &mut settings.health);
        }
        for name in FOREIGN_TYPES {
            section.take(self, name);
        }
        section.finish(self);
    }

    fn kind(&mut self, setting: &Setting) -> TransportKind {
        let text = self.text(setting).unwrap_or_default();
        match text.to_ascii_lowercase().as_str() {
            "local" => TransportKind::Local,
            "nats" => TransportKind::Nats,
            "" => TransportKind::Local,
            other
                if FOREIGN_TYPES
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(other)) =>
            {
                self.bad(
                    setting,
                    format!("`{text}` is not supported here; valid: local, nats"),
                );
                TransportKind::Local
            }
            other => {
                let hint = closest(other, &["local", "nats"]);
                self.bad(
                    setting,
                    format!("unknown type `{text}`; valid: local, nats{hint}"),
                );
                TransportKind::Local
            }
        }
    }

    fn nats(&mut self, setting: Setting, nats: &mut Nats) {
        let Some(mut section) = self.section(setting.option, setting.node) else {
            return;
        };
        let endpoint_place = section
            .take(self, "client")
            .and_then(|client| self.client(client, &mut nats.client));
        if let Some(server) = section.take(self, "server") {
            self.server(server, &mut nats.server);
        }
        self.endpoint_fits(endpoint_place, nats);
        // The documentation this follows shows the TLS keys both ways, below `tls` and directly below `nats`.
        let flat = self.tls_keys(&mut section);
        let nested = section.take(self, "tls").and_then(|tls| {
            let mut section = self.section(tls.option, tls.node)?;
            let keys = self.tls_keys(&mut section);
            section.finish(self);
            Some(keys)
        });
        self.tls(flat, nested.unwrap_or_default(), &mut nats.tls);
        section.finish(self);
    }

    /// Our own client is to use our own server, so an endpoint on this host with another port is a slip.
    fn endpoint_fits(&mut self, place: Option<Place>, nats: &Nats) {
        let Some(endpoint) = &nats.client.endpoint else {
            return;
        };
        let server = &nats.server;
        if server.enable && is_loopback(&endpoint.host) && endpoint.port != server.client.port {
            let message = format!(
                "`{endpoint}` is on this host, but the embedded server listens on port {}; leave this option out to \
                 connect to that server",
                server.client.port
            );
            self.warn(place, "eventBus.nats.client.endpoint", message);
        }
    }

    /// Answers where the endpoint was written.
    fn client(&mut self, setting: Setting, client: &mut Client) -> Option<Place> {
        let mut section = self.section(setting.option, setting.node)?;
        let mut endpoint_place = None;
        if let Some(name) = section.take(self, "name") {
            self.name(&name, &mut client.name);
        }
        if let Some(endpoint) = section.take(self, "endpoint") {
            client.endpoint = self.endpoint(&endpoint, &["nats"]);
            endpoint_place = Some(endpoint.node.place);
        }
        if let Some(subject) = section.take(self, "subject") {
            self.subject(&subject, &mut client.subject);
        }
        section.finish(self);
        endpoint_place
    }

    fn server(&mut self, setting: Setting, server: &mut Server) {
        let Some(mut section) = self.section(setting.option, setting.node) else {
            return;
        };
        if let Some(enable) = section.take(self, "enable") {
            server.enable = self.boolean(&enable).unwrap_or_default();
        }
        if let Some(name) = section.take(self, "name") {
            self.name(&name, &mut server.name);
        }
        let client = section
            .take(self, "client")
            .map(|s| self.listen(s, &mut server.client));
        let http = section
            .take(self, "http")
            .map(|s| self.listen(s, &mut server.http));
        let cluster = section
            .take(self, "cluster")
            .map(|s| self.cluster(s, &mut server.cluster));
        section.finish(self);
        if server.enable {
            let listeners = [
                ("client", &server.client, client.flatten()),
                ("http", &server.http, http.flatten()),
                ("cluster", &server.cluster.listen, cluster.flatten()),
            ];
            self.distinct(&section.path, &listeners);
        }
    }

    /// Reads `host` and `port`; the place of the port, if it was written, is what a conflict points at.
    fn listen(&mut self, setting: Setting, listen: &mut Listen) -> Option<Place> {
        let mut section = self.section(setting.option, setting.node)?;
        let place = self.listen_keys(&mut section, listen);
        section.finish(self);
        place
    }

    fn listen_keys(&mut self, section: &mut Section, listen: &mut Listen) -> Option<Place> {
        if let Some(host) = section.take(self, "host") {
            self.host(&host, &mut listen.host);
        }
        let port = section.take(self, "port")?;
        listen.port = self.port(&port).unwrap_or(listen.port);
        Some(port.node.place)
    }

    fn cluster(&mut self, setting: Setting, cluster: &mut Cluster) -> Option<Place> {
        let mut section = self.section(setting.option, setting.node)?;
        if let Some(name) = section.take(self, "name") {
            self.name(&name, &mut cluster.name);
        }
        let place = self.listen_keys(&mut section, &mut cluster.listen);
        if let Some(advertise) = section.take(self, "advertise") {
            cluster.advertise = self.advertise(&advertise);
        }
        if let Some(routes) = section.take(self, "routes") {
            cluster.routes = self.routes(routes);
        }
        section.finish(self);
        place
    }

    fn routes(&mut self, setting: Setting) -> Vec<Endpoint> {
        let Setting { option, node } = setting;
        let mut routes = Vec::new();
        for node in self.list(&option, node) {
            let setting = Setting {
                option: option.clone(),
                node,
            };
            let Some(route) = self.endpoint(&setting, &["nats", "nats-route", "tls"]) else {
                continue;
            };
            if routes.contains(&route) {
                self.warn(
                    Some(setting.node.place),
                    &option,
                    format!("`{route}` is listed twice"),
                );
            } else {
                routes.push(route);
            }
        }
        routes
    }

    fn health(&mut self, setting: Setting, health: &mut Health) {
        let Some(mut section) = self.section(setting.option, setting.node) else {
            return;
        };
        if let Some(hosts) = section.take(self, "requiredHosts") {
            match self.scalar(&hosts).map(|text| text.trim().parse::<u64>()) {
                Some(Ok(count)) if count >= 1 => health.required_hosts = count,
                Some(_) => self.bad(&hosts, "must be a whole number, 1 or more".into()),
                None => {}
            }
        }
        if let Some(interval) = section.take(self, "interval") {
            match self
                .scalar(&interval)
                .map(|text| go_duration::parse(text.trim()))
            {
                Some(Ok(interval)) if !interval.is_zero() => health.interval = interval,
                Some(_) => {
                    self.bad(
                        &interval,
                        "must be a duration such as `15s`, `1m30s` or `500ms`".into(),
                    );
                }
                None => {}
            }
        }
        section.finish(self);
    }
}

/// The TLS keys of one place, whichever of the two it is.
#[derive(Default)]
struct TlsKeys {
    enable: Option<(bool, Setting)>,
    certificate: Option<(String, Setting)>,
    key: Option<(String, Setting)>,
    authorities: Option<(Vec<String>, Setting)>,
    skip_verify: Option<(bool, Setting)>,
}

impl Reader<'_> {
    fn tls_keys(&mut self, section: &mut Section) -> TlsKeys {
        let mut keys = TlsKeys::default();
        if let Some(setting) = section.take(self, "enableTLS") {
            keys.enable = self.boolean(&setting).map(|value| (value, setting));
        }
        if let Some(setting) = section.take(self, "tlsCert") {
            keys.certificate = self.text(&setting).map(|value| (value, setting));
        }
        if let Some(setting) = section.take(self, "tlsKey") {
            keys.key = self.text(&setting).map(|value| (value, setting));
        }
        if let Some(Setting { option, node }) = section.take(self, "tlsCA") {
            let place = node.place;
            let paths = self.list(&option, node);
            let paths = paths
                .into_iter()
                .filter_map(|node| {
                    self.text(&Setting {
                        option: option.clone(),
                        node,
                    })
                })
                .collect();
            let marker = Setting {
                option,
                node: Node {
                    value: Value::Null,
                    place,
                },
            };
            keys.authorities = Some((paths, marker));
        }
        if let Some(setting) = section.take(self, "tlsSkipVerify") {
            keys.skip_verify = self.boolean(&setting).map(|value| (value, setting));
        }
        keys
    }

    fn tls(&mut self, flat: TlsKeys, nested: TlsKeys, tls: &mut Tls) {
        let enable = self.either(flat.enable, nested.enable);
        let certificate = self.either(flat.certificate, nested.certificate);
        let key = self.either(flat.key, nested.key);
        let authorities = self.either(flat.authorities, nested.authorities);
        let skip_verify = self.either(flat.skip_verify, nested.skip_verify);

        let first_path = [&certificate, &key]
            .into_iter()
            .flatten()
            .map(|(_, setting)| setting)
            .chain(authorities.as_ref().map(|(_, setting)| setting))
            .next();
        match (&enable, first_path) {
            (Some((true, setting)), _) => {
                self.tls_complete(setting, [&certificate, &key], authorities.as_ref());
            }
            (_, Some(setting)) => self.warn(
                Some(setting.node.place),
                &setting.option,
                "TLS files are given but `enableTLS` is not true: all links are in plain text"
                    .into(),
            ),
            _ => {}
        }
        tls.enable = enable.is_some_and(|(value, _)| value);
        tls.certificate = certificate.map(|(value, _)| value.into());
        tls.key = key.map(|(value, _)| value.into());
        tls.authorities = authorities
            .map(|(value, _)| value.into_iter().map(Into::into).collect())
            .unwrap_or_default();
        tls.skip_verify = skip_verify.is_some_and(|(value, _)| value);
    }

    fn tls_complete(
        &mut self,
        enable: &Setting,
        [certificate, key]: [&Option<(String, Setting)>; 2],
        authorities: Option<&(Vec<String>, Setting)>,
    ) {
        if certificate.is_none() {
            self.bad(
                enable,
                "needs `tlsCert`, the path of a PEM certificate".into(),
            );
        }
        if key.is_none() {
            self.bad(
                enable,
                "needs `tlsKey`, the path of the certificate's private key".into(),
            );
        }
        if authorities.is_none_or(|(paths, _)| paths.is_empty()) {
            self.bad(
                enable,
                "needs `tlsCA`: mutual TLS verifies peers against it".into(),
            );
        }
    }

    fn either<T: PartialEq>(
        &mut self,
        flat: Option<(T, Setting)>,
        nested: Option<(T, Setting)>,
    ) -> Option<(T, Setting)> {
        if let (Some((flat, flat_setting)), Some((nested, nested_setting))) = (&flat, &nested)
            && flat != nested
        {
            let message = format!(
                "differs from {} at {}; keep one of the two",
                nested_setting.option, nested_setting.node.place
            );
            self.bad(flat_setting, message);
        }
        nested.or(flat)
    }

    /// No two listeners on one address and port: the second would fail to bind after the first is up.
    fn distinct(&mut self, path: &str, listeners: &[(&str, &Listen, Option<Place>)]) {
        for (index, (name, listen, place)) in listeners.iter().enumerate() {
            for (earlier, other, other_place) in &listeners[..index] {
                let overlap = listen.host == other.host
                    || [&listen.host, &other.host]
                        .into_iter()
                        .any(|host| host == "0.0.0.0");
                if listen.port == other.port && overlap {
                    let place = place.or(*other_place);
                    let message = format!(
                        "port {} is also that of {path}.{earlier}.port; each listener needs its own",
                        listen.port
                    );
                    self.error(place, &format!("{path}.{name}.port"), message);
                }
            }
        }
    }
}

/// Single values.
impl Reader<'_> {
    /// Any scalar as text, so that `name: 17` works. `None`, and a problem, for lists and maps; `None` alone for null.
    fn scalar(&mut self, setting: &Setting) -> Option<String> {
        match &setting.node.value {
            Value::Text(text) | Value::Number(text) => Some(text.clone()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null => None,
            Value::List(_) => {
                self.bad(setting, "must be one value, not a list".into());
                None
            }
            Value::Map(_) => {
                self.bad(setting, "must be one value, not a section".into());
                None
            }
        }
    }

    fn text(&mut self, setting: &Setting) -> Option<String> {
        let text = self.scalar(setting)?;
        if text.trim().is_empty() {
            self.bad(
                setting,
                "must not be empty; leave it out for the default".into(),
            );
            return None;
        }
        Some(text)
    }

    fn boolean(&mut self, setting: &Setting) -> Option<bool> {
        match self.scalar(setting)?.as_str() {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Some(true),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => Some(false),
            other => {
                self.bad(setting, format!("`{other}` is neither true nor false"));
                None
            }
        }
    }

    fn port(&mut self, setting: &Setting) -> Option<u16> {
        let text = self.scalar(setting)?;
        let Ok(number) = text.trim().parse::<i128>() else {
            self.bad(setting, format!("port must be an integer, not `{text}`"));
            return None;
        };
        match u16::try_from(number) {
            Ok(port) if port >= 1 => Some(port),
            _ => {
                self.bad(
                    setting,
                    format!("port must be between 1 and 65535, not {number}"),
                );
                None
            }
        }
    }

    fn host(&mut self, setting: &Setting, host: &mut String) {
        let Some(text) = self.text(setting) else {
            return;
        };
        if text.contains("://") || text.contains(|c: char| c.is_whitespace() || c == '/') {
            self.bad(
                setting,
                format!("`{text}` must be a host name or an address alone"),
            );
            return;
        }
        *host = text;
    }

    fn name(&mut self, setting: &Setting, name: &mut String) {
        let Some(text) = self.text(setting) else {
            return;
        };
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.bad(
                setting,
                format!("`{}` must not contain spaces", text.escape_debug()),
            );
            return;
        }
        *name = text;
    }

    fn subject(&mut self, setting: &Setting, subject: &mut String) {
        let Some(text) = self.text(setting) else {
            return;
        };
        let shown = text.escape_debug().to_string();
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.bad(setting, format!("`{shown}` must not contain spaces"));
        } else if text.split('.').any(str::is_empty) {
            self.bad(
                setting,
                format!("`{shown}` has an empty part: dots separate, they do not end"),
            );
        } else if text.split('.').any(|token| token == "*" || token == ">") {
            let message = format!(
                "`{shown}` has a wildcard; events are published to it, so it must be literal"
            );
            self.bad(setting, message);
        } else {
            *subject = text;
        }
    }

    fn endpoint(&mut self, setting: &Setting, schemes: &[&str]) -> Option<Endpoint> {
        let text = self.text(setting)?;
        match endpoint(text.trim(), schemes) {
            Ok(endpoint) => Some(endpoint),
            Err(message) => {
                self.bad(setting, message);
                None
            }
        }
    }

    fn advertise(&mut self, setting: &Setting) -> Option<String> {
        let text = self.text(setting)?;
        if text.contains("://") {
            self.bad(
                setting,
                format!("`{text}` must be host:port without a scheme"),
            );
            return None;
        }
        match host_and_port(&text) {
            Ok(_) => Some(text),
            Err(reason) => {
                self.bad(setting, format!("`{text}` must be host:port: {reason}"));
                None
            }
        }
    }

    /// A sequence, or one string with commas; null is empty.
    fn list(&mut self, option: &str, node: Node) -> Vec<Node> {
        match node.value {
            Value::List(nodes) => nodes,
            Value::Null => Vec::new(),
            Value::Text(text) => text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Node {
                    value: Value::Text(part.into()),
                    place: node.place,
                })
                .collect(),
            Value::Bool(_) | Value::Number(_) | Value::Map(_) => {
                self.error(
                    Some(node.place),
                    option,
                    "must be a list, or one comma-separated text".into(),
                );
                Vec::new()
            }
        }
    }

    fn section(&mut self, path: String, node: Node) -> Option<Section> {
        let entries = match node.value {
            Value::Map(entries) => entries.into_iter().map(Some).collect(),
            Value::Null => Vec::new(),
            _ => {
                self.error(
                    Some(node.place),
                    &path,
                    "must be a section: keys and values, indented".into(),
                );
                return None;
            }
        };
        Some(Section {
            path,
            entries,
            asked: Vec::new(),
        })
    }

    fn missing_section(&mut self, document: &yaml::Document) {
        if document.section.is_some() {
            return;
        }
        let before = self.problems.len();
        for (name, place) in &document.others {
            if nearest(name, [SECTION]).is_some() {
                let message = format!("is not read; did you mean `{SECTION}`?");
                self.warn(Some(*place), name, message);
            }
        }
        if self.problems.len() == before {
            let message = format!(
                "there is no `{SECTION}` section, so the bus stays inside this process (type `local`)"
            );
            self.warn(None, "", message);
        }
    }

    fn bad(&mut self, setting: &Setting, message: String) {
        self.error(Some(setting.node.place), &setting.option, message);
    }

    fn error(&mut self, place: Option<Place>, option: &str, message: String) {
        self.report(Severity::Error, place, option, message);
    }

    fn warn(&mut self, place: Option<Place>, option: &str, message: String) {
        self.report(Severity::Warning, place, option, message);
    }

    fn report(&mut self, severity: Severity, place: Option<Place>, option: &str, message: String) {
        let (origin, option) = (self.origin.into(), option.into());
        self.problems.push(Problem {
            severity,
            origin,
            place,
            option,
            message,
        });
    }
}

impl Section {
    /// Takes the value of a key, whatever its case. A key given twice in different case is a problem.
    fn take(&mut self, reader: &mut Reader<'_>, name: &'static str) -> Option<Setting> {
        self.asked.push(name);
        let option = format!("{}.{name}", self.path);
        let mut found: Option<Entry> = None;
        for slot in &mut self.entries {
            let Some(entry) = slot.take_if(|entry| entry.key.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if let Some(first) = &found {
                let message = format!(
                    "already given at {} as `{}`; keep one",
                    first.place, first.key
                );
                reader.error(Some(entry.place), &option, message);
            } else {
                found = Some(entry);
            }
        }
        found.map(|entry| Setting {
            option,
            node: entry.node,
        })
    }

    /// Reports what nobody asked for.
    fn finish(&mut self, reader: &mut Reader<'_>) {
        for entry in self.entries.iter_mut().filter_map(Option::take) {
            let hint = closest(&entry.key, &self.asked);
            let message = if hint.is_empty() {
                format!("unknown key; known here: {}", self.asked.join(", "))
            } else {
                format!("unknown key{hint}")
            };
            reader.error(
                Some(entry.place),
                &format!("{}.{}", self.path, entry.key),
                message,
            );
        }
    }
}

/// `; did you mean …?`, or nothing when nothing is near.
fn closest(name: &str, known: &[&str]) -> String {
    nearest(name, known.iter().copied())
        .map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

fn endpoint(text: &str, schemes: &[&str]) -> Result<Endpoint, String> {
    let valid = schemes.join(", ");
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!(
            "`{text}` has no scheme; write it as {}://host:port",
            schemes[0]
        ));
    };
    if !schemes.contains(&scheme) {
        return Err(format!("scheme `{scheme}` is invalid; valid: {valid}"));
    }
    if rest.contains('@') {
        return Err("user and password in an address are not supported".into());
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | ',')) {
        return Err(format!(
            "`{text}` must be one address, {scheme}://host:port and nothing else"
        ));
    }
    let (host, port) = host_and_port(rest)
        .map_err(|reason| format!("`{text}` must be {scheme}://host:port: {reason}"))?;
    Ok(Endpoint {
        scheme: scheme.into(),
        host: host.into(),
        port,
    })
}

fn host_and_port(text: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address needs brackets, and the port is required");
    }
    if host.is_empty() || host == "[]" {
        return Err("the host is missing");
    }
    if host.contains(char::is_whitespace) {
        return Err("the host has a space in it");
    }
    match port.parse::<u16>() {
        Ok(port) if port >= 1 => Ok((host, port)),
        _ => Err("the port must be between 1 and 65535"),
    }
}

#[cfg(test)]
#[path = "read/tests.rs"]
mod tests;
