//! Many calls at once.

use std::sync::Arc;

use proto::payments::v1::payment_intent::State;
use tonic::{Code, Status};

use crate::harness::{AMOUNT, TestPayments, VISA, key, reason};

async fn all<T: Send + 'static>(
    calls: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let mut set = tokio::task::JoinSet::new();
    for call in calls {
        set.spawn(call);
    }
    set.join_all().await
}

/// Calls as a client does: what may be over in a moment is sent again, with the same request id.
async fn persistently<T, F>(call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    loop {
        match call().await {
            Err(status)
                if status.code() == Code::Unavailable || reason(&status) == "IDEMPOTENCY_IN_PROGRESS" => {}
            outcome => return outcome,
        }
    }
}

fn reasons<T>(outcomes: &[Result<T, Status>]) -> Vec<String> {
    outcomes.iter().filter_map(|outcome| outcome.as_ref().err().map(reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_captures_and_cancels_one_kind_wins() {
    let t = Arc::new(TestPayments::start_with_busy_janitor().await);
    for _ in 0..3 {
        let intent = t.authorized().await;
        let calls = (0..40).map(|number| {
            let (t, name, key) = (Arc::clone(&t), intent.name.clone(), key());
            persistently(move || {
                let (t, name, key) = (Arc::clone(&t), name.clone(), key.clone());
                async move {
                    if number % 2 == 0 {
                        t.capture(&name, None, &key).await
                    } else {
                        t.cancel(&name, &key).await
                    }
                }
            })
        });
        let outcomes = all(calls).await;

        let end = t.get(&intent.name).await;
        let calls = t.calls(&intent.name).await;
        let expected =
            if end.state() == State::Succeeded { "CAPTURE APPROVED 12500" } else { "VOID APPROVED 12500" };
        assert!(matches!(end.state(), State::Succeeded | State::Canceled), "{end:?}");
        assert_eq!(calls, ["AUTHORIZE APPROVED 12500", expected]);
        let captured = outcomes.iter().flatten().filter(|intent| intent.state() == State::Succeeded).count();
        assert_eq!(captured, usize::from(end.state() == State::Succeeded));
        for refusal in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(matches!(refusal.code(), Code::Aborted | Code::FailedPrecondition), "{refusal:?}");
        }
    }
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_refunds_never_give_back_more_than_was_taken() {
    let t = Arc::new(TestPayments::start_with_busy_janitor().await);
    let intent = t.captured().await;
    let calls = (0..50).map(|_| {
        let (t, name, key) = (Arc::clone(&t), intent.name.clone(), key());
        persistently(move || {
            let (t, name, key) = (Arc::clone(&t), name.clone(), key.clone());
            async move { t.refund(&name, Some(1_000), &key).await }
        })
    });

    let outcomes = all(calls).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 12, "{:?}", reasons(&outcomes));
    assert!(
        reasons(&outcomes).iter().all(|reason| reason == "REFUND_EXCEEDS_REFUNDABLE"),
        "{:?}",
        reasons(&outcomes)
    );
    assert_eq!(t.get(&intent.name).await.amount_refunded_minor, 12_000);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_refunds_with_one_request_id_pay_once() {
    let t = Arc::new(TestPayments::start_with_busy_janitor().await);
    let intent = t.captured().await;
    let key = key();
    let calls = (0..50).map(|_| {
        let (t, name, key) = (Arc::clone(&t), intent.name.clone(), key.clone());
        persistently(move || {
            let (t, name, key) = (Arc::clone(&t), name.clone(), key.clone());
            async move { t.refund(&name, Some(1_000), &key).await }
        })
    });

    let outcomes = all(calls).await;

    let mut names: Vec<_> = outcomes.iter().flatten().map(|refund| refund.name.clone()).collect();
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(reasons(&outcomes), Vec::<String>::new());
    assert_eq!(t.get(&intent.name).await.amount_refunded_minor, 1_000);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_confirmations_authorize_once() {
    let t = Arc::new(TestPayments::start_with_busy_janitor().await);
    let intent = t.ready(VISA).await;
    let calls = (0..20).map(|_| {
        let (t, name, key) = (Arc::clone(&t), intent.name.clone(), key());
        persistently(move || {
            let (t, name, key) = (Arc::clone(&t), name.clone(), key.clone());
            async move { t.confirm(&name, &key).await }
        })
    });

    let outcomes = all(calls).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{:?}", reasons(&outcomes));
    assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500"]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_of_one_merchant_do_not_disturb_each_other() {
    let t = Arc::new(TestPayments::start_with_busy_janitor().await);
    let calls = (0..10).map(|_| {
        let t = Arc::clone(&t);
        async move {
            let intent = t.captured().await;
            t.refund(&intent.name, Some(AMOUNT / 2), &key()).await.expect("the refund succeeds")
        }
    });

    assert_eq!(all(calls).await.len(), 10);
    t.check().await;
}
