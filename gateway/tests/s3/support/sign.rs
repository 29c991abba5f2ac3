//! AWS Signature Version 4, written from its specification, so that what the gateway verifies is
//! not verified with its own code.

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

/// Who signs, when.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    /// Added to the time of day, in seconds.
    pub(crate) skew: i64,
}

pub(crate) const REGION: &str = "us-east-1";

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = [&block.map(|byte| byte ^ 0x36)[..], message].concat();
    let outer = [
        &block.map(|byte| byte ^ 0x5c)[..],
        &Sha256::digest(&inner)[..],
    ]
    .concat();
    Sha256::digest(&outer).into()
}

/// Percent-encodes all but the unreserved characters; slashes too, unless told to keep them.
pub(crate) fn encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keep_slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

pub(crate) fn query_string(query: &[(String, String)]) -> String {
    let mut pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name, false), encode(value, false)))
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// What is signed.
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    /// Decoded.
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(String, String)],
    pub(crate) headers: &'a [(String, String)],
    pub(crate) payload: &'a str,
}

/// A signature and what a chain of chunks goes on from.
pub(crate) struct Signed {
    pub(crate) signature: String,
    pub(crate) signed_headers: String,
    pub(crate) scope: String,
    pub(crate) date: String,
    key: [u8; 32],
}

impl Signer {
    pub(crate) fn now(&self) -> String {
        let now = OffsetDateTime::now_utc() + time::Duration::seconds(self.skew);
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        now.format(&format).unwrap()
    }

    pub(crate) fn scope(&self, date: &str) -> String {
        format!("{}/{REGION}/s3/aws4_request", &date[..8])
    }

    pub(crate) fn sign(&self, request: &Unsigned<'_>, date: &str) -> Signed {
        let mut headers: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let signed_headers = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{signed_headers}\n{}",
            request.method,
            encode(request.path, true),
            query_string(request.query),
            request.payload
        );
        let scope = self.scope(date);
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            sha256_hex(canonical.as_bytes())
        );
        let key = hmac(
            format!("AWS4{}", self.secret_key).as_bytes(),
            &date.as_bytes()[..8],
        );
        let key = hmac(&key, REGION.as_bytes());
        let key = hmac(&hmac(&key, b"s3"), b"aws4_request");
        let signature = hex::encode(hmac(&key, text.as_bytes()));
        Signed {
            signature,
            signed_headers,
            scope,
            date: date.to_owned(),
            key,
        }
    }
}

impl Signed {
    /// The signature of the next chunk.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> String {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{}\n{}",
            self.date,
            self.scope,
            self.signature,
            sha256_hex(b""),
            sha256_hex(data)
        );
        self.signature = hex::encode(hmac(&self.key, text.as_bytes()));
        self.signature.clone()
    }

    /// The signature of trailers, each line ended by a newline.
    pub(crate) fn trailer(&self, lines: &str) -> String {
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.date,
            self.scope,
            self.signature,
            sha256_hex(lines.as_bytes())
        );
        hex::encode(hmac(&self.key, text.as_bytes()))
    }
}
