//! A small REST client, for the demo and the tests.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// Largest answer that is read, in bytes.
const ANSWER_MAX: usize = 16 << 20;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one edge. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Rest {
    base: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    token: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; text as a string.
    pub body: Value,
    /// From sending the request to the last byte.
    pub elapsed: Duration,
}

impl Answer {
    /// The text at a path such as `tokens.accessToken`; empty when there is none.
    pub fn text(&self, path: &str) -> String {
        let pointer = format!("/{}", path.replace('.', "/"));
        self.body.pointer(&pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The `reason` in the error's `ErrorInfo`; empty when there is none.
    pub fn reason(&self) -> String {
        let details = self.body.get("details").and_then(Value::as_array);
        let reason = details.into_iter().flatten().find_map(|detail| detail.get("reason")?.as_str());
        reason.unwrap_or_default().to_owned()
    }
}

impl Rest {
    /// A client of the edge at `base`, for example `http://127.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// When `base` is not a URL.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        let base = base.parse().with_context(|| format!("`{base}` is not a URL"))?;
        Ok(Self { base, client: Client::builder(TokioExecutor::new()).build_http(), token: None })
    }

    /// The same client, with an access token on every request.
    #[must_use]
    pub fn signed_in(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same user at another edge.
    #[must_use]
    pub fn moved_to(&self, other: &Self) -> Self {
        Self { token: self.token.clone(), ..other.clone() }
    }

    /// Sends a request with an optional JSON body and further headers.
    ///
    /// # Errors
    ///
    /// When there is no answer. An error status is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Answer> {
        let uri = format!("{}{path}", self.base.to_string().trim_end_matches('/'));
        let mut request = Request::builder().method(method.clone()).uri(uri);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::from(body)).context("the request")?;
        let started = Instant::now();
        let answer = async {
            let response = self.client.request(request).await?;
            let (head, body) = response.into_parts();
            let body =
                Limited::new(body, ANSWER_MAX).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            let body = serde_json::from_slice(&body).unwrap_or_else(|_| text());
            Ok::<_, anyhow::Error>(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
                elapsed: started.elapsed(),
            })
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .map_err(anyhow::Error::from)
            .flatten()
            .with_context(|| format!("no answer to {method} {path}"))
    }

    /// GET.
    ///
    /// # Errors
    ///
    /// As [`Rest::send`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None, &[]).await
    }

    /// POST with a JSON body.
    ///
    /// # Errors
    ///
    /// As [`Rest::send`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    /// POST with a JSON body that may be repeated with the same `key`.
    ///
    /// # Errors
    ///
    /// As [`Rest::send`].
    pub async fn post_with_key(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, Some(body), &[("idempotency-key", key)]).await
    }
}
