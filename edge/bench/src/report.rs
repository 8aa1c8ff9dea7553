//! Medians, spreads and ratios.

use std::{fmt, time::Duration};

/// One measurement of one gateway.
pub(crate) struct Sample {
    pub(crate) requests: u64,
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
    pub(crate) resident_kib: u64,
}

impl Sample {
    /// CPU time of one request, in microseconds.
    fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / number(self.requests)
    }

    fn resident_mb(&self) -> f64 {
        number(self.resident_kib) / 1024.0
    }
}

/// Everything that was measured.
pub(crate) struct Report {
    gateways: Vec<String>,
    scenarios: Vec<&'static str>,
    /// The gateway that the others are compared with.
    reference: &'static str,
    /// By scenario, then by gateway.
    samples: Vec<Vec<Vec<Sample>>>,
    /// By gateway: the 99th percentile of each round, in microseconds. The first gateway is the upstream itself.
    latencies: Vec<Vec<f64>>,
}

/// One line of the last table: what was measured, and what it is measured against.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) measured: Spread,
    /// The most that it may be, and what it had better be.
    pub(crate) must: f64,
    pub(crate) aim: f64,
}

/// Prints the figures with their bounds.
#[expect(clippy::print_stdout, reason = "the table is there to be read")]
pub(crate) fn print_figures(figures: &[Figure]) {
    println!("\nwhat is asked of the edge");
    println!("| figure | measured | spread | must | aim | |\n|---|---|---|---|---|---|");
    for Figure { name, measured, must, aim } in figures {
        let verdict = if measured.median <= *aim {
            "as aimed"
        } else if measured.median <= *must {
            "met"
        } else {
            "missed"
        };
        println!("| {name} | {:.2} | {measured:.2} | ≤ {must} | {aim} | {verdict} |", measured.median);
    }
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

    /// CPU time of a gateway for each request, as a multiple of the reference's: round by round, so that a noisy round counts against both. `None`
    /// when one of the two was not measured.
    pub(crate) fn cost_ratio(&self, scenario: usize, gateway: &str) -> Option<Spread> {
        let of_gateway = &self.samples[scenario];
        let costs = |name: &str| {
            let index = self.gateways.iter().position(|known| known == name)?;
            Some(of_gateway[index].iter().map(Sample::cost).collect::<Vec<_>>())
        };
        Some(ratios(&costs(gateway)?, &costs(self.reference)?))
    }

    /// What a gateway adds to the 99th percentile of latency, as a multiple of what the reference adds.
    pub(crate) fn latency_ratio(&self, gateway: &str) -> Option<Spread> {
        let added = |name: &str| {
            let index = self.gateways.iter().position(|known| known == name)?;
            let direct = self.latencies.first().filter(|direct| !direct.is_empty())?;
            Some(
                self.latencies[index]
                    .iter()
                    .zip(direct)
                    .map(|(all, direct)| all - direct)
                    .collect::<Vec<_>>(),
            )
        };
        Some(ratios(&added(gateway)?, &added(self.reference)?))
    }

    /// The resident memory of a gateway after each measurement of any scenario, in MB.
    pub(crate) fn resident(&self, gateway: &str) -> Option<Spread> {
        let index = self.gateways.iter().position(|known| known == gateway)?;
        let samples = self.samples.iter().flat_map(|of_gateway| &of_gateway[index]);
        Some(Spread::of(samples.map(Sample::resident_mb).collect()))
    }

    #[expect(clippy::print_stdout, reason = "the tables are there to be read")]
    pub(crate) fn print(&self) {
        let reference = self.reference;
        for (index, (scenario, of_gateway)) in self.scenarios.iter().zip(&self.samples).enumerate() {
            println!("\n{scenario}: CPU time of the gateway for each request");
            println!(
                "| gateway | µs | spread | × {reference} | spread | requests/s | MB |\n|---|---|---|---|---|---|---|"
            );
            for (name, samples) in self.gateways.iter().zip(of_gateway) {
                let (ratio, ratios) = match self.cost_ratio(index, name) {
                    Some(spread) => (format!("{:.3}", spread.median), format!("{spread:.3}")),
                    None => ("–".to_owned(), "–".to_owned()),
                };
                let cost = Spread::of(samples.iter().map(Sample::cost).collect());
                let rate = Spread::of(
                    samples
                        .iter()
                        .map(|sample| number(sample.requests) / sample.wall.as_secs_f64())
                        .collect(),
                );
                let resident = Spread::of(samples.iter().map(Sample::resident_mb).collect());
                println!(
                    "| {name} | {:.1} | {cost:.1} | {ratio} | {ratios} | {:.0} | {:.1} |",
                    cost.median, rate.median, resident.max
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
        println!(
            "| gateway | µs | spread | added µs | added × {reference} | spread |\n|---|---|---|---|---|---|"
        );
        for (name, latencies) in self.gateways.iter().zip(&self.latencies) {
            let spread = Spread::of(latencies.clone());
            let (ratio, ratios) = match self.latency_ratio(name) {
                Some(spread) => (format!("{:.2}", spread.median), format!("{spread:.2}")),
                None => ("–".to_owned(), "–".to_owned()),
            };
            let added = spread.median - direct;
            println!("| {name} | {:.0} | {spread:.0} | {added:.0} | {ratio} | {ratios} |", spread.median);
        }
    }
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "figures to print")]
fn number(value: u64) -> f64 {
    value as f64
}

/// The least, the middle and the most of some values.
pub(crate) struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

/// The least and the most, in the precision that is asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let precision = f.precision().unwrap_or(1);
        write!(f, "{:.precision$}–{:.precision$}", self.min, self.max)
    }
}

fn ratios(values: &[f64], references: &[f64]) -> Spread {
    Spread::of(values.iter().zip(references).map(|(value, reference)| value / reference).collect())
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}
