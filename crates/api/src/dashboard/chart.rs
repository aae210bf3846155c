//! How an endpoint's attempts went, as charts: real SVG, with classes for the stylesheet and nothing
//! that a policy against inline styles and scripts would refuse.
//!
//! A chart is an image to a screen reader, which hears its description; what it shows is also in a
//! table. Over each point in time lies a place that tells its figures to whoever points there. The
//! script puts the times on the axis (`data-time`) into the reader's zone; without it they are in
//! UTC, and a word says so.

mod axis;

use std::fmt::Write;

use maud::{Markup, html};
use postrider_domain::outcome::is_success;
use postrider_domain::statistics::{Answer, Figures, Point, Span, Sparkline, Statistics};
use postrider_domain::time::Timestamp;

use self::axis::{Counts, Decades};
use super::format::{count, grouped, millis};
use super::parts::Column::Text;
use super::parts::table;

/// The charts' own measure: each is drawn about as large as it is shown, so that text stays legible.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 176.0;
/// Where the bars and lines are; the axes' labels stand left of it and below.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 352.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 148.0;
/// The part of its place that a bar leaves free.
const GAP: f64 = 0.2;
/// The least height of a bar: one failure among thousands is to be seen.
const LEAST: f64 = 1.5;

/// A part of every bar: the class that colours it, and how much it has at each point.
struct Layer {
    class: &'static str,
    counts: Vec<u64>,
}

/// What happened over a span, in three charts and a table.
pub(crate) fn charts(statistics: &Statistics) -> Markup {
    let Figures { succeeded, failed, .. } = statistics.total;
    if succeeded + failed == 0 {
        return html! { p.empty { "Nothing was counted in the last " (words(statistics.span)) "." } };
    }
    html! {
        @if !statistics.complete {
            p.hint {
                "The endpoint gave so many different answers that the oldest attempts could not be \
                 counted."
            }
        }
        div.charts {
            (outcomes(statistics))
            (response_times(statistics))
            (answers(statistics))
        }
        (as_table(statistics))
    }
}

fn words(span: Span) -> &'static str {
    match span {
        Span::Hour => "hour",
        Span::Day => "24 hours",
        Span::Week => "7 days",
        Span::Month => "30 days",
    }
}

fn outcomes(statistics: &Statistics) -> Markup {
    let Figures { succeeded, failed, .. } = statistics.total;
    let layers = [
        Layer { class: "good", counts: each(statistics, |figures| figures.succeeded) },
        Layer { class: "bad", counts: each(statistics, |figures| figures.failed) },
    ];
    let said = format!(
        "{} in the last {}: {} succeeded and {} failed.",
        count(succeeded + failed, "attempt", "attempts"),
        words(statistics.span),
        grouped(succeeded),
        grouped(failed),
    );
    let legend = html! {
        (key("good", "Succeeded", &grouped(succeeded)))
        (key("bad", "Failed", &grouped(failed)))
    };
    let drawing = html! {
        (bars(&layers))
        (places(statistics, |figures| {
            format!("{} succeeded, {} failed", grouped(figures.succeeded), grouped(figures.failed))
        }))
    };
    figure("chart-outcomes", "Attempts", &said, legend, statistics, drawing)
}

fn response_times(statistics: &Statistics) -> Markup {
    let figures = || statistics.points.iter().map(|point| &point.figures);
    let halves: Vec<_> = figures().map(|figures| figures.p50_ms).collect();
    let most: Vec<_> = figures().map(|figures| figures.p99_ms).collect();
    let all = || halves.iter().chain(&most).flatten().copied();
    let (Some(p50_ms), Some(p99_ms), Some(axis)) =
        (statistics.total.p50_ms, statistics.total.p99_ms, Decades::of(all()))
    else {
        return html! {
            figure.chart {
                figcaption { span.strong { "Response time" } }
                p.empty { "No attempt came to an answer." }
            }
        };
    };
    let (p50, p99) = (millis(p50_ms), millis(p99_ms));
    let said =
        format!("Half of the answers came within {p50}, and 99 of 100 within {p99}. Logarithmic.");
    let legend = html! {
        (key("accent", "Half within", &p50))
        (key("warn", "99 % within", &p99))
    };
    let drawing = html! {
        @for (at, label) in axis.ticks() { (line_across(at, &label)) }
        path class="curve warn dashed" d=(line(&most, &axis)) {}
        path class="curve accent" d=(line(&halves, &axis)) {}
        (places(statistics, |figures| match (figures.p50_ms, figures.p99_ms) {
            (Some(p50_ms), Some(p99_ms)) => {
                format!("half within {}, 99 % within {}", millis(p50_ms), millis(p99_ms))
            }
            _ => "no answer".to_owned(),
        }))
    };
    figure("chart-response-times", "Response time", &said, legend, statistics, drawing)
}

/// Answers of one colour: the class that says it, their name, and which they are.
type Kind = (&'static str, &'static str, fn(Answer) -> bool);

const KINDS: [Kind; 6] = [
    ("good", "2XX", |answer| matches!(answer, Answer::Status(status) if is_success(status))),
    ("accent", "3XX", |answer| matches!(answer, Answer::Status(300..=399))),
    ("warn", "4XX", |answer| matches!(answer, Answer::Status(400..=499))),
    ("bad", "5XX", |answer| matches!(answer, Answer::Status(500..=599))),
    ("faint", "others", |answer| matches!(answer, Answer::Status(..200 | 600..))),
    ("ink", "none", |answer| matches!(answer, Answer::Nothing(_))),
];

fn answers(statistics: &Statistics) -> Markup {
    let total = &statistics.total;
    let kinds = KINDS.into_iter().filter(|(.., is)| sum(total, *is) > 0);
    let layers: Vec<_> = kinds
        .clone()
        .map(|(class, _, is)| Layer { class, counts: each(statistics, |point| sum(point, is)) })
        .collect();
    let said = format!("How often each answer came: {}.", list(total, MOST_SAID));
    let legend = html! {
        @for (class, name, is) in kinds { (key(class, name, &grouped(sum(total, is)))) }
    };
    let drawing = html! {
        (bars(&layers))
        (places(statistics, |figures| list(figures, MOST_LISTED)))
    };
    figure("chart-answers", "Status codes", &said, legend, statistics, drawing)
}

/// Answers that the place of a point and a row of the table tell one by one.
const MOST_LISTED: usize = 6;
/// Those that the words about a whole chart do.
const MOST_SAID: usize = 20;

/// How often answers came, the most frequent first.
fn list(figures: &Figures, most: usize) -> String {
    let mut answers = figures.answers.clone();
    answers.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = answers.split_off(most.min(answers.len()));
    let listed = answers.iter().map(|(answer, count)| format!("{answer} × {}", grouped(*count)));
    let rest: u64 = rest.iter().map(|(_, count)| count).sum();
    let others = (rest > 0).then(|| format!("others × {}", grouped(rest)));
    listed.chain(others).collect::<Vec<_>>().join(", ")
}

fn sum(figures: &Figures, is: fn(Answer) -> bool) -> u64 {
    figures.answers.iter().filter(|(answer, _)| is(*answer)).map(|(_, count)| count).sum()
}

fn each(statistics: &Statistics, of: impl Fn(&Figures) -> u64) -> Vec<u64> {
    statistics.points.iter().map(|point| of(&point.figures)).collect()
}

/// One entry of a legend.
fn key(class: &str, name: &str, figure: &str) -> Markup {
    html! { li { span class={ "key " (class) } {} (name) " " span.strong { (figure) } } }
}

/// A chart with its name, its legend, what it says in words, and the axis of time.
fn figure(
    id: &str,
    name: &str,
    said: &str,
    legend: Markup,
    statistics: &Statistics,
    drawing: Markup,
) -> Markup {
    html! {
        figure.chart {
            figcaption { span.strong { (name) } ul { (legend) } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img"
                aria-labelledby={ (id) "-name " (id) "-said" } {
                title id={ (id) "-name" } { (name) }
                desc id={ (id) "-said" } { (said) }
                (axis_of_time(statistics))
                (drawing)
            }
        }
    }
}

/// The marks below: times of day for a short span, dates for a long one.
fn axis_of_time(statistics: &Statistics) -> Markup {
    let points = statistics.points.iter().enumerate();
    let marked = points.filter(|(_, point)| axis::is_marked(statistics.span, point.at));
    let x = |index| LEFT + slot(statistics) * real(index);
    html! {
        path.axis d={ "M" (LEFT) " " (BOTTOM) "H" (RIGHT) } {}
        text.zone x=(number(LEFT - 4.0)) y=(number(BOTTOM + 17.0)) text-anchor="end" { "UTC" }
        @for (index, point) in marked {
            path.axis d={ "M" (number(x(index))) " " (BOTTOM) "v4" } {}
            @match statistics.span {
                Span::Hour | Span::Day => text x=(number(x(index))) y=(BOTTOM + 17.0)
                    text-anchor="middle" data-time=(point.at) { (time_of_day(point.at)) },
                Span::Week | Span::Month => text x=(number(x(index))) y=(BOTTOM + 17.0)
                    text-anchor="middle" { (date(point.at)) },
            }
        }
    }
}

/// A mark of the axis to the left, and the line that goes from it.
fn line_across(height: f64, label: &str) -> Markup {
    let y = y(height);
    html! {
        path.grid d={ "M" (LEFT) " " (number(y)) "H" (RIGHT) } {}
        text x=(number(LEFT - 5.0)) y=(number(y + 4.0)) text-anchor="end" { (label) }
    }
}

/// Bars whose parts stand on each other, with their axis.
fn bars(layers: &[Layer]) -> Markup {
    let points = layers.first().map_or(0, |layer| layer.counts.len());
    let total = |index: usize| layers.iter().map(|layer| layer.counts[index]).sum::<u64>();
    let axis = Counts::up_to((0..points).map(total).max().unwrap_or(0));
    let width = (RIGHT - LEFT) / real(points.max(1));
    let mut tops = vec![BOTTOM; points];
    let mut paths = Vec::new();
    for layer in layers {
        let mut path = String::new();
        for (index, (count, top)) in layer.counts.iter().zip(&mut tops).enumerate() {
            if *count > 0 {
                let height = (axis.part(*count) * (BOTTOM - TOP)).max(LEAST);
                bar(&mut path, LEFT + width * (real(index) + 0.5), *top, height);
                *top -= height;
            }
        }
        paths.push((layer.class, path));
    }
    html! {
        @for (at, label) in axis.ticks() { (line_across(at, &label)) }
        g stroke-width=(number(width * (1.0 - GAP))) {
            @for (class, path) in paths { path class={ "bar " (class) } d=(path) {} }
        }
    }
}

/// Adds a bar that stands at `bottom` to a path: a stroke, as wide as the path's strokes are. There
/// are many on a page, and a stroke takes half the bytes of an outline.
fn bar(path: &mut String, middle: f64, bottom: f64, height: f64) {
    let [middle, bottom, height] = [middle, bottom, height].map(number);
    // Writing to a string cannot fail.
    let _ = write!(path, "M{middle} {bottom}v-{height}");
}

/// A line through those points that there are; one that stands alone becomes a short stroke.
fn line(values: &[Option<u32>], axis: &Decades) -> String {
    let width = (RIGHT - LEFT) / real(values.len().max(1));
    let mut path = String::new();
    let mut before = None;
    for (index, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let left = LEFT + width * real(index);
            let [left, middle] = [left + width * 0.2, left + width * 0.5].map(number);
            let y = number(y(axis.part(*value)));
            let alone = before.is_none() && values.get(index + 1).is_none_or(Option::is_none);
            let _ = match (before, alone) {
                (_, true) => write!(path, "M{left} {y}h{}", number(width * 0.6)),
                (None, false) => write!(path, "M{middle} {y}"),
                (Some(_), false) => write!(path, "L{middle} {y}"),
            };
        }
        before = *value;
    }
    path
}

/// Over each point at which something was attempted, a place that tells about it.
fn places(statistics: &Statistics, tell: impl Fn(&Figures) -> String) -> Markup {
    let width = slot(statistics);
    let moment = |at| match statistics.span {
        Span::Hour | Span::Day => time_of_day(at) + " UTC",
        Span::Week | Span::Month => label(at),
    };
    let path = |index| {
        let mut path = String::new();
        bar(&mut path, LEFT + width * (real(index) + 0.5), BOTTOM, BOTTOM - TOP);
        path
    };
    html! {
        g.places stroke-width=(number(width)) {
            @for (index, point) in statistics.points.iter().enumerate() {
                @if has_attempts(point) {
                    path d=(path(index)) { title { (moment(point.at)) ": " (tell(&point.figures)) } }
                }
            }
        }
    }
}

fn as_table(statistics: &Statistics) -> Markup {
    let columns = ["Begun at", "Succeeded", "Failed", "Half within", "99 % within", "Answers"];
    let columns = columns.map(Text);
    let points = statistics.points.iter().rev().filter(|point| has_attempts(point));
    html! {
        details.chart-table {
            summary { "The charts as a table" }
            (table("The charts as a table", &columns, html! { @for point in points { (row(point)) } }))
        }
    }
}

fn row(Point { at, figures }: &Point) -> Markup {
    let shown = |ms: Option<u32>| ms.map_or_else(|| "–".to_owned(), millis);
    html! {
        tr {
            th scope="row" { time datetime=(at) { (label(*at)) } }
            td { (grouped(figures.succeeded)) }
            td { (grouped(figures.failed)) }
            td { (shown(figures.p50_ms)) }
            td { (shown(figures.p99_ms)) }
            td { (list(figures, MOST_LISTED)) }
        }
    }
}

fn has_attempts(point: &Point) -> bool {
    point.figures.succeeded + point.figures.failed > 0
}

/// What happened in the last 24 hours, as small as a word.
pub(crate) fn sparkline(line: &Sparkline) -> Markup {
    const SIZE: (f64, f64) = (96.0, 24.0);
    let total = line.total();
    if total.succeeded + total.failed == 0 {
        return html! { span.faint { "nothing counted" } };
    }
    let said = format!(
        "In the last 24 hours: {} succeeded, {} failed{}",
        grouped(total.succeeded),
        grouped(total.failed),
        if line.complete { "" } else { "; the oldest attempts could not be counted" }
    );
    let most = line.hours.iter().map(|hour| hour.succeeded + hour.failed).max().unwrap_or(0);
    let width = SIZE.0 / real(line.hours.len());
    let (mut good, mut bad) = (String::new(), String::new());
    for (index, hour) in line.hours.iter().enumerate() {
        let mut bottom = SIZE.1;
        for (path, count) in [(&mut good, hour.succeeded), (&mut bad, hour.failed)] {
            if count > 0 {
                let height = (share(count, most) * (SIZE.1 - LEAST)).max(LEAST);
                bar(path, width * (real(index) + 0.5), bottom, height);
                bottom -= height;
            }
        }
    }
    html! {
        svg.sparkline viewBox={ "0 0 " (SIZE.0) " " (SIZE.1) } role="img" aria-label=(said) {
            title { (said) }
            path.axis d={ "M0 " (SIZE.1) "h" (SIZE.0) } {}
            g stroke-width=(number(width - 1.0)) {
                path class="bar good" d=(good) {}
                path class="bar bad" d=(bad) {}
            }
        }
    }
}

fn slot(statistics: &Statistics) -> f64 {
    (RIGHT - LEFT) / real(statistics.points.len().max(1))
}

/// Where a part of the whole height is, from the bottom.
fn y(part: f64) -> f64 {
    BOTTOM - part * (BOTTOM - TOP)
}

fn share(count: u64, all: u64) -> f64 {
    count as f64 / all.max(1) as f64
}

fn real(number: usize) -> f64 {
    number as f64
}

/// A coordinate, in as few characters as its tenths take.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A day and a time of it, in UTC.
fn label(at: Timestamp) -> String {
    format!("{} {} UTC", date(at), time_of_day(at))
}

/// The hour and the minute, in UTC.
fn time_of_day(at: Timestamp) -> String {
    let minutes = at.seconds() / 60;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

/// The day and the month, in UTC.
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
