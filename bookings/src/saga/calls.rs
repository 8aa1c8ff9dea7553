//! The calls to payments, and what their answers mean.

use std::time::Duration;

use mesh::call::Call;
use mesh::client::Channel;
use proto::payments::v1 as pb;
use proto::payments::v1::payment_intent_service_client::PaymentIntentServiceClient;
use proto::payments::v1::refund_service_client::RefundServiceClient;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::domain::Money;
use crate::domain::booking::Booking;
use crate::domain::saga::{Answer, Step};
use crate::store::sagas::Saga;

/// The service that takes and gives back money. Cheap to clone.
#[derive(Clone)]
pub(super) struct Payments {
    intents: PaymentIntentServiceClient<Channel>,
    refunds: RefundServiceClient<Channel>,
    call_max: Duration,
}

/// What a call came to: what was said, and the id of what was spoken of.
pub(super) struct Outcome {
    pub(super) answer: Answer,
    pub(super) id: Option<Uuid>,
}

impl Outcome {
    fn unknown() -> Self {
        Self { answer: Answer::Unknown, id: None }
    }
}

/// How much to give back, and the refund made for it before.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefundWanted {
    pub(super) minor: i64,
    pub(super) refund: Option<Uuid>,
}

impl Payments {
    pub(super) fn new(channel: Channel, call_max: Duration) -> Self {
        Self {
            intents: PaymentIntentServiceClient::new(channel.clone()),
            refunds: RefundServiceClient::new(channel),
            call_max,
        }
    }

    /// Makes the call of the saga's step.
    pub(super) async fn ask(&self, saga: &Saga, booking: &Booking, refund: Option<RefundWanted>) -> Outcome {
        let call = Call::background(self.call_max);
        tracing::debug!(saga = %saga.id, step = saga.step.word(), request_id = call.request_id, "calling payments");
        // The answer may be lost at any moment, the last one included: whoever waits longer than the lease would be overtaken.
        let answer = tokio::time::timeout(self.call_max, call.scope(self.send(saga, booking, refund)));
        answer.await.unwrap_or_else(|_| Outcome::unknown())
    }

    async fn send(&self, saga: &Saga, booking: &Booking, refund: Option<RefundWanted>) -> Outcome {
        let request_id = saga.key().to_string();
        if saga.step == Step::CreateIntent {
            return of_intent(saga, booking, self.create(booking, request_id).await);
        }
        let Some(intent_id) = booking.payment_intent else {
            tracing::error!(saga = %saga.id, step = saga.step.word(), "there is no payment intent to ask about");
            return Outcome::unknown();
        };
        let name = format!("paymentIntents/{intent_id}");
        let mut intents = self.intents.clone();
        match saga.step {
            Step::Confirm => {
                let request =
                    pb::ConfirmPaymentIntentRequest { name, payment_method: String::new(), request_id };
                of_intent(saga, booking, intents.confirm_payment_intent(request).await)
            }
            Step::Capture => {
                let amount = Some(booking.total.minor);
                let request =
                    pb::CapturePaymentIntentRequest { name, amount_to_capture_minor: amount, request_id };
                of_intent(saga, booking, intents.capture_payment_intent(request).await)
            }
            Step::CancelIntent => {
                let reason = saga.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default();
                let request = pb::CancelPaymentIntentRequest { name, reason, request_id };
                of_intent(saga, booking, intents.cancel_payment_intent(request).await)
            }
            Step::AwaitAuthorization | Step::AwaitCapture | Step::AwaitCancellation => {
                let request = pb::SyncPaymentIntentRequest { name };
                of_intent(saga, booking, intents.sync_payment_intent(request).await)
            }
            Step::Refund | Step::AwaitRefund => self.refund(saga, name, request_id, refund).await,
            Step::CreateIntent | Step::Ticket | Step::Release | Step::Settle => Outcome::unknown(),
        }
    }

    async fn create(
        &self,
        booking: &Booking,
        request_id: String,
    ) -> Result<tonic::Response<pb::PaymentIntent>, Status> {
        let request = pb::CreatePaymentIntentRequest {
            customer: booking.customer.name(),
            merchant: format!("merchants/{}", booking.airline_id),
            amount: Some(proto::r#type::Money {
                currency_code: booking.total.currency.clone(),
                amount_minor: booking.total.minor,
            }),
            capture_method: pb::payment_intent::CaptureMethod::Manual.into(),
            payment_method: format!("paymentMethods/{}", booking.payment_method),
            confirm: false,
            reference: booking.id.name(),
            request_id,
        };
        self.intents.clone().create_payment_intent(request).await
    }

    async fn refund(
        &self,
        saga: &Saga,
        payment_intent: String,
        request_id: String,
        wanted: Option<RefundWanted>,
    ) -> Outcome {
        let Some(wanted) = wanted else { return Outcome::unknown() };
        let mut refunds = self.refunds.clone();
        let reply = if let (Step::AwaitRefund, Some(refund)) = (saga.step, wanted.refund) {
            refunds.get_refund(pb::GetRefundRequest { name: format!("refunds/{refund}") }).await
        } else {
            let reason = "canceled by the customer".to_owned();
            let amount_minor = Some(wanted.minor);
            let request = pb::CreateRefundRequest { payment_intent, amount_minor, reason, request_id };
            refunds.create_refund(request).await
        };
        match reply {
            Ok(reply) => {
                let refund = reply.into_inner();
                let answer = match refund.state() {
                    pb::refund::State::Succeeded => Answer::Refunded,
                    pb::refund::State::Pending => Answer::Processing,
                    pb::refund::State::Failed | pb::refund::State::Canceled => Answer::NotRefunded,
                    pb::refund::State::Unspecified => Answer::Unknown,
                };
                Outcome { answer, id: Uuid::parse_str(&refund.uid).ok() }
            }
            Err(status) => Outcome { answer: refusal(saga, &status), id: None },
        }
    }
}

fn of_intent(
    saga: &Saga,
    booking: &Booking,
    reply: Result<tonic::Response<pb::PaymentIntent>, Status>,
) -> Outcome {
    match reply {
        Ok(reply) => {
            let intent = reply.into_inner();
            // Without its id nothing can be done with it: as good as no answer.
            let Ok(id) = Uuid::parse_str(&intent.uid) else { return Outcome::unknown() };
            Outcome { answer: answer(&intent, &booking.total), id: Some(id) }
        }
        Err(status) => Outcome { answer: refusal(saga, &status), id: None },
    }
}

/// What an intent says that is to pay `total`.
fn answer(intent: &pb::PaymentIntent, total: &Money) -> Answer {
    use pb::payment_intent::State;

    match intent.state() {
        State::Unspecified => Answer::Unknown,
        State::RequiresPaymentMethod => match &intent.last_payment_error {
            Some(error) => Answer::Declined {
                decline_code: if error.decline_code.is_empty() { &error.code } else { &error.decline_code }
                    .clone(),
                message: error.message.clone(),
            },
            None => Answer::Unconfirmed,
        },
        State::RequiresConfirmation => Answer::Unconfirmed,
        State::RequiresAction => Answer::ActionRequired,
        State::Processing => Answer::Processing,
        State::RequiresCapture => Answer::Authorized,
        State::Succeeded => {
            let currency =
                intent.amount.as_ref().map(|amount| amount.currency_code.as_str()).unwrap_or_default();
            let captured = Money { currency: currency.to_owned(), minor: intent.amount_captured_minor };
            if captured == *total { Answer::Captured } else { Answer::WronglyCaptured(captured) }
        }
        State::Canceled => Answer::Canceled,
    }
}

/// What a status says of the call: that it was refused and nothing happened, or nothing at all.
fn refusal(saga: &Saga, status: &Status) -> Answer {
    let reason = mesh::status::reason(status);
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange => {
            tracing::info!(saga = %saga.id, step = saga.step.word(), code = ?status.code(), reason, "payments refused");
            Answer::Refused { reason, message: status.message().to_owned() }
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => {
            tracing::warn!(saga = %saga.id, step = saga.step.word(), code = ?status.code(), reason, "no answer from payments");
            Answer::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_counts_as_taken_only_when_it_is_the_whole_price_in_its_currency() {
        let total = Money { currency: "INR".to_owned(), minor: 456_000 };
        let intent = |currency: &str, minor| pb::PaymentIntent {
            state: pb::payment_intent::State::Succeeded.into(),
            amount: Some(proto::r#type::Money { currency_code: currency.to_owned(), amount_minor: 456_000 }),
            amount_captured_minor: minor,
            ..pb::PaymentIntent::default()
        };
        let wrong =
            |currency: &str, minor| Answer::WronglyCaptured(Money { currency: currency.to_owned(), minor });

        assert_eq!(answer(&intent("INR", 456_000), &total), Answer::Captured);
        assert_eq!(answer(&intent("INR", 455_999), &total), wrong("INR", 455_999));
        assert_eq!(answer(&intent("INR", 456_001), &total), wrong("INR", 456_001));
        assert_eq!(answer(&intent("USD", 456_000), &total), wrong("USD", 456_000));
        let nothing_said = pb::PaymentIntent { amount: None, ..intent("INR", 456_000) };
        assert_eq!(answer(&nothing_said, &total), wrong("", 456_000));
    }
}
