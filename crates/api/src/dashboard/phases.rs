//! How long each phase of a request took, as a bar and as numbers.

use std::time::Duration;

use maud::{Markup, html};
use postrider_cluster::route::Phases;

use super::format::micros;

/// The bar's width and height, in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 24.0;
/// The least that a phase takes of the bar, so that it can be seen.
const LEAST: f64 = 4.0;

/// A phase that took place: its class, its name and how long it took.
type Part = (&'static str, &'static str, Duration);

/// The bar with its numbers; nothing when nothing took place.
pub(crate) fn phases(phases: Phases) -> Markup {
    let parts = parts(phases);
    if parts.is_empty() {
        return Markup::default();
    }
    let together: Duration = parts.iter().map(|(_, _, took)| *took).sum();
    html! {
        figure.phases {
            (bar(&parts))
            table {
                caption { "How long each phase took" }
                tbody {
                    @for (class, name, took) in &parts {
                        tr {
                            th scope="row" { (swatch(class)) (name) }
                            td.number { (micros(*took)) }
                        }
                    }
                    tr.total { th scope="row" { "Together" } td.number { (micros(together)) } }
                }
            }
        }
    }
}

fn parts(Phases { dns, connect, tls, wait, read }: Phases) -> Vec<Part> {
    let all = [
        ("phase-dns", "Resolve the name", dns),
        ("phase-connect", "Connect", connect),
        ("phase-tls", "TLS handshake", tls),
        ("phase-wait", "Send and wait for the answer", wait),
        ("phase-read", "Read the answer", read),
    ];
    all.into_iter().filter_map(|(class, name, took)| Some((class, name, took?))).collect()
}

/// Hidden from screen readers, which have the table.
fn bar(parts: &[Part]) -> Markup {
    let sum: f64 = parts.iter().map(|(_, _, took)| took.as_secs_f64()).sum();
    let spare = WIDTH - LEAST * parts.len() as f64;
    let mut x = 0.0;
    let bars: Vec<_> = parts
        .iter()
        .map(|(class, name, took)| {
            let share = if sum > 0.0 { took.as_secs_f64() / sum } else { 0.0 };
            let width = LEAST + spare * share;
            let start = x;
            x += width;
            (class, name, start, width)
        })
        .collect();
    html! {
        svg.bar viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" aria-hidden="true"
            focusable="false" {
            @for (class, name, x, width) in bars {
                rect class=(class) x=(format!("{x:.2}")) y="0" width=(format!("{width:.2}"))
                    height=(HEIGHT) { title { (name) } }
            }
        }
    }
}

fn swatch(class: &str) -> Markup {
    html! {
        svg.swatch viewBox="0 0 10 10" aria-hidden="true" focusable="false" {
            rect class=(class) x="0" y="0" width="10" height="10";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_place_is_shown() {
        let measured = Phases {
            connect: Some(Duration::from_micros(250)),
            wait: Some(Duration::from_millis(10)),
            read: Some(Duration::ZERO),
            ..Phases::default()
        };
        let shown = phases(measured).into_string();
        for part in ["0.250 ms", "10.000 ms", "0.000 ms", "10.250 ms", "phase-wait"] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
        assert!(!shown.contains("TLS") && !shown.contains("Resolve"));
    }

    #[test]
    fn the_bar_is_filled() {
        let took = |micros| Some(Duration::from_micros(micros));
        for measured in [
            Phases { dns: took(1), connect: took(1), tls: took(1), wait: took(1), read: took(0) },
            Phases { connect: took(0), ..Phases::default() },
        ] {
            let shown = bar(&parts(measured)).into_string();
            let widths = shown.split(" width=\"").skip(1);
            let width: f64 =
                widths.map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap()).sum();
            let expected = if measured.dns.is_some() { WIDTH } else { LEAST };
            assert!((width - expected).abs() < 0.1, "{shown}");
        }
        assert_eq!(phases(Phases::default()).into_string(), "");
    }
}
