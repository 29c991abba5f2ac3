//! Which bytes of an object a read asks for.

use std::ops::Range as Bytes;

use s3s::dto::Range;
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::s3::errors;

/// The bytes to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The bytes.
    pub(crate) bytes: Bytes<u64>,
    /// `Content-Range`, when it is an answer in part (206).
    pub(crate) content_range: Option<String>,
    /// How many parts the object has, when one was asked for by number.
    pub(crate) parts: Option<i32>,
}

/// What to send of an object of `len` bytes whose parts have the lengths `parts` (none when it did
/// not come by multipart).
///
/// # Errors
/// `InvalidRange` (416) when nothing of it exists; `InvalidRequest` when both are given.
pub(crate) fn select(
    len: u64,
    parts: &[u64],
    range: Option<Range>,
    part: Option<i32>,
) -> S3Result<Selection> {
    match (range, part) {
        (Some(_), Some(_)) => {
            let text = "Cannot specify both Range header and partNumber query parameter";
            Err(errors::invalid_request(text))
        }
        (None, None) => Ok(Selection {
            bytes: 0..len,
            content_range: None,
            parts: None,
        }),
        (Some(range), None) => Ok(partial(cut(range, len)?, len, None)),
        (None, Some(number)) => numbered(len, parts, number),
    }
}

fn numbered(len: u64, parts: &[u64], number: i32) -> S3Result<Selection> {
    let index = usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1));
    let Some(index) = index.filter(|index| *index < 10_000) else {
        return Err(errors::invalid_argument(
            "Part number must be an integer from 1 to 10000",
        ));
    };
    if parts.is_empty() && index == 0 {
        return Ok(partial(0..len, len, None));
    }
    let Some(part_len) = parts.get(index) else {
        return Err(not_satisfiable(
            len,
            "The requested part number is not satisfiable",
        ));
    };
    let start: u64 = parts[..index].iter().sum();
    let count = i32::try_from(parts.len()).unwrap_or(i32::MAX);
    Ok(partial(start..start + part_len, len, Some(count)))
}

fn cut(range: Range, len: u64) -> S3Result<Bytes<u64>> {
    let bytes = match range {
        Range::Int { first, last } => {
            first..last.map_or(len, |last| last.saturating_add(1)).min(len)
        }
        Range::Suffix { length } => len - length.min(len)..len,
    };
    match bytes.is_empty() {
        true => Err(not_satisfiable(
            len,
            "The requested range is not satisfiable",
        )),
        false => Ok(bytes),
    }
}

fn partial(bytes: Bytes<u64>, len: u64, parts: Option<i32>) -> Selection {
    let content_range =
        (!bytes.is_empty()).then(|| format!("bytes {}-{}/{len}", bytes.start, bytes.end - 1));
    Selection {
        bytes,
        content_range,
        parts,
    }
}

fn not_satisfiable(len: u64, text: &'static str) -> S3Error {
    let mut error = errors::error(S3ErrorCode::InvalidRange, text);
    let mut headers = http::HeaderMap::new();
    if let Ok(value) = format!("bytes */{len}").parse() {
        headers.insert(http::header::CONTENT_RANGE, value);
    }
    let xml = http::HeaderValue::from_static("application/xml");
    headers.insert(http::header::CONTENT_TYPE, xml);
    error.set_headers(headers);
    error
}

/// The bytes of a copy's source: `bytes=first-last`, both given and within it.
///
/// # Errors
/// `InvalidArgument` when the text is malformed or reaches past the source.
pub(crate) fn of_copy_source(text: Option<&str>, len: u64) -> S3Result<Bytes<u64>> {
    let Some(text) = text else { return Ok(0..len) };
    let range = Range::parse(text);
    let Ok(Range::Int {
        first,
        last: Some(last),
    }) = range
    else {
        let text = "The x-amz-copy-source-range value must be of the form bytes=first-last";
        return Err(errors::invalid_argument(text));
    };
    if last >= len {
        let text = format!("Range specified is not valid for source object of size: {len}");
        return Err(errors::invalid_argument(text));
    }
    Ok(first..last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str, len: u64) -> S3Result<Selection> {
        select(len, &[], Some(Range::parse(header).unwrap()), None)
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        for (header, bytes, content_range) in [
            ("bytes=0-4", 0..5, "bytes 0-4/10"),
            ("bytes=4-", 4..10, "bytes 4-9/10"),
            ("bytes=4-9000000000000000000", 4..10, "bytes 4-9/10"),
            ("bytes=-3", 7..10, "bytes 7-9/10"),
            ("bytes=-300", 0..10, "bytes 0-9/10"),
        ] {
            let found = of(header, 10).unwrap();
            assert_eq!(found.bytes, bytes, "{header}");
            assert_eq!(
                found.content_range.as_deref(),
                Some(content_range),
                "{header}"
            );
        }
    }

    #[test]
    fn a_range_past_the_end_or_of_nothing_is_not_satisfiable() {
        for (header, len) in [
            ("bytes=10-", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-1", 0),
        ] {
            let error = of(header, len).unwrap_err();
            assert_eq!(error.code(), &S3ErrorCode::InvalidRange, "{header}");
            let told = &error.headers().unwrap()[http::header::CONTENT_RANGE];
            assert_eq!(told, &format!("bytes */{len}"));
        }
    }

    #[test]
    fn a_part_number_selects_the_bytes_of_that_part() {
        let parts = [5, 7, 2];
        let part = |number| select(14, &parts, None, Some(number));
        let second = part(2).unwrap();
        assert_eq!((second.bytes, second.parts), (5..12, Some(3)));
        assert_eq!(second.content_range.as_deref(), Some("bytes 5-11/14"));
        assert_eq!(part(4).unwrap_err().code(), &S3ErrorCode::InvalidRange);
        for number in [0, -1, 10_001, i32::MIN] {
            assert_eq!(
                part(number).unwrap_err().code(),
                &S3ErrorCode::InvalidArgument
            );
        }
        let whole = select(14, &[], None, Some(1)).unwrap();
        assert_eq!((whole.bytes, whole.parts), (0..14, None));
        let none = select(0, &[], None, Some(1)).unwrap();
        assert_eq!((none.bytes, none.content_range), (0..0, None));
        assert!(select(14, &parts, Some(Range::Suffix { length: 1 }), Some(1)).is_err());
    }

    #[test]
    fn a_copy_source_range_lies_within_the_source() {
        assert_eq!(of_copy_source(None, 10).unwrap(), 0..10);
        assert_eq!(of_copy_source(Some("bytes=2-9"), 10).unwrap(), 2..10);
        for text in ["bytes=2-10", "bytes=2-", "bytes=-2", "2-3", "bytes=3-2", ""] {
            let error = of_copy_source(Some(text), 10).unwrap_err();
            assert_eq!(error.code(), &S3ErrorCode::InvalidArgument, "{text}");
        }
    }
}
