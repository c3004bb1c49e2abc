//! Just enough of HTTP to look at a server's monitoring pages.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::deadline::PATIENCE;

/// What a server answered over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl HttpAnswer {
    /// Asks for a page.
    ///
    /// # Panics
    /// When no answer comes.
    #[must_use]
    #[track_caller]
    pub fn get(address: SocketAddr, path: &str) -> Self {
        Self::to(address, &format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    /// Sends this text and takes what comes for one answer. The server must close the connection, as it does after
    /// requests of HTTP/1.0.
    ///
    /// # Panics
    /// When no answer comes.
    #[must_use]
    #[track_caller]
    pub fn to(address: SocketAddr, request: &str) -> Self {
        match Self::try_to(address, request) {
            Ok(answer) => answer,
            Err(error) => panic!("no answer from {address} to {request:?}: {error}"),
        }
    }

    /// As [`Self::to`].
    ///
    /// # Errors
    /// When no answer comes.
    pub fn try_to(address: SocketAddr, request: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("no HTTP: {text:?}")))
    }

    /// The value of a header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in {self:?}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_lowercase(), value.trim().to_owned()))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            status,
            headers,
            body: body.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = HttpAnswer::parse("HTTP/1.0 404 Not Found\r\nA-B: c: d\r\n\r\nx\r\n\r\ny\n")
            .expect("an answer");
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("a-b"), "c: d");
        assert_eq!(answer.header("c"), "");
        assert_eq!(answer.body, "x\r\n\r\ny\n");
        assert_eq!(HttpAnswer::parse("HTTP/1.0 200 OK\r\n"), None);
    }
}
