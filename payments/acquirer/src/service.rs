//! The RPCs. Every one that books something does it in one transaction: claim the reference, take from what it draws on, write the answer down.

use diesel_async::AsyncPgConnection;
use jiff::{Timestamp, tz::TimeZone};
use jiff_diesel::ToDiesel as _;
use mesh::{clock::Clock, db::Db, pagination};
use proto::{
    acquirer::v1::{self as pb, acquirer_service_server::AcquirerService, operation},
    r#type::Money,
};
use tonic::{Request, Response, Status};

use crate::{
    cards,
    error::Error,
    store::{self, Kind, New, Operation},
};

pub(crate) struct Handlers {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
}

/// Something to book, with all that decides about it.
struct Order {
    acquirer_ref: String,
    amount: Money,
    action: Action,
}

enum Action {
    Authorize { number: String, reference: String },
    Capture { authorization_ref: String },
    Void { authorization_ref: String },
    Refund { capture_ref: String },
}

impl Action {
    fn kind(&self) -> Kind {
        match self {
            Self::Authorize { .. } => Kind::Authorize,
            Self::Capture { .. } => Kind::Capture,
            Self::Void { .. } => Kind::Void,
            Self::Refund { .. } => Kind::Refund,
        }
    }
}

#[tonic::async_trait]
impl AcquirerService for Handlers {
    async fn verify_card(
        &self,
        request: Request<pb::VerifyCardRequest>,
    ) -> Result<Response<pb::VerifyCardResponse>, Status> {
        let pb::VerifyCardRequest { card, cvc } = request.into_inner();
        let card = card.ok_or(Error::InvalidField("card"))?;
        let today = self.clock.now().to_zoned(TimeZone::UTC).date();
        let refused = cards::verify(&card.number, card.exp_month, card.exp_year, &cvc, today);
        Ok(Response::new(pb::VerifyCardResponse {
            valid: refused.is_none(),
            decline_code: refused.unwrap_or_default().to_owned(),
        }))
    }

    async fn authorize(
        &self,
        request: Request<pb::AuthorizeRequest>,
    ) -> Result<Response<pb::Operation>, Status> {
        let request = request.into_inner();
        let number = request.card.ok_or(Error::InvalidField("card"))?.number;
        let amount = positive(request.amount)?;
        let action = Action::Authorize { number, reference: request.reference };
        self.book(Order { acquirer_ref: request.acquirer_ref, amount, action }).await
    }

    async fn capture(&self, request: Request<pb::CaptureRequest>) -> Result<Response<pb::Operation>, Status> {
        let request = request.into_inner();
        let amount = positive(request.amount)?;
        let action = Action::Capture { authorization_ref: request.authorization_ref };
        self.book(Order { acquirer_ref: request.acquirer_ref, amount, action }).await
    }

    async fn void(&self, request: Request<pb::VoidRequest>) -> Result<Response<pb::Operation>, Status> {
        let request = request.into_inner();
        let action = Action::Void { authorization_ref: request.authorization_ref };
        self.book(Order { acquirer_ref: request.acquirer_ref, amount: Money::default(), action }).await
    }

    async fn refund(&self, request: Request<pb::RefundRequest>) -> Result<Response<pb::Operation>, Status> {
        let request = request.into_inner();
        let amount = positive(request.amount)?;
        let action = Action::Refund { capture_ref: request.capture_ref };
        self.book(Order { acquirer_ref: request.acquirer_ref, amount, action }).await
    }

    async fn inquire(&self, request: Request<pb::InquireRequest>) -> Result<Response<pb::Operation>, Status> {
        let reference = request.into_inner().acquirer_ref;
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        let found = store::find(&mut conn, &reference).await?.ok_or(Error::OperationNotFound(reference))?;
        Ok(Response::new(message(found)?))
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let request = request.into_inner();
        let query = request.reference.as_bytes();
        let before = pagination::PageToken::decode(&request.page_token, query)
            .map_err(|_| Error::InvalidField("page_token"))?;
        let size = pagination::page_size(request.page_size);
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        let mut found = store::list(&mut conn, &request.reference, before, size + 1).await?;
        let more = i64::try_from(found.len()).unwrap_or(i64::MAX) > size;
        if more {
            found.pop();
        }
        let next_page_token = match found.last() {
            Some(last) if more => pagination::PageToken::encode(&last.position, query),
            Some(_) | None => String::new(),
        };
        let operations = found.into_iter().map(message).collect::<Result<_, _>>()?;
        Ok(Response::new(pb::ListOperationsResponse { operations, next_page_token }))
    }
}

impl Handlers {
    async fn book(&self, order: Order) -> Result<Response<pb::Operation>, Status> {
        let now = self.clock.now();
        let booked = self.db.transaction("book", async |conn| book(conn, &order, now).await).await?;
        Ok(Response::new(message(booked)?))
    }
}

async fn book(conn: &mut AsyncPgConnection, order: &Order, now: Timestamp) -> Result<Operation, Error> {
    let Order { acquirer_ref, amount, action } = order;
    if let Some(first) = store::claim(conn, acquirer_ref).await? {
        return Ok(first);
    }
    let mut new = New {
        acquirer_ref,
        kind: action.kind().as_str(),
        outcome: "DECLINED",
        decline_code: "",
        currency: &amount.currency_code,
        amount_minor: amount.amount_minor,
        authorization_ref: None,
        capture_ref: None,
        reference: "",
        last4: "",
        created_at: now.to_diesel(),
    };
    // What it draws on, for its amount and what the caller filed it under.
    let source = match action {
        Action::Authorize { .. } => None,
        Action::Capture { authorization_ref } | Action::Void { authorization_ref } => {
            new.authorization_ref = Some(authorization_ref);
            store::find(conn, authorization_ref).await?
        }
        Action::Refund { capture_ref } => {
            new.capture_ref = Some(capture_ref);
            store::find(conn, capture_ref).await?
        }
    };
    if let Some(source) = &source {
        new.reference = &source.reference;
    }
    let declined = match action {
        Action::Authorize { number, reference } => {
            new.reference = reference;
            new.last4 = number.len().checked_sub(4).and_then(|start| number.get(start..)).unwrap_or_default();
            cards::charge(number)
        }
        Action::Capture { authorization_ref } => {
            let taken = store::capture(conn, authorization_ref, new.currency, new.amount_minor).await?;
            (!taken).then_some("invalid_capture")
        }
        Action::Void { authorization_ref } => {
            // A void names no amount: it is all of the authorisation.
            (new.currency, new.amount_minor) =
                source.as_ref().map_or(("XXX", 0), |source| (source.currency.as_str(), source.amount_minor));
            (!store::void(conn, authorization_ref).await?).then_some("invalid_void")
        }
        Action::Refund { capture_ref } => {
            let refunded = store::refund(conn, capture_ref, new.currency, new.amount_minor).await?;
            (!refunded).then_some("invalid_refund")
        }
    };
    match declined {
        None => new.outcome = "APPROVED",
        Some(code) => new.decline_code = code,
    }
    store::insert(conn, new).await
}

fn positive(amount: Option<Money>) -> Result<Money, Error> {
    amount.filter(|amount| amount.amount_minor > 0).ok_or(Error::InvalidField("amount.amount_minor"))
}

fn message(stored: Operation) -> Result<pb::Operation, Error> {
    let kind = match Kind::parse(&stored.kind) {
        Some(Kind::Authorize) => operation::Kind::Authorize,
        Some(Kind::Capture) => operation::Kind::Capture,
        Some(Kind::Void) => operation::Kind::Void,
        Some(Kind::Refund) => operation::Kind::Refund,
        None => return Err(Error::OperationCorrupt(stored.acquirer_ref)),
    };
    let outcome = match stored.outcome.as_str() {
        "APPROVED" => operation::Outcome::Approved,
        "DECLINED" => operation::Outcome::Declined,
        _ => return Err(Error::OperationCorrupt(stored.acquirer_ref)),
    };
    Ok(pb::Operation {
        acquirer_ref: stored.acquirer_ref,
        kind: kind.into(),
        outcome: outcome.into(),
        decline_code: stored.decline_code,
        amount: Some(Money { currency_code: stored.currency, amount_minor: stored.amount_minor }),
        create_time: Some(mesh::clock::to_proto(stored.created_at.to_jiff())),
        reference: stored.reference,
    })
}
