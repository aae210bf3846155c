//! Statistics of an endpoint.

use std::collections::BTreeMap;

use postrider_domain::statistics::{Figures, Point, ResultCode, Span, Statistics};
use postrider_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::choices;

/// How an endpoint's attempts went over a span of time.
#[derive(Serialize, ToSchema)]
#[schema(as = Statistics)]
pub(crate) struct StatisticsBody {
    /// The span.
    #[schema(schema_with = span)]
    span: Span,
    /// How long each point goes on.
    #[schema(example = 1_800_000)]
    step_ms: u64,
    /// Whether every attempt was counted. If not, the endpoint gave too many different answers to
    /// read, and the oldest attempts are missing.
    complete: bool,
    /// All attempts together.
    total: FiguresBody,
    /// The points, the oldest first, without a gap.
    points: Vec<PointBody>,
}

/// The attempts of one step of time.
#[derive(Serialize, ToSchema)]
#[schema(as = StatisticsPoint)]
struct PointBody {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    #[serde(flatten)]
    figures: FiguresBody,
}

/// What attempts came to.
#[derive(Serialize, ToSchema)]
#[schema(as = StatisticsFigures)]
struct FiguresBody {
    /// Attempts that succeeded.
    succeeded: u64,
    /// Attempts that failed.
    failed: u64,
    /// The response time that half of them stayed within, of those that were answered or timed
    /// out. It is known to a factor of √2; null when there are none.
    p50_ms: Option<u32>,
    /// The response time that 99 of 100 stayed within.
    p99_ms: Option<u32>,
    /// How often each HTTP status came, by status.
    #[schema(example = json!({"200": 340, "503": 2}))]
    statuses: BTreeMap<String, u64>,
    /// How many attempts ended without a status, by the kind of error.
    #[schema(example = json!({"timeout": 1}))]
    errors: BTreeMap<String, u64>,
}

impl From<Statistics> for StatisticsBody {
    fn from(Statistics { span, points, total, complete }: Statistics) -> Self {
        Self {
            span,
            step_ms: u64::try_from(span.step().as_millis()).expect("a day at most"),
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
        let Figures { succeeded, failed, p50_ms, p99_ms, answers } = figures;
        let (mut statuses, mut errors) = (BTreeMap::new(), BTreeMap::new());
        for (answer, count) in answers {
            let counts = match answer {
                ResultCode::Status(_) => &mut statuses,
                ResultCode::NoResponse(_) => &mut errors,
            };
            counts.insert(answer.to_string(), count);
        }
        Self { succeeded, failed, p50_ms, p99_ms, statuses, errors }
    }
}

pub(crate) fn span() -> Object {
    choices(&Span::ALL)
}
