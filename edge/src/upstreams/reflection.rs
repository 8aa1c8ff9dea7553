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
use prost_types::FileDescriptorProto;
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

/// How long all of it may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The most files that a service may consist of.
const FILES_MAX: usize = 10_000;

/// Asks for everything that `wanted` (or, when that is empty, every service there is) consists of.
pub(crate) async fn fetch(channel: &Channel, wanted: &[String]) -> anyhow::Result<Bytes> {
    let asked = async {
        for path in PATHS {
            match Conversation::begin(channel, path).await {
                Ok(conversation) => return conversation.ask_all(wanted).await,
                Err(status) if status.code() == Code::Unimplemented => {}
                Err(status) => bail!("asking for descriptors: {:?}", status.code()),
            }
        }
        bail!("the service has no server reflection")
    };
    timeout(TIMEOUT, asked).await.context("asking for descriptors takes too long")?
}

/// One stream of questions, each answered before the next is asked.
struct Conversation {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
    /// The answer to the first question, with which it is seen whether the service knows this version.
    services: Vec<String>,
}

impl Conversation {
    async fn begin(channel: &Channel, path: &'static str) -> Result<Self, tonic::Status> {
        let (questions, asked) = mpsc::channel(1);
        let asked = futures::stream::unfold(asked, async |mut asked| Some((asked.recv().await?, asked)));
        let first = question(MessageRequest::ListServices(String::new()));
        // There is room for one.
        let _sent = questions.try_send(first);
        let mut grpc = Grpc::new(channel.clone());
        let codec = ProstCodec::default();
        let answers = grpc.streaming(Request::new(asked), PathAndQuery::from_static(path), codec).await?;
        let mut conversation = Self { questions, answers: answers.into_inner(), services: Vec::new() };
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
        let answer = self
            .answer()
            .await
            .map_err(|status| anyhow::anyhow!("asking for descriptors: {:?}", status.code()))?;
        match answer {
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
        let services = if wanted.is_empty() { self.services.clone() } else { wanted.to_owned() };
        let mut files: BTreeMap<String, Bytes> = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for service in services {
            let found = self.ask(MessageRequest::FileContainingSymbol(service)).await?;
            add(found, &mut files, &mut missing)?;
        }
        while let Some(name) = missing.pop_first() {
            if !files.contains_key(&name) {
                let found = self.ask(MessageRequest::FileByFilename(name.clone())).await?;
                add(found, &mut files, &mut missing)?;
                if !files.contains_key(&name) {
                    bail!("the service has no file `{name}`, though others import it");
                }
            }
        }
        Ok(descriptors::set_of(files.values()).into())
    }
}

fn question(about: MessageRequest) -> ServerReflectionRequest {
    ServerReflectionRequest { host: String::new(), message_request: Some(about) }
}

fn add(
    found: Vec<Vec<u8>>,
    files: &mut BTreeMap<String, Bytes>,
    missing: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    for file in found {
        let decoded = FileDescriptorProto::decode(&*file).context("a malformed descriptor")?;
        missing.extend(decoded.dependency.iter().cloned());
        files.entry(decoded.name().to_owned()).or_insert(file.into());
    }
    if files.len() > FILES_MAX {
        bail!("the service consists of more than {FILES_MAX} files");
    }
    Ok(())
}
