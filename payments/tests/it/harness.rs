//! Payments and the acquirer in this process, and verbs to use them with.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use diesel_async::AsyncPgConnection;
use diesel_migrations::EmbeddedMigrations;
use jiff::{SignedDuration, Timestamp};
use mesh::{
    auth::PrincipalId,
    clock::Clock,
    config::{Configuration, DatabaseConfig, Parts, ServerConfig, TargetConfig},
    run::{self, App, Context, Running, Service},
    testing::{self, Issuer, UserChannel},
};
use payments::acquirer::{Acquirer, Answer, ListError, Lost, Order, Simulated};
use proto::{
    acquirer::v1::{ListOperationsRequest, ListOperationsResponse},
    payments::v1::{
        self as pb, ledger_service_client::LedgerServiceClient, payment_intent::CaptureMethod,
        payment_intent_service_client::PaymentIntentServiceClient,
        payment_method_service_client::PaymentMethodServiceClient,
        refund_service_client::RefundServiceClient, simulator_service_client::SimulatorServiceClient,
    },
    r#type::Money,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tonic::{Response, Status};

pub(crate) const VISA: &str = "4242424242424242";
pub(crate) const AMOUNT: i64 = 12_500;

/// An interval longer than any test, in milliseconds.
pub(crate) const NEVER: u64 = 3_600_000;

/// What goes wrong with the next call to the acquirer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It does what it was asked, and the answer is lost.
    LoseReply,
    /// It never hears of it.
    LoseRequest,
    /// We crash before it hears of it.
    CrashBefore,
    /// It does what it was asked, and we crash before we hear of it.
    CrashAfter,
    /// It does what it is asked, and its answer is kept back: from one [`TestPayments::answer_waits`] to the next.
    Pause,
}

type Faults = Arc<Mutex<VecDeque<Fault>>>;

/// The real acquirer, behind a line that loses things.
struct Faulty {
    real: Simulated,
    faults: Faults,
    pause: Arc<Barrier>,
}

impl Faulty {
    async fn pause(&self) {
        self.pause.wait().await;
        self.pause.wait().await;
    }
}

#[tonic::async_trait]
impl Acquirer for Faulty {
    async fn verify(&self, card: &payments::domain::card::Card, cvc: &str) -> Result<Answer, Lost> {
        self.real.verify(card, cvc).await
    }

    async fn execute(&self, order: Order) -> Result<Answer, Lost> {
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            None => self.real.execute(order).await,
            Some(Fault::LoseRequest) => Err(Lost),
            Some(Fault::LoseReply) => {
                self.real.execute(order).await?;
                Err(Lost)
            }
            Some(Fault::CrashBefore) => panic!("a crash on purpose"),
            Some(Fault::CrashAfter) => {
                self.real.execute(order).await?;
                panic!("a crash on purpose")
            }
            Some(Fault::Pause) => {
                let answer = self.real.execute(order).await;
                self.pause().await;
                answer
            }
        }
    }

    async fn inquire(&self, acquirer_ref: &str) -> Result<Option<Answer>, Lost> {
        let paused =
            self.faults.lock().unwrap().pop_front_if(|fault| matches!(fault, Fault::Pause)).is_some();
        let answer = self.real.inquire(acquirer_ref).await;
        if paused {
            self.pause().await;
        }
        answer
    }

    async fn list(&self, request: ListOperationsRequest) -> Result<ListOperationsResponse, ListError> {
        self.real.list(request).await
    }
}

/// Payments with that line to the acquirer.
struct FaultyPayments;

#[derive(Clone, Default, Serialize, Deserialize)]
struct FaultyConfig {
    payments: payments::Config,
    #[serde(skip)]
    faults: Faults,
    #[serde(skip)]
    pause: Option<Arc<Barrier>>,
}

impl Configuration for FaultyConfig {
    fn parts(&self) -> Parts<'_> {
        self.payments.parts()
    }
}

impl Service for FaultyPayments {
    const NAME: &'static str = "payments";
    type Config = FaultyConfig;

    fn migrations() -> Option<EmbeddedMigrations> {
        Some(payments::MIGRATIONS)
    }

    async fn start(context: Context<FaultyConfig>) -> anyhow::Result<App> {
        let FaultyConfig { payments: config, faults, pause } = context.config.clone();
        let pause = pause.expect("a test gives it");
        let real = Simulated::new(context.channel("acquirer", &config.acquirer)?);
        payments::assemble(context, &config, Arc::new(Faulty { real, faults, pause }))
    }
}

pub(crate) struct TestPayments {
    pub(crate) clock: Clock,
    pub(crate) config: payments::Config,
    acquirer_config: acquirer::Config,
    acquirer: Option<Running>,
    payments: Running,
    issuer: Issuer,
    faults: Faults,
    pause: Arc<Barrier>,
}

impl TestPayments {
    /// Everything, with a janitor that never comes by itself.
    pub(crate) async fn start() -> Self {
        Self::start_with(NEVER, NEVER).await
    }

    /// Everything, with a janitor that comes all the time and takes whatever is open.
    pub(crate) async fn start_with_busy_janitor() -> Self {
        Self::start_with(10, NEVER).await
    }

    /// Everything, with webhooks to this machine that are delivered all the time.
    pub(crate) async fn start_with_webhooks() -> Self {
        Self::start_with(NEVER, 10).await
    }

    async fn start_with(janitor_interval_ms: u64, webhooks_interval_ms: u64) -> Self {
        let clock = Clock::stopped("2026-11-21T12:00:00Z".parse().unwrap());
        let issuer = Issuer::start().await;
        let mut acquirer_config = acquirer::Config {
            server: testing::free_ports(),
            tls: testing::certificate("acquirer"),
            database: testing::database("acquirer", || acquirer::MIGRATIONS).await,
            ..acquirer::Config::default()
        };
        let acquirer =
            run::start::<acquirer::Acquirer>(acquirer_config.clone(), clock.clone()).await.unwrap();
        // It comes back where it was.
        acquirer_config.server = ServerConfig { listen: acquirer.address(), ..testing::free_ports() };
        let keys_file = testing::directory().join(format!("keys-{}", mesh::id::generate()));
        payments::vault::create_keys_file(&keys_file).unwrap();
        let config = payments::Config {
            server: testing::free_ports(),
            tls: testing::certificate("payments"),
            database: testing::database("payments", || payments::MIGRATIONS).await,
            identity: issuer.target(),
            acquirer: TargetConfig { address: acquirer.address().to_string() },
            simulator: true,
            keys: payments::config::KeysConfig { file: keys_file },
            janitor: payments::config::JanitorConfig { interval_ms: janitor_interval_ms, age_ms: 0 },
            webhooks: payments::config::WebhooksConfig {
                interval_ms: webhooks_interval_ms,
                timeout_ms: NEVER,
                allowed_networks: vec!["127.0.0.0/8".parse().unwrap()],
                ..payments::config::WebhooksConfig::default()
            },
            ..payments::Config::default()
        };
        let faults = Faults::default();
        let pause = Arc::new(Barrier::new(2));
        let faulty = FaultyConfig {
            payments: config.clone(),
            faults: faults.clone(),
            pause: Some(Arc::clone(&pause)),
        };
        let payments = run::start::<FaultyPayments>(faulty, clock.clone()).await.unwrap();
        payments.ready().await;
        Self { clock, config, acquirer_config, acquirer: Some(acquirer), payments, issuer, faults, pause }
    }

    /// Another process of payments on the same database.
    pub(crate) async fn another(&self) -> Running {
        let config = payments::Config { server: testing::free_ports(), ..self.config.clone() };
        run::start::<payments::Payments>(config, self.clock.clone()).await.unwrap()
    }

    pub(crate) async fn stop_acquirer(&mut self) {
        self.acquirer.take().expect("the acquirer runs").stop().await;
    }

    pub(crate) async fn start_acquirer(&mut self) {
        let running =
            run::start::<acquirer::Acquirer>(self.acquirer_config.clone(), self.clock.clone()).await;
        self.acquirer = Some(running.unwrap());
    }

    pub(crate) fn fail_next(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// After [`Fault::Pause`]: first until the acquirer has done what it was asked, then to let its answer through.
    pub(crate) async fn answer_waits(&self) {
        self.pause.wait().await;
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) async fn conn(&self) -> AsyncPgConnection {
        testing::connection(&self.config.database.url).await
    }

    pub(crate) fn databases(&self) -> [&DatabaseConfig; 2] {
        [&self.config.database, &self.acquirer_config.database]
    }

    /// The workload `bookings`, for itself.
    pub(crate) fn bookings(&self) -> mesh::client::Channel {
        testing::channel("bookings", "payments", self.payments.address())
    }

    pub(crate) fn user(&self, user: PrincipalId, roles: &[&str]) -> UserChannel {
        testing::as_user(testing::channel("edge", "payments", self.address()), &self.token(user, roles))
    }

    pub(crate) fn token(&self, user: PrincipalId, roles: &[&str]) -> String {
        self.issuer.token(user, roles)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.payments.address()
    }

    pub(crate) fn methods(&self, user: PrincipalId) -> PaymentMethodServiceClient<UserChannel> {
        PaymentMethodServiceClient::new(self.user(user, &["customer"]))
    }

    pub(crate) fn intents(&self) -> PaymentIntentServiceClient<mesh::client::Channel> {
        PaymentIntentServiceClient::new(self.bookings())
    }

    pub(crate) async fn attach(&self, user: PrincipalId, number: &str) -> pb::PaymentMethod {
        let request = pb::CreatePaymentMethodRequest { card: Some(card(number)), request_id: String::new() };
        self.methods(user).create_payment_method(request).await.expect("the card attaches").into_inner()
    }

    pub(crate) async fn create(&self, user: PrincipalId, method: &str) -> pb::PaymentIntent {
        let request = create(user, method);
        self.intents().create_payment_intent(request).await.expect("the payment is created").into_inner()
    }

    /// A payment of [`AMOUNT`] that is ready to be confirmed.
    pub(crate) async fn ready(&self, number: &str) -> pb::PaymentIntent {
        let user = PrincipalId::generate();
        let method = self.attach(user, number).await;
        self.create(user, &method.name).await
    }

    pub(crate) async fn authorized(&self) -> pb::PaymentIntent {
        let intent = self.ready(VISA).await;
        let intent = self.confirm(&intent.name, &key()).await.expect("the payment is authorised");
        assert_eq!(intent.state(), pb::payment_intent::State::RequiresCapture);
        intent
    }

    pub(crate) async fn captured(&self) -> pb::PaymentIntent {
        let intent = self.authorized().await;
        let intent = self.capture(&intent.name, None, &key()).await.expect("the payment is captured");
        assert_eq!(intent.state(), pb::payment_intent::State::Succeeded);
        intent
    }

    pub(crate) async fn confirm(&self, name: &str, key: &str) -> Result<pb::PaymentIntent, Status> {
        let request = pb::ConfirmPaymentIntentRequest {
            name: name.to_owned(),
            payment_method: String::new(),
            request_id: key.to_owned(),
        };
        self.intents().confirm_payment_intent(request).await.map(Response::into_inner)
    }

    pub(crate) async fn capture(
        &self,
        name: &str,
        amount: Option<i64>,
        key: &str,
    ) -> Result<pb::PaymentIntent, Status> {
        let request = pb::CapturePaymentIntentRequest {
            name: name.to_owned(),
            amount_to_capture_minor: amount,
            request_id: key.to_owned(),
        };
        self.intents().capture_payment_intent(request).await.map(Response::into_inner)
    }

    pub(crate) async fn cancel(&self, name: &str, key: &str) -> Result<pb::PaymentIntent, Status> {
        let request = pb::CancelPaymentIntentRequest {
            name: name.to_owned(),
            reason: "changed plans".to_owned(),
            request_id: key.to_owned(),
        };
        self.intents().cancel_payment_intent(request).await.map(Response::into_inner)
    }

    pub(crate) async fn get(&self, name: &str) -> pb::PaymentIntent {
        let request = pb::GetPaymentIntentRequest { name: name.to_owned() };
        self.intents().get_payment_intent(request).await.expect("the payment is there").into_inner()
    }

    pub(crate) async fn sync(&self, name: &str) -> pb::PaymentIntent {
        let request = pb::SyncPaymentIntentRequest { name: name.to_owned() };
        self.intents().sync_payment_intent(request).await.expect("the payment is there").into_inner()
    }

    pub(crate) async fn refund(
        &self,
        name: &str,
        amount: Option<i64>,
        key: &str,
    ) -> Result<pb::Refund, Status> {
        let request = pb::CreateRefundRequest {
            payment_intent: name.to_owned(),
            amount_minor: amount,
            reason: "flight canceled".to_owned(),
            request_id: key.to_owned(),
        };
        RefundServiceClient::new(self.bookings()).create_refund(request).await.map(Response::into_inner)
    }

    /// Reads a payment until it is in this state, for ten seconds at most.
    pub(crate) async fn reaches(&self, name: &str, state: pb::payment_intent::State) -> pb::PaymentIntent {
        let reached = async {
            loop {
                let intent = self.get(name).await;
                if intent.state() == state {
                    return intent;
                }
            }
        };
        let limit = std::time::Duration::from_secs(10);
        tokio::time::timeout(limit, reached)
            .await
            .unwrap_or_else(|_| panic!("{name} never reaches {state:?}"))
    }

    /// Everything that the acquirer says it did for a payment, oldest first, as `KIND OUTCOME amount`.
    pub(crate) async fn calls(&self, name: &str) -> Vec<String> {
        let mut calls: Vec<_> = self
            .acquirer_calls(name)
            .await
            .into_iter()
            .map(|call| {
                format!("{} {} {}", call.kind, call.outcome, call.amount.unwrap_or_default().amount_minor)
            })
            .collect();
        calls.reverse();
        calls
    }

    async fn acquirer_calls(&self, name: &str) -> Vec<pb::AcquirerCall> {
        let admin = self.user(PrincipalId::generate(), &["admin"]);
        let request = pb::ListAcquirerCallsRequest {
            payment_intent: name.to_owned(),
            page_size: 1000,
            page_token: String::new(),
        };
        let page = SimulatorServiceClient::new(admin).list_acquirer_calls(request).await;
        page.expect("the simulator is on").into_inner().acquirer_calls
    }

    /// The books are right, and say what the acquirer says.
    pub(crate) async fn check(&self) {
        let admin = self.user(PrincipalId::generate(), &["admin"]);
        let verified = LedgerServiceClient::new(admin).verify_ledger(pb::VerifyLedgerRequest {}).await;
        let verified = verified.expect("the ledger can be verified").into_inner();
        let broken: Vec<_> = verified.invariants.iter().filter(|report| report.violations > 0).collect();
        assert!(verified.clean && broken.is_empty(), "{broken:?}");

        let approved = payments::audit::approved(&mut self.conn().await).await.unwrap();
        let ours: Vec<_> =
            approved.into_iter().map(|it| (it.acquirer_ref, it.kind, it.currency, it.amount_minor)).collect();
        let mut theirs: Vec<_> = self
            .acquirer_calls("")
            .await
            .into_iter()
            .filter(|call| call.outcome == "APPROVED")
            .map(|call| {
                let amount = call.amount.expect("an operation has an amount");
                (call.acquirer_ref, call.kind, amount.currency_code, amount.amount_minor)
            })
            .collect();
        theirs.sort();
        assert_eq!(ours, theirs, "the ledger is what the acquirer did");
    }
}

/// A new request id.
pub(crate) fn key() -> String {
    mesh::id::generate().to_string()
}

pub(crate) fn card(number: &str) -> pb::Card {
    let cvc = if number.starts_with('3') { "1234" } else { "123" };
    pb::Card {
        number: number.to_owned(),
        exp_month: 12,
        exp_year: 2030,
        cvc: cvc.to_owned(),
        holder: "A Traveller".to_owned(),
    }
}

/// A payment of [`AMOUNT`], to be captured by a call of its own.
pub(crate) fn create(user: PrincipalId, method: &str) -> pb::CreatePaymentIntentRequest {
    pb::CreatePaymentIntentRequest {
        customer: user.name(),
        merchant: "merchants/6E".to_owned(),
        amount: Some(Money { currency_code: "INR".to_owned(), amount_minor: AMOUNT }),
        capture_method: CaptureMethod::Manual.into(),
        payment_method: method.to_owned(),
        confirm: false,
        reference: format!("bookings/{}", mesh::id::generate()),
        request_id: key(),
    }
}

pub(crate) fn reason(status: &Status) -> String {
    mesh::status::reason(status)
}
