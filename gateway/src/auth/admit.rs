//! What is asked of a request before its signature is looked at.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use s3s::{S3ErrorCode, S3Result};

use crate::s3::errors;

/// Headers of the signature itself, which it need not name.
const OF_SIGNATURE: [&str; 1] = ["x-amz-content-sha256"];

/// Query parameters of the signature itself.
const SIGNING: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// Admits a request, and turns `x-amz-*` query parameters of presigned URLs into the headers that
/// they stand for: s3s does not, and to pass over one would be a false success.
///
/// # Errors
/// - `InvalidRequest` for signatures of version 2 in headers, which can be replayed for ever; URLs
///   signed by it expire, and older clients make them by default;
/// - `InvalidToken` for session tokens: there are no sessions;
/// - `AccessDenied` when a header that changes the request's meaning is not signed: else whoever
///   holds a presigned PUT could add `x-amz-copy-source` to it and read any object;
/// - `NotImplemented` for POST of forms.
pub(crate) fn admit(parts: &mut Parts) -> S3Result<()> {
    let query = query_pairs(parts.uri.query().unwrap_or_default());
    let named = |name: &str| {
        query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    let authorization = parts.headers.get(AUTHORIZATION);
    let authorization = authorization
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if authorization.starts_with("AWS ") {
        let text = "The authorization mechanism you have provided is not supported. Please use \
                    AWS4-HMAC-SHA256";
        return Err(errors::invalid_request(text));
    }
    let token = query
        .iter()
        .any(|(key, _)| key.eq_ignore_ascii_case("x-amz-security-token"));
    if token || parts.headers.contains_key("x-amz-security-token") {
        let text = "The provided token is malformed or otherwise invalid";
        return Err(errors::error(S3ErrorCode::InvalidToken, text));
    }
    let form = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if parts.method == Method::POST
        && form.is_some_and(|form| form.trim_start().starts_with("multipart/form-data"))
    {
        return Err(errors::not_implemented("a POST of a form"));
    }
    if named("Signature").is_some() {
        // Version 2 signs all `x-amz-*` headers, but no such parameters.
        let stray = query
            .iter()
            .any(|(key, _)| key.to_ascii_lowercase().starts_with("x-amz-"));
        return match stray {
            true => Err(errors::error(
                S3ErrorCode::AccessDenied,
                "A parameter is not signed",
            )),
            false => Ok(()),
        };
    }
    let signed = match named("X-Amz-Signature") {
        Some(_) => named("X-Amz-SignedHeaders")
            .map(String::as_str)
            .unwrap_or_default(),
        None => signed_headers(authorization),
    };
    // Without a signature the request is refused later, for that.
    if !signed.is_empty() {
        all_signed(parts, signed)?;
    }
    hoist(parts, &query)
}

fn signed_headers(authorization: &str) -> &str {
    let fields = authorization.split([',', ' ']);
    fields
        .filter_map(|field| field.trim().strip_prefix("SignedHeaders="))
        .next()
        .unwrap_or_default()
}

fn all_signed(parts: &Parts, signed: &str) -> S3Result<()> {
    let is_signed = |name: &str| signed.split(';').any(|one| one.eq_ignore_ascii_case(name));
    for name in parts.headers.keys().map(HeaderName::as_str) {
        if name.starts_with("x-amz-") && !OF_SIGNATURE.contains(&name) && !is_signed(name) {
            let text = "There were headers present in the request which were not signed";
            return Err(errors::error(
                S3ErrorCode::AccessDenied,
                format!("{text}: {name}"),
            ));
        }
    }
    Ok(())
}

fn hoist(parts: &mut Parts, query: &[(String, String)]) -> S3Result<()> {
    for (key, value) in query {
        let name = key.to_ascii_lowercase();
        if !name.starts_with("x-amz-") || SIGNING.contains(&name.as_str()) {
            continue;
        }
        let malformed = || errors::invalid_argument(format!("invalid query parameter: {name}"));
        let header = HeaderName::try_from(&name).map_err(|_| malformed())?;
        let value = HeaderValue::try_from(value).map_err(|_| malformed())?;
        if parts
            .headers
            .get(&header)
            .is_some_and(|other| *other != value)
        {
            return Err(malformed());
        }
        parts.headers.insert(header, value);
    }
    Ok(())
}

/// The parameters of a query, decoded.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let mut byte = [0];
                match hex::decode_to_slice([*high, *low], &mut byte) {
                    Ok(()) => {
                        bytes.push(byte[0]);
                        rest = after;
                    }
                    Err(_) => bytes.push(b'%'),
                }
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn admitted(uri: &str, headers: &[(&str, &str)]) -> S3Result<Parts> {
        let mut request = Request::builder().method(Method::PUT).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        admit(&mut parts)?;
        Ok(parts)
    }

    fn refused(uri: &str, headers: &[(&str, &str)]) -> S3ErrorCode {
        admitted(uri, headers).unwrap_err().code().clone()
    }

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request, \
                          SignedHeaders=host;x-amz-date, Signature=00";
    const PRESIGNED: &str = "/b/k?X-Amz-Signature=00&X-Amz-SignedHeaders=host";

    #[test]
    fn a_header_that_changes_the_meaning_must_be_signed() {
        let date = ("x-amz-date", "20260101T000000Z");
        assert!(admitted("/b/k", &[("authorization", SIGNED), date]).is_ok());
        let copy = ("x-amz-copy-source", "b/secret");
        let code = refused("/b/k", &[("authorization", SIGNED), date, copy]);
        assert_eq!(code, S3ErrorCode::AccessDenied);
        assert_eq!(refused(PRESIGNED, &[copy]), S3ErrorCode::AccessDenied);
        assert!(admitted(PRESIGNED, &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]).is_ok());
    }

    #[test]
    fn parameters_of_a_presigned_url_count_as_headers() {
        let uri = format!("{PRESIGNED}&x-amz-meta-colour=dark%20red&x-id=PutObject");
        let parts = admitted(&uri, &[]).unwrap();
        assert_eq!(parts.headers["x-amz-meta-colour"], "dark red");
        assert_eq!(parts.headers.len(), 1);
        let uri = format!("{PRESIGNED}&x-amz-meta-a=%0a");
        assert_eq!(refused(&uri, &[]), S3ErrorCode::InvalidArgument);
    }

    #[test]
    fn old_signatures_sessions_and_forms_are_refused() {
        let old = [("authorization", "AWS key:signature")];
        assert_eq!(refused("/b/k", &old), S3ErrorCode::InvalidRequest);
        assert!(admitted("/b/k?AWSAccessKeyId=a&Signature=b", &[]).is_ok());
        let stray = "/b/k?AWSAccessKeyId=a&Signature=b&x-amz-copy-source=b%2Fsecret";
        assert_eq!(refused(stray, &[]), S3ErrorCode::AccessDenied);
        let session = [("x-amz-security-token", "t")];
        assert_eq!(refused("/b/k", &session), S3ErrorCode::InvalidToken);
        let uri = format!("{PRESIGNED}&X-Amz-Security-Token=t");
        assert_eq!(refused(&uri, &[]), S3ErrorCode::InvalidToken);
    }

    #[test]
    fn a_query_is_decoded_and_nonsense_stays_what_it_is() {
        let pairs = query_pairs("a=1&b&c=%2fx+y&d=%zz%4");
        let expected = [("a", "1"), ("b", ""), ("c", "/x y"), ("d", "%zz%4")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(pairs, expected);
    }
}
