//! Who may call what, and what is not there.

use mesh::{auth::PrincipalId, config::Configuration as _, testing};
use proto::payments::v1::{
    self as pb, ledger_service_client::LedgerServiceClient,
    payment_intent_service_client::PaymentIntentServiceClient, refund_service_client::RefundServiceClient,
    simulator_service_client::SimulatorServiceClient,
};
use tonic::Code;

use crate::harness::{TestPayments, VISA, create, key, reason};

#[tokio::test(flavor = "multi_thread")]
async fn only_bookings_moves_money() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    let method = t.attach(user, VISA).await;
    let request = create(user, &method.name);

    for role in ["customer", "admin"] {
        let mut intents = PaymentIntentServiceClient::new(t.user(user, &[role]));
        let refused = intents.create_payment_intent(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{role}");
    }

    for service in ["edge", "identity"] {
        let channel = testing::channel(service, "payments", t.address());
        let mut peer = PaymentIntentServiceClient::new(channel);
        let refused = peer.create_payment_intent(request.clone()).await.unwrap_err();
        assert!(
            matches!(refused.code(), Code::Unauthenticated | Code::PermissionDenied),
            "{service}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sees_a_payment_and_leaves_it_to_its_booking() {
    let t = TestPayments::start().await;
    let intent = t.authorized().await;
    let admin = || t.user(PrincipalId::generate(), &["admin"]);
    let mut intents = PaymentIntentServiceClient::new(admin());
    let name = intent.name.clone();

    let confirm = pb::ConfirmPaymentIntentRequest {
        name: name.clone(),
        payment_method: String::new(),
        request_id: key(),
    };
    let capture = pb::CapturePaymentIntentRequest {
        name: name.clone(),
        amount_to_capture_minor: Some(1),
        request_id: key(),
    };
    let cancel =
        pb::CancelPaymentIntentRequest { name: name.clone(), reason: String::new(), request_id: key() };
    let refund = pb::CreateRefundRequest {
        payment_intent: name.clone(),
        amount_minor: None,
        reason: String::new(),
        request_id: key(),
    };
    for refused in [
        intents.confirm_payment_intent(confirm).await.map(drop),
        intents.capture_payment_intent(capture).await.map(drop),
        intents.cancel_payment_intent(cancel).await.map(drop),
        intents.sync_payment_intent(pb::SyncPaymentIntentRequest { name: name.clone() }).await.map(drop),
        RefundServiceClient::new(admin()).create_refund(refund).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    let seen = intents.get_payment_intent(pb::GetPaymentIntentRequest { name }).await.unwrap();
    assert_eq!(seen.into_inner(), intent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_moves_money_needs_a_request_id() {
    let t = TestPayments::start().await;
    let request =
        pb::CreatePaymentIntentRequest { request_id: String::new(), ..create(PrincipalId::generate(), "") };

    let refused = t.intents().create_payment_intent(request).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "REQUEST_ID_REQUIRED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_are_for_admins() {
    let t = TestPayments::start().await;
    let customer = t.user(PrincipalId::generate(), &["customer"]);

    let refused =
        LedgerServiceClient::new(customer).verify_ledger(pb::VerifyLedgerRequest {}).await.unwrap_err();

    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_simulator_unless_it_is_on() {
    let mut t = TestPayments::start().await;
    t.config.simulator = false;
    let without = t.another().await;
    let token = t.token(PrincipalId::generate(), &["admin"]);
    let channel = testing::as_user(testing::channel("edge", "payments", without.address()), &token);
    without.ready().await;
    let request = pb::ListAcquirerCallsRequest {
        payment_intent: String::new(),
        page_size: 0,
        page_token: String::new(),
    };

    let refused = SimulatorServiceClient::new(channel).list_acquirer_calls(request).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "SIMULATOR_OFF"));
    without.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_that_the_acquirer_never_gave_is_the_callers_mistake() {
    let t = TestPayments::start().await;
    let admin = t.user(PrincipalId::generate(), &["admin"]);
    let request = pb::ListAcquirerCallsRequest {
        payment_intent: String::new(),
        page_size: 0,
        page_token: "made-up".to_owned(),
    };

    let refused = SimulatorServiceClient::new(admin).list_acquirer_calls(request).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
    let details = tonic_types::StatusExt::get_error_details(&refused);
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "page_token");
}

#[test]
fn the_simulator_is_turned_on_by_a_number_or_a_word() {
    let loaded = |value: &str| {
        let set = |key: &str, value: &str| (format!("JETWAY_PAYMENTS_{key}"), value.to_owned());
        let environment = vec![
            ("JETWAY_SIMULATOR".to_owned(), value.to_owned()),
            set("DATABASE__URL", "postgres://localhost/payments"),
            set("TLS__CERTIFICATE", "c"),
            set("TLS__KEY", "k"),
            set("TLS__ROOTS", "r"),
            set("KEYS__FILE", "f"),
        ];
        let sources = mesh::config::Sources { environment, ..mesh::config::Sources::default() };
        mesh::config::load::<payments::Config>("payments", &sources).map(|config| config.simulator)
    };

    for (value, on) in [("1", true), ("true", true), ("0", false), ("false", false)] {
        assert_eq!(loaded(value).expect("it is a truth value"), on, "{value}");
    }
    assert!(loaded("2").is_err());
    assert!(loaded("yes").is_err());
}

#[test]
fn settings_that_are_missing_are_all_named() {
    let problems = payments::Config::default().check().join("\n");

    for setting in ["database.url", "tls.certificate", "tls.key", "tls.roots", "keys.file"] {
        assert!(problems.contains(setting), "{setting} is not in:\n{problems}");
    }
}
