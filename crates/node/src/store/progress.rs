//! Shows the progress of a copy: a bar on a terminal, otherwise a line every few seconds.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use postrider_store::{Progress, Stage};
use tokio::time::Instant;

use super::{format, print_line};

/// The interval between lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The maximum redraw rate of the bar.
const REDRAWS_PER_SECOND: u8 = 10;

pub enum ProgressDisplay {
    /// On a terminal.
    Bar(ProgressBar),
    /// Anywhere else: the stage and time of the last line.
    Lines(Mutex<Option<(Stage, Instant)>>),
}

impl ProgressDisplay {
    /// Shows progress on stdout, as a bar if that is a terminal.
    #[must_use]
    pub fn new() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Lines(Mutex::default());
        }
        Self::Bar(ProgressBar::with_draw_target(
            None,
            ProgressDrawTarget::stdout_with_hz(REDRAWS_PER_SECOND),
        ))
    }

    pub fn show(&self, progress: Progress) {
        match self {
            Self::Bar(bar) => draw(bar, progress),
            Self::Lines(last) => {
                let mut last = last.lock();
                let now = Instant::now();
                if is_due(*last, progress.stage, now) {
                    *last = Some((progress.stage, now));
                    print_line(&format_line(progress));
                }
            }
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn draw(bar: &ProgressBar, progress: Progress) {
    let stage = stage_name(progress.stage);
    if bar.message() != stage {
        bar.reset();
        bar.set_style(style(progress.of.is_some()));
        bar.set_message(stage);
    }
    if let Some(of) = progress.of {
        bar.set_length(of);
    }
    bar.set_position(progress.rows);
}

fn style(has_end: bool) -> ProgressStyle {
    let template = if has_end {
        "{msg}  {wide_bar} {percent:>3} %  {human_pos} of {human_len} rows, {eta} left"
    } else {
        "{msg}  {human_pos} rows"
    };
    ProgressStyle::with_template(template).expect("the template is valid")
}

/// Whether to print a line: at the start of each stage, then at intervals.
fn is_due(last: Option<(Stage, Instant)>, stage: Stage, now: Instant) -> bool {
    last.is_none_or(|(last_stage, at)| last_stage != stage || now - at >= LINE_INTERVAL)
}

fn format_line(Progress { stage, rows, of }: Progress) -> String {
    let (stage, rows) = (stage_name(stage), format::count(rows));
    match of {
        Some(of) => format!("{stage}: {rows} of {} rows", format::count(of)),
        None => format!("{stage}: {rows} rows"),
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Reading => "reading the source",
        Stage::Copying => "copying",
        Stage::Comparing => "reading the target",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Progress = Progress { stage: Stage::Copying, rows: 1_000, of: Some(20_000) };

    #[tokio::test(start_paused = true)]
    async fn a_line_is_due_at_each_stage_and_at_intervals() {
        let now = Instant::now();
        assert!(is_due(None, Stage::Reading, now));
        let last = Some((Stage::Reading, now));
        assert!(is_due(last, Stage::Copying, now));
        assert!(!is_due(last, Stage::Reading, now + Duration::from_secs(4)));
        assert!(is_due(last, Stage::Reading, now + LINE_INTERVAL));
    }

    #[test]
    fn a_line_shows_the_rows_and_the_total() {
        assert_eq!(format_line(SAMPLE), "copying: 1,000 of 20,000 rows");
        let reading = Progress { stage: Stage::Reading, of: None, ..SAMPLE };
        assert_eq!(format_line(reading), "reading the source: 1,000 rows");
    }

    #[test]
    fn the_bar_restarts_at_each_stage() {
        let bar = ProgressBar::hidden();
        draw(&bar, Progress { stage: Stage::Reading, rows: 500, of: None });
        assert_eq!((bar.position(), bar.length()), (500, None));
        draw(&bar, SAMPLE);
        assert_eq!((bar.position(), bar.length()), (1_000, Some(20_000)));
        assert_eq!(bar.message(), "copying");
    }
}
