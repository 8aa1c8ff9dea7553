//! Calls that happen once: the frame around every call that moves money.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::{
    auth::Caller,
    idempotency::{self, Claim, Fingerprint, Stored},
    status,
};
use prost::Message;
use tonic::{Response, Status, metadata::MetadataValue};

use super::{
    Handlers, cancel_payment_intent::Cancel, capture_payment_intent::Capture,
    confirm_payment_intent::Confirm, create_payment_intent::Create, create_refund::CreateRefund, messages,
};
use crate::{
    domain::{
        attempt::{AttemptId, Origin},
        payment_intent::PaymentIntent,
    },
    error::Error,
    events, store,
};

pub(crate) const CREATE_PAYMENT_INTENT: &str = "/jetway.payments.v1.PaymentIntentService/CreatePaymentIntent";
pub(crate) const CONFIRM_PAYMENT_INTENT: &str =
    "/jetway.payments.v1.PaymentIntentService/ConfirmPaymentIntent";
pub(crate) const CAPTURE_PAYMENT_INTENT: &str =
    "/jetway.payments.v1.PaymentIntentService/CapturePaymentIntent";
pub(crate) const CANCEL_PAYMENT_INTENT: &str = "/jetway.payments.v1.PaymentIntentService/CancelPaymentIntent";
pub(crate) const CREATE_REFUND: &str = "/jetway.payments.v1.RefundService/CreateRefund";

/// The recovery point of a call whose attempt is written: go on with that attempt.
const SENT: &str = "sent";

/// The recovery point of a call that is done.
const APPLIED: &str = "applied";

/// A call that moves money.
pub(super) enum Command {
    CreatePaymentIntent(Create),
    ConfirmPaymentIntent(Confirm),
    CapturePaymentIntent(Capture),
    CancelPaymentIntent(Cancel),
    CreateRefund(CreateRefund),
}

/// What a command's own transaction did.
pub(super) struct Begun {
    /// The row that the call created.
    pub(super) subject: Option<mesh::id::Uuid>,
    /// What is left to do.
    pub(super) rest: Rest,
}

/// What is left to do of a call.
pub(super) enum Rest {
    /// Nothing: this is the answer.
    Answer(Box<PaymentIntent>),
    /// To ask the acquirer.
    Ask(AttemptId),
}

/// Metadata of an answer that was given before; the edge shows it as the header `Idempotent-Replayed`.
const REPLAYED: &str = "idempotent-replayed";

/// What the first transaction came to.
enum First {
    /// An earlier call with this request id was answered.
    Replay(Stored),
    /// This one is.
    Stored(Stored),
    Ask(AttemptId),
}

/// Which call it is. The message is fingerprinted without its request id.
pub(super) fn request<M: Message>(
    caller: &Caller,
    method: &'static str,
    key: &str,
    message: impl FnOnce() -> M,
) -> idempotency::Request {
    idempotency::Request {
        caller: caller.idempotency_scope(),
        method,
        key: key.to_owned(),
        fingerprint: Fingerprint::of_message(&message()),
    }
}

/// The call that an attempt is made for.
pub(super) fn origin(request: &idempotency::Request) -> Origin {
    Origin { caller: request.caller.clone(), method: request.method.to_owned(), key: request.key.clone() }
}

impl Handlers {
    /// Runs a command once for its request id: the first call executes it, a call after a crash goes on with the attempt that is there, and every
    /// other gets the stored answer.
    pub(super) async fn once<M: Message + Default>(
        &self,
        request: idempotency::Request,
        command: Command,
    ) -> Result<Response<M>, Status> {
        events::caused_by(&request.key, self.execute(&request, &command)).await
    }

    async fn execute<M: Message + Default>(
        &self,
        request: &idempotency::Request,
        command: &Command,
    ) -> Result<Response<M>, Status> {
        let db = &self.acquiring.db;
        let now = self.acquiring.clock.now();
        let first = {
            let _admitted = self.admission.admit().await?;
            db.transaction("begin", async |conn: &mut AsyncPgConnection| {
                first(conn, request, command, now).await
            })
            .await?
        };
        let stored = match first {
            First::Replay(stored) => return replayed(read(&stored)),
            First::Stored(stored) => stored,
            First::Ask(attempt) => {
                self.acquiring.drive(attempt).await?;
                let now = self.acquiring.clock.now();
                db.transaction("answer", async |conn: &mut AsyncPgConnection| {
                    stored(conn, request, now).await
                })
                .await?
            }
        };
        read(&stored)
    }
}

/// Tells the caller of an answer or refusal that it was given before.
pub(super) fn replayed<M>(mut answer: Result<Response<M>, Status>) -> Result<Response<M>, Status> {
    let metadata = match &mut answer {
        Ok(response) => response.metadata_mut(),
        Err(status) => status.metadata_mut(),
    };
    metadata.insert(REPLAYED, MetadataValue::from_static("true"));
    answer
}

/// What the answer says, as it is stored.
fn read<M: Message + Default>(stored: &Stored) -> Result<Response<M>, Status> {
    let corrupt = |_| Error::Corrupt("an answer".to_owned());
    match &stored.response {
        Ok(response) => Ok(Response::new(M::decode(response.as_slice()).map_err(corrupt)?)),
        Err(refusal) => Err(status::decode(refusal).map_err(corrupt)?),
    }
}

/// The first transaction: claims the request id and does what can be done here.
async fn first(
    conn: &mut AsyncPgConnection,
    request: &idempotency::Request,
    command: &Command,
    now: Timestamp,
) -> Result<First, Error> {
    match idempotency::claim(conn, request, now).await? {
        Claim::Replay(stored) => return Ok(First::Replay(stored)),
        // The claim and its attempt were committed together; a claim without one is of a call that is to be run from the start.
        Claim::Resume { .. } => {
            if let Some(attempt) = store::attempts::by_request(conn, request).await? {
                return Ok(First::Ask(attempt));
            }
        }
        Claim::New => {}
    }
    let begun = match command {
        Command::CreatePaymentIntent(create) => create.begin(conn, request, now).await,
        Command::ConfirmPaymentIntent(confirm) => confirm.begin(conn, request, now).await,
        Command::CapturePaymentIntent(capture) => capture.begin(conn, request, now).await,
        Command::CancelPaymentIntent(cancel) => cancel.begin(conn, request, now).await,
        Command::CreateRefund(create) => create.begin(conn, request, now).await,
    };
    match begun {
        Ok(Begun { subject, rest: Rest::Ask(attempt) }) => {
            idempotency::advance(conn, request, SENT, subject).await?;
            Ok(First::Ask(attempt))
        }
        Ok(Begun { subject, rest: Rest::Answer(intent) }) => {
            idempotency::advance(conn, request, APPLIED, subject).await?;
            idempotency::complete(conn, request, &messages::payment_intent(&intent), now).await?;
            stored(conn, request, now).await.map(First::Stored)
        }
        Err(error) if error.is_final() => {
            idempotency::refuse(conn, request, status::encode(&error.into()), now).await?;
            stored(conn, request, now).await.map(First::Stored)
        }
        Err(error) => Err(error),
    }
}

/// The answer of a call that was answered.
async fn stored(
    conn: &mut AsyncPgConnection,
    request: &idempotency::Request,
    now: Timestamp,
) -> Result<Stored, Error> {
    match idempotency::claim(conn, request, now).await? {
        Claim::Replay(stored) => Ok(stored),
        // Whoever else drives the attempt has not come to its end.
        Claim::New | Claim::Resume { .. } => Err(idempotency::Error::InProgress.into()),
    }
}
