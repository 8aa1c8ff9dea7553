//! Payments from creation to their end.

use mesh::auth::PrincipalId;
use proto::{
    payments::v1::{
        self as pb, payment_intent::State, payment_intent_service_client::PaymentIntentServiceClient,
    },
    r#type::Money,
};
use tonic::Code;

use crate::harness::{AMOUNT, TestPayments, VISA, create, key, reason};

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_authorized_and_then_captured() {
    let t = TestPayments::start().await;
    let intent = t.ready(VISA).await;
    assert_eq!(intent.state(), State::RequiresConfirmation);

    let authorized = t.confirm(&intent.name, &key()).await.unwrap();
    assert_eq!((authorized.state(), authorized.amount_capturable_minor), (State::RequiresCapture, AMOUNT));

    let captured = t.capture(&intent.name, None, &key()).await.unwrap();
    assert_eq!((captured.state(), captured.amount_captured_minor), (State::Succeeded, AMOUNT));
    assert_eq!(t.get(&intent.name).await, captured);
    assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500", "CAPTURE APPROVED 12500"]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automatic_payment_is_captured_with_its_confirmation() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    let method = t.attach(user, VISA).await;
    let request =
        pb::CreatePaymentIntentRequest { capture_method: 0, confirm: true, ..create(user, &method.name) };

    let intent = t.intents().create_payment_intent(request.clone()).await.unwrap().into_inner();
    assert_eq!((intent.state(), intent.amount_captured_minor), (State::Succeeded, AMOUNT));

    let replayed = t.intents().create_payment_intent(request).await.unwrap().into_inner();
    assert_eq!(replayed, intent, "the same call has no second effect");
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_is_an_answer_and_another_card_may_be_tried() {
    let t = TestPayments::start().await;
    for (number, decline_code) in [
        ("4000000000000002", "generic_decline"),
        ("4000000000009995", "insufficient_funds"),
        ("4000000000000341", "generic_decline"),
    ] {
        let intent = t.ready(number).await;

        let declined = t.confirm(&intent.name, &key()).await.unwrap();

        assert_eq!(declined.state(), State::RequiresPaymentMethod);
        let error = declined.last_payment_error.expect("a decline says why");
        assert_eq!((error.decline_code.as_str(), error.attempt), (decline_code, 1));
        let refused = t.confirm(&intent.name, &key()).await.unwrap_err();
        assert_eq!(reason(&refused), "PAYMENT_METHOD_REQUIRED");

        let user = PrincipalId::from_name(&declined.customer).unwrap();
        let other = t.attach(user, VISA).await;
        let request = pb::ConfirmPaymentIntentRequest {
            name: intent.name.clone(),
            payment_method: other.name,
            request_id: key(),
        };
        let authorized = t.intents().confirm_payment_intent(request).await.unwrap().into_inner();
        assert_eq!((authorized.state(), authorized.last_payment_error), (State::RequiresCapture, None));
    }
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenth_decline_cancels() {
    let t = TestPayments::start().await;
    let intent = t.ready("4000000000000002").await;
    let method = intent.payment_method.clone();
    for attempt in 1..=10 {
        let request = pb::ConfirmPaymentIntentRequest {
            name: intent.name.clone(),
            payment_method: method.clone(),
            request_id: key(),
        };
        let declined = t.intents().confirm_payment_intent(request).await.unwrap().into_inner();
        let expected = if attempt < 10 { State::RequiresPaymentMethod } else { State::Canceled };
        assert_eq!(declined.state(), expected, "after confirmation {attempt}");
    }
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_capture_gets_the_same_bytes_and_captures_once() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;
    let key = key();

    let first = t.capture(&intent.name, Some(5_000), &key).await.unwrap();
    t.refund(&intent.name, None, &crate::harness::key()).await.unwrap();
    let again = t.capture(&intent.name, Some(5_000), &key).await.unwrap();

    assert_eq!(prost::Message::encode_to_vec(&again), prost::Message::encode_to_vec(&first));
    assert_eq!(first.amount_captured_minor, 5_000);
    let calls = t.calls(&intent.name).await;
    assert_eq!(calls.iter().filter(|call| call.starts_with("CAPTURE")).count(), 1, "{calls:?}");
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_or_refusal_that_is_given_again_says_so() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;
    let capture = |amount| pb::CapturePaymentIntentRequest {
        name: intent.name.clone(),
        amount_to_capture_minor: Some(amount),
        request_id: format!("capture {amount}"),
    };
    let replayed = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("idempotent-replayed").map(|value| value.to_str().unwrap().to_owned())
    };

    for expected in [None, Some("true".to_owned())] {
        let refused = t.intents().capture_payment_intent(capture(AMOUNT + 1)).await.unwrap_err();
        assert_eq!(reason(&refused), "AMOUNT_EXCEEDS_CAPTURABLE");
        assert_eq!(replayed(refused.metadata()), expected);
    }
    for expected in [None, Some("true".to_owned())] {
        let captured = t.intents().capture_payment_intent(capture(AMOUNT)).await.unwrap();
        assert_eq!(replayed(captured.metadata()), expected);
    }
    let create = create(PrincipalId::generate(), "");
    for expected in [None, Some("true".to_owned())] {
        let created = t.intents().create_payment_intent(create.clone()).await.unwrap();
        assert_eq!(replayed(created.metadata()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_cannot_be_used_for_another_request() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;
    let key = key();
    t.capture(&intent.name, Some(5_000), &key).await.unwrap();

    let refused = t.capture(&intent.name, Some(6_000), &key).await.unwrap_err();

    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED")
    );
    assert_eq!(t.get(&intent.name).await.amount_captured_minor, 5_000);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_captured_than_was_authorized_and_the_refusal_is_replayed() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;
    let key = key();

    for _ in 0..2 {
        let refused = t.capture(&intent.name, Some(AMOUNT + 1), &key).await.unwrap_err();
        let told = (refused.code(), reason(&refused));
        assert_eq!(told, (Code::FailedPrecondition, "AMOUNT_EXCEEDS_CAPTURABLE".to_owned()));
    }
    assert_eq!(t.get(&intent.name).await, intent, "a refused call changes nothing");

    t.capture(&intent.name, None, &crate::harness::key()).await.unwrap();
    let refused = t.capture(&intent.name, Some(1), &crate::harness::key()).await.unwrap_err();
    assert_eq!(reason(&refused), "ALREADY_SUCCEEDED");
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorized_payment_is_canceled_by_a_void() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;
    let key = key();

    let canceled = t.cancel(&intent.name, &key).await.unwrap();
    assert_eq!((canceled.state(), canceled.amount_capturable_minor), (State::Canceled, 0));
    assert_eq!(t.cancel(&intent.name, &key).await.unwrap(), canceled);

    let refused = t.cancel(&intent.name, &crate::harness::key()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ALREADY_CANCELED"));
    assert_eq!(t.calls(&intent.name).await, ["AUTHORIZE APPROVED 12500", "VOID APPROVED 12500"]);
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_payment_is_canceled_without_the_acquirer_and_a_captured_one_is_not() {
    let t = TestPayments::start().await;
    let unconfirmed = t.ready(VISA).await;
    assert_eq!(t.cancel(&unconfirmed.name, &key()).await.unwrap().state(), State::Canceled);
    assert!(t.calls(&unconfirmed.name).await.is_empty());

    let captured = t.captured().await;
    let refused = t.cancel(&captured.name, &key()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "ALREADY_SUCCEEDED"));
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_and_currencies_that_cannot_be_paid_are_refused() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    for (currency, amount, expected) in [
        ("INR", 0, "AMOUNT_OUT_OF_RANGE"),
        ("INR", -1, "AMOUNT_OUT_OF_RANGE"),
        ("INR", i64::MAX, "AMOUNT_OUT_OF_RANGE"),
        ("INR", 100_000_000_000, "AMOUNT_OUT_OF_RANGE"),
        ("XYZ", 1, "CURRENCY_UNSUPPORTED"),
    ] {
        let amount = Some(Money { currency_code: currency.to_owned(), amount_minor: amount });
        let request = pb::CreatePaymentIntentRequest { amount, ..create(user, "") };
        let refused = t.intents().create_payment_intent(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_number_in_free_text_is_refused() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    for reference in ["card 4242 4242 4242 4242", "12 4242424242424242", "4242424242424242 12"] {
        let request = pb::CreatePaymentIntentRequest { reference: reference.to_owned(), ..create(user, "") };

        let refused = t.intents().create_payment_intent(request).await.expect_err(reference);

        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PAN_IN_FREE_TEXT"));
        assert!(!refused.message().contains("4242"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_with_another_customers_card() {
    let t = TestPayments::start().await;
    let (owner, other) = (PrincipalId::generate(), PrincipalId::generate());
    let method = t.attach(owner, VISA).await;

    let refused = t.intents().create_payment_intent(create(other, &method.name)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "PAYMENT_METHOD_NOT_FOUND"));

    let intent = t.create(other, "").await;
    let request = pb::ConfirmPaymentIntentRequest {
        name: intent.name.clone(),
        payment_method: method.name,
        request_id: key(),
    };
    let refused = t.intents().confirm_payment_intent(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(t.get(&intent.name).await, intent, "a refused call changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn customers_see_their_own_payments_only_and_change_none() {
    let t = TestPayments::start().await;
    let intent = t.captured().await;
    let refund = t.refund(&intent.name, Some(100), &key()).await.unwrap();
    let owner = PrincipalId::from_name(&intent.customer).unwrap();
    let client = |user, roles: &[&str]| PaymentIntentServiceClient::new(t.user(user, roles));
    let get = || pb::GetPaymentIntentRequest { name: intent.name.clone() };

    let seen = client(owner, &["customer"]).get_payment_intent(get()).await.unwrap().into_inner();
    assert_eq!((seen.name, seen.amount_refunded_minor), (intent.name.clone(), 100));
    let refused = client(PrincipalId::generate(), &["customer"]).get_payment_intent(get()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(client(PrincipalId::generate(), &["admin"]).get_payment_intent(get()).await.is_ok());

    let list = pb::ListPaymentIntentsRequest { page_size: 0, page_token: String::new() };
    let own = client(owner, &["customer"]).list_payment_intents(list.clone()).await.unwrap().into_inner();
    assert_eq!(own.payment_intents.len(), 1);
    let none =
        client(PrincipalId::generate(), &["customer"]).list_payment_intents(list).await.unwrap().into_inner();
    assert!(none.payment_intents.is_empty());

    let capture = pb::CapturePaymentIntentRequest {
        name: intent.name.clone(),
        amount_to_capture_minor: None,
        request_id: key(),
    };
    let refused = client(owner, &["customer"]).capture_payment_intent(capture).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    let refunds = |user| {
        proto::payments::v1::refund_service_client::RefundServiceClient::new(t.user(user, &["customer"]))
    };
    let get = || pb::GetRefundRequest { name: refund.name.clone() };
    assert!(refunds(owner).get_refund(get()).await.is_ok());
    let refused = refunds(PrincipalId::generate()).get_refund(get()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "REFUND_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_newest_first() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    let mut created = Vec::new();
    for _ in 0..3 {
        created.push(t.create(user, "").await.name);
    }
    created.reverse();
    let mut client = PaymentIntentServiceClient::new(t.user(user, &["customer"]));

    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListPaymentIntentsRequest { page_size: 2, page_token };
        let page = client.list_payment_intents(request).await.unwrap().into_inner();
        listed.extend(page.payment_intents.into_iter().map(|intent| intent.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, created);

    let request = pb::ListPaymentIntentsRequest { page_size: 2, page_token: "made-up".to_owned() };
    assert_eq!(client.list_payment_intents(request).await.unwrap_err().code(), Code::InvalidArgument);
}
