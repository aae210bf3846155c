//! Charts of an endpoint's attempts, as SVG without inline styles and scripts, which the content
//! security policy forbids.
//!
//! To a screen reader, a chart is an image with a description; a table has the same data. Each
//! point in time has a tooltip. The script converts the times on the axis (`data-time`) to the
//! user's time zone; without it, the axis is labelled as UTC.

mod axis;

use std::fmt::Write;

use maud::{Markup, html};
use postrider_domain::outcome::is_success;
use postrider_domain::statistics::{Figures, Point, ResultCode, Sparkline, Statistics, TimeRange};
use postrider_domain::time::Timestamp;

use self::axis::{CountAxis, LogAxis};
use super::components::Column::Text;
use super::components::table;
use super::format::{count, grouped, millis};

/// The size in SVG units, about the size on screen, so that text stays legible.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 176.0;
/// The plot area; the axes' labels are to its left and below it.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 352.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 148.0;
/// The gap between bars, as a fraction of their slot.
const GAP: f64 = 0.2;
/// The minimum height of a bar: one failure among thousands has to be visible.
const MIN_HEIGHT: f64 = 1.5;

/// One series of a stacked bar chart: CSS class and count at each point.
struct Layer {
    class: &'static str,
    counts: Vec<u64>,
}

/// The statistics of a time range, as three charts and a table.
pub(crate) fn charts(statistics: &Statistics) -> Markup {
    let Figures { succeeded, failed, .. } = statistics.total;
    if succeeded + failed == 0 {
        return html! { p.empty { "No activity in the last " (range_text(statistics.range)) "." } };
    }
    html! {
        @if !statistics.complete {
            p.hint {
                "Your server returned so many different status codes that the oldest attempts could \
                 not be counted."
            }
        }
        div.charts {
            (outcome_chart(statistics))
            (response_time_chart(statistics))
            (status_code_chart(statistics))
        }
        (data_table(statistics))
    }
}

fn range_text(range: TimeRange) -> &'static str {
    match range {
        TimeRange::Hour => "hour",
        TimeRange::Day => "24 hours",
        TimeRange::Week => "7 days",
        TimeRange::Month => "30 days",
    }
}

fn outcome_chart(statistics: &Statistics) -> Markup {
    let Figures { succeeded, failed, .. } = statistics.total;
    let layers = [
        Layer { class: "good", counts: per_point(statistics, |figures| figures.succeeded) },
        Layer { class: "bad", counts: per_point(statistics, |figures| figures.failed) },
    ];
    let description = format!(
        "{} in the last {}: {} succeeded and {} failed.",
        count(succeeded + failed, "attempt", "attempts"),
        range_text(statistics.range),
        grouped(succeeded),
        grouped(failed),
    );
    let legend = html! {
        (key("good", "Succeeded", &grouped(succeeded)))
        (key("bad", "Failed", &grouped(failed)))
    };
    let drawing = html! {
        (bars(&layers))
        (tooltips(statistics, |figures| {
            format!("{} succeeded, {} failed", grouped(figures.succeeded), grouped(figures.failed))
        }))
    };
    figure("chart-outcomes", "Attempts", &description, legend, statistics, drawing)
}

fn response_time_chart(statistics: &Statistics) -> Markup {
    let figures = || statistics.points.iter().map(|point| &point.figures);
    let p50s: Vec<_> = figures().map(|figures| figures.p50_ms).collect();
    let p99s: Vec<_> = figures().map(|figures| figures.p99_ms).collect();
    let all = || p50s.iter().chain(&p99s).flatten().copied();
    let (Some(p50_ms), Some(p99_ms), Some(axis)) =
        (statistics.total.p50_ms, statistics.total.p99_ms, LogAxis::of(all()))
    else {
        return html! {
            figure.chart {
                figcaption { span.strong { "Response time" } }
                p.empty { "No responses in this period." }
            }
        };
    };
    let (p50, p99) = (millis(p50_ms), millis(p99_ms));
    let description = format!("Response times: p50 {p50}, p99 {p99}. Logarithmic scale.");
    let legend = html! {
        (key("accent", "p50", &p50))
        (key("warn", "p99", &p99))
    };
    let drawing = html! {
        @for (at, label) in axis.ticks() { (gridline(at, &label)) }
        path class="curve warn dashed" d=(line(&p99s, &axis)) {}
        path class="curve accent" d=(line(&p50s, &axis)) {}
        (tooltips(statistics, |figures| match (figures.p50_ms, figures.p99_ms) {
            (Some(p50_ms), Some(p99_ms)) => {
                format!("p50 {}, p99 {}", millis(p50_ms), millis(p99_ms))
            }
            _ => "no response".to_owned(),
        }))
    };
    figure("chart-response-times", "Response time", &description, legend, statistics, drawing)
}

/// A class of responses: CSS class, name and predicate.
type ResponseClass = (&'static str, &'static str, fn(ResultCode) -> bool);

const RESPONSE_CLASSES: [ResponseClass; 6] = [
    ("good", "2xx", |result| matches!(result, ResultCode::Status(status) if is_success(status))),
    ("accent", "3xx", |result| matches!(result, ResultCode::Status(300..=399))),
    ("warn", "4xx", |result| matches!(result, ResultCode::Status(400..=499))),
    ("bad", "5xx", |result| matches!(result, ResultCode::Status(500..=599))),
    ("faint", "other", |result| matches!(result, ResultCode::Status(..200 | 600..))),
    ("ink", "no response", |result| matches!(result, ResultCode::NoResponse(_))),
];

fn status_code_chart(statistics: &Statistics) -> Markup {
    let total = &statistics.total;
    let classes = RESPONSE_CLASSES.into_iter().filter(|(.., is)| sum(total, *is) > 0);
    let layers: Vec<_> = classes
        .clone()
        .map(|(class, _, is)| Layer {
            class,
            counts: per_point(statistics, |point| sum(point, is)),
        })
        .collect();
    let description = format!("Responses by status: {}.", response_list(total, MAX_DESCRIBED));
    let legend = html! {
        @for (class, name, is) in classes { (key(class, name, &grouped(sum(total, is)))) }
    };
    let drawing = html! {
        (bars(&layers))
        (tooltips(statistics, |figures| response_list(figures, MAX_LISTED)))
    };
    figure("chart-responses", "Status codes", &description, legend, statistics, drawing)
}

/// The maximum number of responses listed in a tooltip or a row of the table.
const MAX_LISTED: usize = 6;
/// The maximum number of responses listed in the description of a chart.
const MAX_DESCRIBED: usize = 20;

/// The responses with their counts, most frequent first.
fn response_list(figures: &Figures, limit: usize) -> String {
    let mut results = figures.results.clone();
    results.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = results.split_off(limit.min(results.len()));
    let listed = results.iter().map(|(result, count)| format!("{result} × {}", grouped(*count)));
    let rest: u64 = rest.iter().map(|(_, count)| count).sum();
    let others = (rest > 0).then(|| format!("other × {}", grouped(rest)));
    listed.chain(others).collect::<Vec<_>>().join(", ")
}

fn sum(figures: &Figures, is: fn(ResultCode) -> bool) -> u64 {
    figures.results.iter().filter(|(result, _)| is(*result)).map(|(_, count)| count).sum()
}

fn per_point(statistics: &Statistics, of: impl Fn(&Figures) -> u64) -> Vec<u64> {
    statistics.points.iter().map(|point| of(&point.figures)).collect()
}

/// A legend entry.
fn key(class: &str, name: &str, figure: &str) -> Markup {
    html! { li { span class={ "key " (class) } {} (name) " " span.strong { (figure) } } }
}

/// A chart with its name, legend, description and time axis.
fn figure(
    id: &str,
    name: &str,
    description: &str,
    legend: Markup,
    statistics: &Statistics,
    drawing: Markup,
) -> Markup {
    html! {
        figure.chart {
            figcaption { span.strong { (name) } ul { (legend) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img"
                aria-labelledby={ (id) "-name " (id) "-description" } {
                title id={ (id) "-name" } { (name) }
                desc id={ (id) "-description" } { (description) }
                (time_axis(statistics))
                (drawing)
            }
        }
    }
}

/// The time axis: times of day for a short range, dates for a long one.
fn time_axis(statistics: &Statistics) -> Markup {
    let points = statistics.points.iter().enumerate();
    let ticks = points.filter(|(_, point)| axis::has_tick(statistics.range, point.at));
    let x = |index| LEFT + slot_width(statistics) * to_f64(index);
    html! {
        path.axis d={ "M" (LEFT) " " (BOTTOM) "H" (RIGHT) } {}
        text.zone x=(coordinate(LEFT - 4.0)) y=(coordinate(BOTTOM + 17.0)) text-anchor="end" { "UTC" }
        @for (index, point) in ticks {
            path.axis d={ "M" (coordinate(x(index))) " " (BOTTOM) "v4" } {}
            @match statistics.range {
                TimeRange::Hour | TimeRange::Day => text x=(coordinate(x(index)))
                    y=(BOTTOM + 17.0) text-anchor="middle" data-time=(point.at) {
                        (time_of_day(point.at))
                    },
                TimeRange::Week | TimeRange::Month => text x=(coordinate(x(index)))
                    y=(BOTTOM + 17.0) text-anchor="middle" { (date(point.at)) },
            }
        }
    }
}

/// A gridline with its label on the left axis.
fn gridline(height: f64, label: &str) -> Markup {
    let y = y(height);
    html! {
        path.grid d={ "M" (LEFT) " " (coordinate(y)) "H" (RIGHT) } {}
        text x=(coordinate(LEFT - 5.0)) y=(coordinate(y + 4.0)) text-anchor="end" { (label) }
    }
}

/// Stacked bars with their axis.
fn bars(layers: &[Layer]) -> Markup {
    let points = layers.first().map_or(0, |layer| layer.counts.len());
    let total = |index: usize| layers.iter().map(|layer| layer.counts[index]).sum::<u64>();
    let axis = CountAxis::up_to((0..points).map(total).max().unwrap_or(0));
    let width = (RIGHT - LEFT) / to_f64(points.max(1));
    let mut tops = vec![BOTTOM; points];
    let mut paths = Vec::new();
    for layer in layers {
        let mut path = String::new();
        for (index, (count, top)) in layer.counts.iter().zip(&mut tops).enumerate() {
            if *count > 0 {
                let height = (axis.fraction(*count) * (BOTTOM - TOP)).max(MIN_HEIGHT);
                bar(&mut path, LEFT + width * (to_f64(index) + 0.5), *top, height);
                *top -= height;
            }
        }
        paths.push((layer.class, path));
    }
    html! {
        @for (at, label) in axis.ticks() { (gridline(at, &label)) }
        g stroke-width=(coordinate(width * (1.0 - GAP))) {
            @for (class, path) in paths { path class={ "bar " (class) } d=(path) {} }
        }
    }
}

/// Adds a bar to a path, as a vertical stroke from `bottom`. A page has many bars, and a stroke
/// takes half the bytes of an outline.
fn bar(path: &mut String, middle: f64, bottom: f64, height: f64) {
    let [middle, bottom, height] = [middle, bottom, height].map(coordinate);
    // Writing to a string cannot fail.
    let _ = write!(path, "M{middle} {bottom}v-{height}");
}

/// A line through the points with a value. An isolated point becomes a short stroke.
fn line(values: &[Option<u32>], axis: &LogAxis) -> String {
    let width = (RIGHT - LEFT) / to_f64(values.len().max(1));
    let mut path = String::new();
    let mut before = None;
    for (index, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let left = LEFT + width * to_f64(index);
            let [left, middle] = [left + width * 0.2, left + width * 0.5].map(coordinate);
            let y = coordinate(y(axis.fraction(*value)));
            let alone = before.is_none() && values.get(index + 1).is_none_or(Option::is_none);
            let _ = match (before, alone) {
                (_, true) => write!(path, "M{left} {y}h{}", coordinate(width * 0.6)),
                (None, false) => write!(path, "M{middle} {y}"),
                (Some(_), false) => write!(path, "L{middle} {y}"),
            };
        }
        before = *value;
    }
    path
}

/// Tooltips for the points with attempts.
fn tooltips(statistics: &Statistics, text_of: impl Fn(&Figures) -> String) -> Markup {
    let width = slot_width(statistics);
    let moment = |at| match statistics.range {
        TimeRange::Hour | TimeRange::Day => time_of_day(at) + " UTC",
        TimeRange::Week | TimeRange::Month => date_time(at),
    };
    let path = |index| {
        let mut path = String::new();
        bar(&mut path, LEFT + width * (to_f64(index) + 0.5), BOTTOM, BOTTOM - TOP);
        path
    };
    html! {
        g.tooltips stroke-width=(coordinate(width)) {
            @for (index, point) in statistics.points.iter().enumerate() {
                @if has_attempts(point) {
                    path d=(path(index)) { title { (moment(point.at)) ": " (text_of(&point.figures)) } }
                }
            }
        }
    }
}

fn data_table(statistics: &Statistics) -> Markup {
    let columns = ["Start", "Succeeded", "Failed", "p50", "p99", "Responses"];
    let columns = columns.map(Text);
    let points = statistics.points.iter().rev().filter(|point| has_attempts(point));
    html! {
        details.chart-table {
            summary { "Show as table" }
            (table("Chart data", &columns, html! { @for point in points { (row(point)) } }))
        }
    }
}

fn row(Point { at, figures }: &Point) -> Markup {
    let shown = |ms: Option<u32>| ms.map_or_else(|| "–".to_owned(), millis);
    html! {
        tr {
            th scope="row" { time datetime=(at) { (date_time(*at)) } }
            td { (grouped(figures.succeeded)) }
            td { (grouped(figures.failed)) }
            td { (shown(figures.p50_ms)) }
            td { (shown(figures.p99_ms)) }
            td { (response_list(figures, MAX_LISTED)) }
        }
    }
}

fn has_attempts(point: &Point) -> bool {
    point.figures.succeeded + point.figures.failed > 0
}

/// The attempts of the last 24 hours, as a chart the size of a word.
pub(crate) fn sparkline(line: &Sparkline) -> Markup {
    const SIZE: (f64, f64) = (96.0, 24.0);
    let total = line.total();
    if total.succeeded + total.failed == 0 {
        return html! { span.faint { "no activity" } };
    }
    let description = format!(
        "In the last 24 hours: {} succeeded, {} failed{}",
        grouped(total.succeeded),
        grouped(total.failed),
        if line.complete { "" } else { "; the oldest attempts could not be counted" }
    );
    let max = line.hours.iter().map(|hour| hour.succeeded + hour.failed).max().unwrap_or(0);
    let width = SIZE.0 / to_f64(line.hours.len());
    let (mut good, mut bad) = (String::new(), String::new());
    for (index, hour) in line.hours.iter().enumerate() {
        let mut bottom = SIZE.1;
        for (path, count) in [(&mut good, hour.succeeded), (&mut bad, hour.failed)] {
            if count > 0 {
                let height = (share(count, max) * (SIZE.1 - MIN_HEIGHT)).max(MIN_HEIGHT);
                bar(path, width * (to_f64(index) + 0.5), bottom, height);
                bottom -= height;
            }
        }
    }
    html! {
        svg.sparkline viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } role="img" aria-label=(description) {
            title { (description) }
            path.axis d={ "M0 " (SIZE.1) "h" (SIZE.0) } {}
            g stroke-width=(coordinate(width - 1.0)) {
                path class="bar good" d=(good) {}
                path class="bar bad" d=(bad) {}
            }
        }
    }
}

fn slot_width(statistics: &Statistics) -> f64 {
    (RIGHT - LEFT) / to_f64(statistics.points.len().max(1))
}

/// The y coordinate of a height, given as a fraction from the bottom.
fn y(part: f64) -> f64 {
    BOTTOM - part * (BOTTOM - TOP)
}

fn share(count: u64, all: u64) -> f64 {
    count as f64 / all.max(1) as f64
}

fn to_f64(number: usize) -> f64 {
    number as f64
}

/// A coordinate with at most one decimal.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// The date and time, in UTC.
fn date_time(at: Timestamp) -> String {
    format!("{} {} UTC", date(at), time_of_day(at))
}

/// The time of day, in UTC.
fn time_of_day(at: Timestamp) -> String {
    let minutes = at.seconds() / 60;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// The date without the year, in UTC.
fn date(at: Timestamp) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // 2026-01-31T12:00:00.000Z
    let exact = at.to_string();
    let mut parts = exact.split(['-', 'T']).skip(1);
    let month = parts.next().and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let day = parts.next().unwrap_or_default().trim_start_matches('0');
    format!("{day} {}", MONTHS.get(month - 1).unwrap_or(&""))
}

#[cfg(test)]
mod tests;
