//! A client that signs requests and sends them, or parts of them.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::sign::{Signed, Signer, Unsigned, encode, query_string, sha256_hex};

pub(crate) const ACCESS_KEY: &str = "test-access-key";
pub(crate) const SECRET_KEY: &str = "test-secret-key";

/// How a body is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    Whole,
    Unsigned,
    /// Chunks of so many bytes, signed each.
    Chunks(usize),
    /// The same, and trailers after them, signed too.
    ChunksTrailer(usize),
    /// Chunks without signatures, and trailers.
    UnsignedTrailer(usize),
}

/// A request to be.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    /// Headers that the signature does not cover.
    pub(crate) unsigned_headers: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) payload: Payload,
    pub(crate) host: Option<String>,
}

pub(crate) fn call(method: &'static str, path: &str) -> Call {
    Call {
        method,
        path: path.to_owned(),
        query: Vec::new(),
        headers: Vec::new(),
        unsigned_headers: Vec::new(),
        trailers: Vec::new(),
        body: Bytes::new(),
        payload: Payload::Whole,
        host: None,
    }
}

impl Call {
    #[must_use]
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The text of an XML element, the first of its name.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        self.elements(name).into_iter().next()
    }

    /// The texts of all XML elements of a name.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        let (text, open, close) = (self.text(), format!("<{name}>"), format!("</{name}>"));
        let found = text.split(&open).skip(1);
        found
            .filter_map(|rest| rest.split_once(&close))
            .map(|(inner, _)| inner.to_owned())
            .collect()
    }

    pub(crate) fn code(&self) -> String {
        self.element("Code").unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{:?} {}",
            self.headers,
            self.text()
        );
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.code(), code, "{}", answer.text());
        answer
    }
}

/// A client of one gateway.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) signer: Signer,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let (access_key, secret_key) = (ACCESS_KEY.to_owned(), SECRET_KEY.to_owned());
        Self {
            address,
            signer: Signer {
                access_key,
                secret_key,
                skew: 0,
            },
        }
    }

    /// Signs a request: its head and its body, chunks framed.
    pub(crate) fn signed(&self, call: &Call) -> Request<Full<Bytes>> {
        let date = self.signer.now();
        let payload = match call.payload {
            Payload::Whole => sha256_hex(&call.body),
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Chunks(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
            Payload::ChunksTrailer(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER".to_owned(),
            Payload::UnsignedTrailer(_) => "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned(),
        };
        let mut headers = call.headers.clone();
        let host = call
            .host
            .clone()
            .unwrap_or_else(|| self.address.to_string());
        headers.push(("host".to_owned(), host));
        headers.push(("x-amz-date".to_owned(), date.clone()));
        headers.push(("x-amz-content-sha256".to_owned(), payload.clone()));
        if payload.starts_with("STREAMING") {
            let len = call.body.len().to_string();
            if !headers
                .iter()
                .any(|(name, _)| name == "x-amz-decoded-content-length")
            {
                headers.push(("x-amz-decoded-content-length".to_owned(), len));
            }
            headers.push(("content-encoding".to_owned(), "aws-chunked".to_owned()));
        }
        for (name, _) in &call.trailers {
            headers.push(("x-amz-trailer".to_owned(), name.clone()));
        }
        let unsigned = Unsigned {
            method: call.method,
            path: &call.path,
            query: &call.query,
            headers: &headers,
            payload: &payload,
        };
        let mut signed = self.signer.sign(&unsigned, &date);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{}, SignedHeaders={}, Signature={}",
            self.signer.access_key, signed.scope, signed.signed_headers, signed.signature
        );
        let body = framed(call, &mut signed);
        headers.push(("authorization".to_owned(), authorization));
        headers.extend(call.unsigned_headers.clone());
        request(call, &headers, body)
    }

    /// A presigned URL's request, good for so many seconds.
    pub(crate) fn presigned(&self, call: &Call, expires: u64) -> Request<Full<Bytes>> {
        let date = self.signer.now();
        let host = ("host".to_owned(), self.address.to_string());
        let mut headers = call.headers.clone();
        headers.push(host);
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let credential = format!("{}/{}", self.signer.access_key, self.signer.scope(&date));
        let mut call = call.clone();
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("X-Amz-Credential", credential),
            ("X-Amz-Date", date.clone()),
            ("X-Amz-Expires", expires.to_string()),
            ("X-Amz-SignedHeaders", names.join(";")),
        ] {
            call.query.push((name.to_owned(), value));
        }
        let unsigned = Unsigned {
            method: call.method,
            path: &call.path,
            query: &call.query,
            headers: &headers,
            payload: "UNSIGNED-PAYLOAD",
        };
        let signature = self.signer.sign(&unsigned, &date).signature;
        call.query.push(("X-Amz-Signature".to_owned(), signature));
        headers.extend(call.unsigned_headers.clone());
        let body = call.body.clone();
        request(&call, &headers, body)
    }

    pub(crate) async fn send(&self, call: Call) -> Answer {
        self.exchange(self.signed(&call)).await
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        connection.abort();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(call("PUT", path).body(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(call("GET", path)).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(call("HEAD", path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(call("DELETE", path)).await
    }
}

fn request(call: &Call, headers: &[(String, String)], body: Bytes) -> Request<Full<Bytes>> {
    let query = query_string(&call.query);
    let mark = if query.is_empty() { "" } else { "?" };
    let uri = format!("{}{mark}{query}", encode(&call.path, true));
    let mut request = Request::builder().method(call.method).uri(uri);
    for (name, value) in headers {
        request = request.header(name.as_str(), value.as_str());
    }
    request.body(Full::new(body)).unwrap()
}

/// The body as it goes over the wire.
fn framed(call: &Call, signed: &mut Signed) -> Bytes {
    let (size, with_signature, with_trailer) = match call.payload {
        Payload::Whole | Payload::Unsigned => return call.body.clone(),
        Payload::Chunks(size) => (size, true, false),
        Payload::ChunksTrailer(size) => (size, true, true),
        Payload::UnsignedTrailer(size) => (size, false, true),
    };
    let mut out = Vec::new();
    let mut chunk = |data: &[u8], out: &mut Vec<u8>| {
        let signature = signed.chunk(data);
        let mark = if with_signature {
            format!(";chunk-signature={signature}")
        } else {
            String::new()
        };
        out.extend_from_slice(format!("{:x}{mark}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
    };
    for data in call.body.chunks(size) {
        chunk(data, &mut out);
        out.extend_from_slice(b"\r\n");
    }
    chunk(b"", &mut out);
    if with_trailer {
        let mut lines = String::new();
        for (name, value) in &call.trailers {
            out.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
            lines.push_str(&format!("{name}:{value}\n"));
        }
        if with_signature {
            let signature = signed.trailer(&lines);
            out.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}
