//! Gives up a payment that was not captured.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::idempotency;
use proto::payments::v1 as pb;

use super::{
    free_text,
    once::{Begun, Rest, origin},
    payment_intent_id,
};
use crate::{
    acquiring::{Question, ask, save, transition},
    domain::{
        attempt::Kind,
        payment_intent::{Event, PaymentIntentId, State, Step},
    },
    error::Error,
    store,
};

/// A payment to give up.
pub(super) struct Cancel {
    id: PaymentIntentId,
    reason: String,
}

impl TryFrom<&pb::CancelPaymentIntentRequest> for Cancel {
    type Error = Error;

    fn try_from(request: &pb::CancelPaymentIntentRequest) -> Result<Self, Error> {
        Ok(Self {
            id: payment_intent_id(&request.name, "name")?,
            reason: free_text(&request.reason, "reason")?,
        })
    }
}

impl Cancel {
    pub(super) async fn begin(
        &self,
        conn: &mut AsyncPgConnection,
        request: &idempotency::Request,
        now: Timestamp,
    ) -> Result<Begun, Error> {
        let mut intent = store::intents::lock(conn, self.id).await?;
        let before = intent.state;
        transition(&mut intent, Event::Cancel)?;
        if intent.state == before {
            // Somebody has asked for the same already.
            return Ok(Begun { subject: None, rest: Rest::Answer(Box::new(intent)) });
        }
        intent.cancel_reason.clone_from(&self.reason);
        save(conn, &mut intent, now).await?;
        if intent.state != State::Processing(Step::Voiding) {
            return Ok(Begun { subject: None, rest: Rest::Answer(Box::new(intent)) });
        }
        let authorization = store::attempts::approved(conn, intent.id, Kind::Authorize).await?;
        let source = authorization.ok_or_else(|| Error::Corrupt(intent.id.name()))?;
        let amount = store::attempts::get(conn, source).await?.amount;
        let question = Question {
            kind: Kind::Void,
            amount,
            source: Some(source),
            refund: None,
            origin: Some(origin(request)),
        };
        let attempt = ask(conn, &intent, question, now).await?;
        Ok(Begun { subject: Some(attempt.uuid()), rest: Rest::Ask(attempt) })
    }
}
