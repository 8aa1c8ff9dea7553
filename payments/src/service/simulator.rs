//! The simulated acquirer's own record. There is none unless the simulator is on.

use mesh::server::open;
use proto::{
    acquirer::v1::{ListOperationsRequest, Operation, operation},
    payments::v1::{self as pb, simulator_service_server::SimulatorService},
};
use tonic::{Request, Response, Status};

use super::Handlers;
use crate::{
    acquirer::{ListError, Lost},
    error::Error,
};

#[tonic::async_trait]
impl SimulatorService for Handlers {
    async fn list_acquirer_calls(
        &self,
        request: Request<pb::ListAcquirerCallsRequest>,
    ) -> Result<Response<pb::ListAcquirerCallsResponse>, Status> {
        let (_, request) = open(request)?;
        if !self.simulator {
            return Err(Error::NoSimulator.into());
        }
        let request = ListOperationsRequest {
            reference: request.payment_intent,
            page_size: request.page_size,
            page_token: request.page_token,
        };
        let page = self.acquiring.acquirer.list(request).await.map_err(|error| match error {
            ListError::PageToken => Error::InvalidField("page_token"),
            ListError::Lost(Lost) => Error::AcquirerUnavailable,
        })?;
        Ok(Response::new(pb::ListAcquirerCallsResponse {
            acquirer_calls: page.operations.into_iter().map(acquirer_call).collect(),
            next_page_token: page.next_page_token,
        }))
    }
}

fn acquirer_call(operation: Operation) -> pb::AcquirerCall {
    let kind = match operation.kind() {
        operation::Kind::Unspecified => "",
        operation::Kind::Authorize => "AUTHORIZE",
        operation::Kind::Capture => "CAPTURE",
        operation::Kind::Void => "VOID",
        operation::Kind::Refund => "REFUND",
    };
    let outcome = match operation.outcome() {
        operation::Outcome::Unspecified => "",
        operation::Outcome::Approved => "APPROVED",
        operation::Outcome::Declined => "DECLINED",
    };
    pb::AcquirerCall {
        acquirer_ref: operation.acquirer_ref,
        kind: kind.to_owned(),
        outcome: outcome.to_owned(),
        amount: operation.amount,
        create_time: operation.create_time,
        payment_intent: operation.reference,
    }
}
