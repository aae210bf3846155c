//! Query parameters, including the pagination parameters of all lists.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use http::StatusCode;
use http::request::Parts;
use postrider_domain::limits::{DEFAULT_PAGE, MAX_PAGE};
use postrider_store::PageRequest;
use utoipa::IntoParams;

use crate::web::field_errors::{FieldErrors, UNKNOWN_CURSOR, pointer_to};
use crate::web::problem::Problem;

/// Pagination parameters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// The maximum number of items to return. Defaults to 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250)]
    limit: Option<usize>,
    /// The `next_cursor` of the previous page. If omitted, the first page is returned.
    cursor: Option<String>,
}

impl ListParams {
    fn parse(params: &mut Params) -> Self {
        Self { limit: params.limit(), cursor: params.text("cursor") }
    }
}

/// The query parameters that have not been taken yet, and the errors of those that have.
pub(crate) struct Params {
    remaining: Vec<(String, String)>,
    errors: FieldErrors,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(remaining)) => Ok(Self { remaining, errors: FieldErrors::default() }),
            Err(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "The query string is malformed.")),
        }
    }
}

impl Params {
    /// Takes and parses a parameter. An empty parameter counts as omitted.
    pub(crate) fn take<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let at = self.remaining.iter().position(|(other, _)| other == name)?;
        let (_, text) = self.remaining.remove(at);
        if text.is_empty() {
            return None;
        }
        parse(&text).map_err(|error| self.errors.add(pointer_to("", name), error)).ok()
    }

    /// Takes a parameter of any text.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name, |text| Ok::<_, Infallible>(text.to_owned()))
    }

    /// Takes the pagination parameters of a list whose cursors are ids.
    pub(crate) fn page<C: FromStr>(&mut self) -> PageRequest<C> {
        self.page_after(C::from_str)
    }

    /// Takes the pagination parameters of a list with other cursors.
    pub(crate) fn page_after<C, E>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<C, E>,
    ) -> PageRequest<C> {
        let ListParams { limit, cursor } = ListParams::parse(self);
        let after = cursor.and_then(|cursor| {
            let unknown = |_| self.errors.add(pointer_to("", "cursor"), UNKNOWN_CURSOR);
            parse(&cursor).map_err(unknown).ok()
        });
        PageRequest { limit: limit.unwrap_or(DEFAULT_PAGE), after }
    }

    /// Takes the maximum number of items.
    pub(crate) fn limit(&mut self) -> Option<usize> {
        self.take("limit", |text| {
            let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
            limit.ok_or(format!("must be an integer from 1 to {MAX_PAGE}"))
        })
    }

    /// Returns all errors. Parameters that were not taken are errors too.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.remaining {
            self.errors.add(pointer_to("", name), "is an unknown or repeated parameter");
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(Problem::invalid_query(self.errors.into_vec()))
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::EndpointId;

    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("/?{query}").parse().unwrap();
        let Query(remaining) = Query::try_from_uri(&uri).unwrap();
        Params { remaining, errors: FieldErrors::default() }
    }

    #[test]
    fn pagination_parameters_are_parsed() {
        let mut plain = params("");
        let page = plain.page::<EndpointId>();
        assert_eq!((page.limit, page.after), (DEFAULT_PAGE, None));
        assert!(plain.finish().is_ok());

        let query = format!("limit=250&cursor={}", EndpointId::MIN);
        let mut full = params(&query);
        let page = full.page::<EndpointId>();
        assert_eq!((page.limit, page.after), (250, Some(EndpointId::MIN)));
        assert!(full.finish().is_ok());
    }

    #[test]
    fn all_errors_are_listed() {
        for limit in ["0", "251", "-1", "x", "1e2"] {
            let mut bad = params(&format!("limit={limit}&cursor=x&other=1"));
            bad.page::<EndpointId>();
            let mut body = bad.errors.into_vec();
            assert_eq!(body.len(), 2);
            assert_eq!(body.remove(0).pointer, "/limit");
            assert_eq!(body.remove(0).pointer, "/cursor");
        }
        assert!(params("other=1").finish().is_err());
        let mut twice = params("limit=1&limit=2");
        twice.page::<EndpointId>();
        assert!(twice.finish().is_err());
    }
}
