//! Every invariant of seats and money, against what is stored: within each service, and between them and the acquirer.
//!
//! The invariants within a service are its own views; those between services are here, because only here both sides can be read. They hold when
//! nothing is in flight; a purchase that is under way may be found between two of its steps.

mod between;

use std::path::Path;

use anyhow::{Context as _, ensure};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use mesh::{audit::Report, clock::Clock};
use secrecy::ExposeSecret as _;

use crate::{data_dir::DataDir, databases::Databases, platform};

/// Checks everything in the data directory and prints what each invariant found. PostgreSQL is started for it when no platform runs.
///
/// # Errors
///
/// When an invariant is broken or had nothing to examine, or a database cannot be read.
pub async fn run(data_dir: &Path) -> anyhow::Result<()> {
    let dir = DataDir::open(data_dir)?;
    let databases = Databases::known(&dir)?;
    let (cluster, databases) = if connect(&databases, "bookings").await.is_ok() {
        (None, databases)
    } else {
        let cluster = platform::start_cluster(&dir).await?;
        let databases = Databases::prepare(&cluster, &dir).await?;
        (Some(cluster), databases)
    };
    let reports = check(&databases, &Clock::system(Some(dir.clock()))).await;
    if let Some(cluster) = cluster {
        tokio::task::spawn_blocking(|| cluster.stop()).await??;
    }
    judge(&reports?)
}

/// The reports of every invariant.
///
/// # Errors
///
/// When a database cannot be read.
pub async fn check(databases: &Databases, clock: &Clock) -> anyhow::Result<Vec<Report>> {
    let now = clock.now();
    let mut bookings = connect(databases, "bookings").await?;
    let mut payments = connect(databases, "payments").await?;
    let mut acquirer = connect(databases, "acquirer").await?;
    let mut reports =
        bookings::audit::verify(&mut bookings, now).await.context("the invariants of bookings")?;
    reports.extend(payments::audit::verify(&mut payments, now).await.context("the invariants of payments")?);
    for (conn, owner) in [(&mut bookings, "bookings"), (&mut payments, "payments")] {
        let mut report =
            mesh::outbox::verify(conn).await.with_context(|| format!("the events of {owner}"))?;
        report.statement = format!("{owner}: {}", report.statement);
        reports.push(report);
    }
    reports.extend(between::verify(&mut bookings, &mut payments, &mut acquirer).await?);
    Ok(reports)
}

async fn connect(databases: &Databases, service: &str) -> anyhow::Result<AsyncPgConnection> {
    AsyncPgConnection::establish(databases.url(service).expose_secret())
        .await
        .with_context(|| format!("connect to the database of {service}"))
}

fn judge(reports: &[Report]) -> anyhow::Result<()> {
    say(&format!("{:<6}{:>10}{:>12}  states that", "", "examined", "violations"));
    for report in reports {
        say(&format!(
            "{:<6}{:>10}{:>12}  {}",
            report.invariant, report.examined, report.violations, report.statement
        ));
        for offender in &report.offenders {
            say(&format!("{:<30}{offender}", ""));
        }
    }
    let names = |broken: &dyn Fn(&Report) -> bool| -> String {
        let names: Vec<_> =
            reports.iter().filter(|report| broken(report)).map(|report| report.invariant.as_str()).collect();
        names.join(", ")
    };
    let broken = names(&|report| !report.is_clean());
    ensure!(broken.is_empty(), "broken: {broken}");
    let idle = names(&|report| report.examined == 0);
    ensure!(idle.is_empty(), "nothing to examine for {idle}: run `make demo` first");
    say("All invariants hold.");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the audit is there to be read")]
fn say(line: &str) {
    println!("{line}");
}
