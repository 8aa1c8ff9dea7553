use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, stream};
use mesh::client::{Options, Security, authorities};
use tokio::net::TcpListener;
use tonic::{Response, Status};
use tonic_reflection::pb::v1::server_reflection_server::{ServerReflection, ServerReflectionServer};
use tonic_reflection::pb::v1::{ErrorResponse, FileDescriptorResponse, ListServiceResponse, ServiceResponse};

use super::*;

type Answer = dyn Fn(&MessageRequest) -> Option<MessageResponse> + Send + Sync;

/// A server that answers whatever the test says, or not at all.
struct Hostile(Arc<Answer>);

#[tonic::async_trait]
impl ServerReflection for Hostile {
    type ServerReflectionInfoStream =
        Pin<Box<dyn Stream<Item = Result<ServerReflectionResponse, Status>> + Send>>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let answer = Arc::clone(&self.0);
        let answers = request.into_inner().then(move |question| {
            let answer = Arc::clone(&answer);
            async move {
                let question = question?.message_request.expect("it asks something");
                match answer(&question) {
                    Some(answer) => Ok(ServerReflectionResponse {
                        message_response: Some(answer),
                        ..ServerReflectionResponse::default()
                    }),
                    None => std::future::pending().await,
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

const BOUNDS: Bounds = Bounds { services: 3, files: 5, bytes: 4096, time: Duration::from_secs(30) };

/// How the questions end when they are answered like this.
async fn asked(
    answer: impl Fn(&MessageRequest) -> Option<MessageResponse> + Send + Sync + 'static,
    bounds: Bounds,
) -> Result<Bytes, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = authorities([listener.local_addr().unwrap().to_string()]).unwrap();
    let incoming = stream::unfold(listener, async |listener| {
        let (stream, _) = listener.accept().await.ok()?;
        Some((Ok::<_, std::io::Error>(stream), listener))
    });
    let service = ServerReflectionServer::new(Hostile(Arc::new(answer)));
    let server = tonic::transport::Server::builder().add_service(service);
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(server.serve_with_incoming(incoming.boxed()));
    let options = Options { deadline_is_callers: true, ..Options::default() };
    let channel = Channel::to_any("upstream", address, Security::Clear, options);
    fetch(&channel, &[], bounds).await.map_err(|error| format!("{error:#}"))
}

fn services(count: usize) -> MessageResponse {
    let service = (0..count).map(|index| ServiceResponse { name: format!("a.S{index}") }).collect();
    MessageResponse::ListServicesResponse(ListServiceResponse { service })
}

/// A file of about so many bytes.
fn file(name: &str, imports: &[String], bytes: usize) -> Vec<u8> {
    let file = prost_types::FileDescriptorProto {
        name: Some(name.to_owned()),
        dependency: imports.to_vec(),
        package: Some("x".repeat(bytes)),
        ..prost_types::FileDescriptorProto::default()
    };
    file.encode_to_vec()
}

fn files(files: impl IntoIterator<Item = Vec<u8>>) -> MessageResponse {
    let file_descriptor_proto = files.into_iter().collect();
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto })
}

/// Answers the first question with so many services, and every other with what `rest` makes of the name of a symbol or a file.
fn after(
    count: usize,
    rest: impl Fn(&str) -> Option<MessageResponse> + Send + Sync + 'static,
) -> impl Fn(&MessageRequest) -> Option<MessageResponse> + Send + Sync + 'static {
    move |question| match question {
        MessageRequest::ListServices(_) => Some(services(count)),
        MessageRequest::FileContainingSymbol(name) | MessageRequest::FileByFilename(name) => rest(name),
        MessageRequest::FileContainingExtension(_) | MessageRequest::AllExtensionNumbersOfType(_) => None,
    }
}

#[tokio::test]
async fn what_is_within_the_bounds_is_taken_file_by_file() {
    let answer = after(2, |name| match name {
        "b.proto" => Some(files([file("b.proto", &[], 1)])),
        _ => Some(files([file("a.proto", &["b.proto".to_owned()], 1)])),
    });
    let set = asked(answer, BOUNDS).await.unwrap();
    let set = prost_types::FileDescriptorSet::decode(set).unwrap();
    let names: Vec<_> = set.file.iter().map(prost_types::FileDescriptorProto::name).collect();
    assert_eq!(names, ["a.proto", "b.proto"]);
}

#[tokio::test]
async fn a_service_that_lists_services_without_end_is_refused() {
    let refused = asked(after(4, |_| None), BOUNDS).await.unwrap_err();
    assert_eq!(refused, "the service lists more than 3 services: name those to front");
}

#[tokio::test]
async fn a_service_of_files_that_import_each_other_without_end_is_refused() {
    let answer = after(1, |name| Some(files([file(name, &[format!("{name}x")], 1)])));
    let refused = asked(answer, BOUNDS).await.unwrap_err();
    assert_eq!(refused, "the service consists of more than 5 files");
}

#[tokio::test]
async fn a_file_that_imports_more_than_there_may_be_is_refused() {
    let imports: Vec<_> = (0..100).map(|index| index.to_string()).collect();
    let answer = after(1, move |name| Some(files([file(name, &imports, 1)])));
    let refused = asked(answer, BOUNDS).await.unwrap_err();
    assert_eq!(refused, "the service consists of more than 5 files");
}

#[tokio::test]
async fn bytes_are_counted_also_of_what_is_sent_again() {
    let answer = after(3, |_| Some(files([file("a.proto", &[], 1500)])));
    let refused = asked(answer, BOUNDS).await.unwrap_err();
    assert_eq!(refused, "the descriptors of the service have more than 4096 bytes");
}

#[tokio::test]
async fn an_answer_that_is_larger_than_everything_may_be_is_not_read() {
    let answer = after(1, |_| Some(files([file("a.proto", &[], 8192)])));
    let refused = asked(answer, BOUNDS).await.unwrap_err();
    assert_eq!(refused, "an answer about descriptors has more than 4096 bytes");
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_given_up_in_time() {
    let bounds = Bounds { time: Duration::from_millis(300), ..BOUNDS };
    let refused = asked(after(1, |_| None), bounds).await.unwrap_err();
    assert!(refused.starts_with("asking for descriptors takes more than 0.3 s"), "{refused}");
}

#[tokio::test]
async fn malformed_and_missing_descriptors_are_refused() {
    let malformed = asked(after(1, |_| Some(files([vec![10, 200]]))), BOUNDS).await.unwrap_err();
    assert!(malformed.starts_with("a malformed descriptor"), "{malformed}");

    let answer = after(1, |_| Some(files([file("a.proto", &["b\n.proto".to_owned()], 1)])));
    let missing = asked(answer, BOUNDS).await.unwrap_err();
    assert_eq!(missing, "the service has no file `b\\n.proto`, though others import it");

    let error = ErrorResponse { error_code: 5, error_message: "a planted text".to_owned() };
    let answer = after(1, move |_| Some(MessageResponse::ErrorResponse(error.clone())));
    let refused = asked(answer, BOUNDS).await.unwrap_err();
    assert_eq!(refused, "the service refuses to describe itself: code 5");
}
