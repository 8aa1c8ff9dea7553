//! Cards: into the vault, never out of it.

use diesel_async::AsyncPgConnection;
use jiff::tz::TimeZone;
use mesh::{
    auth::{Caller, PrincipalId},
    idempotency::{self, Claim, Fingerprint},
    pagination::{PageToken, page_size},
    server::open,
};
use prost::Message as _;
use proto::payments::v1::{self as pb, payment_method_service_server::PaymentMethodService};
use tonic::{Request, Response, Status};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Handlers, free_text, messages, once::replayed, payment_method_id, reads::page};
use crate::{
    acquirer::{Answer, Cvc},
    domain::card::{Card, Holder, Pan, PaymentMethod, PaymentMethodId, VaultCardId},
    error::Error,
    store,
    vault::{self, Dek, SealedCard, VaultError},
};

const CREATE_PAYMENT_METHOD: &str = "/jetway.payments.v1.PaymentMethodService/CreatePaymentMethod";

#[tonic::async_trait]
impl PaymentMethodService for Handlers {
    async fn create_payment_method(
        &self,
        request: Request<pb::CreatePaymentMethodRequest>,
    ) -> Result<Response<pb::PaymentMethod>, Status> {
        let (caller, mut request) = open(request)?;
        let customer = caller.principal()?;
        let mut message = request.card.take().ok_or(Error::InvalidField("card"))?;
        let cvc = Zeroizing::new(std::mem::take(&mut message.cvc));
        let card = card(&mut message);
        let once = card.as_ref().ok().map(|card| self.request(&caller, card, message, &request.request_id));
        let card = card?;
        let now = self.acquiring.clock.now();
        if card.has_expired(now.to_zoned(TimeZone::UTC).date()) {
            return Err(Error::ExpiredCard.into());
        }
        if cvc.len() != card.pan.brand().cvc_length() {
            return Err(Error::IncorrectCvc.into());
        }
        let once = once.filter(|once| !once.key.is_empty());
        if let Some(stored) = self.peek(once.as_ref()).await? {
            return replayed(Ok(Response::new(stored)));
        }
        self.verify(&card, cvc).await?;
        let (method, sealed) = self.seal(customer, &card).await?;
        let db = &self.acquiring.db;
        let stored = db
            .transaction("create_payment_method", async |conn: &mut AsyncPgConnection| {
                insert(conn, &method, &sealed, once.as_ref()).await
            })
            .await?;
        match stored {
            Some(stored) => replayed(Ok(Response::new(stored))),
            None => Ok(Response::new(messages::payment_method(&method))),
        }
    }

    async fn get_payment_method(
        &self,
        request: Request<pb::GetPaymentMethodRequest>,
    ) -> Result<Response<pb::PaymentMethod>, Status> {
        let (caller, request) = open(request)?;
        let id = id(&request.name)?;
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        let found = store::methods::find(&mut conn, id, caller.principal()?).await?;
        Ok(Response::new(messages::payment_method(&found.ok_or(Error::PaymentMethodNotFound(id))?)))
    }

    async fn list_payment_methods(
        &self,
        request: Request<pb::ListPaymentMethodsRequest>,
    ) -> Result<Response<pb::ListPaymentMethodsResponse>, Status> {
        let (caller, request) = open(request)?;
        let customer = caller.principal()?;
        let query = customer.name();
        let after = PageToken::decode(&request.page_token, query.as_bytes())
            .map_err(|_| Error::InvalidField("page_token"))?;
        let size = page_size(request.page_size);
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        let found = store::methods::list(&mut conn, customer, after, size + 1).await?;
        let (found, next_page_token) =
            page(found, size, |method| PageToken::encode(&method.id, query.as_bytes()));
        let payment_methods = found.iter().map(messages::payment_method).collect();
        Ok(Response::new(pb::ListPaymentMethodsResponse { payment_methods, next_page_token }))
    }

    async fn delete_payment_method(
        &self,
        request: Request<pb::DeletePaymentMethodRequest>,
    ) -> Result<Response<pb::DeletePaymentMethodResponse>, Status> {
        let (caller, request) = open(request)?;
        let id = id(&request.name)?;
        let customer = caller.principal()?;
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        db.transaction("delete_payment_method", async |conn: &mut AsyncPgConnection| {
            let (card, deleted) =
                store::methods::lock(conn, id, customer).await?.ok_or(Error::PaymentMethodNotFound(id))?;
            if deleted {
                return Ok(());
            }
            if store::attempts::uses_card(conn, id).await? {
                return Err(Error::PaymentMethodInUse(id));
            }
            store::methods::shred(conn, id, card, now).await
        })
        .await?;
        Ok(Response::new(pb::DeletePaymentMethodResponse {}))
    }
}

impl Handlers {
    /// Which call it is: with the card's fingerprint in the place of its number, and without the security code.
    fn request(
        &self,
        caller: &Caller,
        card: &Card,
        mut message: pb::Card,
        key: &str,
    ) -> idempotency::Request {
        message.number = self.acquiring.vault.fingerprint(&card.pan);
        let request = pb::CreatePaymentMethodRequest { card: Some(message), request_id: String::new() };
        idempotency::Request {
            caller: caller.idempotency_scope(),
            method: CREATE_PAYMENT_METHOD,
            key: key.to_owned(),
            fingerprint: Fingerprint::of_message(&request),
        }
    }

    /// The stored answer of a call that was answered before. Leaves no claim.
    async fn peek(&self, once: Option<&idempotency::Request>) -> Result<Option<pb::PaymentMethod>, Error> {
        let Some(once) = once else { return Ok(None) };
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        db.transaction("peek_payment_method", async |conn: &mut AsyncPgConnection| match idempotency::claim(
            conn, once, now,
        )
        .await?
        {
            Claim::Replay(stored) => replay(&stored).map(Some),
            Claim::New | Claim::Resume { .. } => {
                idempotency::release(conn, once).await?;
                Ok::<_, Error>(None)
            }
        })
        .await
    }

    /// Asks the issuer. The security code ends here.
    async fn verify(&self, card: &Card, cvc: Cvc) -> Result<(), Error> {
        match self.acquiring.acquirer.verify(card, &cvc).await {
            Ok(Answer::Approved) => Ok(()),
            Ok(Answer::Declined { code }) => Err(match code.as_str() {
                "incorrect_cvc" => Error::IncorrectCvc,
                "expired_card" => Error::ExpiredCard,
                _ => Error::CardDeclined,
            }),
            Err(_) => Err(Error::AcquirerUnavailable),
        }
    }

    async fn seal(&self, customer: PrincipalId, card: &Card) -> Result<(PaymentMethod, SealedCard), Error> {
        let vault = &self.acquiring.vault;
        let sealed = vault.seal(&self.dek(vault::MERCHANT).await?, VaultCardId::generate(), card).await?;
        let method = PaymentMethod {
            id: PaymentMethodId::generate(),
            customer,
            brand: card.pan.brand().as_str().to_owned(),
            bin6: card.pan.bin6().to_owned(),
            last4: card.pan.last4().to_owned(),
            exp_month: card.exp_month,
            exp_year: card.exp_year,
            fingerprint: vault.fingerprint(&card.pan),
            card: sealed.id,
            created_at: self.acquiring.clock.now(),
        };
        Ok((method, sealed))
    }

    /// The key that what belongs to a merchant is encrypted with now. The first use makes it.
    pub(super) async fn dek(&self, merchant: &str) -> Result<Dek, Error> {
        let db = &self.acquiring.db;
        if let Some(dek) = store::methods::active_dek(&mut *db.connection().await?, merchant).await? {
            return Ok(dek);
        }
        let new = self.acquiring.vault.generate_dek(merchant).await?;
        let now = self.acquiring.clock.now();
        db.transaction("create_dek", async |conn: &mut AsyncPgConnection| {
            store::methods::insert_dek(conn, &new, now).await?;
            // Another process may have been first.
            store::methods::active_dek(conn, merchant).await?.ok_or(Error::Vault(VaultError::Seal))
        })
        .await
    }
}

/// Stores the card, unless another call with the same request id has just done it: then that one's answer is given.
async fn insert(
    conn: &mut AsyncPgConnection,
    method: &PaymentMethod,
    sealed: &SealedCard,
    once: Option<&idempotency::Request>,
) -> Result<Option<pb::PaymentMethod>, Error> {
    if let Some(once) = once {
        if let Claim::Replay(stored) = idempotency::claim(conn, once, method.created_at).await? {
            return replay(&stored).map(Some);
        }
        idempotency::advance(conn, once, "applied", Some(method.id.uuid())).await?;
        let response = messages::payment_method(method);
        idempotency::complete(conn, once, &response, method.created_at).await?;
    }
    store::methods::insert(conn, method, sealed).await?;
    Ok(None)
}

fn replay(stored: &idempotency::Stored) -> Result<pb::PaymentMethod, Error> {
    let corrupt = || Error::Corrupt("an answer".to_owned());
    let response = stored.response.as_ref().map_err(|_| corrupt())?;
    pb::PaymentMethod::decode(response.as_slice()).map_err(|_| corrupt())
}

/// The card of a request, whose own copy of the number is wiped.
fn card(message: &mut pb::Card) -> Result<Card, Error> {
    let pan = Pan::parse(&message.number);
    message.number.zeroize();
    let exp = |number: i32, field| i16::try_from(number).map_err(|_| Error::InvalidField(field));
    Ok(Card {
        pan: pan.ok_or(Error::InvalidNumber)?,
        exp_month: exp(message.exp_month, "card.exp_month")?,
        exp_year: exp(message.exp_year, "card.exp_year")?,
        holder: Holder(free_text(&message.holder, "card.holder")?),
    })
}

fn id(name: &str) -> Result<PaymentMethodId, Error> {
    payment_method_id(name)?.ok_or(Error::InvalidField("name"))
}
