//! Reads JSON text. This is the only place that decides whether a payload, an example or a schema
//! is acceptable, so that the answer does not depend on what the text is then used for.
//!
//! Besides the grammar, it requires what RFC 8259 calls interoperable: strings are Unicode (§8.2)
//! and numbers have a 64-bit float (§6), since receivers would otherwise fail or read different
//! values. Everything else that the grammar allows is accepted, including duplicate names and
//! integers with more digits than any float: payloads are sent byte for byte.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use crate::limits::MAX_JSON_DEPTH;

/// The encoding of U+FEFF at the start of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a text is not acceptable JSON.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct JsonError {
    /// The value with the error, as a JSON pointer (RFC 6901); `""` is the whole text.
    pub pointer: String,
    pub reason: JsonErrorReason,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum JsonErrorReason {
    /// Arrays and objects nested too deep.
    #[error("is nested more than {MAX_JSON_DEPTH} levels deep")]
    TooDeep,
    #[error("is not valid JSON: it starts with a byte order mark")]
    ByteOrderMark,
    #[error("is not valid JSON: byte {0} is not UTF-8")]
    NotUtf8(usize),
    #[error("is not valid JSON: {0}")]
    Syntax(String),
    /// Half of a surrogate pair in a string.
    #[error("has half of a surrogate pair at line {line} column {column}, which is no character")]
    LoneSurrogate { line: usize, column: usize },
    #[error("has a number beyond the range of a 64-bit float at line {line} column {column}")]
    NumberOutOfRange { line: usize, column: usize },
}

/// Checks a text without building its value.
///
/// # Errors
/// When [`parse`] fails, with the same error.
pub fn check(text: &[u8]) -> Result<(), JsonError> {
    let readable = readable(text)?;
    match serde_json::from_str::<Checked>(readable) {
        Ok(Checked) => Ok(()),
        // Only the slower parser knows the pointer.
        Err(error) => Err(parse(text).err().unwrap_or_else(|| JsonError::new("", &error))),
    }
}

/// Parses a text. Of several values with the same name, the last is kept.
///
/// # Errors
/// When it is not valid JSON, is nested too deep, or has a string or number that many parsers
/// reject.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    let mut parser = serde_json::Deserializer::from_str(readable(text)?);
    let mut pointer = String::new();
    let value = Node { pointer: &mut pointer }.deserialize(&mut parser);
    value
        .and_then(|value| parser.end().map(|()| value))
        .map_err(|error| JsonError::new(&pointer, &error))
}

/// Whether a JSON text is a string that contains an object or array as JSON, however often it was
/// encoded.
#[must_use]
pub fn is_double_encoded(text: &[u8]) -> bool {
    let decode = |text: &[u8]| {
        let is_string = text.trim_ascii_start().starts_with(b"\"");
        is_string.then(|| serde_json::from_slice::<String>(text).ok()).flatten()
    };
    let mut content = decode(text);
    // Each decoding shortens the text.
    while let Some(text) = content {
        if text.trim_ascii_start().starts_with(['{', '['])
            && serde_json::from_str::<IgnoredAny>(&text).is_ok()
        {
            return true;
        }
        content = decode(text.as_bytes());
    }
    false
}

/// The text, unless the parser would fail without a useful message.
fn readable(text: &[u8]) -> Result<&str, JsonError> {
    let fail = |reason| Err(JsonError { pointer: String::new(), reason });
    if nests_deeper_than(text, MAX_JSON_DEPTH) {
        return fail(JsonErrorReason::TooDeep);
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        return fail(JsonErrorReason::ByteOrderMark);
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok(text),
        Err(error) => fail(JsonErrorReason::NotUtf8(error.valid_up_to())),
    }
}

/// Whether the arrays and objects of a JSON text are nested deeper than `depth`.
#[must_use]
pub fn nests_deeper_than(json: &[u8], depth: usize) -> bool {
    let mut open = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                open += 1;
                if open > depth {
                    return true;
                }
            }
            (false, b'}' | b']') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    false
}

impl JsonError {
    fn new(pointer: &str, error: &serde_json::Error) -> Self {
        let (message, line, column) = (error.to_string(), error.line(), error.column());
        let reason = if message.starts_with("number out of range") {
            JsonErrorReason::NumberOutOfRange { line, column }
        } else if message.starts_with("lone leading surrogate")
            || message.starts_with("unexpected end of hex escape")
        {
            JsonErrorReason::LoneSurrogate { line, column }
        } else {
            return Self { pointer: String::new(), reason: JsonErrorReason::Syntax(message) };
        };
        Self { pointer: pointer.to_owned(), reason }
    }
}

/// A value that was parsed and dropped. [`IgnoredAny`] would not parse its strings and numbers.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CheckedVisitor;

        impl<'de> Visitor<'de> for CheckedVisitor {
            type Value = Checked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Checked, E> {
                Ok(Checked)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
                Ok(Checked)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
                Ok(Checked)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
                Ok(Checked)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
                Ok(Checked)
            }

            fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
                Ok(Checked)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
                while let Some(Checked) = items.next_element()? {}
                Ok(Checked)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Checked, A::Error> {
                while let Some((Checked, Checked)) = entries.next_entry()? {}
                Ok(Checked)
            }
        }

        deserializer.deserialize_any(CheckedVisitor)
    }
}

/// Builds a value. Unlike [`Value`]'s own implementation, it gives no meaning to any name, and
/// knows where it is: if it fails, `pointer` is the value with the error.
struct Node<'p> {
    pointer: &'p mut String,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let Self { pointer } = self;
        let here = pointer.len();
        let mut array = Vec::new();
        loop {
            write!(pointer, "/{}", array.len()).map_err(A::Error::custom)?;
            let item = items.next_element_seed(Node { pointer })?;
            pointer.truncate(here);
            match item {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let Self { pointer } = self;
        let here = pointer.len();
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            pointer.push('/');
            pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            let value = entries.next_value_seed(Node { pointer })?;
            pointer.truncate(here);
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of JSON, near JSON, and JSON that parsers disagree about.
    const PIECES: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "null",
        "true",
        "0",
        "-0",
        "1.5",
        "1e400",
        "-1e400",
        "1e-400",
        "18446744073709551616",
        "0.1e1000000000000000000000",
        "\"a\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ud83dx\"",
        "\"\\u12\"",
        "\"\u{e9}\"",
        "\"$serde_json::private::RawValue\"",
        "\"$serde_json::private::Number\"",
        "\u{feff}",
        "'a'",
        "\"",
        "\\",
    ];

    fn error(text: impl AsRef<[u8]>) -> JsonError {
        let error = parse(text.as_ref()).expect_err("an error");
        assert_eq!(check(text.as_ref()), Err(error.clone()));
        error
    }

    #[test]
    fn what_parsers_disagree_about_is_refused_with_its_place() {
        for (text, pointer, detail) in [
            (r#""\ud800""#, "", "has half of a surrogate pair at line 1 column 8"),
            (r#"{"a":["x","\ude00"]}"#, "/a/1", "has half of a surrogate pair"),
            (r#"{"a/b":[{"~":"\ud83dx"}]}"#, "/a~1b/0/~0", "has half of a surrogate pair"),
            (r#"{"a":{"\ud83d\u0041":1}}"#, "/a", "has half of a surrogate pair"),
            ("1e400", "", "has a number beyond the range of a 64-bit float at line 1 column 5"),
            ("{\"a\":\n[1,-1e400]}", "/a/1", "has a number beyond the range"),
            ("\u{feff}1", "", "is not valid JSON: it starts with a byte order mark"),
            ("", "", "is not valid JSON: EOF while parsing a value"),
            (" \n\t", "", "is not valid JSON: EOF while parsing a value"),
            ("{\"a\":[1,]}", "", "is not valid JSON: trailing comma at line 1 column 9"),
            ("{\"a\":1}x", "", "is not valid JSON: trailing characters at line 1 column 8"),
            (r#""\u12zz""#, "", "is not valid JSON: invalid escape"),
        ] {
            let found = error(text);
            assert_eq!(found.pointer, pointer, "{text}");
            assert!(found.to_string().starts_with(detail), "{text}: {found}");
        }
        let digits = "1".repeat(400);
        assert!(matches!(error(digits).reason, JsonErrorReason::NumberOutOfRange { .. }));
        assert_eq!(error(b"[\"\xff\"]").reason, JsonErrorReason::NotUtf8(2));
        let nest = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(nest(MAX_JSON_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_JSON_DEPTH + 1, 200, 100_000] {
            assert_eq!(error(nest(depth)).reason, JsonErrorReason::TooDeep);
        }
    }

    #[test]
    fn everything_else_is_accepted() {
        for text in [
            "-0",
            "1e-400",
            "1E+2",
            "123456789012345678901234567890",
            " null\r\n",
            r#""\u0000""#,
            r#""\ud83d\ude00""#,
            r#"{"a":1,"a":2}"#,
            r#"{"$serde_json::private::RawValue":1}"#,
            r#"{"$serde_json::private::RawValue":"["}"#,
        ] {
            check(text.as_bytes()).unwrap();
            parse(text.as_bytes()).unwrap();
        }
        let long = format!("0.{}", "1".repeat(100_000));
        check(long.as_bytes()).unwrap();
        let object = r#"{"$serde_json::private::RawValue":"[1]"}"#;
        assert!(parse(object.as_bytes()).unwrap().is_object());
        assert_eq!(parse(br#"{"a":1,"a":2}"#).unwrap(), serde_json::json!({"a": 2}));
    }

    #[test]
    fn strings_that_contain_json_are_recognized() {
        let encode = |text: &str| serde_json::to_string(text).unwrap();
        for inner in ["{}", "[]", " {\"a\":1e400}\n", "[\"\\ud800\"]", "[[[]]]"] {
            let once = encode(inner);
            assert!(is_double_encoded(once.as_bytes()), "{once}");
            assert!(is_double_encoded(encode(&once).as_bytes()), "{once}, encoded again");
            assert!(is_double_encoded(format!(" {once}\n").as_bytes()), "{once}");
            assert!(!is_double_encoded(inner.as_bytes()), "{inner}");
        }
        for plain in ["", "7", "null", "{x}", "[draft] hello", "{{name}}", "\"quoted\"", "[1] [2]"]
        {
            assert!(!is_double_encoded(encode(plain).as_bytes()), "{plain}");
        }
        assert!(!is_double_encoded(br#"{"a":"{}"}"#));
    }

    proptest! {
        #[test]
        fn checking_and_parsing_agree(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)
        ) {
            let text = pieces.concat();
            let parsed = parse(text.as_bytes());
            prop_assert_eq!(check(text.as_bytes()), parsed.map(|_| ()));
        }

        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(check(&bytes), parse(&bytes).map(|_| ()));
            let _ = is_double_encoded(&bytes);
        }

        /// Whatever is accepted is JSON with the same value to a parser of plain JSON.
        #[test]
        fn an_accepted_text_has_its_value(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12)
        ) {
            let text = pieces.concat();
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert!(serde_json::from_str::<IgnoredAny>(&text).is_ok());
                if !text.contains("private") {
                    prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
                }
            }
        }
    }
}
