//! The fields of forms: a control with its label, a hint and what is wrong with it.

use maud::{Markup, html};

use super::form::Errors;

/// What stands around a field's control. An empty hint is none.
pub(crate) struct Field<'a> {
    name: &'a str,
    label: &'a str,
    hint: &'a str,
    wrong: Vec<String>,
}

impl<'a> Field<'a> {
    pub(crate) fn new(name: &'a str, label: &'a str, hint: &'a str, errors: Errors<'_>) -> Self {
        Self { name, label, hint, wrong: errors.at(name) }
    }

    /// A field of one line.
    pub(crate) fn text(&self, value: &str) -> Markup {
        self.around(html! {
            input id=(self.name) name=(self.name) value=(value) aria-invalid=[self.is_wrong()]
                aria-describedby=(self.described_by()) autocomplete="off" spellcheck="false";
        })
    }

    /// A field of several lines.
    pub(crate) fn area(&self, value: &str) -> Markup {
        let rows = value.lines().count().clamp(3, 20);
        self.around(html! {
            // The first line end after the tag is no part of the value (HTML §4.11.11).
            textarea id=(self.name) name=(self.name) rows=(rows) aria-invalid=[self.is_wrong()]
                aria-describedby=(self.described_by()) spellcheck="false" { "\n" (value) }
        })
    }

    /// A field with this control, whose id is the field's name.
    pub(crate) fn around(&self, control: Markup) -> Markup {
        html! {
            div.field {
                label for=(self.name) { (self.label) }
                (control)
                @if !self.hint.is_empty() { p.hint id={ (self.name) "-hint" } { (self.hint) } }
                (errors(self.name, &self.wrong))
            }
        }
    }

    /// What the control's `aria-describedby` is.
    pub(crate) fn described_by(&self) -> String {
        match self.hint {
            "" => format!("{}-error", self.name),
            _ => format!("{0}-hint {0}-error", self.name),
        }
    }

    /// What the control's `aria-invalid` is.
    pub(crate) fn is_wrong(&self) -> Option<&'static str> {
        (!self.wrong.is_empty()).then_some("true")
    }
}

/// What is wrong with a field, and where a screen reader finds it.
pub(crate) fn errors(field: &str, errors: &[String]) -> Markup {
    html! {
        div.error id={ (field) "-error" } aria-live="polite" {
            @for error in errors { p { (sentence(error)) } }
        }
    }
}

/// An error as the API writes it begins small and has no subject: «must be …», «is not …».
fn sentence(error: &str) -> String {
    let verb = ["must ", "is ", "has ", "cannot ", "stands "].iter().any(|v| error.starts_with(v));
    let text = if verb { format!("It {error}") } else { error.to_owned() };
    if text.ends_with('.') { text } else { text + "." }
}

/// A box to tick, or a button of a group, with what it says and a hint.
pub(crate) fn toggle(control: Markup, text: Markup, hint: &str) -> Markup {
    html! {
        label.toggle { (control) span { (text) span.hint { (hint) } } }
    }
}

/// One of several choices, as a list to choose from: value, text, whether it is chosen.
pub(crate) fn select(name: &str, label: &str, choices: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label for=(name) { (label) }
        select id=(name) name=(name) {
            @for (value, text) in choices {
                option value=(value) selected[*value == chosen] { (text) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::problem::{FieldError, Problem};

    #[test]
    fn errors_are_sentences() {
        assert_eq!(sentence("is required"), "It is required.");
        assert_eq!(sentence("Too much."), "Too much.");
    }

    #[test]
    fn text_from_outside_stays_text() {
        let hostile = "\"></textarea><script>alert(1)</script>";
        let error = FieldError { pointer: "/a".to_owned(), detail: hostile.to_owned() };
        let problem = Problem::invalid_fields(vec![error]);
        let field = Field::new("a", "b", hostile, Errors::of(Some(&problem)));
        for markup in [field.text(hostile), field.area(hostile)] {
            let text = markup.into_string();
            assert!(text.contains("aria-invalid=\"true\""), "{text}");
            assert!(!text.contains("<script"), "{text}");
        }
    }
}
