//! How far a copy has come: a bar on a terminal, lines now and then elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use postrider_store::{Progress, Stage};
use tokio::time::Instant;

use super::{say, text};

/// How often a line is printed.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often a bar is drawn in a second, at most.
const DRAWN: u8 = 10;

/// Where progress is shown.
pub enum Shown {
    /// On a terminal.
    Bar(ProgressBar),
    /// Anywhere else: what was last said, and when.
    Lines(Mutex<Option<(Stage, Instant)>>),
}

impl Shown {
    /// On standard output, as what that is.
    #[must_use]
    pub fn new() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Lines(Mutex::default());
        }
        Self::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(DRAWN)))
    }

    /// Shows it.
    pub fn show(&self, progress: Progress) {
        match self {
            Self::Bar(bar) => draw(bar, progress),
            Self::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let now = Instant::now();
                if is_due(*last, progress.stage, now) {
                    *last = Some((progress.stage, now));
                    say(&line(progress));
                }
            }
        }
    }

    /// There is no more to come.
    pub fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn draw(bar: &ProgressBar, progress: Progress) {
    let stage = name(progress.stage);
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
    ProgressStyle::with_template(template).expect("the template is good")
}

/// Whether it is time for a line: one for each stage, and then one now and then.
fn is_due(last: Option<(Stage, Instant)>, stage: Stage, now: Instant) -> bool {
    last.is_none_or(|(said, at)| said != stage || now - at >= LINE_EVERY)
}

fn line(Progress { stage, rows, of }: Progress) -> String {
    let (stage, rows) = (name(stage), text::count(rows));
    match of {
        Some(of) => format!("{stage}: {rows} of {} rows", text::count(of)),
        None => format!("{stage}: {rows} rows"),
    }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Reading => "reading the source",
        Stage::Copying => "copying",
        Stage::Comparing => "reading the target",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Progress = Progress { stage: Stage::Copying, rows: 1_000, of: Some(20_000) };

    #[tokio::test(start_paused = true)]
    async fn lines_come_with_each_stage_and_now_and_then() {
        let now = Instant::now();
        assert!(is_due(None, Stage::Reading, now));
        let last = Some((Stage::Reading, now));
        assert!(is_due(last, Stage::Copying, now));
        assert!(!is_due(last, Stage::Reading, now + Duration::from_secs(4)));
        assert!(is_due(last, Stage::Reading, now + LINE_EVERY));
    }

    #[test]
    fn a_line_says_how_much_of_what() {
        assert_eq!(line(SOME), "copying: 1,000 of 20,000 rows");
        let reading = Progress { stage: Stage::Reading, of: None, ..SOME };
        assert_eq!(line(reading), "reading the source: 1,000 rows");
    }

    #[test]
    fn a_bar_starts_anew_with_each_stage() {
        let bar = ProgressBar::hidden();
        draw(&bar, Progress { stage: Stage::Reading, rows: 500, of: None });
        assert_eq!((bar.position(), bar.length()), (500, None));
        draw(&bar, SOME);
        assert_eq!((bar.position(), bar.length()), (1_000, Some(20_000)));
        assert_eq!(bar.message(), "copying");
    }
}
