//! Takes money that was authorised. What is left of the authorisation is let go.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::idempotency;
use proto::payments::v1 as pb;

use super::{
    once::{Begun, Rest, origin},
    payment_intent_id,
};
use crate::{
    acquiring::{Question, ask, save, transition},
    domain::{
        attempt::Kind,
        money::Money,
        payment_intent::{Event, PaymentIntentId},
    },
    error::Error,
    store,
};

/// Money to take.
pub(super) struct Capture {
    id: PaymentIntentId,
    /// `None`: all that is capturable.
    amount_minor: Option<i64>,
}

impl TryFrom<&pb::CapturePaymentIntentRequest> for Capture {
    type Error = Error;

    fn try_from(request: &pb::CapturePaymentIntentRequest) -> Result<Self, Error> {
        Ok(Self {
            id: payment_intent_id(&request.name, "name")?,
            amount_minor: request.amount_to_capture_minor,
        })
    }
}

impl Capture {
    pub(super) async fn begin(
        &self,
        conn: &mut AsyncPgConnection,
        request: &idempotency::Request,
        now: Timestamp,
    ) -> Result<Begun, Error> {
        let mut intent = store::intents::lock(conn, self.id).await?;
        let capturable = intent.capturable_minor();
        transition(&mut intent, Event::Capture)?;
        let amount = self.amount_minor.unwrap_or(capturable);
        if amount > capturable {
            return Err(Error::AmountExceedsCapturable(self.id));
        }
        let amount = Money::of(intent.amount.currency(), amount)
            .ok_or(Error::InvalidField("amount_to_capture_minor"))?;
        let authorization = store::attempts::approved(conn, intent.id, Kind::Authorize).await?;
        let source = Some(authorization.ok_or_else(|| Error::Corrupt(intent.id.name()))?);
        save(conn, &mut intent, now).await?;
        let question =
            Question { kind: Kind::Capture, amount, source, refund: None, origin: Some(origin(request)) };
        let attempt = ask(conn, &intent, question, now).await?;
        Ok(Begun { subject: Some(attempt.uuid()), rest: Rest::Ask(attempt) })
    }
}
