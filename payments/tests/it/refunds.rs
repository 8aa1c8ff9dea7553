//! Money back.

use mesh::auth::PrincipalId;
use proto::payments::v1::{self as pb, refund::State, refund_service_client::RefundServiceClient};
use tonic::Code;

use crate::harness::{AMOUNT, Fault, TestPayments, key, reason};

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_refunded_in_parts_and_never_beyond() {
    let t = TestPayments::start().await;
    let intent = t.captured().await;

    let first = t.refund(&intent.name, Some(5_000), &key()).await.unwrap();
    assert_eq!(first.state(), State::Succeeded);
    let refused = t.refund(&intent.name, Some(AMOUNT - 4_999), &key()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "REFUND_EXCEEDS_REFUNDABLE")
    );
    let rest = t.refund(&intent.name, None, &key()).await.unwrap();
    assert_eq!(rest.amount.unwrap_or_default().amount_minor, AMOUNT - 5_000);
    let refused = t.refund(&intent.name, None, &key()).await.unwrap_err();
    assert_eq!(reason(&refused), "REFUND_EXCEEDS_REFUNDABLE");

    assert_eq!(t.get(&intent.name).await.amount_refunded_minor, AMOUNT);
    let request = pb::ListRefundsRequest { payment_intent: intent.name.clone() };
    let refunds =
        RefundServiceClient::new(t.bookings()).list_refunds(request).await.unwrap().into_inner().refunds;
    assert_eq!(refunds.iter().map(|refund| &refund.name).collect::<Vec<_>>(), [&rest.name, &first.name]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_refunded_of_what_was_not_captured() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;

    let refused = t.refund(&intent.name, None, &key()).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "NOT_CAPTURED"));
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_refund_pays_once() {
    let t = TestPayments::start().await;
    let intent = t.captured().await;
    let key = key();

    let first = t.refund(&intent.name, Some(100), &key).await.unwrap();
    let again = t.refund(&intent.name, Some(100), &key).await.unwrap();

    assert_eq!(first, again);
    assert_eq!(t.get(&intent.name).await.amount_refunded_minor, 100);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_the_acquirer_refuses_is_the_merchants_again() {
    let t = TestPayments::start().await;
    let intent = t.captured().await;
    // The acquirer has paid this money back already, and we do not know of it.
    let mut conn = mesh::testing::connection(&t.databases()[1].url).await;
    diesel_async::RunQueryDsl::execute(
        diesel::sql_query("UPDATE operations SET refunded_minor = amount_minor WHERE kind = 'CAPTURE'"),
        &mut conn,
    )
    .await
    .unwrap();

    let refund = t.refund(&intent.name, Some(100), &key()).await.unwrap();

    assert_eq!(refund.state(), State::Failed);
    assert_eq!(t.get(&intent.name).await.amount_refunded_minor, 0);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_whose_answer_is_lost_stays_pending_and_reserved_until_it_is_known() {
    let t = TestPayments::start().await;
    let intent = t.captured().await;
    t.fail_next(Fault::LoseReply);

    let refund = t.refund(&intent.name, Some(AMOUNT), &key()).await.unwrap();
    assert_eq!(refund.state(), State::Pending);
    let refused = t.refund(&intent.name, Some(1), &key()).await.unwrap_err();
    assert_eq!(reason(&refused), "REFUND_EXCEEDS_REFUNDABLE");

    t.sync(&intent.name).await;
    let request = pb::GetRefundRequest { name: refund.name };
    let refund = RefundServiceClient::new(t.bookings()).get_refund(request).await.unwrap().into_inner();
    assert_eq!(refund.state(), State::Succeeded);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_customer_cannot_list_refunds() {
    let t = TestPayments::start().await;
    let intent = t.captured().await;
    t.refund(&intent.name, None, &key()).await.unwrap();
    let mut stranger = RefundServiceClient::new(t.user(PrincipalId::generate(), &["customer"]));

    let refused =
        stranger.list_refunds(pb::ListRefundsRequest { payment_intent: intent.name }).await.unwrap_err();

    assert_eq!(refused.code(), Code::NotFound);
}
