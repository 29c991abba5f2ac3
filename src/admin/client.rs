//! A client of the admin API.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::admin::model::Failure;
use crate::credentials::RootCredentials;

/// The longest answer: a list of a million volumes fits.
const ANSWER_MAX: usize = 512 << 20;

/// Starting an enclosure may take a while: its logs are read.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// The admin API at an address.
pub(crate) struct AdminClient {
    base: String,
    authorization: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl AdminClient {
    /// A client of the API at `url`, such as `http://127.0.0.1:9001`.
    ///
    /// # Errors
    /// When that is not the URL of an HTTP server.
    pub(crate) fn new(url: &str, credentials: &RootCredentials) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("'{url}' is no URL"))?;
        ensure!(
            uri.scheme_str() == Some("http") && uri.host().is_some() && uri.path() == "/",
            "'{url}' is not of the form http://host:port"
        );
        let pair = format!("{}:{}", credentials.user, credentials.password);
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            authorization: format!("Basic {encoded}"),
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// What the API complains about, or that it does not answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Has something done.
    ///
    /// # Errors
    /// As those of [`AdminClient::get`]; it may have been done when no answer comes.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).context("cannot encode the request")?;
        self.ask(Method::POST, path, Bytes::from(body)).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        let (status, bytes) = self
            .send(method, &format!("/admin/v1/{path}"), body)
            .await?;
        if !status.is_success() {
            let failure = serde_json::from_slice::<Failure>(&bytes);
            let text = failure.map_or_else(|_| format!("answered {status}"), |f| f.error);
            bail!("{}: {text}", self.base);
        }
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: an answer that is not understood", self.base))
    }

    /// Whether the process answers at `/health/PART` that it is so.
    pub(crate) async fn is(&self, part: &str) -> bool {
        let path = format!("/health/{part}");
        let sent = self.send(Method::GET, &path, Bytes::new());
        let sent = timeout(Duration::from_secs(2), sent).await;
        matches!(sent, Ok(Ok((status, _))) if status.is_success())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .context("cannot make the request")?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                anyhow!(error).context(format!("the admin API at {} does not answer", self.base))
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX)
                .collect()
                .await;
            let body = body.map_err(|error| anyhow!("the answer broke off: {error}"))?;
            Ok((status, body.to_bytes()))
        };
        let answered = timeout(ANSWER_TIME, exchange).await;
        answered.with_context(|| format!("the admin API at {} does not answer", self.base))?
    }
}
