//! Text of listings: keys in URL encoding, and tokens that name where a listing goes on.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use s3s::S3Result;
use s3s::dto::EncodingType;

use crate::s3::errors;

/// What a token begins with, so that another form can be told from this one.
const TOKEN_VERSION: char = '1';

/// The same of a place inside a prefix that is yet to be listed.
const TOKEN_INSIDE: char = '2';

/// How the keys of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are.
    Plain,
    /// In URL encoding, since XML cannot hold every key.
    Url,
}

impl Encoding {
    /// What a request asks for.
    ///
    /// # Errors
    /// `InvalidArgument` for anything but `url`.
    pub(crate) fn of(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None | Some("") => Ok(Self::Plain),
            Some(text) if text.eq_ignore_ascii_case("url") => Ok(Self::Url),
            Some(_) => Err(errors::invalid_argument(
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    /// A key as this encoding writes it.
    pub(crate) fn write(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Url => url(text),
        }
    }

    /// As the answer tells it.
    pub(crate) fn told(self) -> Option<EncodingType> {
        (self == Self::Url).then(|| EncodingType::from_static(EncodingType::URL))
    }
}

fn url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'*' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push_str(&hex::encode_upper([byte]));
            }
        }
    }
    out
}

/// An opaque token for a place in a listing.
pub(crate) fn token(place: &str) -> String {
    format!("{TOKEN_VERSION}{}", URL_SAFE_NO_PAD.encode(place))
}

/// The place that a token names.
///
/// # Errors
/// `InvalidArgument` when it is none of ours.
pub(crate) fn place(token: &str) -> S3Result<String> {
    let bytes = token
        .strip_prefix(TOKEN_VERSION)
        .and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
    let wrong = || errors::invalid_argument("The continuation token provided is incorrect");
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(wrong)
}

/// As [`token`]; with `inside` of a place inside a prefix that is yet to be listed.
pub(crate) fn token_inside(at: &str, inside: bool) -> String {
    match inside {
        true => format!("{TOKEN_INSIDE}{}", URL_SAFE_NO_PAD.encode(at)),
        false => token(at),
    }
}

/// The place that such a token names, and whether it is inside a prefix.
///
/// # Errors
/// `InvalidArgument` when it is none of ours.
pub(crate) fn place_inside(token: &str) -> S3Result<(Option<String>, bool)> {
    match token.strip_prefix(TOKEN_INSIDE) {
        Some(rest) => Ok((Some(place(&format!("{TOKEN_VERSION}{rest}"))?), true)),
        None => Ok((Some(place(token)?), false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn url_encoding_leaves_slashes_and_encodes_what_xml_cannot_hold() {
        assert_eq!(
            Encoding::Url.write("a/b c+\u{1}\u{e9}"),
            "a/b%20c%2B%01%C3%A9"
        );
        assert_eq!(Encoding::Plain.write("a b"), "a b");
    }

    #[test]
    fn a_token_of_another_form_is_refused() {
        for wrong in ["", "1!", "2YQ", "1_w"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_place_reads_back_from_its_token(key in any::<String>()) {
            for inside in [false, true] {
                let read = place_inside(&token_inside(&key, inside)).unwrap();
                prop_assert_eq!(read, (Some(key.clone()), inside));
            }
            prop_assert_eq!(place(&token(&key)).unwrap(), key);
        }
    }
}
