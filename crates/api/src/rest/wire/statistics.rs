//! Statistics of an endpoint's attempts.

use std::collections::BTreeMap;

use postrider_domain::statistics::{Figures, Point, ResultCode, Statistics, TimeRange};
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::string_enum;

/// The results of an endpoint's attempts over a time span.
#[derive(Serialize, ToSchema)]
#[schema(as = Statistics)]
pub(crate) struct StatisticsBody {
    /// The time span.
    #[schema(schema_with = span)]
    span: TimeRange,
    /// The duration of each step in milliseconds.
    #[schema(example = 1_800_000)]
    step_ms: u64,
    /// Whether all attempts are included. If `false`, the endpoint returned too many different
    /// results, and the oldest attempts are missing.
    complete: bool,
    /// The results of all attempts in the span.
    total: FiguresBody,
    /// The results for each step, oldest first, without gaps.
    points: Vec<PointBody>,
}

/// The results of the attempts in one step.
#[derive(Serialize, ToSchema)]
#[schema(as = StatisticsPoint)]
struct PointBody {
    /// The start of the step.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[serde(flatten)]
    figures: FiguresBody,
}

/// The results of a set of attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = StatisticsFigures)]
struct FiguresBody {
    /// The number of successful attempts.
    succeeded: u64,
    /// The number of failed attempts.
    failed: u64,
    /// The median response time in milliseconds, of attempts that received a response or timed out.
    /// It is accurate to within a factor of √2. Null if there are no such attempts.
    p50_ms: Option<u32>,
    /// The 99th percentile of the response time in milliseconds, with the accuracy of `p50_ms`.
    p99_ms: Option<u32>,
    /// The number of responses by HTTP status code.
    #[schema(example = json!({"200": 340, "503": 2}))]
    statuses: BTreeMap<String, u64>,
    /// The number of attempts without a response, by kind of error.
    #[schema(example = json!({"timeout": 1}))]
    errors: BTreeMap<String, u64>,
}

impl From<Statistics> for StatisticsBody {
    fn from(Statistics { range, points, total, complete }: Statistics) -> Self {
        Self {
            span: range,
            step_ms: u64::try_from(range.step().as_millis()).expect("a day at most"),
            complete,
            total: total.into(),
            points: points.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Point> for PointBody {
    fn from(Point { at, figures }: Point) -> Self {
        Self { at, figures: figures.into() }
    }
}

impl From<Figures> for FiguresBody {
    fn from(figures: Figures) -> Self {
        let Figures { succeeded, failed, p50_ms, p99_ms, results } = figures;
        let (mut statuses, mut errors) = (BTreeMap::new(), BTreeMap::new());
        for (result, count) in results {
            let counts = match result {
                ResultCode::Status(_) => &mut statuses,
                ResultCode::NoResponse(_) => &mut errors,
            };
            counts.insert(result.to_string(), count);
        }
        Self { succeeded, failed, p50_ms, p99_ms, statuses, errors }
    }
}

pub(crate) fn span() -> Object {
    string_enum(&TimeRange::ALL)
}
