//! The demo's output: lines with the elapsed time, the actor, and what happened.

use std::io::IsTerminal;

use anyhow::Result;
use tokio::time::Instant;

pub struct Console {
    start: Instant,
    colours: bool,
}

#[derive(Clone, Copy)]
pub enum Colour {
    Plain,
    Good,
    Bad,
    Faint,
}

impl Console {
    pub fn new() -> Self {
        Self { start: Instant::now(), colours: std::io::stdout().is_terminal() }
    }

    pub fn heading(&self, title: &str) {
        println!("\n{}", self.paint(Colour::Plain, "1", title));
    }

    /// An event at the current time.
    pub fn line(&self, colour: Colour, actor: &str, what: &str) {
        let time = format!("{:7.2} s", self.start.elapsed().as_secs_f64());
        let time = self.paint(Colour::Faint, "", &time);
        println!("{time}  {}  {what}", self.paint(colour, "", &format!("{actor:<8}")));
    }

    /// An indented block of text.
    pub fn quote(&self, text: &str) {
        for line in text.trim_end().lines() {
            println!("           {} {line}", self.paint(Colour::Faint, "", "│"));
        }
    }

    /// Waits for Enter if there is a terminal; otherwise returns at once.
    pub async fn until_enter(&self, request: &str) -> Result<()> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Ok(());
        }
        println!("           {request}");
        let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        line.await??;
        Ok(())
    }

    fn paint(&self, colour: Colour, weight: &str, text: &str) -> String {
        let code = match colour {
            Colour::Plain => weight,
            Colour::Good => "32",
            Colour::Bad => "31",
            Colour::Faint => "2",
        };
        if self.colours && !code.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
