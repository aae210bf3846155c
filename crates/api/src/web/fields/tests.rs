use serde_json::json;

use super::*;

fn errors(body: &str, parse: impl FnOnce(&mut Fields<'_>)) -> Vec<(String, String)> {
    let body = Bytes::from(body.to_owned());
    let mut fields = Fields::from_json(&body).unwrap();
    parse(&mut fields);
    let found = fields.into_errors().into_vec();
    found.into_iter().map(|error| (error.pointer, error.detail)).collect()
}

fn pointers(body: &str, parse: impl FnOnce(&mut Fields<'_>)) -> Vec<String> {
    errors(body, parse).into_iter().map(|(pointer, _)| pointer).collect()
}

#[test]
fn all_errors_are_reported_at_once() {
    let body = r#"{"a": 1, "b": ["x", 2, "y", null], "c": {"k/~": 3}, "d": "no", "zz": 0, "a": 2}"#;
    let found = pointers(body, |fields| {
        fields.required("a", |field| field.string());
        fields.required("b", |field| field.list(0..=9, |field| field.string()));
        fields.required("c", |field| field.string_map(Ok::<_, Vec<(String, String)>>));
        fields.optional("d", |field| field.choice(&[true, false].map(|_| "yes")));
        fields.required("e", |field| field.string());
    });
    assert_eq!(found, ["/a", "/a", "/b/1", "/b/3", "/c/k~1~0", "/d", "/e", "/zz"]);
}

#[test]
fn nested_objects_are_parsed() {
    let found = pointers(r#"{"list": [{"n": 5}, {"n": 0, "m": 1}, [], {}]}"#, |fields| {
        fields.required("list", |field| {
            field.list(1..=4, |item| item.object(|each| each.required("n", |n| n.integer(1..=9))))
        });
    });
    assert_eq!(found, ["/list/1/n", "/list/1/m", "/list/2", "/list/3/n"]);
}

#[test]
fn null_counts_as_omitted_in_optional_fields_only() {
    let parse = |fields: &mut Fields<'_>| {
        assert_eq!(fields.optional("a", |field| field.string()), None);
        assert_eq!(fields.non_null("b", |field| field.string()), None);
    };
    assert_eq!(pointers(r#"{"a": null}"#, parse), [""; 0]);
    assert_eq!(pointers(r#"{"a": null, "b": null}"#, parse), ["/b"]);
}

#[test]
fn a_body_must_be_a_json_object() {
    assert_eq!(
        errors("[1]", |fields| drop(fields.optional("a", |field| field.string()))),
        [(String::new(), "must be an object".to_owned())]
    );
    for bad in ["", "{", "{\"a\":}", "nul", "{} {}", "{\"a\":\"\u{1}\"}"] {
        let body = Bytes::from(bad.to_owned());
        assert!(Fields::from_json(&body).is_err(), "{bad}");
    }
    assert!(Fields::from_optional_json(&Bytes::new()).is_ok());
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = format!(
        r#"{{"a": {}{}, "b": {}{}}}"#,
        "[".repeat(65),
        "]".repeat(65),
        "[".repeat(90_000),
        "]".repeat(90_000)
    );
    let found = pointers(&deep, |fields| {
        fields.required("a", |field| field.value());
        fields.required("b", |field| field.value());
    });
    assert_eq!(found, ["/a", "/b"]);
}

#[test]
fn valid_fields_are_parsed() {
    let body = Bytes::from_static(br#"{"t": "x", "n": 7, "f": true, "v": {"a": [1.50]}}"#);
    let mut fields = Fields::from_json(&body).unwrap();
    let text = fields.required("t", |field| field.parse(|text| Ok::<_, String>(text.len())));
    let number = fields.required("n", |field| field.integer(0..=9));
    let flag = fields.required("f", |field| field.boolean());
    let value = fields.required("v", |field| field.value());
    assert_eq!(
        (text, number, flag, value),
        (Some(1), Some(7), Some(true), Some(json!({"a": [1.5]})))
    );
    assert!(fields.finish(Some(())).is_ok());
}
