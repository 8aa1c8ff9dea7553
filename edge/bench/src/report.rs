//! Medians, spreads and ratios.

use std::time::Duration;

/// One measurement of one gateway.
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) resident_kib: u64,
}

/// Everything that was measured.
pub(crate) struct Report {
    gateways: Vec<String>,
    scenarios: Vec<&'static str>,
    /// The gateway that the others are compared with.
    reference: &'static str,
    /// By scenario, then by gateway.
    samples: Vec<Vec<Vec<Sample>>>,
    /// By gateway: the 99th percentile of each round, in microseconds.
    latencies: Vec<Vec<f64>>,
}

impl Report {
    pub(crate) fn new(gateways: Vec<String>, scenarios: &[&'static str], reference: &'static str) -> Self {
        let per_gateway = || gateways.iter().map(|_| Vec::new()).collect();
        Self {
            samples: scenarios.iter().map(|_| per_gateway()).collect(),
            latencies: gateways.iter().map(|_| Vec::new()).collect(),
            scenarios: scenarios.to_vec(),
            reference,
            gateways,
        }
    }

    pub(crate) fn add(&mut self, scenario: usize, gateway: usize, sample: Sample) {
        self.samples[scenario][gateway].push(sample);
    }

    pub(crate) fn add_latency(&mut self, gateway: usize, mut latencies: Vec<Duration>) {
        latencies.sort_unstable();
        if let Some(latency) = latencies.get(latencies.len() * 99 / 100) {
            self.latencies[gateway].push(latency.as_secs_f64() * 1e6);
        }
    }

    /// Requests a second that the gateway answered, as the median of the rounds so far.
    pub(crate) fn saturation(&self, scenario: usize, gateway: usize) -> f64 {
        let rates = self.samples[scenario][gateway]
            .iter()
            .map(|sample| number(sample.requests) / sample.wall.as_secs_f64());
        Spread::of(rates.collect()).median
    }

    #[expect(clippy::print_stdout, reason = "the tables are there to be read")]
    pub(crate) fn print(&self) {
        for (scenario, of_gateway) in self.scenarios.iter().zip(&self.samples) {
            println!("\n{scenario}: CPU time of the gateway for each request");
            println!(
                "| gateway | µs | spread | × Envoy | spread | requests/s | MB |\n|---|---|---|---|---|---|---|"
            );
            let cpu = |samples: &[Sample]| -> Vec<f64> {
                samples
                    .iter()
                    .map(|sample| sample.cpu.as_secs_f64() * 1e6 / number(sample.requests))
                    .collect()
            };
            let reference = self
                .gateways
                .iter()
                .position(|name| name == self.reference)
                .map(|index| cpu(&of_gateway[index]));
            for (name, samples) in self.gateways.iter().zip(of_gateway) {
                let costs = cpu(samples);
                let (ratio, ratios) = match &reference {
                    Some(reference) => {
                        // Round by round, so that a noisy round counts against both.
                        let spread = Spread::of(
                            costs.iter().zip(reference).map(|(cost, reference)| cost / reference).collect(),
                        );
                        (format!("{:.3}", spread.median), format!("{:.3}–{:.3}", spread.min, spread.max))
                    }
                    None => ("–".to_owned(), "–".to_owned()),
                };
                let cost = Spread::of(costs);
                let rate = Spread::of(
                    samples
                        .iter()
                        .map(|sample| number(sample.requests) / sample.wall.as_secs_f64())
                        .collect(),
                );
                let resident =
                    Spread::of(samples.iter().map(|sample| number(sample.resident_kib) / 1024.0).collect());
                println!(
                    "| {name} | {:.1} | {:.1}–{:.1} | {ratio} | {ratios} | {:.0} | {:.1} |",
                    cost.median, cost.min, cost.max, rate.median, resident.max
                );
            }
        }
        if self.latencies.iter().all(Vec::is_empty) {
            return;
        }
        let direct = Spread::of(self.latencies[0].clone()).median;
        println!(
            "\nsmall GET: 99th percentile of latency at 70 % of the gateway's own saturation, over the upstream without a gateway"
        );
        println!("| gateway | µs | spread | added µs |\n|---|---|---|---|");
        for (name, latencies) in self.gateways.iter().zip(&self.latencies) {
            let spread = Spread::of(latencies.clone());
            println!(
                "| {name} | {:.0} | {:.0}–{:.0} | {:.0} |",
                spread.median,
                spread.min,
                spread.max,
                spread.median - direct
            );
        }
    }
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "figures to print")]
fn number(value: u64) -> f64 {
    value as f64
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}
