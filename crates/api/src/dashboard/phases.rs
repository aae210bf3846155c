//! The duration of each phase of a request, as a bar and as a table.

use std::time::Duration;

use maud::{Markup, html};
use postrider_domain::attempt::Phases;

use super::format::micros;

/// The bar's width and height, in SVG units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 24.0;
/// The minimum width of a phase, so that it stays visible.
const MIN_WIDTH: f64 = 4.0;

/// A measured phase: CSS class, name and duration.
type Measured = (&'static str, &'static str, Duration);

/// The bar and the table; nothing if no phase was measured.
pub(crate) fn phases(phases: Phases) -> Markup {
    let measured = measured(phases);
    if measured.is_empty() {
        return Markup::default();
    }
    let total: Duration = measured.iter().map(|(_, _, took)| *took).sum();
    html! {
        figure.phases {
            (bar(&measured))
            table {
                caption { "Time per phase" }
                tbody {
                    @for (class, name, took) in &measured {
                        tr {
                            th scope="row" { (swatch(class)) (name) }
                            td.number { (micros(*took)) }
                        }
                    }
                    tr.total { th scope="row" { "Total" } td.number { (micros(total)) } }
                }
            }
        }
    }
}

fn measured(Phases { dns, connect, tls, wait, read }: Phases) -> Vec<Measured> {
    let all = [
        ("phase-dns", "DNS lookup", dns),
        ("phase-connect", "TCP connection", connect),
        ("phase-tls", "TLS handshake", tls),
        ("phase-wait", "Waiting for response", wait),
        ("phase-read", "Reading response", read),
    ];
    all.into_iter().filter_map(|(class, name, took)| Some((class, name, took?))).collect()
}

/// Hidden from screen readers, which read the table instead.
fn bar(measured: &[Measured]) -> Markup {
    let sum: f64 = measured.iter().map(|(_, _, took)| took.as_secs_f64()).sum();
    let available = WIDTH - MIN_WIDTH * measured.len() as f64;
    let mut x = 0.0;
    let bars: Vec<_> = measured
        .iter()
        .map(|(class, name, took)| {
            let share = if sum > 0.0 { took.as_secs_f64() / sum } else { 0.0 };
            let width = MIN_WIDTH + available * share;
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
    fn measured_phases_are_shown() {
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
        assert!(!shown.contains("TLS") && !shown.contains("DNS"));
    }

    #[test]
    fn the_bar_has_its_full_width() {
        let took = |micros| Some(Duration::from_micros(micros));
        for phases in [
            Phases { dns: took(1), connect: took(1), tls: took(1), wait: took(1), read: took(0) },
            Phases { connect: took(0), ..Phases::default() },
        ] {
            let shown = bar(&measured(phases)).into_string();
            let widths = shown.split(" width=\"").skip(1);
            let width: f64 =
                widths.map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap()).sum();
            let expected = if phases.dns.is_some() { WIDTH } else { MIN_WIDTH };
            assert!((width - expected).abs() < 0.1, "{shown}");
        }
        assert_eq!(phases(Phases::default()).into_string(), "");
    }
}
