//! The responses of a hook, correct and faulty.

use std::time::Duration;

use bytes::Bytes;

/// How a hook handles a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A complete response.
    Answer(Reply),
    /// `behaviour` for the first `times` requests of each webhook id, then 200.
    AtFirst { times: u32, behaviour: Box<Behaviour> },
    /// 200, after a delay.
    Slow(Duration),
    /// No response; the connection stays open until the sender closes it.
    Hang,
    /// Bytes that are not HTTP.
    Garbage,
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN) without a response.
    Close,
    /// 200 with a body that never completes.
    StalledBody,
    /// 200 and this many bytes, or as many as the sender reads.
    HugeBody(usize),
    /// 100 and 103, without a final status.
    InformationalOnly,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// The headers except `Content-Length`.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Behaviour {
    /// A response with `status` and no body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(Reply { status, headers: Vec::new(), body: Bytes::new() })
    }

    /// A response with `status` and one header.
    #[must_use]
    pub fn with_header(status: u16, name: &str, value: &str) -> Self {
        let headers = vec![(name.to_owned(), value.to_owned())];
        Self::Answer(Reply { status, headers, body: Bytes::new() })
    }

    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::with_header(status, "Location", location)
    }

    /// `status` for the first `times` requests of each webhook id, then 200.
    #[must_use]
    pub fn fail_first(times: u32, status: u16) -> Self {
        Self::status(status).at_first(times)
    }

    /// This behaviour for the first `times` requests of each webhook id, then 200.
    #[must_use]
    pub fn at_first(self, times: u32) -> Self {
        Self::AtFirst { times, behaviour: Box::new(self) }
    }

    /// A response with `status` and a body.
    #[must_use]
    pub fn with_body(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "text/plain".to_owned())];
        Self::Answer(Reply { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) })
    }

    /// Resolves [`Self::AtFirst`] by the number of failures of this webhook so far.
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
