//! Authorises the amount on the card.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::idempotency;
use proto::payments::v1 as pb;

use super::{
    Handlers,
    once::{Begun, Rest, origin},
    payment_intent_id, payment_method_id,
};
use crate::{
    acquiring::{Question, ask, save, transition},
    domain::{
        attempt::{AttemptId, Kind},
        card::PaymentMethodId,
        payment_intent::{Event, PaymentIntent, PaymentIntentId},
    },
    error::Error,
    store,
};

/// A payment to authorise.
pub(super) struct Confirm {
    id: PaymentIntentId,
    /// Another card to use from now on.
    payment_method: Option<PaymentMethodId>,
    /// A card that the vault cannot open: found before the transaction, and refused in it.
    unreadable: Option<PaymentMethodId>,
}

impl Handlers {
    pub(super) async fn confirm_payment_intent_command(
        &self,
        request: &pb::ConfirmPaymentIntentRequest,
    ) -> Result<Confirm, Error> {
        let id = payment_intent_id(&request.name, "name")?;
        let payment_method = payment_method_id(&request.payment_method)?;
        let used = match payment_method {
            Some(method) => Some(method),
            None => {
                store::intents::get(&mut *self.acquiring.db.connection().await?, id).await?.payment_method
            }
        };
        let unreadable = match used {
            Some(method) if !self.acquiring.can_read(method).await? => Some(method),
            Some(_) | None => None,
        };
        Ok(Confirm { id, payment_method, unreadable })
    }
}

impl Confirm {
    pub(super) async fn begin(
        &self,
        conn: &mut AsyncPgConnection,
        request: &idempotency::Request,
        now: Timestamp,
    ) -> Result<Begun, Error> {
        let mut intent = store::intents::lock(conn, self.id).await?;
        if let Some(method) = self.payment_method {
            store::methods::keep(conn, method, intent.customer).await?;
            transition(&mut intent, Event::MethodChosen)?;
            intent.payment_method = Some(method);
        }
        if let Some(method) = self.unreadable.filter(|method| intent.payment_method == Some(*method)) {
            return Err(Error::CardUnreadable(method));
        }
        let attempt = authorize(conn, &mut intent, request, now).await?;
        Ok(Begun { subject: Some(attempt.uuid()), rest: Rest::Ask(attempt) })
    }
}

/// Moves a locked payment to PROCESSING and writes the attempt to authorise it.
pub(super) async fn authorize(
    conn: &mut AsyncPgConnection,
    intent: &mut PaymentIntent,
    request: &idempotency::Request,
    now: Timestamp,
) -> Result<AttemptId, Error> {
    transition(intent, Event::Confirm)?;
    if let Some(method) = intent.payment_method {
        // It may have been deleted since it was chosen. Whoever deletes it now waits, and then sees the attempt.
        store::methods::keep(conn, method, intent.customer).await?;
    }
    intent.confirmations += 1;
    intent.last_error = None;
    save(conn, intent, now).await?;
    let question = Question {
        kind: Kind::Authorize,
        amount: intent.amount,
        source: None,
        refund: None,
        origin: Some(origin(request)),
    };
    ask(conn, intent, question, now).await
}
