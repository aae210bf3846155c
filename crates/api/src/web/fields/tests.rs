use serde_json::json;

use super::*;

fn errors(body: &str, read: impl FnOnce(&mut Fields<'_>)) -> Vec<(String, String)> {
    let body = Bytes::from(body.to_owned());
    let mut fields = Fields::of(&body).unwrap();
    read(&mut fields);
    let found = fields.into_findings().into_errors();
    found.into_iter().map(|error| (error.pointer, error.detail)).collect()
}

fn pointers(body: &str, read: impl FnOnce(&mut Fields<'_>)) -> Vec<String> {
    errors(body, read).into_iter().map(|(pointer, _)| pointer).collect()
}

#[test]
fn everything_wrong_is_found_at_once() {
    let body = r#"{"a": 1, "b": ["x", 2, "y", null], "c": {"k/~": 3}, "d": "no", "zz": 0, "a": 2}"#;
    let found = pointers(body, |fields| {
        fields.required("a", |field| field.text());
        fields.required("b", |field| field.list(0..=9, |field| field.text()));
        fields.required("c", |field| field.texts(Ok::<_, Vec<(String, String)>>));
        fields.optional("d", |field| field.choice(&[true, false].map(|_| "yes")));
        fields.required("e", |field| field.text());
    });
    assert_eq!(found, ["/a", "/a", "/b/1", "/b/3", "/c/k~1~0", "/d", "/e", "/zz"]);
}

#[test]
fn objects_within_lists_are_read_alike() {
    let found = pointers(r#"{"list": [{"n": 5}, {"n": 0, "m": 1}, [], {}]}"#, |fields| {
        fields.required("list", |field| {
            field.list(1..=4, |item| item.object(|each| each.required("n", |n| n.integer(1..=9))))
        });
    });
    assert_eq!(found, ["/list/1/n", "/list/1/m", "/list/2", "/list/3/n"]);
}

#[test]
fn null_is_absent_where_absence_is_permitted() {
    let read = |fields: &mut Fields<'_>| {
        assert_eq!(fields.optional("a", |field| field.text()), None);
        assert_eq!(fields.change("b", |field| field.text()), None);
    };
    assert_eq!(pointers(r#"{"a": null}"#, read), [""; 0]);
    assert_eq!(pointers(r#"{"a": null, "b": null}"#, read), ["/b"]);
}

#[test]
fn bodies_that_are_no_objects() {
    assert_eq!(
        errors("[1]", |fields| drop(fields.optional("a", |field| field.text()))),
        [(String::new(), "must be an object".to_owned())]
    );
    for bad in ["", "{", "{\"a\":}", "nul", "{} {}", "{\"a\":\"\u{1}\"}"] {
        let body = Bytes::from(bad.to_owned());
        assert!(Fields::of(&body).is_err(), "{bad}");
    }
    assert!(Fields::of_optional(&Bytes::new()).is_ok());
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
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
fn what_is_right_is_read() {
    let body = Bytes::from_static(br#"{"t": "x", "n": 7, "f": true, "v": {"a": [1.50]}}"#);
    let mut fields = Fields::of(&body).unwrap();
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
