//! Answers that are lost, and processes that die.

use std::{collections::BTreeSet, sync::Arc};

use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use mesh::auth::PrincipalId;
use proto::payments::v1::{self as pb, payment_intent::State};
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{Fault, TestPayments, VISA, create, key, reason};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_the_payment_processing_until_the_acquirer_is_asked() {
    for fault in [Fault::LoseReply, Fault::LoseRequest] {
        let t = TestPayments::start().await;
        let intent = t.ready(VISA).await;
        let key = key();
        t.fail_next(fault);

        let unknown = t.confirm(&intent.name, &key).await.unwrap();
        assert_eq!(unknown.state(), State::Processing, "{fault:?}");
        let refused = t.capture(&intent.name, None, &crate::harness::key()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "PAYMENT_PROCESSING"));

        assert_eq!(t.sync(&intent.name).await.state(), State::RequiresCapture, "{fault:?}");
        assert_eq!(t.confirm(&intent.name, &key).await.unwrap(), unknown, "the stored answer is replayed");
        assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500"], "{fault:?}");
        t.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_or_void_whose_answer_is_lost_is_resolved_as_it_was_booked() {
    let t = TestPayments::start().await;
    for fault in [Fault::LoseReply, Fault::LoseRequest] {
        let captured = t.authorized().await;
        t.fail_next(fault);
        assert_eq!(t.capture(&captured.name, None, &key()).await.unwrap().state(), State::Processing);
        assert_eq!(t.sync(&captured.name).await.state(), State::Succeeded);
        assert_eq!(t.calls(&captured.name).await, ["AUTHORIZE APPROVED 12500", "CAPTURE APPROVED 12500"]);

        let canceled = t.authorized().await;
        t.fail_next(fault);
        assert_eq!(t.cancel(&canceled.name, &key()).await.unwrap().state(), State::Processing);
        assert_eq!(t.sync(&canceled.name).await.state(), State::Canceled);
        assert_eq!(t.calls(&canceled.name).await, ["AUTHORIZE APPROVED 12500", "VOID APPROVED 12500"]);
    }
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acquirer_that_was_down_is_asked_when_it_is_back_and_approves_once() {
    let mut t = TestPayments::start_with_busy_janitor().await;
    let intent = t.ready(VISA).await;
    t.stop_acquirer().await;

    let unknown = t.confirm(&intent.name, &key()).await.unwrap();
    assert_eq!(unknown.state(), State::Processing);
    t.start_acquirer().await;

    let resolved = t.reaches(&intent.name, State::RequiresCapture).await;
    assert_eq!(resolved.amount_capturable_minor, crate::harness::AMOUNT);
    assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500"]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inquiry_that_missed_an_attempt_is_older_than_the_answer_of_another() {
    let t = Arc::new(TestPayments::start().await);
    let intent = t.ready(VISA).await;
    t.fail_next(Fault::LoseRequest);
    t.confirm(&intent.name, &key()).await.unwrap();
    t.fail_next(Fault::Pause);
    let (late, name) = (Arc::clone(&t), intent.name.clone());
    let mut calls = JoinSet::new();
    calls.spawn(async move { late.sync(&name).await });
    t.answer_waits().await;

    assert_eq!(t.sync(&intent.name).await.state(), State::RequiresCapture);
    t.answer_waits().await;

    assert_eq!(calls.join_all().await[0].state(), State::RequiresCapture);
    assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500"]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_somebody_keeps_locked_is_a_lost_race() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;
    let mut other = t.conn().await;
    other.batch_execute("BEGIN; SELECT FROM payment_intents FOR UPDATE").await.unwrap();
    let key = key();

    let refused = t.capture(&intent.name, None, &key).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "LOST_RACE"));
    other.batch_execute("COMMIT").await.unwrap();
    let captured = t.capture(&intent.name, None, &key).await.expect("nothing was done before");
    assert_eq!(captured.state(), State::Succeeded);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_written_down_although_the_payment_is_locked_for_long() {
    #[derive(diesel::QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = diesel::sql_types::Text)]
        transaction: String,
    }
    let t = Arc::new(TestPayments::start().await);
    let intent = t.authorized().await;
    t.fail_next(Fault::Pause);
    let (calling, name) = (Arc::clone(&t), intent.name.clone());
    let mut calls = JoinSet::new();
    calls.spawn(async move { calling.capture(&name, None, &key()).await });
    t.answer_waits().await;
    let mut other = t.conn().await;
    other.batch_execute("BEGIN; SELECT FROM payment_intents FOR UPDATE").await.unwrap();
    t.answer_waits().await;

    // Until the first transaction has waited in vain, and the next one waits.
    let mut seen = BTreeSet::new();
    while seen.len() < 2 && calls.try_join_next().is_none() {
        let waiting: Vec<Waiting> = diesel::sql_query(
            "SELECT xact_start::text AS transaction FROM pg_stat_activity \
             WHERE wait_event_type = 'Lock' AND datname = current_database()",
        )
        .load(&mut t.conn().await)
        .await
        .unwrap();
        seen.extend(waiting.into_iter().map(|waiting| waiting.transaction));
    }
    assert_eq!(seen.len(), 2, "the answer was given up");
    other.batch_execute("COMMIT").await.unwrap();

    let captured = calls.join_all().await.remove(0).unwrap();
    assert_eq!(captured.state(), State::Succeeded);
    assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500", "CAPTURE APPROVED 12500"]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_not_stored_while_the_acquirer_is_down() {
    let mut t = TestPayments::start().await;
    t.stop_acquirer().await;
    let user = PrincipalId::generate();
    let request =
        pb::CreatePaymentMethodRequest { card: Some(crate::harness::card(VISA)), request_id: key() };

    let refused = t.methods(user).create_payment_method(request.clone()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "ACQUIRER_UNAVAILABLE"));

    t.start_acquirer().await;
    t.methods(user).create_payment_method(request).await.expect("the same call executes now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_the_answer_is_unknown_voids_what_turns_out_to_be_approved() {
    let t = TestPayments::start().await;
    let approved = t.ready(VISA).await;
    t.fail_next(Fault::LoseReply);
    t.confirm(&approved.name, &key()).await.unwrap();

    assert_eq!(t.cancel(&approved.name, &key()).await.unwrap().state(), State::Processing);
    assert_eq!(t.cancel(&approved.name, &key()).await.unwrap().state(), State::Processing);
    assert_eq!(t.sync(&approved.name).await.state(), State::Canceled);
    assert_eq!(t.calls(&approved.name).await, ["AUTHORIZE APPROVED 12500", "VOID APPROVED 12500"]);

    let declined = t.ready("4000000000000002").await;
    t.fail_next(Fault::LoseReply);
    t.confirm(&declined.name, &key()).await.unwrap();
    t.cancel(&declined.name, &key()).await.unwrap();
    assert_eq!(t.sync(&declined.name).await.state(), State::Canceled);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_during_a_call_is_resumed_by_the_same_call_with_the_same_attempt() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let t = TestPayments::start().await;
        let intent = t.ready(VISA).await;
        let key = key();
        t.fail_next(fault);

        let crashed = t.confirm(&intent.name, &key).await.unwrap_err();
        assert_eq!(crashed.code(), Code::Internal);
        let early = t.confirm(&intent.name, &key).await.unwrap_err();
        assert_eq!((early.code(), reason(&early).as_str()), (Code::Aborted, "IDEMPOTENCY_IN_PROGRESS"));

        t.advance(31);
        let resumed = t.confirm(&intent.name, &key).await.unwrap();
        assert_eq!(resumed.state(), State::RequiresCapture, "{fault:?}");
        assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500"], "{fault:?}");
        assert_eq!(t.confirm(&intent.name, &key).await.unwrap(), resumed);
        t.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_authorisation_and_capture_captures_once() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    let method = t.attach(user, VISA).await;
    let request =
        pb::CreatePaymentIntentRequest { capture_method: 1, confirm: true, ..create(user, &method.name) };
    t.fail_next(Fault::CrashAfter);
    t.intents().create_payment_intent(request.clone()).await.expect_err("a crash");
    t.advance(31);
    // The authorisation is found to be approved, and then the capture crashes as well.
    t.fail_next(Fault::LoseReply);
    t.fail_next(Fault::CrashAfter);
    t.intents().create_payment_intent(request.clone()).await.expect("the answer is lost again");

    let intents = pb::ListPaymentIntentsRequest { page_size: 0, page_token: String::new() };
    let mut client = proto::payments::v1::payment_intent_service_client::PaymentIntentServiceClient::new(
        t.user(user, &["customer"]),
    );
    let intents = client.list_payment_intents(intents).await.unwrap().into_inner().payment_intents;
    assert_eq!(intents.len(), 1, "one call creates one payment");
    let name = &intents[0].name;

    let crashed = t.intents().sync_payment_intent(pb::SyncPaymentIntentRequest { name: name.clone() }).await;
    assert_eq!(crashed.unwrap_err().code(), Code::Internal);
    assert_eq!(t.sync(name).await.state(), State::Succeeded);
    assert_eq!(t.calls(name).await, ["AUTHORIZE APPROVED 12500", "CAPTURE APPROVED 12500"]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_janitor_gives_a_crashed_call_its_answer() {
    let t = TestPayments::start_with_busy_janitor().await;
    let intent = t.authorized().await;
    let key = key();
    t.fail_next(Fault::CrashAfter);
    t.capture(&intent.name, None, &key).await.expect_err("a crash");

    let captured = t.reaches(&intent.name, State::Succeeded).await;

    assert_eq!(t.capture(&intent.name, None, &key).await.unwrap(), captured);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_resolve_what_is_lost_without_doing_anything_twice() {
    let t = TestPayments::start_with_busy_janitor().await;
    let other = t.another().await;
    let mut names = Vec::new();
    for fault in [Fault::LoseReply, Fault::LoseRequest, Fault::CrashBefore, Fault::CrashAfter].repeat(3) {
        let intent = t.authorized().await;
        t.fail_next(fault);
        drop(t.capture(&intent.name, None, &key()).await);
        names.push(intent.name);
    }
    for name in &names {
        t.reaches(name, State::Succeeded).await;
        assert_eq!(t.calls(name).await, ["AUTHORIZE APPROVED 12500", "CAPTURE APPROVED 12500"]);
    }
    t.check().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_janitor_that_crashes_over_one_payment_goes_on_with_it_later() {
    let t = TestPayments::start_with_busy_janitor().await;
    let intent = t.authorized().await;
    // The call, and then the janitor that sends again.
    t.fail_next(Fault::CrashBefore);
    t.fail_next(Fault::CrashBefore);
    t.capture(&intent.name, None, &key()).await.expect_err("a crash");

    t.reaches(&intent.name, State::Succeeded).await;
    assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500", "CAPTURE APPROVED 12500"]);
    t.check().await;
}
