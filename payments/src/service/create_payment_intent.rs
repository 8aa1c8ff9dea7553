//! Creates a payment, and confirms it at once when asked to.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::{auth::PrincipalId, idempotency};
use proto::payments::v1::{self as pb, payment_intent};

use super::{
    Handlers,
    confirm_payment_intent::authorize,
    free_text,
    once::{Begun, Rest},
    payment_method_id,
};
use crate::{
    domain::{
        card::PaymentMethodId,
        money::{Money, MoneyError},
        payment_intent::{CaptureMethod, PaymentIntent, PaymentIntentId, State},
    },
    error::Error,
    events, store,
};

/// A payment to create.
pub(super) struct Create {
    customer: PrincipalId,
    merchant: String,
    amount: Money,
    capture_method: CaptureMethod,
    payment_method: Option<PaymentMethodId>,
    reference: String,
    confirm: bool,
    card_readable: bool,
}

impl Handlers {
    pub(super) async fn create_payment_intent_command(
        &self,
        request: &pb::CreatePaymentIntentRequest,
    ) -> Result<Create, Error> {
        let amount = request.amount.as_ref().ok_or(Error::Amount(MoneyError::Range))?;
        let payment_method = payment_method_id(&request.payment_method)?;
        if request.confirm && payment_method.is_none() {
            return Err(Error::InvalidField("payment_method"));
        }
        let card_readable = match payment_method {
            Some(method) if request.confirm => self.acquiring.can_read(method).await?,
            Some(_) | None => true,
        };
        Ok(Create {
            customer: PrincipalId::from_name(&request.customer).ok_or(Error::InvalidField("customer"))?,
            merchant: request
                .merchant
                .strip_prefix("merchants/")
                .ok_or(Error::InvalidField("merchant"))?
                .to_owned(),
            amount: Money::new(&amount.currency_code, amount.amount_minor).map_err(Error::Amount)?,
            capture_method: match request.capture_method() {
                payment_intent::CaptureMethod::Unspecified | payment_intent::CaptureMethod::Automatic => {
                    CaptureMethod::Automatic
                }
                payment_intent::CaptureMethod::Manual => CaptureMethod::Manual,
            },
            payment_method,
            reference: free_text(&request.reference, "reference")?,
            confirm: request.confirm,
            card_readable,
        })
    }
}

impl Create {
    pub(super) async fn begin(
        &self,
        conn: &mut AsyncPgConnection,
        request: &idempotency::Request,
        now: Timestamp,
    ) -> Result<Begun, Error> {
        if let Some(method) = self.payment_method {
            store::methods::keep(conn, method, self.customer).await?;
            if !self.card_readable {
                return Err(Error::CardUnreadable(method));
            }
        }
        store::merchants::ensure(conn, &self.merchant, now).await?;
        let mut intent = PaymentIntent {
            id: PaymentIntentId::generate(),
            version: 1,
            state: match self.payment_method {
                Some(_) => State::RequiresConfirmation,
                None => State::RequiresPaymentMethod,
            },
            customer: self.customer,
            merchant: self.merchant.clone(),
            amount: self.amount,
            authorized_minor: 0,
            captured_minor: 0,
            refunded_minor: 0,
            capture_method: self.capture_method,
            payment_method: self.payment_method,
            reference: self.reference.clone(),
            cancel_reason: String::new(),
            confirmations: 0,
            last_error: None,
            created_at: now,
            updated_at: now,
        };
        store::intents::insert(conn, &intent, request).await?;
        events::created(conn, &intent, now).await?;
        let subject = Some(intent.id.uuid());
        let rest = if self.confirm {
            Rest::Ask(authorize(conn, &mut intent, request, now).await?)
        } else {
            Rest::Answer(Box::new(intent))
        };
        Ok(Begun { subject, rest })
    }
}
