//! Descriptors from the service itself: gRPC server reflection.
//!
//! Source: *gRPC Server Reflection Protocol*. Its two versions differ in nothing but the name of the package.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use http::uri::PathAndQuery;
use mesh::client::Channel;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::{Code, Request, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use super::descriptors;

/// The newer first.
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// How much is taken in from one service that describes itself: it is somebody else's, and may say anything, without end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Services that are asked for.
    pub(crate) services: usize,
    /// Files that they consist of.
    pub(crate) files: usize,
    /// Bytes of all files that are sent, those that are sent again included. One answer has no more either.
    pub(crate) bytes: usize,
    /// How long all of it may take.
    pub(crate) time: Duration,
}

impl Default for Bounds {
    /// Many times what any API has that is known of.
    fn default() -> Self {
        Self { services: 1_000, files: 10_000, bytes: 16 << 20, time: Duration::from_secs(20) }
    }
}

/// Asks for everything that `wanted` (or, when that is empty, every service there is) consists of.
///
/// # Errors
///
/// The service does not answer, has no reflection or is not described whole, or what it says is more than `bounds` or malformed.
pub(crate) async fn fetch(channel: &Channel, wanted: &[String], bounds: Bounds) -> anyhow::Result<Bytes> {
    let asked = async {
        for path in PATHS {
            match Conversation::begin(channel, path, bounds).await {
                Ok(conversation) => return conversation.ask_all(wanted).await,
                Err(status) if status.code() == Code::Unimplemented => {}
                Err(status) => return Err(failed(&status, bounds)),
            }
        }
        bail!("the service has no server reflection")
    };
    let seconds = bounds.time.as_secs_f64();
    let late = || format!("asking for descriptors takes more than {seconds} s");
    timeout(bounds.time, asked).await.with_context(late)?
}

/// What the end of the answers means. Never the service's own words, which may be anything.
fn failed(status: &tonic::Status, bounds: Bounds) -> anyhow::Error {
    // What tonic says of a message that is over the limit.
    if status.code() == Code::OutOfRange {
        return anyhow::anyhow!("an answer about descriptors has more than {} bytes", bounds.bytes);
    }
    anyhow::anyhow!("asking for descriptors: {:?}", status.code())
}

/// One stream of questions, each answered before the next is asked.
struct Conversation {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
    /// The answer to the first question, with which it is seen whether the service knows this version.
    services: Vec<String>,
    bounds: Bounds,
}

impl Conversation {
    async fn begin(channel: &Channel, path: &'static str, bounds: Bounds) -> Result<Self, tonic::Status> {
        let (questions, asked) = mpsc::channel(1);
        let asked = futures::stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
        let first = question(MessageRequest::ListServices(String::new()));
        // There is room for one.
        let _sent = questions.try_send(first);
        let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(bounds.bytes);
        let codec = ProstCodec::default();
        let answers = grpc.streaming(Request::new(asked), PathAndQuery::from_static(path), codec).await?;
        let mut conversation =
            Self { questions, answers: answers.into_inner(), services: Vec::new(), bounds };
        if let Some(MessageResponse::ListServicesResponse(list)) = conversation.answer().await? {
            conversation.services = list.service.into_iter().map(|service| service.name).collect();
        }
        Ok(conversation)
    }

    async fn answer(&mut self) -> Result<Option<MessageResponse>, tonic::Status> {
        Ok(self.answers.next().await.transpose()?.and_then(|answer| answer.message_response))
    }

    async fn ask(&mut self, about: MessageRequest) -> anyhow::Result<Vec<Vec<u8>>> {
        self.questions.send(question(about)).await.context("the service has ended the answers")?;
        match self.answer().await.map_err(|status| failed(&status, self.bounds))? {
            Some(MessageResponse::FileDescriptorResponse(files)) => Ok(files.file_descriptor_proto),
            Some(MessageResponse::ErrorResponse(error)) => {
                bail!("the service refuses to describe itself: code {}", error.error_code)
            }
            Some(
                MessageResponse::AllExtensionNumbersResponse(_) | MessageResponse::ListServicesResponse(_),
            )
            | None => bail!("the service answers another question"),
        }
    }

    async fn ask_all(mut self, wanted: &[String]) -> anyhow::Result<Bytes> {
        let services = if wanted.is_empty() { std::mem::take(&mut self.services) } else { wanted.to_owned() };
        if services.len() > self.bounds.services {
            bail!("the service lists more than {} services: name those to front", self.bounds.services);
        }
        let mut found = Found::default();
        for service in services {
            let files = self.ask(MessageRequest::FileContainingSymbol(service)).await?;
            found.add(files, self.bounds)?;
        }
        while let Some(name) = found.missing.pop_first() {
            let files = self.ask(MessageRequest::FileByFilename(name.clone())).await?;
            found.add(files, self.bounds)?;
            if !found.files.contains_key(&name) {
                bail!("the service has no file `{}`, though others import it", name.escape_debug());
            }
        }
        Ok(descriptors::set_of(found.files.values()).into())
    }
}

fn question(about: MessageRequest) -> ServerReflectionRequest {
    ServerReflectionRequest { host: String::new(), message_request: Some(about) }
}

/// What has come so far.
#[derive(Default)]
struct Found {
    /// By their names.
    files: BTreeMap<String, Bytes>,
    /// Imported, and not yet among the files.
    missing: BTreeSet<String>,
    /// Of all files that came, also of those that were there already.
    bytes: usize,
}

/// What has to be known of a file here: the rest of a `google.protobuf.FileDescriptorProto` is left for when all of it is there.
#[derive(Clone, PartialEq, prost::Message)]
struct FileHead {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
}

impl Found {
    fn add(&mut self, files: Vec<Vec<u8>>, bounds: Bounds) -> anyhow::Result<()> {
        for file in files {
            self.bytes += file.len();
            if self.bytes > bounds.bytes {
                bail!("the descriptors of the service have more than {} bytes", bounds.bytes);
            }
            let FileHead { name, dependency } = FileHead::decode(&*file).context("a malformed descriptor")?;
            self.missing.extend(dependency.into_iter().filter(|name| !self.files.contains_key(name)));
            self.missing.remove(&name);
            self.files.entry(name).or_insert(file.into());
            if self.files.len() + self.missing.len() > bounds.files {
                bail!("the service consists of more than {} files", bounds.files);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
