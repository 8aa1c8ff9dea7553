//! Talking to the acquirer: the only effect outside of our own database.
//!
//! 1. A transaction writes the attempt, `SENT`, under a reference that is the same for ever, and commits.
//! 2. The acquirer is called. No transaction is open, no lock is held.
//! 3. A second transaction applies the answer: attempt, payment or refund, ledger, event and the stored response commit together.
//!
//! When no answer comes, or the process dies between two of these, the attempt is still there: [`Acquiring::inquire`] asks what became of it. Whoever
//! applies an answer first wins, under the payment's row lock; for the others it is known already and changes nothing.

use std::sync::Arc;

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::{clock::Clock, db::Db, idempotency};
use proto::policy::Method;

use crate::{
    acquirer::{Acquirer, Action, Answer, Lost, Order},
    domain::{
        attempt::{Attempt, AttemptId, Event, Kind, Origin, State},
        card::PaymentMethodId,
        ledger::Posting,
        payment_intent::{self, CONFIRMATIONS_MAX, PaymentError, PaymentIntent, Step, acquirer_ref},
        refund,
    },
    error::Error,
    events,
    service::messages,
    store::{
        self,
        ledger::{Entry, Source},
    },
    vault::{Vault, VaultError},
};

/// How many times a payment's lock is waited for to write an answer down.
const LEARN_WAITS_MAX: u32 = 3;

/// Everything that it takes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acquiring {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) vault: Vault,
    pub(crate) acquirer: Arc<dyn Acquirer>,
}

impl Acquiring {
    /// Sends an attempt, applies its answer, and goes on with what follows from it, until there is nothing left to ask. When it returns, the call
    /// that waits has its answer stored.
    pub(crate) async fn drive(&self, first: AttemptId) -> Result<(), Error> {
        let mut next = Some(first);
        while let Some(id) = next {
            next = self.send(id).await?;
        }
        Ok(())
    }

    /// Asks what became of an attempt. One that never came is sent again, under its own reference.
    pub(crate) async fn inquire(&self, id: AttemptId) -> Result<(), Error> {
        let attempt = store::attempts::get(&mut *self.db.connection().await?, id).await?;
        let next = match self.acquirer.inquire(&attempt.acquirer_ref.to_string()).await {
            Ok(Some(answer)) => self.learn(id, event(Ok(answer))).await?,
            Ok(None) => {
                self.learn(id, Event::Miss).await?;
                Some(id)
            }
            Err(Lost) => self.learn(id, Event::LoseReply).await?,
        };
        match next {
            Some(next) => self.drive(next).await,
            None => Ok(()),
        }
    }

    /// Whether the vault can open the card of a payment method. It is logged when it cannot. A card that is not there is for others to miss.
    pub(crate) async fn can_read(&self, method: PaymentMethodId) -> Result<bool, Error> {
        match self.open(method).await {
            Ok(_)
            | Err(Error::Vault(VaultError::Deleted) | Error::Database(diesel::result::Error::NotFound)) => {
                Ok(true)
            }
            Err(Error::Vault(why)) => {
                let cause: &dyn std::error::Error = &why;
                tracing::error!(error = cause, payment_method = %method, "a card cannot be read");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn open(&self, method: PaymentMethodId) -> Result<crate::domain::card::Card, Error> {
        let (dek, sealed) = store::methods::card(&mut *self.db.connection().await?, method).await?;
        Ok(self.vault.open(&dek, &sealed).await?)
    }

    async fn send(&self, id: AttemptId) -> Result<Option<AttemptId>, Error> {
        let attempt = store::attempts::get(&mut *self.db.connection().await?, id).await?;
        if attempt.state != State::Sent {
            let next = self.learn(id, Event::Send).await?;
            if !attempt.state.is_open() {
                return Ok(next);
            }
        }
        let order = self.order(&attempt).await?;
        let answer = self.acquirer.execute(order).await;
        self.learn(id, event(answer)).await
    }

    /// What to ask the acquirer for.
    async fn order(&self, attempt: &Attempt) -> Result<Order, Error> {
        let source_ref = match attempt.source {
            Some(source) => {
                let source = store::attempts::get(&mut *self.db.connection().await?, source).await?;
                source.acquirer_ref.to_string()
            }
            None => String::new(),
        };
        let action = match (attempt.kind, attempt.payment_method) {
            (Kind::Authorize, Some(method)) => {
                Action::Authorize { card: self.open(method).await?, reference: attempt.intent.name() }
            }
            (Kind::Authorize, None) => return Err(Error::Corrupt(attempt.id.name())),
            (Kind::Capture, _) => Action::Capture { authorization_ref: source_ref },
            (Kind::Void, _) => Action::Void { authorization_ref: source_ref },
            (Kind::Refund, _) => Action::Refund { capture_ref: source_ref },
        };
        Ok(Order { acquirer_ref: attempt.acquirer_ref.to_string(), amount: attempt.amount, action })
    }

    /// Applies what is learnt of an attempt. The acquirer has done its part by now, so whoever holds the payment is waited for longer than usual.
    async fn learn(&self, id: AttemptId, event: Event) -> Result<Option<AttemptId>, Error> {
        for wait in 1.. {
            let now = self.clock.now();
            match self.db.transaction("learn", async |conn| learn(conn, id, &event, now).await).await {
                Err(error) if error.waited_too_long() && wait < LEARN_WAITS_MAX => {
                    tracing::warn!(attempt = %id, wait, "what the acquirer said cannot be written down yet");
                }
                outcome => return outcome,
            }
        }
        unreachable!("the loop returns on its last wait")
    }
}

fn event(answer: Result<Answer, Lost>) -> Event {
    match answer {
        Ok(Answer::Approved) => Event::Approve,
        Ok(Answer::Declined { code }) => Event::Decline { code },
        Err(Lost) => Event::LoseReply,
    }
}

/// Writes the next attempt of a kind for a payment that the caller has locked. It is `SENT` from the moment that it is there: whoever finds it must
/// take it as sent.
pub(crate) async fn ask(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    question: Question,
    now: Timestamp,
) -> Result<AttemptId, Error> {
    let Question { kind, amount, source, refund, origin } = question;
    let n = store::attempts::count(conn, intent.id, kind).await? + 1;
    let id = AttemptId::generate();
    let state = State::Created.after(Event::Send).map_err(|why| Error::Acquirer { attempt: id, why })?;
    let attempt = Attempt {
        id,
        intent: intent.id,
        kind,
        n,
        acquirer_ref: acquirer_ref(intent.id, kind, n),
        state,
        amount,
        payment_method: intent.payment_method.filter(|_| kind == Kind::Authorize),
        source,
        refund,
        origin,
        created_at: now,
    };
    store::attempts::insert(conn, &attempt).await?;
    Ok(id)
}

/// Something to ask the acquirer about a payment.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) kind: Kind,
    pub(crate) amount: crate::domain::money::Money,
    /// The authorisation of a capture or void, the capture of a refund.
    pub(crate) source: Option<AttemptId>,
    pub(crate) refund: Option<refund::RefundId>,
    /// The call that waits for the answer.
    pub(crate) origin: Option<Origin>,
}

/// Applies what is learnt of an attempt, with all that follows from it. Returns the attempt that is to be sent next.
async fn learn(
    conn: &mut AsyncPgConnection,
    id: AttemptId,
    event: &Event,
    now: Timestamp,
) -> Result<Option<AttemptId>, Error> {
    let intent = store::attempts::get(conn, id).await?.intent;
    let mut intent = store::intents::lock(conn, intent).await?;
    let mut attempt = store::attempts::lock(conn, id).await?;
    let before = attempt.state.clone();
    attempt.state =
        before.clone().after(event.clone()).map_err(|why| Error::Acquirer { attempt: id, why })?;
    if attempt.state != before {
        store::attempts::update(conn, &attempt, now).await?;
    }
    let next = match (&attempt.state, before.is_open()) {
        (State::Approved, true) => approved(conn, &mut intent, &attempt, now).await?,
        (State::Declined { code }, true) => {
            declined(conn, &mut intent, &attempt, code, now).await?;
            None
        }
        // Somebody else was told first. What follows from it may still be open.
        (State::Approved | State::Declined { .. }, false) => following(conn, &attempt).await?,
        (State::Created | State::Sent | State::Unknown | State::NotFound, _) => None,
    };
    let waits = match attempt.state {
        State::Created | State::Sent | State::NotFound => true,
        State::Unknown | State::Approved | State::Declined { .. } => next.is_some(),
    };
    if !waits {
        answer(conn, &intent, &attempt, now).await?;
    }
    Ok(next)
}

/// The acquirer did it.
async fn approved(
    conn: &mut AsyncPgConnection,
    intent: &mut PaymentIntent,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<Option<AttemptId>, Error> {
    let amount = attempt.amount.minor();
    match attempt.kind {
        Kind::Authorize => {
            transition(intent, payment_intent::Event::Authorized(intent.capture_method))?;
            intent.authorized_minor = amount;
            intent.last_error = None;
            save(conn, intent, now).await?;
            post(conn, intent, Source::Attempt(attempt.id.uuid()), Posting::Authorized { amount }, None, now)
                .await?;
            let kind = match intent.state {
                payment_intent::State::Processing(Step::Capturing) => Kind::Capture,
                payment_intent::State::Processing(Step::Voiding) => Kind::Void,
                payment_intent::State::Processing(Step::Authorizing | Step::AuthorizingToCancel)
                | payment_intent::State::RequiresPaymentMethod
                | payment_intent::State::RequiresConfirmation
                | payment_intent::State::RequiresCapture
                | payment_intent::State::Succeeded
                | payment_intent::State::Canceled => return Ok(None),
            };
            let question = Question {
                kind,
                amount: attempt.amount,
                source: Some(attempt.id),
                refund: None,
                origin: attempt.origin.clone(),
            };
            return Ok(Some(ask(conn, intent, question, now).await?));
        }
        Kind::Capture => {
            transition(intent, payment_intent::Event::Captured)?;
            intent.captured_minor += amount;
            intent.last_error = None;
            save(conn, intent, now).await?;
            let fee = store::merchants::fee_minor(conn, &intent.merchant).await?.min(amount);
            let capture = store::captures::insert(conn, attempt, fee, now).await?;
            let reservation = reservation(conn, attempt).await?;
            post(conn, intent, Source::Capture(capture), Posting::Captured { amount, fee }, reservation, now)
                .await?;
        }
        Kind::Void => {
            transition(intent, payment_intent::Event::Voided)?;
            save(conn, intent, now).await?;
            let reservation = reservation(conn, attempt).await?;
            post(conn, intent, Source::Attempt(attempt.id.uuid()), Posting::Voided, reservation, now).await?;
        }
        Kind::Refund => {
            let refund = settle(conn, intent, attempt, refund::Event::Approve, now).await?;
            post(conn, intent, Source::Refund(refund), Posting::RefundSucceeded { amount }, None, now)
                .await?;
        }
    }
    Ok(None)
}

/// The acquirer refused.
async fn declined(
    conn: &mut AsyncPgConnection,
    intent: &mut PaymentIntent,
    attempt: &Attempt,
    code: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let amount = attempt.amount.minor();
    match attempt.kind {
        Kind::Authorize => {
            let last = intent.confirmations >= CONFIRMATIONS_MAX;
            transition(intent, payment_intent::Event::Declined { last })?;
            if last {
                "too_many_attempts".clone_into(&mut intent.cancel_reason);
            }
            intent.last_error = Some(PaymentError::of_decline(code, intent.confirmations));
            save(conn, intent, now).await
        }
        Kind::Capture => {
            transition(intent, payment_intent::Event::CaptureDeclined)?;
            intent.last_error = Some(PaymentError::of_decline(code, intent.confirmations));
            save(conn, intent, now).await
        }
        Kind::Void => {
            transition(intent, payment_intent::Event::VoidDeclined)?;
            save(conn, intent, now).await
        }
        Kind::Refund => {
            let refund = settle(conn, intent, attempt, refund::Event::Decline, now).await?;
            intent.refunded_minor -= amount;
            store::intents::update(conn, intent, now).await?;
            post(conn, intent, Source::Refund(refund), Posting::RefundFailed { amount }, None, now).await
        }
    }
}

/// Ends the refund that an attempt carries out.
async fn settle(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    attempt: &Attempt,
    event: refund::Event,
    now: Timestamp,
) -> Result<mesh::id::Uuid, Error> {
    let id = attempt.refund.ok_or_else(|| Error::Corrupt(attempt.id.name()))?;
    let mut refund = store::refunds::lock(conn, id).await?;
    refund.state = refund.state.after(event).map_err(|_| Error::Corrupt(id.name()))?;
    store::refunds::update(conn, &mut refund, now).await?;
    events::refund(conn, &refund, &intent.merchant, now).await?;
    Ok(id.uuid())
}

/// The reservation that the authorisation of a capture or void made.
async fn reservation(
    conn: &mut AsyncPgConnection,
    attempt: &Attempt,
) -> Result<Option<mesh::id::Uuid>, Error> {
    let corrupt = || Error::Corrupt(attempt.id.name());
    let authorization = attempt.source.ok_or_else(corrupt)?;
    let kind = Posting::Authorized { amount: 0 }.kind();
    store::ledger::find(conn, Source::Attempt(authorization.uuid()), kind)
        .await?
        .ok_or_else(corrupt)
        .map(Some)
}

/// The open attempt that followed from one, for the same call.
async fn following(conn: &mut AsyncPgConnection, attempt: &Attempt) -> Result<Option<AttemptId>, Error> {
    for id in store::attempts::open(conn, attempt.intent).await? {
        if attempt.origin.is_some() && store::attempts::get(conn, id).await?.origin == attempt.origin {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Stores the answer for the call that waits, if it still does.
async fn answer(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    attempt: &Attempt,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(Origin { caller, method, key }) = attempt.origin.clone() else { return Ok(()) };
    let method = Method::of(&method).ok_or_else(|| Error::Corrupt(attempt.id.name()))?.path;
    let request = idempotency::Request { caller, method, key, fingerprint: [0; 32] };
    let stored = match attempt.refund {
        Some(refund) => {
            let refund = store::refunds::get(conn, refund).await?;
            idempotency::complete(conn, &request, &messages::refund(&refund), now).await
        }
        None => idempotency::complete(conn, &request, &messages::payment_intent(intent), now).await,
    };
    match stored {
        // It was answered before: with PROCESSING when the answer was lost, or by whoever took the call over.
        Ok(()) | Err(idempotency::Error::ClaimLost) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn transition(intent: &mut PaymentIntent, event: payment_intent::Event) -> Result<(), Error> {
    intent.apply(event).map_err(|why| Error::Transition { intent: intent.id, why })
}

/// Writes a payment that has moved, and tells of it.
pub(crate) async fn save(
    conn: &mut AsyncPgConnection,
    intent: &mut PaymentIntent,
    now: Timestamp,
) -> Result<(), Error> {
    store::intents::update(conn, intent, now).await?;
    events::moved(conn, intent, now).await
}

pub(crate) async fn post(
    conn: &mut AsyncPgConnection,
    intent: &PaymentIntent,
    source: Source,
    posting: Posting,
    resolves: Option<mesh::id::Uuid>,
    now: Timestamp,
) -> Result<(), Error> {
    let currency = intent.amount.currency();
    let entry = Entry { source, posting, merchant: &intent.merchant, currency, resolves };
    store::ledger::post(conn, &entry, now).await
}
