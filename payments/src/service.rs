//! The RPCs. Who, what, when; then lock, may, change, write.
//!
//! Calls that move money carry a request id and go through [`Handlers::once`]; one file holds each of them. Calls that are one transaction of ours go
//! through [`keyed`]. Reads are in [`reads`].

mod admission;
mod cancel_payment_intent;
mod capture_payment_intent;
mod confirm_payment_intent;
mod create_payment_intent;
mod create_refund;
mod deliveries;
mod keyed;
mod ledger;
pub(crate) mod messages;
mod once;
mod payment_methods;
mod reads;
mod simulator;
mod webhook_endpoints;

use mesh::{
    auth::{Caller, PrincipalId},
    free_text::holds_card_number,
    server::open,
};
use proto::payments::v1::{
    self as pb, payment_intent_service_server::PaymentIntentService, refund_service_server::RefundService,
};
use tonic::{Request, Response, Status};

pub(crate) use self::admission::Admission;
use self::once::Command;
use crate::{
    acquiring::Acquiring,
    domain::{card::PaymentMethodId, payment_intent::PaymentIntentId},
    error::Error,
    webhooks::address::Rules,
};

/// Implements every service of the package.
pub(crate) struct Handlers {
    pub(crate) acquiring: Acquiring,
    pub(crate) admission: Admission,
    /// Which URLs may be told of events.
    pub(crate) webhook_rules: Rules,
    /// Whether the acquirer's own record may be read.
    pub(crate) simulator: bool,
}

#[tonic::async_trait]
impl PaymentIntentService for Handlers {
    async fn create_payment_intent(
        &self,
        request: Request<pb::CreatePaymentIntentRequest>,
    ) -> Result<Response<pb::PaymentIntent>, Status> {
        let (caller, mut message) = open(request)?;
        if message.capture_method() == pb::payment_intent::CaptureMethod::Unspecified {
            message.set_capture_method(pb::payment_intent::CaptureMethod::Automatic);
        }
        let id = once::request(&caller, once::CREATE_PAYMENT_INTENT, &message.request_id, || {
            pb::CreatePaymentIntentRequest { request_id: String::new(), ..message.clone() }
        });
        let create = self.create_payment_intent_command(&message).await?;
        self.once(id, Command::CreatePaymentIntent(create)).await
    }

    async fn get_payment_intent(
        &self,
        request: Request<pb::GetPaymentIntentRequest>,
    ) -> Result<Response<pb::PaymentIntent>, Status> {
        let (caller, message) = open(request)?;
        Ok(Response::new(self.read_payment_intent(&caller, &message.name).await?))
    }

    async fn list_payment_intents(
        &self,
        request: Request<pb::ListPaymentIntentsRequest>,
    ) -> Result<Response<pb::ListPaymentIntentsResponse>, Status> {
        let (caller, message) = open(request)?;
        Ok(Response::new(self.read_payment_intents(&caller, &message).await?))
    }

    async fn confirm_payment_intent(
        &self,
        request: Request<pb::ConfirmPaymentIntentRequest>,
    ) -> Result<Response<pb::PaymentIntent>, Status> {
        let (caller, message) = open(request)?;
        let id = once::request(&caller, once::CONFIRM_PAYMENT_INTENT, &message.request_id, || {
            pb::ConfirmPaymentIntentRequest { request_id: String::new(), ..message.clone() }
        });
        let confirm = self.confirm_payment_intent_command(&message).await?;
        self.once(id, Command::ConfirmPaymentIntent(confirm)).await
    }

    async fn capture_payment_intent(
        &self,
        request: Request<pb::CapturePaymentIntentRequest>,
    ) -> Result<Response<pb::PaymentIntent>, Status> {
        let (caller, message) = open(request)?;
        let id = once::request(&caller, once::CAPTURE_PAYMENT_INTENT, &message.request_id, || {
            pb::CapturePaymentIntentRequest { request_id: String::new(), ..message.clone() }
        });
        self.once(id, Command::CapturePaymentIntent((&message).try_into()?)).await
    }

    async fn cancel_payment_intent(
        &self,
        request: Request<pb::CancelPaymentIntentRequest>,
    ) -> Result<Response<pb::PaymentIntent>, Status> {
        let (caller, message) = open(request)?;
        let id = once::request(&caller, once::CANCEL_PAYMENT_INTENT, &message.request_id, || {
            pb::CancelPaymentIntentRequest { request_id: String::new(), ..message.clone() }
        });
        self.once(id, Command::CancelPaymentIntent((&message).try_into()?)).await
    }

    async fn sync_payment_intent(
        &self,
        request: Request<pb::SyncPaymentIntentRequest>,
    ) -> Result<Response<pb::PaymentIntent>, Status> {
        let (caller, message) = open(request)?;
        let intent = payment_intent_id(&message.name, "name")?;
        for attempt in self.open_attempts(intent).await? {
            self.acquiring.inquire(attempt).await?;
        }
        Ok(Response::new(self.read_payment_intent(&caller, &message.name).await?))
    }
}

#[tonic::async_trait]
impl RefundService for Handlers {
    async fn create_refund(
        &self,
        request: Request<pb::CreateRefundRequest>,
    ) -> Result<Response<pb::Refund>, Status> {
        let (caller, message) = open(request)?;
        let id = once::request(&caller, once::CREATE_REFUND, &message.request_id, || {
            pb::CreateRefundRequest { request_id: String::new(), ..message.clone() }
        });
        self.once(id, Command::CreateRefund((&message).try_into()?)).await
    }

    async fn get_refund(
        &self,
        request: Request<pb::GetRefundRequest>,
    ) -> Result<Response<pb::Refund>, Status> {
        let (caller, message) = open(request)?;
        Ok(Response::new(self.read_refund(&caller, &message.name).await?))
    }

    async fn list_refunds(
        &self,
        request: Request<pb::ListRefundsRequest>,
    ) -> Result<Response<pb::ListRefundsResponse>, Status> {
        let (caller, message) = open(request)?;
        Ok(Response::new(self.read_refunds(&caller, &message.payment_intent).await?))
    }
}

/// Whose things the caller may see: `None` for everybody's.
fn sees(caller: &Caller) -> Result<Option<PrincipalId>, Status> {
    if caller.has_role("admin") || caller.workload().is_some() {
        Ok(None)
    } else {
        caller.principal().map(Some)
    }
}

fn payment_intent_id(name: &str, field: &'static str) -> Result<PaymentIntentId, Error> {
    PaymentIntentId::from_name(name).ok_or(Error::InvalidField(field))
}

/// A payment method's name; empty for none.
fn payment_method_id(name: &str) -> Result<Option<PaymentMethodId>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    PaymentMethodId::from_name(name).map(Some).ok_or(Error::InvalidField("payment_method"))
}

/// Free text of a request: it must hold no card number.
fn free_text(text: &str, field: &'static str) -> Result<String, Error> {
    if holds_card_number(text) { Err(Error::PanInFreeText(field)) } else { Ok(text.to_owned()) }
}
