//! W3C trace contexts in the form of `traceparent` (<https://www.w3.org/TR/trace-context/>).
//! `tracestate`, the vendors' part, is not kept.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

/// The identity of a parent span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

/// The text is not a `traceparent`.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be a traceparent, such as 00-{:032x}-{:016x}-01", 1, 1)]
pub struct ParseTraceError;

impl TraceContext {
    /// `None` if one of the ids is zero, which means no trace.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, flags })
    }

    #[must_use]
    pub fn trace_id(self) -> [u8; 16] {
        self.trace_id
    }

    #[must_use]
    pub fn span_id(self) -> [u8; 8] {
        self.span_id
    }

    /// The flags; the lowest bit means that the trace is sampled.
    #[must_use]
    pub fn flags(self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (HEXLOWER.encode(&self.trace_id), HEXLOWER.encode(&self.span_id));
        write!(f, "00-{trace}-{span}-{:02x}", self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = ParseTraceError;

    fn from_str(text: &str) -> Result<Self, ParseTraceError> {
        parse(text.as_bytes()).ok_or(ParseTraceError)
    }
}

/// Later versions begin like version 00 and may append fields after a dash.
fn parse(text: &[u8]) -> Option<TraceContext> {
    const LENGTH: usize = 55;
    let (head, rest) = text.split_at_checked(LENGTH)?;
    let [version] = hex(&head[..2])?;
    let has_valid_end = rest.is_empty() || (version != 0 && rest[0] == b'-');
    let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
    if version == 0xff || !has_valid_end || !dashes {
        return None;
    }
    let [flags] = hex(&head[53..])?;
    TraceContext::new(hex(&head[3..35])?, hex(&head[36..52])?, flags)
}

fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    HEXLOWER.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn traceparent_round_trips() {
        let context: TraceContext = TEXT.parse().expect("a traceparent");
        assert_eq!(context.trace_id()[..2], [0x0a, 0xf7]);
        assert_eq!(context.span_id()[..2], [0xb7, 0xad]);
        assert_eq!(context.flags(), 1);
        assert_eq!(context.to_string(), TEXT);
    }

    #[test]
    fn later_versions_may_append_fields() {
        let later = TEXT.replacen("00-", "cc-", 1);
        assert_eq!(later.parse::<TraceContext>().map(|c| c.to_string()), Ok(TEXT.to_owned()));
        let more = format!("{later}-what-follows");
        assert_eq!(more.parse::<TraceContext>().map(|c| c.to_string()), Ok(TEXT.to_owned()));
    }

    #[test]
    fn anything_else_is_rejected() {
        let rejected = [
            String::new(),
            "00".to_owned(),
            TEXT.replacen("00-", "ff-", 1),
            TEXT.to_uppercase(),
            TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            TEXT.replace("b7ad6b7169203331", &"0".repeat(16)),
            TEXT.replace('-', "_"),
            format!("{TEXT}-more"),
            format!("{TEXT}0"),
            TEXT[..54].to_owned(),
            TEXT.replacen('a', "é", 1),
        ];
        for text in rejected {
            assert_eq!(text.parse::<TraceContext>(), Err(ParseTraceError), "{text}");
        }
        assert_eq!(
            ParseTraceError.to_string(),
            format!("must be a traceparent, such as 00-{}1-{}1-01", "0".repeat(31), "0".repeat(15))
        );
    }
}
