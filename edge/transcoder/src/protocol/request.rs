//! What is sent upstream of a request: its bytes as they are, when nobody has to look into them.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use super::reframe::Reframed;
use super::relay::Call;
use super::scan::{Limits, Scanned};
use super::turn::{self, Codec, Form};
use crate::error::Problem;
use crate::grpc::PREFIX_LEN;
use crate::upstream::{admit_message, within};

/// The body of the call upstream, and whether its messages were turned: then none of them is compressed. `decompress` asks for
/// that also when there is nothing else to do.
pub(super) async fn request_body<B>(
    call: &Call<'_>,
    form: Form,
    decompress: bool,
    body: B,
) -> Result<(tonic::body::Body, bool), Box<Problem>>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    let entry = &call.shared.entries[call.index];
    let admission = &call.admission;
    let limits = Limits {
        message_bytes: admission.max_body_bytes,
        single: !entry.client_stream,
        bytes_per_second_min: call.shared.settings.body_bytes_per_second_min,
    };
    let inspect = limits.single && admission.inspect_message;
    if form.codec == Codec::Proto && !decompress && !inspect && admission.fields.is_empty() {
        return Ok((tonic::body::Body::new(Scanned::new(body, limits, call.fault.clone())), false));
    }
    let turn = {
        let (shared, index) = (Arc::clone(call.shared), call.index);
        let fields = admission.fields.clone();
        move |compressed: bool, message: Bytes| {
            let entry = &shared.entries[index];
            turn::frame(&shared, entry, form, compressed, message, limits.message_bytes, &fields)
        }
    };
    let turned = Reframed::new(body, limits, call.fault.clone(), turn);
    if !limits.single {
        return Ok((tonic::body::Body::new(turned), true));
    }
    // One message is looked at before the upstream hears of the call.
    let whole = within(call.deadline, async {
        let mut turned = pin!(turned);
        let mut message = Bytes::new();
        while let Some(frame) = turned.frame().await {
            match frame.map(http_body::Frame::into_data) {
                Ok(Ok(data)) => message = data,
                Ok(Err(_)) => {}
                Err(_) => return Err(call.fault.take().unwrap_or_else(Problem::body_unreadable)),
            }
        }
        Ok(message)
    });
    let message = whole.await??;
    admit_message(call.shared, entry, call.parts, admission, message.get(PREFIX_LEN..).unwrap_or_default())
        .await?;
    Ok((tonic::body::Body::new(Full::new(message)), true))
}
