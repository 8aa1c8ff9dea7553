//! Checks the books.

use mesh::server::open;
use proto::payments::v1::{self as pb, ledger_service_server::LedgerService};
use tonic::{Request, Response, Status};

use super::Handlers;
use crate::{audit, error::Error};

#[tonic::async_trait]
impl LedgerService for Handlers {
    async fn verify_ledger(
        &self,
        request: Request<pb::VerifyLedgerRequest>,
    ) -> Result<Response<pb::VerifyLedgerResponse>, Status> {
        open(request)?;
        let now = self.acquiring.clock.now();
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        let reports = audit::verify(&mut conn, now).await.map_err(Error::from)?;
        let clean = reports.iter().all(|report| report.violations == 0);
        let invariants = reports
            .into_iter()
            .map(|report| pb::InvariantReport {
                invariant: report.invariant,
                statement: report.statement,
                examined: report.examined,
                violations: report.violations,
                offenders: report.offenders,
            })
            .collect();
        Ok(Response::new(pb::VerifyLedgerResponse { clean, invariants }))
    }
}
