//! Cards into the vault.

use diesel_async::RunQueryDsl as _;
use mesh::auth::PrincipalId;
use proto::payments::v1::{self as pb, payment_intent::State};
use tonic::Code;

use crate::harness::{Fault, TestPayments, VISA, card, key, reason};

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    count: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_card_shows_what_may_be_known_of_it() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();

    let visa = t.attach(user, VISA).await;
    let amex = t.attach(user, "378282246310005").await;
    let elsewhere = t.attach(PrincipalId::generate(), VISA).await;

    assert_eq!((visa.brand.as_str(), visa.bin6.as_str(), visa.last4.as_str()), ("visa", "424242", "4242"));
    assert_eq!((amex.brand.as_str(), amex.last4.as_str()), ("amex", "0005"));
    assert_eq!(visa.fingerprint, elsewhere.fingerprint, "the same number has the same fingerprint");
    assert_ne!(visa.fingerprint, amex.fingerprint);
    let request = pb::ListPaymentMethodsRequest { page_size: 0, page_token: String::new() };
    let listed = t.methods(user).list_payment_methods(request).await.unwrap().into_inner().payment_methods;
    assert_eq!(listed, [amex, visa]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_that_cannot_be_used_are_refused() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    for (number, change, field, expected) in [
        ("4242424242424241", None, "card.number", "INVALID_NUMBER"),
        ("4000000000000127", None, "card.cvc", "INCORRECT_CVC"),
        (VISA, Some((2026, "123")), "card.exp_year", "EXPIRED_CARD"),
        (VISA, Some((2030, "1234")), "card.cvc", "INCORRECT_CVC"),
    ] {
        let mut card = card(number);
        if let Some((exp_year, cvc)) = change {
            (card.exp_month, card.exp_year, card.cvc) = (10, exp_year, cvc.to_owned());
        }
        let request = pb::CreatePaymentMethodRequest { card: Some(card), request_id: String::new() };
        let refused = t.methods(user).create_payment_method(request).await.unwrap_err();

        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, expected));
        let details = tonic_types::StatusExt::get_error_details(&refused);
        let violation = &details.bad_request().expect("the field is named").field_violations[0];
        assert_eq!(violation.field, field);
        assert!(!format!("{refused:?}").contains(number), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_creation_stores_one_card() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    let request = pb::CreatePaymentMethodRequest { card: Some(card(VISA)), request_id: key() };

    let first = t.methods(user).create_payment_method(request.clone()).await.unwrap();
    let again = t.methods(user).create_payment_method(request.clone()).await.unwrap();
    assert!(!first.metadata().contains_key("idempotent-replayed"));
    assert_eq!(again.metadata().get("idempotent-replayed").unwrap(), "true");
    assert_eq!(first.into_inner(), again.into_inner());

    let other = pb::CreatePaymentMethodRequest { card: Some(card("5555555555554444")), ..request };
    let refused = t.methods(user).create_payment_method(other).await.unwrap_err();
    assert_eq!(reason(&refused), "IDEMPOTENCY_KEY_REUSED");
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_its_owners_alone() {
    let t = TestPayments::start().await;
    let owner = PrincipalId::generate();
    let method = t.attach(owner, VISA).await;
    let mut stranger = t.methods(PrincipalId::generate());
    let get = pb::GetPaymentMethodRequest { name: method.name.clone() };
    let delete = pb::DeletePaymentMethodRequest { name: method.name.clone() };

    assert_eq!(stranger.get_payment_method(get.clone()).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(stranger.delete_payment_method(delete).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(t.methods(owner).get_payment_method(get).await.unwrap().into_inner(), method);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_card_is_destroyed_and_no_longer_pays() {
    let t = TestPayments::start().await;
    let intent = t.ready(VISA).await;
    let owner = PrincipalId::from_name(&intent.customer).unwrap();
    let delete = pb::DeletePaymentMethodRequest { name: intent.payment_method.clone() };

    t.methods(owner).delete_payment_method(delete.clone()).await.unwrap();
    t.methods(owner).delete_payment_method(delete).await.expect("twice is the same as once");

    let left: Count = diesel::sql_query("SELECT count(ciphertext) AS count FROM vault.cards")
        .get_result(&mut t.conn().await)
        .await
        .unwrap();
    assert_eq!(left.count, 0);
    let refused = t.confirm(&intent.name, &key()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "PAYMENT_METHOD_NOT_FOUND"));
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_the_acquirer_is_being_asked_about_is_not_deleted() {
    let t = TestPayments::start().await;
    let intent = t.ready(VISA).await;
    t.fail_next(Fault::LoseRequest);
    t.confirm(&intent.name, &key()).await.unwrap();
    let owner = PrincipalId::from_name(&intent.customer).unwrap();
    let delete = pb::DeletePaymentMethodRequest { name: intent.payment_method.clone() };

    let refused = t.methods(owner).delete_payment_method(delete.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "PAYMENT_METHOD_IN_USE")
    );

    assert_eq!(t.sync(&intent.name).await.state(), State::RequiresCapture);
    t.methods(owner).delete_payment_method(delete).await.unwrap();
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_vault_is_noticed_before_anything_happens() {
    let t = TestPayments::start().await;
    let intent = t.ready(VISA).await;
    diesel::sql_query(
        "UPDATE vault.cards SET ciphertext = set_byte(ciphertext, 5, get_byte(ciphertext, 5) # 1)",
    )
    .execute(&mut t.conn().await)
    .await
    .unwrap();
    let key = key();

    let refused = t.confirm(&intent.name, &key).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Internal, "CARD_UNREADABLE"));
    assert_eq!(t.get(&intent.name).await, intent, "a refused call changes nothing");
    diesel::sql_query(
        "UPDATE vault.cards SET ciphertext = set_byte(ciphertext, 5, get_byte(ciphertext, 5) # 1)",
    )
    .execute(&mut t.conn().await)
    .await
    .unwrap();
    assert_eq!(t.confirm(&intent.name, &key).await.unwrap().state(), State::RequiresCapture);
}
