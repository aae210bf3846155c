//! Query parameters, and among them those of every list.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use http::StatusCode;
use http::request::Parts;
use postrider_domain::limits::{DEFAULT_PAGE, MAX_PAGE};
use postrider_store::PageRequest;
use utoipa::IntoParams;

use crate::web::findings::{Findings, UNKNOWN_CURSOR, child};
use crate::web::problem::Problem;

/// Which part of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Most items on the page; 50 if omitted.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 250)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The parameters of a query, each to be taken once, and what is wrong with them.
pub(crate) struct Params {
    left: Vec<(String, String)>,
    findings: Findings,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::<Vec<(String, String)>>::try_from_uri(&parts.uri) {
            Ok(Query(left)) => Ok(Self { left, findings: Findings::default() }),
            Err(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "The query cannot be read.")),
        }
    }
}

impl Params {
    /// A parameter that `parse` accepts, if it is there. An empty one is as good as absent.
    pub(crate) fn take<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let at = self.left.iter().position(|(other, _)| other == name)?;
        let (_, text) = self.left.remove(at);
        if text.is_empty() {
            return None;
        }
        parse(&text).map_err(|error| self.findings.add(child("", name), error)).ok()
    }

    /// A parameter that may be any text.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name, |text| Ok::<_, Infallible>(text.to_owned()))
    }

    /// Which page of a list whose cursors are ids.
    pub(crate) fn page<C: FromStr>(&mut self) -> PageRequest<C> {
        self.page_after(C::from_str)
    }

    /// Which page of a list whose cursors `parse` reads.
    pub(crate) fn page_after<C, E>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<C, E>,
    ) -> PageRequest<C> {
        let ListParams { limit, cursor } =
            ListParams { limit: self.limit(), cursor: self.text("cursor") };
        let after = cursor.and_then(|cursor| {
            let unknown = |_| self.findings.add(child("", "cursor"), UNKNOWN_CURSOR);
            parse(&cursor).map_err(unknown).ok()
        });
        PageRequest { limit: limit.unwrap_or(DEFAULT_PAGE), after }
    }

    /// Most items of a list.
    pub(crate) fn limit(&mut self) -> Option<usize> {
        self.take("limit", |text| {
            let limit = text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
            limit.ok_or(format!("must be a whole number from 1 to {MAX_PAGE}"))
        })
    }

    /// An error that lists all that is wrong, parameters that nobody took among it.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.left {
            self.findings.add(child("", name), "is not a known parameter, or given twice");
        }
        if self.findings.is_empty() {
            return Ok(());
        }
        Err(Problem::invalid_query(self.findings.into_errors()))
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::EndpointId;

    use super::*;

    fn params(query: &str) -> Params {
        let uri = format!("/?{query}").parse().unwrap();
        let Query(left) = Query::try_from_uri(&uri).unwrap();
        Params { left, findings: Findings::default() }
    }

    #[test]
    fn pages() {
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
            let mut body = bad.findings.into_errors();
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
