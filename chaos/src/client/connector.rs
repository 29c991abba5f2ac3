//! HTTP for the S3 client: hyper's pooled client, without TLS, for a server on this machine.

use std::sync::Arc;

use aws_sdk_s3::config::http::{HttpRequest, HttpResponse};
use aws_sdk_s3::config::{HttpClient, RuntimeComponents};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;

/// A pool of connections that all clones share.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pool: Arc<Client<TcpConnector, SdkBody>>,
}

impl Connector {
    pub(crate) fn new() -> Connector {
        let mut tcp = TcpConnector::new();
        tcp.set_nodelay(true);
        let pool = Client::builder(TokioExecutor::new())
            // hyper repeats a request on a connection that was closed before it was sent: that is
            // safe, but one attempt must stay one attempt here.
            .retry_canceled_requests(false)
            .build(tcp);
        Connector {
            pool: Arc::new(pool),
        }
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let pool = self.pool.clone();
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let response = pool.request(request).await.map_err(|error| {
                match error.is_connect() {
                    // `is_other` tells the caller that nothing was sent.
                    true => ConnectorError::other(error.into(), None).never_connected(),
                    false => ConnectorError::io(error.into()),
                }
            })?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::io(error.into()))
        })
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
