//! Who may call what, and what is not there.

use mesh::{auth::PrincipalId, config::Configuration as _, testing};
use proto::payments::v1::{
    self as pb, ledger_service_client::LedgerServiceClient, simulator_service_client::SimulatorServiceClient,
};
use tonic::Code;

use crate::harness::{TestPayments, VISA, create, reason};

#[tokio::test(flavor = "multi_thread")]
async fn only_bookings_and_admins_move_money() {
    let t = TestPayments::start().await;
    let user = PrincipalId::generate();
    let method = t.attach(user, VISA).await;
    let request = create(user, &method.name);

    let mut customer =
        pb::payment_intent_service_client::PaymentIntentServiceClient::new(t.user(user, &["customer"]));
    let refused = customer.create_payment_intent(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    for service in ["edge", "identity"] {
        let channel = testing::channel(service, "payments", t.address());
        let mut peer = pb::payment_intent_service_client::PaymentIntentServiceClient::new(channel);
        let refused = peer.create_payment_intent(request.clone()).await.unwrap_err();
        assert!(
            matches!(refused.code(), Code::Unauthenticated | Code::PermissionDenied),
            "{service}: {refused:?}"
        );
    }
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
