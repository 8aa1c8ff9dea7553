//! Errors: one response for each HTTP status that an operation may have.

use serde_json::{Map, Value, json};

use super::schema::{SCHEMAS, Schemas};

/// The schema of `google.rpc.Status` as every error has it. No protobuf name is like this one.
const STATUS: &str = "google.rpc.Status-Error";

/// The schema of problem details. No protobuf name is like this one.
const PROBLEM: &str = "problem-details";

/// A class of errors.
pub(super) struct ErrorClass {
    pub(super) status: u16,
    /// The name of the component.
    pub(super) name: &'static str,
    description: &'static str,
    /// Its code in `google.rpc.Status`, and the reason in an example.
    code: i32,
    reason: &'static str,
    headers: &'static [(&'static str, &'static str)],
    when: When,
}

/// Which operations have a class of errors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// With a request body.
    Body,
}

impl ErrorClass {
    /// Whether an operation with or without a request body may answer so.
    pub(super) fn applies(&self, body: bool) -> bool {
        match self.when {
            When::Always => true,
            When::Body => body,
        }
    }
}

const fn class(
    status: u16,
    name: &'static str,
    code: i32,
    reason: &'static str,
    description: &'static str,
    when: When,
) -> ErrorClass {
    ErrorClass { status, name, description, code, reason, headers: &[], when }
}

const RETRY_AFTER: &[(&str, &str)] = &[("Retry-After", "Seconds to wait before asking again.")];

/// Every class, by status.
///
/// Source: the comments of `google/rpc/code.proto`, and where HTTP is more exact RFC 9110.
pub(super) const ERRORS: [ErrorClass; 16] = [
    class(
        400,
        "BadRequest",
        3,
        "REQUEST_INVALID",
        "The request does not fit (`INVALID_ARGUMENT`, `OUT_OF_RANGE`; a detail `google.rpc.BadRequest` names the fields), or not \
         now (`FAILED_PRECONDITION`).",
        When::Always,
    ),
    ErrorClass {
        headers: &[("WWW-Authenticate", "How to authenticate.")],
        ..class(
            401,
            "Unauthenticated",
            16,
            "CREDENTIALS_REQUIRED",
            "No credentials, or none that are good (`UNAUTHENTICATED`).",
            When::Always,
        )
    },
    class(
        403,
        "PermissionDenied",
        7,
        "ACCESS_DENIED",
        "Not for this caller (`PERMISSION_DENIED`).",
        When::Always,
    ),
    class(404, "NotFound", 5, "NOT_FOUND", "There is no such thing (`NOT_FOUND`).", When::Always),
    class(406, "NotAcceptable", 3, "NOT_ACCEPTABLE", "`Accept` admits no form that there is.", When::Always),
    class(
        409,
        "Conflict",
        10,
        "CONFLICT",
        "It exists already (`ALREADY_EXISTS`), or somebody was faster (`ABORTED`).",
        When::Always,
    ),
    class(413, "BodyTooLarge", 3, "BODY_TOO_LARGE", "The body is larger than the method takes.", When::Body),
    class(414, "UriTooLong", 3, "URI_TOO_LONG", "Path and query are too long.", When::Always),
    class(
        415,
        "UnsupportedMediaType",
        3,
        "UNSUPPORTED_MEDIA_TYPE",
        "The body is of a type that the method does not take.",
        When::Body,
    ),
    ErrorClass {
        headers: RETRY_AFTER,
        ..class(
            429,
            "ResourceExhausted",
            8,
            "RATE_LIMITED",
            "Too much, or too often (`RESOURCE_EXHAUSTED`).",
            When::Always,
        )
    },
    class(499, "Cancelled", 1, "CANCELLED", "The call was given up (`CANCELLED`).", When::Always),
    class(
        500,
        "Internal",
        13,
        "INTERNAL",
        "A fault of the server (`INTERNAL`, `UNKNOWN`, `DATA_LOSS`).",
        When::Always,
    ),
    class(501, "Unimplemented", 12, "UNIMPLEMENTED", "Not served here (`UNIMPLEMENTED`).", When::Always),
    class(
        502,
        "UpstreamInvalid",
        13,
        "UPSTREAM_INVALID",
        "The answer of the service behind cannot be read.",
        When::Always,
    ),
    ErrorClass {
        headers: RETRY_AFTER,
        ..class(
            503,
            "Unavailable",
            14,
            "UPSTREAM_UNAVAILABLE",
            "Not now: try again later (`UNAVAILABLE`).",
            When::Always,
        )
    },
    class(
        504,
        "DeadlineExceeded",
        4,
        "DEADLINE_EXCEEDED",
        "It took too long (`DEADLINE_EXCEEDED`). It may have taken effect all the same.",
        When::Always,
    ),
];

/// The responses that operations refer to; puts down their schemas.
pub(super) fn components(schemas: &mut Schemas<'_>) -> Value {
    schemas.add(STATUS, status());
    schemas.add(PROBLEM, problem());
    let mut responses = Map::new();
    for error in &ERRORS {
        let message = error.description.split(" (`").next().unwrap_or_default().trim_end_matches('.');
        let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.reason, "domain": "example"}]);
        let mut response = json!({
            "description": error.description,
            "content": {
                "application/json": {
                    "schema": {"$ref": format!("{SCHEMAS}{STATUS}")},
                    "example": {"code": error.code, "message": message, "details": details},
                },
                "application/problem+json": {
                    "schema": {"$ref": format!("{SCHEMAS}{PROBLEM}")},
                    "example": {
                        "type": "about:blank",
                        "title": title(error.status),
                        "status": error.status,
                        "detail": message,
                        "code": error.code,
                        "details": details,
                    },
                },
            },
        });
        for (name, description) in error.headers {
            response["headers"][*name] = json!({"description": description, "schema": {"type": "string"}});
        }
        responses.insert(error.name.to_owned(), response);
    }
    Value::Object(responses)
}

/// As the transcoder itself calls a status.
fn title(status: u16) -> &'static str {
    let phrase = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    phrase.unwrap_or("Client Closed Request")
}

/// The two properties that both forms of an error have.
fn code_and_details() -> (Value, Value) {
    let code = json!({
        "type": "integer",
        "minimum": 1,
        "maximum": 16,
        "description": "The number of the `google.rpc.Code`.",
    });
    let details = json!({
        "type": "array",
        "description": "What a program may need to know, such as `google.rpc.ErrorInfo`, `google.rpc.BadRequest` or \
                        `google.rpc.RetryInfo`.",
        "items": {
            "type": "object",
            "properties": {"@type": {"type": "string", "description": "The URL of the detail's type."}},
            "required": ["@type"],
        },
    });
    (code, details)
}

fn status() -> Value {
    let (code, details) = code_and_details();
    json!({
        "type": "object",
        "description": "An error. Branch on `code`, and on the `reason` of the detail `google.rpc.ErrorInfo`; `message` is for people.",
        "properties": {
            "code": code,
            "message": {"type": "string", "description": "What is wrong, for a developer."},
            "details": details,
        },
        "required": ["code", "details", "message"],
    })
}

fn problem() -> Value {
    let (code, details) = code_and_details();
    json!({
        "type": "object",
        "description": "An error as problem details (RFC 9457), for clients whose `Accept` names them.",
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "What kind of problem it is."},
            "title": {"type": "string", "description": "The kind of problem, in words."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What is wrong, for a developer."},
            "instance": {"type": "string", "format": "uri-reference", "description": "This occurrence."},
            "code": code,
            "details": details,
        },
        "required": ["code", "detail", "details", "status", "title", "type"],
    })
}
