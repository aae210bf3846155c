//! Prints the results and compares them with the goals.

use crate::Options;
use crate::baseline::Baseline;
use crate::engines::{EngineResult, StoreWork};
use crate::latency::Latency;
use crate::node::Throughput;
use crate::scale::Scale;

/// Prints each result at once, and collects the goals.
pub struct Report {
    goals: Vec<Goal>,
}

struct Goal {
    what: String,
    figure: String,
    met: bool,
}

impl Report {
    pub fn new(options: &Options) -> Self {
        println!(
            "{} endpoints, {} in flight, {} byte payloads, {} s each, {} processors",
            options.endpoints,
            options.in_flight,
            options.body,
            options.seconds,
            std::thread::available_parallelism().map_or(0, usize::from),
        );
        Self { goals: Vec::new() }
    }

    pub fn bare(&mut self, bare: &Baseline) {
        println!("bare loop: {:.0} requests/s", bare.per_s);
    }

    pub fn node(&mut self, how: &str, node: &Throughput, bare: &Baseline) {
        let ratio = node.delivered_per_s / bare.per_s;
        println!(
            "node, {how}: accepted {:.0}/s, delivered {:.0}/s, {ratio:.3} of the bare loop, \
             {:.3} CPU-s per 1,000 deliveries, memory {}",
            node.accepted_per_s,
            node.delivered_per_s,
            node.cpu_s_per_1000,
            memory(&node.memory_mib),
        );
        let least = if how.starts_with("batches") { 0.25 } else { 0.12 };
        self.goal(
            format!("{how}: node / bare loop ≥ {least}"),
            format!("{ratio:.3}"),
            ratio >= least,
        );
        let cpu = node.cpu_s_per_1000;
        self.goal(format!("{how}: CPU-s per 1,000 < 0.3"), format!("{cpu:.3}"), cpu < 0.3);
    }

    pub fn latency(&mut self, latency: &Latency) {
        println!(
            "at half that load ({:.0} events/s), client to receiver: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
            latency.rate, latency.p50, latency.p99, latency.p999,
        );
        self.goal(
            "p99 at half load ≤ 50 ms".to_owned(),
            format!("{:.2} ms", latency.p99),
            latency.p99 <= 50.0,
        );
    }

    pub fn scale(&mut self, scale: &Scale) {
        let resident = scale.memory_mib.0;
        println!(
            "{} endpoints registered, {} active: memory {}",
            scale.registered,
            scale.active,
            memory(&[scale.memory_mib]),
        );
        let what = format!("{} endpoints, 1 % active, < 300 MB", scale.registered);
        self.goal(what, format!("{resident:.0} MiB"), resident * 1.048_576 < 300.0);
    }

    pub fn server(&mut self, version: &str) {
        println!("{version}, one process, one replica, on this disk");
    }

    pub fn engine(&mut self, engine: &EngineResult) {
        let name = engine.name;
        for (how, (latency, work)) in [("low", &engine.low), ("half", &engine.half)] {
            println!(
                "{name}, {how} load ({:.0} events/s): client to receiver p50 {:.2} ms, p99 {:.2} ms; {}",
                latency.rate,
                latency.p50,
                latency.p99,
                describe(*work),
            );
        }
        let (per_s, work) = engine.high;
        println!("{name}, high load: delivered {per_s:.0}/s; {}", describe(work));
    }

    pub fn engine_goals(&mut self, engine: &EngineResult) {
        let name = engine.name;
        let (low, high) = (engine.low.1, engine.high.1);
        let commits = low.commits_per_delivery();
        self.goal(
            format!("{name}: commits per delivery at low load ≤ 3"),
            format!("{commits:.2}"),
            commits <= 3.0,
        );
        let commits = high.commits_per_delivery();
        self.goal(
            format!("{name}: commits per delivery at high load < 0.2"),
            format!("{commits:.3}"),
            commits < 0.2,
        );
        let all = [("low", low), ("half", engine.half.1), ("high", high)];
        for (how, conflicts) in all.map(|(how, work)| (how, work.conflicts_per_1000())) {
            self.goal(
                format!("{name}: conflicts per 1,000 transactions at {how} load < 5"),
                format!("{conflicts:.2}"),
                conflicts < 5.0,
            );
        }
    }

    pub fn goals(&self) {
        println!();
        for Goal { what, figure, met } in &self.goals {
            println!("{} {what}: {figure}", if *met { "met   " } else { "MISSED" });
        }
    }

    pub fn goal(&mut self, what: String, figure: String, met: bool) {
        self.goals.push(Goal { what, figure, met });
    }
}

fn describe(work: StoreWork) -> String {
    format!(
        "per delivery {:.3} commits, {:.2} transactions, {:.4} conflicts; {:.2} conflicts per 1,000 \
         transactions",
        work.commits_per_delivery(),
        work.transactions_per_delivery(),
        work.conflicts_per_delivery(),
        work.conflicts_per_1000(),
    )
}

/// The memory of each node.
pub fn memory(nodes: &[(f64, f64)]) -> String {
    let one = |(resident, anonymous): &(f64, f64)| {
        format!("{resident:.0} MiB ({anonymous:.0} MiB anonymous)")
    };
    nodes.iter().map(one).collect::<Vec<_>>().join(", ")
}
