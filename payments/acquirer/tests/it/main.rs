//! The simulated acquirer behind its real socket, with a database of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use mesh::{
    client::Channel,
    clock::Clock,
    run::{self, Running},
    testing,
};
use proto::{
    acquirer::v1::{self as pb, acquirer_service_client::AcquirerServiceClient, operation::Outcome},
    r#type::Money,
};
use tonic::Code;

struct TestAcquirer {
    running: Running,
}

impl TestAcquirer {
    async fn start() -> Self {
        let config = acquirer::Config {
            server: testing::free_ports(),
            tls: testing::certificate("acquirer"),
            database: testing::database("acquirer", || acquirer::MIGRATIONS).await,
            ..acquirer::Config::default()
        };
        let clock = Clock::stopped("2026-11-21T12:00:00Z".parse().unwrap());
        let running = run::start::<acquirer::Acquirer>(config, clock).await.unwrap();
        running.ready().await;
        Self { running }
    }

    fn as_workload(&self, name: &str) -> AcquirerServiceClient<Channel> {
        AcquirerServiceClient::new(testing::channel(name, "acquirer", self.running.address()))
    }

    fn client(&self) -> AcquirerServiceClient<Channel> {
        self.as_workload("payments")
    }

    async fn authorize(&self, acquirer_ref: &str, number: &str) -> pb::Operation {
        self.client().authorize(authorize(acquirer_ref, number)).await.unwrap().into_inner()
    }

    async fn capture(&self, acquirer_ref: &str, authorization_ref: &str, minor: i64) -> Outcome {
        let request = pb::CaptureRequest {
            acquirer_ref: acquirer_ref.to_owned(),
            authorization_ref: authorization_ref.to_owned(),
            amount: inr(minor),
        };
        self.client().capture(request).await.unwrap().into_inner().outcome()
    }

    async fn void(&self, acquirer_ref: &str, authorization_ref: &str) -> Outcome {
        let request = pb::VoidRequest {
            acquirer_ref: acquirer_ref.to_owned(),
            authorization_ref: authorization_ref.to_owned(),
        };
        self.client().void(request).await.unwrap().into_inner().outcome()
    }

    async fn refund(&self, acquirer_ref: &str, capture_ref: &str, minor: i64) -> Outcome {
        let request = pb::RefundRequest {
            acquirer_ref: acquirer_ref.to_owned(),
            capture_ref: capture_ref.to_owned(),
            amount: inr(minor),
        };
        self.client().refund(request).await.unwrap().into_inner().outcome()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a message field is optional")]
fn inr(amount_minor: i64) -> Option<Money> {
    Some(Money { currency_code: "INR".to_owned(), amount_minor })
}

fn authorize(acquirer_ref: &str, number: &str) -> pb::AuthorizeRequest {
    pb::AuthorizeRequest {
        acquirer_ref: acquirer_ref.to_owned(),
        card: Some(pb::CardDetails { number: number.to_owned(), exp_month: 12, exp_year: 2030 }),
        amount: inr(100),
        reference: "paymentIntents/1".to_owned(),
    }
}

const VISA: &str = "4242424242424242";

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_gets_its_first_answer_for_ever() {
    let t = TestAcquirer::start().await;

    let first = t.authorize("a", VISA).await;
    let again = t.authorize("a", "4000000000000002").await;

    assert_eq!(first.outcome(), Outcome::Approved);
    assert_eq!(first, again);
    let inquired = t.client().inquire(pb::InquireRequest { acquirer_ref: "a".to_owned() }).await.unwrap();
    assert_eq!(inquired.into_inner(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_calls_with_one_reference_are_booked_once() {
    let t = TestAcquirer::start().await;
    t.authorize("a", VISA).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut client = t.client();
        let request = pb::CaptureRequest {
            acquirer_ref: "c".to_owned(),
            authorization_ref: "a".to_owned(),
            amount: inr(60),
        };
        calls.spawn(async move { client.capture(request).await.unwrap().into_inner().outcome() });
    }

    let outcomes = calls.join_all().await;

    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Approved), "{outcomes:?}");
    assert_eq!(t.capture("d", "a", 41).await, Outcome::Declined);
    assert_eq!(t.capture("e", "a", 40).await, Outcome::Approved);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_or_given_back_than_there_is() {
    let t = TestAcquirer::start().await;
    t.authorize("a", VISA).await;

    assert_eq!(t.capture("c1", "a", 101).await, Outcome::Declined);
    assert_eq!(t.capture("c2", "nothing", 1).await, Outcome::Declined);
    assert_eq!(t.capture("c3", "a", 100).await, Outcome::Approved);
    assert_eq!(t.void("v", "a").await, Outcome::Declined);
    assert_eq!(t.refund("r1", "c3", 60).await, Outcome::Approved);
    assert_eq!(t.refund("r2", "c3", 41).await, Outcome::Declined);
    assert_eq!(t.refund("r3", "a", 1).await, Outcome::Declined);
    assert_eq!(t.refund("r4", "c3", 40).await, Outcome::Approved);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorisation_that_was_let_go_is_not_captured() {
    let t = TestAcquirer::start().await;
    t.authorize("a", VISA).await;

    assert_eq!(t.void("v1", "a").await, Outcome::Approved);
    assert_eq!(t.void("v2", "a").await, Outcome::Declined);
    assert_eq!(t.capture("c", "a", 1).await, Outcome::Declined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_authorisation_is_not_captured_and_everything_is_listed() {
    let t = TestAcquirer::start().await;
    let declined = t.authorize("a", "4000000000009995").await;
    assert_eq!(
        (declined.outcome(), declined.decline_code.as_str()),
        (Outcome::Declined, "insufficient_funds")
    );
    assert_eq!(t.capture("c", "a", 1).await, Outcome::Declined);

    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            pb::ListOperationsRequest { reference: "paymentIntents/1".to_owned(), page_size: 1, page_token };
        let page = t.client().list_operations(request).await.unwrap().into_inner();
        listed.extend(page.operations.into_iter().map(|operation| operation.acquirer_ref));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["c", "a"]);
    let unknown = t.client().inquire(pb::InquireRequest { acquirer_ref: "z".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_payments_may_call() {
    let t = TestAcquirer::start().await;

    let refused = t.as_workload("bookings").authorize(authorize("a", VISA)).await.unwrap_err();

    assert_eq!(refused.code(), Code::PermissionDenied);
}
