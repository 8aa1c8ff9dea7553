//! The service `payments`, played by a script: what it is told to do is said in [`Script`].

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use diesel_migrations::EmbeddedMigrations;
use mesh::clock::Clock;
use mesh::config::{Configuration, Parts, ServerConfig, TelemetryConfig, TlsFiles};
use mesh::run::{App, Context, Running, Service};
use mesh::status::Refusal;
use mesh::testing;
use proto::payments::v1::payment_intent::State;
use proto::payments::v1::payment_intent_service_server::{PaymentIntentService, PaymentIntentServiceServer};
use proto::payments::v1::refund_service_server::{RefundService, RefundServiceServer};
use proto::payments::v1::{self as pb};
use serde::{Deserialize, Serialize};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// How cards and the acquirer behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Everything is approved.
    #[default]
    Approves,
    /// Confirming declines the card.
    Declines,
    /// Confirming, capturing and refunding answer that they are under way; asking again tells.
    IsSlow,
    /// Confirming never ends.
    NeverAuthorizes,
    /// Creating a payment is refused.
    Refuses,
    /// Capturing takes one minor unit less than it was told to.
    TakesLess,
    /// Canceling is refused, because the money, less one minor unit, is taken already.
    HasTakenLess,
    /// Refunds fail.
    NeverRefunds,
}

/// What payments does from now on, and what it has done.
#[derive(Default)]
pub(crate) struct Script {
    /// How cards and the acquirer behave.
    pub(crate) mood: Mood,
    /// Calls of these methods are carried out, and their next answer is lost.
    pub(crate) loses_answer_of: HashSet<&'static str>,
    /// Every payment, in the order of creation.
    pub(crate) intents: Vec<pb::PaymentIntent>,
    /// Every refund.
    pub(crate) refunds: Vec<pb::Refund>,
    /// How often money was taken.
    pub(crate) captures: usize,
    /// Answers by request id, with the method they belong to.
    answers: HashMap<String, pb::PaymentIntent>,
    refund_answers: HashMap<String, pb::Refund>,
}

impl Script {
    fn intent(&mut self, name: &str) -> Result<&mut pb::PaymentIntent, Status> {
        self.intents.iter_mut().find(|intent| intent.name == name).ok_or_else(|| {
            Refusal::NotFound { resource: name.to_owned() }.status(
                "payments.jetway",
                "NOT_FOUND",
                "no such payment",
            )
        })
    }

    fn answer(
        &mut self,
        method: &'static str,
        key: &str,
        intent: pb::PaymentIntent,
    ) -> Result<Response<pb::PaymentIntent>, Status> {
        self.answers.insert(key.to_owned(), intent.clone());
        if self.loses_answer_of.remove(method) { Err(lost()) } else { Ok(Response::new(intent)) }
    }
}

fn lost() -> Status {
    Refusal::Unavailable { retry_after: Duration::from_secs(1) }.status(
        "payments.jetway",
        "LOST",
        "the answer was lost",
    )
}

fn state_refusal(reason: &str) -> Status {
    Refusal::FailedPrecondition { subject: "payment intent".to_owned() }.status(
        "payments.jetway",
        reason,
        "wrong state",
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no player panics")
}

/// The scripts of this test binary, by the id in the configuration.
static SCRIPTS: LazyLock<Mutex<HashMap<String, Arc<Mutex<Script>>>>> = LazyLock::new(Mutex::default);

/// The service and its script.
pub(crate) struct Payments {
    id: String,
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) address: SocketAddr,
    running: Option<Running>,
}

impl Payments {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        let id = mesh::id::generate().to_string();
        let script = Arc::<Mutex<Script>>::default();
        lock(&SCRIPTS).insert(id.clone(), Arc::clone(&script));
        let running = run(&id, testing::free_ports()).await;
        Self { id, script, address: running.address(), running: Some(running) }
    }

    /// Stops it: nothing answers at its address.
    pub(crate) async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
    }

    /// Starts it again where it was.
    pub(crate) async fn start_again(&mut self) {
        let server = ServerConfig { listen: self.address, ..testing::free_ports() };
        self.running = Some(run(&self.id, server).await);
    }

    /// Looks at, or changes, the script.
    pub(crate) fn script<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut lock(&self.script))
    }
}

async fn run(id: &str, server: ServerConfig) -> Running {
    let config =
        Config { server, tls: testing::certificate("payments"), script: id.to_owned(), ..Config::default() };
    mesh::run::start::<ScriptedPayments>(config, Clock::system(None)).await.expect("the script starts")
}

struct ScriptedPayments;

#[derive(Serialize, Deserialize)]
struct Config {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    tls: TlsFiles,
    script: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: testing::free_ports(),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::in_dir("".as_ref()),
            script: String::new(),
        }
    }
}

impl Configuration for Config {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: None,
            clock_file: None,
        }
    }
}

impl Service for ScriptedPayments {
    const NAME: &'static str = "payments";
    type Config = Config;

    fn migrations() -> Option<EmbeddedMigrations> {
        None
    }

    async fn start(context: Context<Config>) -> anyhow::Result<App> {
        let script = lock(&SCRIPTS)[&context.config.script].clone();
        let routes = Routes::default()
            .add_service(PaymentIntentServiceServer::new(Player(Arc::clone(&script))))
            .add_service(RefundServiceServer::new(Player(script)));
        Ok(App::Mesh(routes))
    }
}

struct Player(Arc<Mutex<Script>>);

type Reply = Result<Response<pb::PaymentIntent>, Status>;

#[tonic::async_trait]
impl PaymentIntentService for Player {
    async fn create_payment_intent(&self, request: Request<pb::CreatePaymentIntentRequest>) -> Reply {
        let request = request.into_inner();
        let mut script = lock(&self.0);
        if let Some(answer) = script.answers.get(&request.request_id) {
            return Ok(Response::new(answer.clone()));
        }
        if script.mood == Mood::Refuses {
            let field = "payment_method".to_owned();
            return Err(Refusal::InvalidArgument { field }.status(
                "payments.jetway",
                "NO_SUCH_CARD",
                "no such card",
            ));
        }
        let uid = mesh::id::generate();
        let intent = pb::PaymentIntent {
            name: format!("paymentIntents/{uid}"),
            uid: uid.to_string(),
            state: State::RequiresConfirmation.into(),
            customer: request.customer,
            merchant: request.merchant,
            amount: request.amount,
            payment_method: request.payment_method,
            reference: request.reference,
            ..pb::PaymentIntent::default()
        };
        script.intents.push(intent.clone());
        script.answer("create", &request.request_id, intent)
    }

    async fn get_payment_intent(&self, request: Request<pb::GetPaymentIntentRequest>) -> Reply {
        let name = request.into_inner().name;
        lock(&self.0).intent(&name).cloned().map(Response::new)
    }

    async fn list_payment_intents(
        &self,
        _: Request<pb::ListPaymentIntentsRequest>,
    ) -> Result<Response<pb::ListPaymentIntentsResponse>, Status> {
        Ok(Response::new(pb::ListPaymentIntentsResponse::default()))
    }

    async fn confirm_payment_intent(&self, request: Request<pb::ConfirmPaymentIntentRequest>) -> Reply {
        let request = request.into_inner();
        let mut script = lock(&self.0);
        if let Some(answer) = script.answers.get(&request.request_id) {
            return Ok(Response::new(answer.clone()));
        }
        let mood = script.mood;
        let intent = script.intent(&request.name)?;
        if mood == Mood::Declines {
            intent.state = State::RequiresPaymentMethod.into();
            intent.last_payment_error = Some(pb::PaymentError {
                code: "card_declined".to_owned(),
                decline_code: "insufficient_funds".to_owned(),
                message: "the card has not enough money".to_owned(),
                attempt: 1,
            });
        } else {
            intent.state = if matches!(mood, Mood::IsSlow | Mood::NeverAuthorizes | Mood::HasTakenLess) {
                State::Processing
            } else {
                State::RequiresCapture
            }
            .into();
        }
        let intent = intent.clone();
        script.answer("confirm", &request.request_id, intent)
    }

    async fn capture_payment_intent(&self, request: Request<pb::CapturePaymentIntentRequest>) -> Reply {
        let request = request.into_inner();
        let mut script = lock(&self.0);
        if let Some(answer) = script.answers.get(&request.request_id) {
            return Ok(Response::new(answer.clone()));
        }
        let (is_slow, takes_less) = (script.mood == Mood::IsSlow, script.mood == Mood::TakesLess);
        let intent = script.intent(&request.name)?;
        if intent.state() != State::RequiresCapture {
            return Err(state_refusal("NOT_CAPTURABLE"));
        }
        intent.amount_captured_minor =
            request.amount_to_capture_minor.unwrap_or_default() - i64::from(takes_less);
        intent.state = State::Succeeded.into();
        let mut intent = intent.clone();
        script.captures += 1;
        if is_slow {
            // Booked at the acquirer, and nobody knows yet.
            intent.state = State::Processing.into();
        }
        script.answer("capture", &request.request_id, intent)
    }

    async fn cancel_payment_intent(&self, request: Request<pb::CancelPaymentIntentRequest>) -> Reply {
        let request = request.into_inner();
        let mut script = lock(&self.0);
        if let Some(answer) = script.answers.get(&request.request_id) {
            return Ok(Response::new(answer.clone()));
        }
        let has_taken_less = script.mood == Mood::HasTakenLess;
        let intent = script.intent(&request.name)?;
        if has_taken_less {
            intent.amount_captured_minor = intent.amount.clone().unwrap_or_default().amount_minor - 1;
            intent.state = State::Succeeded.into();
        }
        match intent.state() {
            State::Succeeded => return Err(state_refusal("ALREADY_SUCCEEDED")),
            State::Canceled => return Err(state_refusal("ALREADY_CANCELED")),
            State::Unspecified
            | State::RequiresPaymentMethod
            | State::RequiresConfirmation
            | State::RequiresAction
            | State::Processing
            | State::RequiresCapture => intent.state = State::Canceled.into(),
        }
        let intent = intent.clone();
        script.answer("cancel", &request.request_id, intent)
    }

    async fn sync_payment_intent(&self, request: Request<pb::SyncPaymentIntentRequest>) -> Reply {
        let request = request.into_inner();
        let mut script = lock(&self.0);
        let never = matches!(script.mood, Mood::NeverAuthorizes | Mood::HasTakenLess);
        let intent = script.intent(&request.name)?;
        if intent.state() == State::Processing && !never {
            intent.state = State::RequiresCapture.into();
        }
        Ok(Response::new(intent.clone()))
    }
}

#[tonic::async_trait]
impl RefundService for Player {
    async fn create_refund(
        &self,
        request: Request<pb::CreateRefundRequest>,
    ) -> Result<Response<pb::Refund>, Status> {
        let request = request.into_inner();
        let mut script = lock(&self.0);
        if let Some(answer) = script.refund_answers.get(&request.request_id) {
            return Ok(Response::new(answer.clone()));
        }
        let (is_slow, fails) = (script.mood == Mood::IsSlow, script.mood == Mood::NeverRefunds);
        let intent = script.intent(&request.payment_intent)?;
        let minor = request.amount_minor.unwrap_or_default();
        if !fails {
            intent.amount_refunded_minor += minor;
        }
        let currency_code = intent.amount.clone().unwrap_or_default().currency_code;
        let uid = mesh::id::generate();
        let mut refund = pb::Refund {
            name: format!("refunds/{uid}"),
            uid: uid.to_string(),
            state: if fails { pb::refund::State::Failed } else { pb::refund::State::Succeeded }.into(),
            payment_intent: request.payment_intent,
            amount: Some(proto::r#type::Money { currency_code, amount_minor: minor }),
            ..pb::Refund::default()
        };
        script.refunds.push(refund.clone());
        if is_slow {
            refund.state = pb::refund::State::Pending.into();
        }
        script.refund_answers.insert(request.request_id, refund.clone());
        if script.loses_answer_of.remove("refund") { Err(lost()) } else { Ok(Response::new(refund)) }
    }

    async fn get_refund(
        &self,
        request: Request<pb::GetRefundRequest>,
    ) -> Result<Response<pb::Refund>, Status> {
        let name = request.into_inner().name;
        let script = lock(&self.0);
        let refund = script.refunds.iter().find(|refund| refund.name == name).cloned();
        refund.map(Response::new).ok_or_else(lost)
    }

    async fn list_refunds(
        &self,
        _: Request<pb::ListRefundsRequest>,
    ) -> Result<Response<pb::ListRefundsResponse>, Status> {
        Ok(Response::new(pb::ListRefundsResponse::default()))
    }
}
