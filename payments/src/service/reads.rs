//! Reads. A caller who may not know of a thing is told that there is none.

use mesh::{
    auth::{Caller, PrincipalId},
    pagination::{PageToken, page_size},
};
use proto::payments::v1 as pb;
use tonic::Status;

use super::{Handlers, messages, payment_intent_id, sees};
use crate::{
    domain::{
        attempt::AttemptId,
        payment_intent::{PaymentIntent, PaymentIntentId},
        refund::RefundId,
    },
    error::Error,
    store,
};

impl Handlers {
    pub(super) async fn read_payment_intent(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<pb::PaymentIntent, Status> {
        let id = payment_intent_id(name, "name")?;
        Ok(messages::payment_intent(&self.visible(caller, id).await?))
    }

    pub(super) async fn read_payment_intents(
        &self,
        caller: &Caller,
        request: &pb::ListPaymentIntentsRequest,
    ) -> Result<pb::ListPaymentIntentsResponse, Status> {
        let customer = sees(caller)?;
        let query = customer.map(PrincipalId::name).unwrap_or_default();
        let after = PageToken::decode(&request.page_token, query.as_bytes())
            .map_err(|_| Error::InvalidField("page_token"))?;
        let size = page_size(request.page_size);
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        let found = store::intents::list(&mut conn, customer, after, size + 1).await?;
        let (found, next_page_token) =
            page(found, size, |intent| PageToken::encode(&intent.id, query.as_bytes()));
        let payment_intents = found.iter().map(messages::payment_intent).collect();
        Ok(pb::ListPaymentIntentsResponse { payment_intents, next_page_token })
    }

    pub(super) async fn read_refund(&self, caller: &Caller, name: &str) -> Result<pb::Refund, Status> {
        let id = RefundId::from_name(name).ok_or(Error::InvalidField("name"))?;
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        let refund = store::refunds::get(&mut conn, id).await?;
        drop(conn);
        match self.visible(caller, refund.intent).await {
            Ok(_) => Ok(messages::refund(&refund)),
            Err(Error::PaymentIntentNotFound(_)) => Err(Error::RefundNotFound(id).into()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn read_refunds(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<pb::ListRefundsResponse, Status> {
        let intent = self.visible(caller, payment_intent_id(name, "payment_intent")?).await?;
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        let refunds = store::refunds::list(&mut conn, intent.id).await?;
        Ok(pb::ListRefundsResponse { refunds: refunds.iter().map(messages::refund).collect() })
    }

    pub(super) async fn open_attempts(&self, intent: PaymentIntentId) -> Result<Vec<AttemptId>, Error> {
        let mut conn = self.acquiring.db.connection().await?;
        store::intents::get(&mut conn, intent).await?;
        store::attempts::open(&mut conn, intent).await
    }

    /// The payment, if the caller may know of it.
    async fn visible(&self, caller: &Caller, id: PaymentIntentId) -> Result<PaymentIntent, Error> {
        let not_found = || Error::PaymentIntentNotFound(id);
        let sees = sees(caller).map_err(|_| not_found())?;
        let intent = store::intents::get(&mut *self.acquiring.db.connection().await?, id).await?;
        if sees.is_none_or(|customer| customer == intent.customer) { Ok(intent) } else { Err(not_found()) }
    }
}

/// The page of `size` items of a list that was read one item too far, and the token of the next page.
pub(super) fn page<T>(mut found: Vec<T>, size: i64, token: impl FnOnce(&T) -> String) -> (Vec<T>, String) {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(token).unwrap_or_default();
    (found, next)
}
