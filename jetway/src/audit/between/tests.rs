//! Each invariant is broken on purpose and seen to fire.

use super::*;

fn booking(state: &str, total: i64, refunded: i64) -> Booking {
    Booking {
        reference: "bookings/1".to_owned(),
        state: state.to_owned(),
        currency: "INR".to_owned(),
        total,
        refunded,
    }
}

fn intent(net: i64, refunded: i64) -> Intent {
    Intent {
        reference: "bookings/1".to_owned(),
        state: "SUCCEEDED".to_owned(),
        currency: "INR".to_owned(),
        net,
        refunded,
    }
}

/// A payment that took nothing.
fn unpaid(state: &str) -> Intent {
    Intent { state: state.to_owned(), ..intent(0, 0) }
}

fn approved(reference: &str, kind: &str, amount: i64) -> Approved {
    Approved { reference: reference.to_owned(), kind: kind.to_owned(), currency: "INR".to_owned(), amount }
}

fn violations(report: &Report) -> (i64, i64) {
    (report.examined, report.violations)
}

#[test]
fn b06_fires_when_a_confirmed_booking_is_not_paid_or_is_paid_twice_or_wrongly() {
    let check = |booking: Booking, intents: &[Intent]| paid_bookings(&[booking], intents).violations;
    assert_eq!(check(booking("CONFIRMED", 100, 0), &[intent(100, 0)]), 0);
    assert_eq!(check(booking("CONFIRMED", 100, 0), &[]), 1);
    assert_eq!(check(booking("CONFIRMED", 100, 0), &[intent(100, 0), intent(0, 0)]), 1);
    assert_eq!(check(booking("CONFIRMED", 100, 0), &[intent(99, 0)]), 1);
    let in_dollars = Intent { currency: "USD".to_owned(), ..intent(100, 0) };
    assert_eq!(check(booking("CONFIRMED", 100, 0), &[in_dollars]), 1);
}

#[test]
fn b06_fires_when_a_failed_booking_was_paid_or_a_canceled_one_not_refunded() {
    let check = |booking: Booking, intents: &[Intent]| paid_bookings(&[booking], intents).violations;
    assert_eq!(check(booking("FAILED", 100, 0), &[unpaid("CANCELED")]), 0);
    assert_eq!(check(booking("FAILED", 100, 0), &[intent(100, 0)]), 1);
    assert_eq!(check(booking("CANCELED", 100, 80), &[intent(20, 80)]), 0);
    assert_eq!(check(booking("CANCELED", 100, 80), &[intent(100, 0)]), 1);
    assert_eq!(check(booking("PENDING", 100, 0), &[]), 0);
}

#[test]
fn b06_fires_when_the_payment_of_a_booking_that_came_to_nothing_was_not_let_go() {
    for state in ["FAILED", "EXPIRED"] {
        let check = |intents: &[Intent]| paid_bookings(&[booking(state, 100, 0)], intents).violations;
        assert_eq!(check(&[]), 0);
        assert_eq!(check(&[unpaid("CANCELED"), unpaid("CANCELED")]), 0);
        for open in ["REQUIRES_CAPTURE", "PROCESSING", "REQUIRES_CONFIRMATION"] {
            assert_eq!(check(&[unpaid(open)]), 1, "{state} {open}");
            assert_eq!(check(&[unpaid("CANCELED"), unpaid(open)]), 1, "{state} {open}");
        }
    }
}

#[test]
fn b07_fires_when_money_is_kept_for_a_booking_that_failed_or_is_not_there() {
    assert_eq!(
        violations(&money_without_booking(&[booking("CONFIRMED", 100, 0)], &[intent(100, 0)])),
        (1, 0)
    );
    assert_eq!(violations(&money_without_booking(&[booking("FAILED", 100, 0)], &[intent(100, 0)])), (1, 1));
    assert_eq!(violations(&money_without_booking(&[], &[intent(100, 0)])), (1, 1));
}

#[test]
fn x01_fires_when_one_side_has_what_the_other_has_not_or_has_otherwise() {
    let capture = || approved("a", "CAPTURE", 100);
    assert_eq!(violations(&same_record(&[capture()], &[capture()])), (1, 0));
    assert_eq!(violations(&same_record(&[], &[capture()])), (1, 1));
    assert_eq!(violations(&same_record(&[capture()], &[])), (1, 1));
    assert_eq!(violations(&same_record(&[capture()], &[approved("a", "CAPTURE", 101)])), (1, 1));
    assert_eq!(violations(&same_record(&[capture()], &[approved("a", "REFUND", 100)])), (1, 1));
}

#[test]
fn x02_fires_when_the_ledger_and_the_acquirer_disagree_on_a_sum() {
    let record =
        [approved("a", "AUTHORIZE", 500), approved("b", "CAPTURE", 500), approved("c", "REFUND", 120)];
    let ledger = |amount| [Sum { currency: "INR".to_owned(), amount }];
    assert_eq!(violations(&same_sums(&ledger(380), &record)), (3, 0));
    assert_eq!(violations(&same_sums(&ledger(381), &record)), (3, 1));
    assert_eq!(violations(&same_sums(&[], &record)), (3, 1));
}
