//! When a delivery that failed is attempted again.

use jiff::SignedDuration;
use rand::Rng as _;

/// Seconds from one attempt to the next: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
///
/// Source: the table of Standard Webhooks.
const DELAYS_SECONDS: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// How far a delay is moved to either side, in thousandths.
const JITTER_THOUSANDTHS: i64 = 200;

/// How long to wait after this many failed attempts, give or take up to a fifth, so that what failed together does not come back together; `None`
/// after the last.
pub(crate) fn delay(attempts: i32) -> Option<SignedDuration> {
    delay_with(attempts, rand::rng().random_range(-JITTER_THOUSANDTHS..=JITTER_THOUSANDTHS))
}

/// The same, moved by this many thousandths.
fn delay_with(attempts: i32, thousandths: i64) -> Option<SignedDuration> {
    let at = usize::try_from(attempts).ok()?.checked_sub(1)?;
    // Seconds times thousandths are milliseconds.
    let milliseconds = DELAYS_SECONDS.get(at)?.checked_mul(thousandths.checked_add(1_000)?)?;
    Some(SignedDuration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_the_one_of_the_contract() {
        let delays: Vec<_> = (1..).map_while(|attempts| delay_with(attempts, 0)).collect();
        let hours = |hours| SignedDuration::from_hours(hours);

        assert_eq!(delays[..2], [SignedDuration::from_secs(5), SignedDuration::from_mins(5)]);
        assert_eq!(delays[2], SignedDuration::from_mins(30));
        assert_eq!(delays[3..], [hours(2), hours(5), hours(10), hours(14), hours(20), hours(24)]);
        assert_eq!(delay(0), None);
        assert_eq!(delay(10), None);
    }

    #[test]
    fn a_delay_is_moved_by_a_fifth_at_most() {
        for _ in 0..1_000 {
            let delay = delay(2).unwrap();
            assert!(delay >= SignedDuration::from_secs(240) && delay <= SignedDuration::from_secs(360));
        }
        assert_eq!(delay_with(1, -JITTER_THOUSANDTHS), Some(SignedDuration::from_secs(4)));
        assert_eq!(delay_with(1, JITTER_THOUSANDTHS), Some(SignedDuration::from_secs(6)));
    }
}
