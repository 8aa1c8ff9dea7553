use super::*;

fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn pending() -> Delivery {
    Delivery::new(
        WebhookEndpointId::generate(),
        EventId::generate(),
        "refund.succeeded",
        Trigger::Event,
        noon(),
    )
}

const REFUSED: Answer = Answer::Failed { failure: Failure::HttpStatus, status: Some(500), retry_after: None };

#[test]
fn event_types_are_known_ones_or_whole_kinds() {
    for yes in ["refund.succeeded", "refund.*", "payment_intent.*", "webhook_endpoint.disabled"] {
        assert!(is_event_type(yes), "{yes}");
    }
    for no in ["", "*", ".*", "refund", "refund.", "refund.lost", "refu*", "refund.*.*", "flight.*"] {
        assert!(!is_event_type(no), "{no}");
    }
}

#[test]
fn a_delivery_that_fails_waits_and_is_dead_at_the_end_of_its_schedule() {
    let mut delivery = pending();
    let delay = SignedDuration::from_secs(5);
    for attempt in 1..ATTEMPTS_MAX {
        delivery.attempted(&REFUSED, Some(delay), noon());
        assert_eq!(delivery.state, DeliveryState::Pending { due_at: noon() + delay });
        assert_eq!((delivery.attempts, delivery.last_status), (attempt, Some(500)));
    }
    delivery.attempted(&REFUSED, Some(delay), noon());
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Dead, ATTEMPTS_MAX));

    let closed = delivery.clone();
    delivery.attempted(&Answer::Accepted { status: 200 }, Some(delay), noon());
    assert_eq!(delivery, closed, "what is closed stays closed");
}

#[test]
fn retry_after_puts_an_attempt_off_and_never_nearer_nor_beyond_a_day() {
    let retry = |seconds| Answer::Failed {
        failure: Failure::HttpStatus,
        status: Some(429),
        retry_after: Some(Duration::from_secs(seconds)),
    };
    let delay = SignedDuration::from_secs(300);
    for (asked, waits) in [(1, 300), (900, 900), (u64::MAX, 86_400)] {
        let mut delivery = pending();
        delivery.attempted(&retry(asked), Some(delay), noon());
        let due_at = noon() + SignedDuration::from_secs(waits);
        assert_eq!(delivery.state, DeliveryState::Pending { due_at }, "{asked}");
    }
}

#[test]
fn the_circuit_opens_at_the_fifth_failure_and_closes_with_a_success() {
    let mut health = Health::default();
    let mut pauses = Vec::new();
    for _ in 0..12 {
        health = health.after(&REFUSED, noon());
        pauses.push(health.resume_at.map_or(0, |at| at.duration_since(noon()).as_secs()));
    }
    assert_eq!(pauses, [0, 0, 0, 0, 30, 60, 120, 240, 300, 300, 300, 300]);
    assert_eq!(health.after(&Answer::Accepted { status: 204 }, noon()), Health::default());
}

#[test]
fn an_endpoint_is_hopeless_after_five_days_of_nothing_but_failures() {
    let failing = Health::default().after(&REFUSED, noon());
    let days = |days: i64| noon() + SignedDuration::from_hours(days * 24);

    assert!(!failing.is_hopeless(days(5) - SignedDuration::from_secs(1)));
    assert!(failing.is_hopeless(days(5)));
    let recovered = failing.after(&Answer::Accepted { status: 200 }, days(4)).after(&REFUSED, days(4));
    assert!(!recovered.is_hopeless(days(5)));
}

#[test]
fn a_secret_that_we_cannot_read_is_not_held_against_the_endpoint() {
    let answer = Answer::failed(Failure::SecretUnreadable);
    assert_eq!(Health::default().after(&answer, noon()), Health::default());
}

#[test]
fn names_of_deliveries_are_read_as_they_are_written() {
    let delivery = pending();
    assert_eq!(Delivery::parse_name(&delivery.name()), Some((delivery.endpoint, delivery.id)));
    assert_eq!(Delivery::parse_name("webhookEndpoints/x/deliveries/y"), None);
}
