//! The ways in which a hook answers.

use std::time::Duration;

use bytes::Bytes;

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A whole answer.
    Answer(Reply),
    /// The first `times` requests of each webhook id meet with `behaviour`, the others with 200.
    AtFirst {
        /// How many.
        times: u32,
        /// What happens to them.
        behaviour: Box<Behaviour>,
    },
    /// 200, after a while.
    Slow(Duration),
    /// No answer; the connection stays open until the sender closes it.
    Hang,
    /// Bytes that are no HTTP.
    Garbage,
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed in good order (FIN), without an answer.
    Close,
    /// 200 and a length, and then the body never comes.
    StalledBody,
    /// 200 and as many bytes, or as many as the sender cares to read.
    HugeBody(usize),
    /// 100 and 103, and never a final status.
    InformationalOnly,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers, but for `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Behaviour {
    /// A plain answer with `status`.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(Reply { status, headers: Vec::new(), body: Bytes::new() })
    }

    /// An answer with `status` and one header.
    #[must_use]
    pub fn with_header(status: u16, name: &str, value: &str) -> Self {
        let headers = vec![(name.to_owned(), value.to_owned())];
        Self::Answer(Reply { status, headers, body: Bytes::new() })
    }

    /// A redirect.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::with_header(status, "Location", location)
    }

    /// The first `times` requests of each webhook id are refused with `status`.
    #[must_use]
    pub fn fail_first(times: u32, status: u16) -> Self {
        Self::status(status).at_first(times)
    }

    /// So for the first `times` requests of each webhook id, and 200 for the others.
    #[must_use]
    pub fn at_first(self, times: u32) -> Self {
        Self::AtFirst { times, behaviour: Box::new(self) }
    }

    /// An answer with `status` and a body.
    #[must_use]
    pub fn with_body(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/plain".to_owned())];
        Self::Answer(Reply { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    /// Settles what depends on how often this webhook was refused before.
    pub(super) fn resolve(self, failed: &mut u32) -> Self {
        match self {
            Self::AtFirst { times, .. } if *failed >= times => Self::default(),
            Self::AtFirst { behaviour, .. } => {
                *failed += 1;
                *behaviour
            }
            other => other,
        }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::status(200)
    }
}

impl Reply {
    /// The answer's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // RFC 9110 §8.6: neither of these has a body, nor a Content-Length.
        let bodiless = matches!(self.status, 204 | 304);
        let mut head = format!("HTTP/1.1 {} Test\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !bodiless {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let body: &[u8] = if bodiless { &[] } else { &self.body };
        [head.as_bytes(), body].concat()
    }
}
