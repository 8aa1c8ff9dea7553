//! The settings in the manifests are settings of the services.

use std::path::Path;

use mesh::config::{self, Configuration, Sources};

#[test]
fn every_service_accepts_the_settings_that_the_manifests_give_it() {
    check::<identity::Config>("identity", "k8s/base/identity");
    check::<bookings::Config>("bookings", "k8s/base/bookings");
    check::<payments::Config>("payments", "k8s/base/payments");
    check::<edge::Config>("edge", "k8s/base/edge");
    check::<acquirer::Config>("acquirer", "k8s/components/acquirer/simulator");
}

fn check<C: Configuration>(service: &'static str, folder: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("settings.env");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut environment: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once('=').unwrap_or_else(|| panic!("{line} is not a setting")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(environment.len() >= 6, "{service} has only {} settings", environment.len());
    // The one value that comes from a Secret as a variable.
    let url = (
        format!("JETWAY_{}_DATABASE__URL", service.to_uppercase()),
        "postgres://user@database/name".to_owned(),
    );
    if service != "edge" {
        environment.push(url);
    }
    if let Err(error) = config::load::<C>(service, &Sources { environment, ..Sources::default() }) {
        panic!("{error}");
    }
}
