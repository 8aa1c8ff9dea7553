//! Gives captured money back. The money is reserved in the ledger before the acquirer is asked.

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
    acquiring::{Question, ask, post},
    domain::{
        attempt::Kind,
        ledger::Posting,
        money::Money,
        payment_intent::{self, PaymentIntentId},
        refund::{Refund, RefundId, State},
    },
    error::Error,
    events,
    store::{self, ledger::Source},
};

/// Money to give back.
pub(super) struct CreateRefund {
    intent: PaymentIntentId,
    /// `None`: all that is refundable.
    amount_minor: Option<i64>,
    reason: String,
}

impl TryFrom<&pb::CreateRefundRequest> for CreateRefund {
    type Error = Error;

    fn try_from(request: &pb::CreateRefundRequest) -> Result<Self, Error> {
        Ok(Self {
            intent: payment_intent_id(&request.payment_intent, "payment_intent")?,
            amount_minor: request.amount_minor,
            reason: free_text(&request.reason, "reason")?,
        })
    }
}

impl CreateRefund {
    pub(super) async fn begin(
        &self,
        conn: &mut AsyncPgConnection,
        request: &idempotency::Request,
        now: Timestamp,
    ) -> Result<Begun, Error> {
        let mut intent = store::intents::lock(conn, self.intent).await?;
        match intent.state {
            payment_intent::State::Succeeded => {}
            payment_intent::State::Processing(_) => {
                let why = payment_intent::TransitionError::Processing;
                return Err(Error::Transition { intent: intent.id, why });
            }
            payment_intent::State::RequiresPaymentMethod
            | payment_intent::State::RequiresConfirmation
            | payment_intent::State::RequiresCapture
            | payment_intent::State::Canceled => return Err(Error::NotCaptured(intent.id)),
        }
        let refundable = intent.refundable_minor();
        let amount_minor = self.amount_minor.unwrap_or(refundable);
        if amount_minor > refundable || refundable == 0 {
            return Err(Error::RefundExceedsRefundable(intent.id));
        }
        let amount =
            Money::of(intent.amount.currency(), amount_minor).ok_or(Error::InvalidField("amount_minor"))?;
        let capture = store::attempts::approved(conn, intent.id, Kind::Capture).await?;
        let source = Some(capture.ok_or_else(|| Error::Corrupt(intent.id.name()))?);

        intent.refunded_minor += amount_minor;
        store::intents::update(conn, &mut intent, now).await?;
        let refund = Refund {
            id: RefundId::generate(),
            version: 1,
            intent: intent.id,
            amount,
            state: State::Pending,
            reason: self.reason.clone(),
            created_at: now,
            updated_at: now,
        };
        store::refunds::insert(conn, &refund, request).await?;
        events::refund(conn, &refund, &intent.merchant, now).await?;
        let posting = Posting::RefundCreated { amount: amount_minor };
        post(conn, &intent, Source::Refund(refund.id.uuid()), posting, None, now).await?;
        let question = Question {
            kind: Kind::Refund,
            amount,
            source,
            refund: Some(refund.id),
            origin: Some(origin(request)),
        };
        let attempt = ask(conn, &intent, question, now).await?;
        Ok(Begun { subject: Some(refund.id.uuid()), rest: Rest::Ask(attempt) })
    }
}
