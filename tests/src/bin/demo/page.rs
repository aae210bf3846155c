//! How the demo looks: lines with the time since its start, who speaks, and what happened.

use std::io::IsTerminal;

use anyhow::Result;
use tokio::time::Instant;

/// Where the demo is written.
pub struct Page {
    start: Instant,
    colours: bool,
}

/// The colours of those who speak.
#[derive(Clone, Copy)]
pub enum Ink {
    Plain,
    Good,
    Bad,
    Faint,
}

impl Page {
    /// A page that begins now.
    pub fn open() -> Self {
        Self { start: Instant::now(), colours: std::io::stdout().is_terminal() }
    }

    /// A heading.
    pub fn chapter(&self, title: &str) {
        println!("\n{}", self.paint(Ink::Plain, "1", title));
    }

    /// Something that happened now.
    pub fn line(&self, ink: Ink, who: &str, what: &str) {
        let time = format!("{:7.2} s", self.start.elapsed().as_secs_f64());
        let time = self.paint(Ink::Faint, "", &time);
        println!("{time}  {}  {what}", self.paint(ink, "", &format!("{who:<8}")));
    }

    /// A text of several lines, set apart.
    pub fn quote(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("           {} {line}", self.paint(Ink::Faint, "", "│"));
        }
    }

    /// Waits for somebody at the terminal to press Enter; where nobody is, not at all.
    pub async fn until_enter(&self, request: &str) -> Result<()> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Ok(());
        }
        println!("           {request}");
        let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        line.await??;
        Ok(())
    }

    fn paint(&self, ink: Ink, weight: &str, text: &str) -> String {
        let colour = match ink {
            Ink::Plain => weight,
            Ink::Good => "32",
            Ink::Bad => "31",
            Ink::Faint => "2",
        };
        if self.colours && !colour.is_empty() {
            format!("\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
