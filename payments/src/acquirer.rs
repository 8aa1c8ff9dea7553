//! The acquirer: a foreign edge. One trait, and its implementation for the simulated acquirer.
//!
//! A call either brings an answer or it does not ([`Lost`]): whatever else goes wrong counts as lost, because the acquirer may have done what it was
//! asked. No transaction is open during a call, and no call carries a user's token.

use std::time::Duration;

use mesh::{call::Call, client::Channel};
use proto::{
    acquirer::v1::{self as pb, acquirer_service_client::AcquirerServiceClient, operation},
    r#type,
};
use tonic::{Code, Status};
use zeroize::Zeroizing;

use crate::domain::{card::Card, money::Money};

/// How long an answer is waited for.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What the acquirer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It did it.
    Approved,
    /// It did not, and will not for this reference.
    Declined {
        /// Its reason.
        code: String,
    },
}

/// No answer came: it may have been done, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the acquirer did not answer")]
pub struct Lost;

/// Why the acquirer's record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The page token is not one of this query.
    #[error("the page token is not one of this query")]
    PageToken,
    /// No answer came.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// What the acquirer is asked to do, under a reference that is unique for ever.
#[derive(Clone, Debug)]
pub struct Order {
    /// The reference.
    pub acquirer_ref: String,
    /// How much.
    pub amount: Money,
    /// What.
    pub action: Action,
}

/// What the acquirer is asked to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// To set money aside on a card.
    Authorize {
        /// The card.
        card: Card,
        /// What it is filed under.
        reference: String,
    },
    /// To take it.
    Capture {
        /// The authorisation's reference.
        authorization_ref: String,
    },
    /// To let it go.
    Void {
        /// The authorisation's reference.
        authorization_ref: String,
    },
    /// To give it back.
    Refund {
        /// The capture's reference.
        capture_ref: String,
    },
}

/// Whoever moves the money.
#[tonic::async_trait]
pub trait Acquirer: Send + Sync + 'static {
    /// Checks a card and its CVC, without money.
    async fn verify(&self, card: &Card, cvc: &str) -> Result<Answer, Lost>;

    /// Does what is asked, or gives the first answer again if it was asked before.
    async fn execute(&self, order: Order) -> Result<Answer, Lost>;

    /// What became of a reference; `None` when it never came.
    async fn inquire(&self, acquirer_ref: &str) -> Result<Option<Answer>, Lost>;

    /// A page of what it did, of authorisations filed under `reference` unless that is empty, newest first.
    async fn list(&self, request: pb::ListOperationsRequest)
    -> Result<pb::ListOperationsResponse, ListError>;
}

/// The simulated acquirer, over gRPC.
#[derive(Clone, Debug)]
pub struct Simulated {
    client: AcquirerServiceClient<Channel>,
}

impl Simulated {
    /// The acquirer at the other end of this channel.
    pub fn new(channel: Channel) -> Self {
        Self { client: AcquirerServiceClient::new(channel) }
    }

    /// Calls as ourselves: not with the deadline of whoever asked us, who may be impatient, and not with their token.
    async fn call<T>(
        &self,
        call: impl AsyncFnOnce(AcquirerServiceClient<Channel>) -> Result<tonic::Response<T>, Status>,
    ) -> Result<T, Status> {
        let mut scope = Call::background(TIMEOUT);
        if let Some(current) = Call::current() {
            scope.request_id = current.request_id;
            scope.traceparent = current.traceparent;
        }
        scope.scope(call(self.client.clone())).await.map(tonic::Response::into_inner)
    }
}

#[tonic::async_trait]
impl Acquirer for Simulated {
    async fn verify(&self, card: &Card, cvc: &str) -> Result<Answer, Lost> {
        let request = pb::VerifyCardRequest { card: Some(details(card)), cvc: cvc.to_owned() };
        let response = self.call(async |mut client| client.verify_card(request).await).await.map_err(lost)?;
        Ok(if response.valid { Answer::Approved } else { Answer::Declined { code: response.decline_code } })
    }

    async fn execute(&self, order: Order) -> Result<Answer, Lost> {
        let Order { acquirer_ref, amount, action } = order;
        let amount = Some(money(amount));
        let answer = match action {
            Action::Authorize { card, reference } => {
                let request =
                    pb::AuthorizeRequest { acquirer_ref, card: Some(details(&card)), amount, reference };
                self.call(async |mut client| client.authorize(request).await).await
            }
            Action::Capture { authorization_ref } => {
                let request = pb::CaptureRequest { acquirer_ref, authorization_ref, amount };
                self.call(async |mut client| client.capture(request).await).await
            }
            Action::Void { authorization_ref } => {
                let request = pb::VoidRequest { acquirer_ref, authorization_ref };
                self.call(async |mut client| client.void(request).await).await
            }
            Action::Refund { capture_ref } => {
                let request = pb::RefundRequest { acquirer_ref, capture_ref, amount };
                self.call(async |mut client| client.refund(request).await).await
            }
        };
        answer.map_err(lost).and_then(|operation| read(&operation))
    }

    async fn inquire(&self, acquirer_ref: &str) -> Result<Option<Answer>, Lost> {
        let request = pb::InquireRequest { acquirer_ref: acquirer_ref.to_owned() };
        match self.call(async |mut client| client.inquire(request).await).await {
            Ok(operation) => read(&operation).map(Some),
            // Of all that NOT_FOUND may mean, only the acquirer's own word counts.
            Err(status)
                if status.code() == Code::NotFound
                    && mesh::status::reason(&status) == "OPERATION_NOT_FOUND" =>
            {
                Ok(None)
            }
            Err(status) => Err(lost(status)),
        }
    }

    async fn list(
        &self,
        request: pb::ListOperationsRequest,
    ) -> Result<pb::ListOperationsResponse, ListError> {
        self.call(async |mut client| client.list_operations(request).await).await.map_err(|status| {
            // Size and reference were checked before; the page token is the acquirer's own.
            if status.code() == Code::InvalidArgument {
                ListError::PageToken
            } else {
                ListError::Lost(lost(status))
            }
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an error that ends here")]
fn lost(status: Status) -> Lost {
    tracing::warn!(code = ?status.code(), reason = mesh::status::reason(&status), "the acquirer did not answer");
    Lost
}

fn read(operation: &pb::Operation) -> Result<Answer, Lost> {
    match operation.outcome() {
        operation::Outcome::Approved => Ok(Answer::Approved),
        operation::Outcome::Declined => Ok(Answer::Declined { code: operation.decline_code.clone() }),
        operation::Outcome::Unspecified => Err(Lost),
    }
}

fn details(card: &Card) -> pb::CardDetails {
    pb::CardDetails {
        number: card.pan.expose().to_owned(),
        exp_month: card.exp_month.into(),
        exp_year: card.exp_year.into(),
    }
}

fn money(amount: Money) -> r#type::Money {
    r#type::Money { currency_code: amount.currency().code().to_owned(), amount_minor: amount.minor() }
}

/// A security code on its way to the acquirer: wiped when dropped, never stored.
pub type Cvc = Zeroizing<String>;
