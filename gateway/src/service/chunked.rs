//! A bound on the chunks of `aws-chunked` bodies.
//!
//! s3s holds a whole chunk in memory before it passes any of it on, and some clients send a body of
//! gigabytes as one chunk. Chunks without signatures are therefore cut to the pieces in which they
//! arrive, which changes nothing that is signed. Chunks with signatures cannot be cut; large ones,
//! which no known client sends, are refused.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// The longest chunk with a signature. SDKs use 64 KiB to 1 MiB.
const SIGNED_CHUNK_MAX: u64 = 4 << 20;

/// The longest line before a chunk; its signature takes 81 bytes.
const LINE_MAX: usize = 256;

/// The framing of a body is malformed or a chunk too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("chunk framing: {0}")]
pub(crate) struct FramingError(&'static str);

/// Passes an `aws-chunked` body on.
pub(crate) struct Chunks {
    signed: bool,
    state: State,
}

enum State {
    /// In the line before a chunk.
    Line(Vec<u8>),
    /// In a chunk, with so many bytes to come.
    Data(u64),
    /// In the line end after a chunk, with so many of its two bytes to come.
    End(usize),
    /// After the last chunk: trailers.
    Tail,
}

impl Chunks {
    /// For a request whose `x-amz-content-sha256` has that value; none when it is not chunked.
    pub(crate) fn of(content: &[u8]) -> Option<Self> {
        let signed = !content.starts_with(b"STREAMING-UNSIGNED-PAYLOAD");
        let state = State::Line(Vec::new());
        content
            .starts_with(b"STREAMING-")
            .then_some(Self { signed, state })
    }

    /// Takes in what arrived, and gives what to pass on.
    pub(crate) fn push(
        &mut self,
        mut bytes: Bytes,
        out: &mut VecDeque<Bytes>,
    ) -> Result<(), FramingError> {
        if self.signed {
            out.push_back(bytes.clone());
        }
        while !bytes.is_empty() {
            match &mut self.state {
                State::Line(line) => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let taken = bytes.split_to(end.map_or(bytes.len(), |end| end + 1));
                    line.extend_from_slice(&taken);
                    if line.len() > LINE_MAX {
                        return Err(FramingError("the line before a chunk is too long"));
                    }
                    if end.is_some() {
                        let len = chunk_len(line)?;
                        self.begin(len, out)?;
                    }
                }
                State::Data(left) => {
                    let len = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    let piece = bytes.split_to(len);
                    *left -= len as u64;
                    if *left == 0 {
                        self.state = State::End(2);
                    }
                    if !self.signed {
                        out.push_back(Bytes::from(format!("{len:x}\r\n")));
                        out.push_back(piece);
                        out.push_back(Bytes::from_static(b"\r\n"));
                    }
                }
                State::End(left) => {
                    let expected = if *left == 2 { b'\r' } else { b'\n' };
                    if bytes.get_u8() != expected {
                        return Err(FramingError("a chunk does not end where it says"));
                    }
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Line(Vec::new());
                    }
                }
                State::Tail => {
                    let rest = std::mem::take(&mut bytes);
                    if !self.signed {
                        out.push_back(rest);
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, len: u64, out: &mut VecDeque<Bytes>) -> Result<(), FramingError> {
        if self.signed && len > SIGNED_CHUNK_MAX {
            return Err(FramingError("a chunk with a signature is too long"));
        }
        self.state = match len {
            0 => State::Tail,
            len => State::Data(len),
        };
        if len == 0 && !self.signed {
            out.push_back(Bytes::from_static(b"0\r\n"));
        }
        Ok(())
    }
}

fn chunk_len(line: &[u8]) -> Result<u64, FramingError> {
    let end = line
        .iter()
        .position(|byte| matches!(byte, b';' | b'\r' | b'\n'));
    let digits = std::str::from_utf8(&line[..end.unwrap_or(line.len())]).unwrap_or_default();
    // No sign, which the parser below would take.
    let malformed = FramingError("the length of a chunk is malformed");
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(malformed);
    }
    u64::from_str_radix(digits, 16).map_err(|_| malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    /// What comes out when a body arrives in pieces of these lengths.
    fn pass(kind: &str, body: &[u8], pieces: &[usize]) -> Result<Vec<Bytes>, FramingError> {
        let mut chunks = Chunks::of(kind.as_bytes()).unwrap();
        let (mut out, mut rest, mut pieces) = (VecDeque::new(), body, pieces.iter().cycle());
        while !rest.is_empty() {
            let len = pieces
                .next()
                .map_or(rest.len(), |len| (*len).clamp(1, rest.len()));
            let (piece, after) = rest.split_at(len);
            chunks.push(Bytes::copy_from_slice(piece), &mut out)?;
            rest = after;
        }
        Ok(out.into())
    }

    /// Reads what was framed, whatever the sizes of its chunks.
    fn unframe(mut framed: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let end = framed.iter().position(|byte| *byte == b'\n').unwrap();
            let len = usize::try_from(chunk_len(&framed[..end]).unwrap()).unwrap();
            framed = &framed[end + 1..];
            if len == 0 {
                return (data, framed.to_vec());
            }
            data.extend_from_slice(&framed[..len]);
            framed = &framed[len + 2..];
        }
    }

    const UNSIGNED: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    const SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

    proptest! {
        #[test]
        fn cutting_keeps_data_and_trailers(
            chunks in any::<Vec<Vec<u8>>>(), pieces in any::<Vec<u8>>()
        ) {
            let mut body = Vec::new();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                body.extend_from_slice(format!("{:X};x=y\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
            let pieces: Vec<usize> = pieces.into_iter().map(usize::from).collect();
            let out = pass(UNSIGNED, &body, &pieces).unwrap();
            let (data, tail) = unframe(&out.concat());
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(tail, b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n");
            let same = pass(SIGNED, &body, &pieces).unwrap().concat();
            prop_assert!(same == body);
        }
    }

    #[test]
    fn a_chunk_of_gigabytes_is_cut_when_unsigned_and_refused_when_signed() {
        let body = [&b"140000000\r\n"[..], &[7; 1000]].concat();
        let out = pass(UNSIGNED, &body, &[500]).unwrap();
        assert!(out.iter().all(|piece| piece.len() <= 500));
        assert!(pass(SIGNED, &body, &[500]).is_err());
    }

    #[test]
    fn malformed_framing_is_refused() {
        for body in [
            "xyz\r\n",
            "+5\r\nhello\r\n",
            "5\r\nhello!\r\n",
            "fffffffffffffffff\r\n",
        ] {
            assert!(pass(UNSIGNED, body.as_bytes(), &[3]).is_err(), "{body}");
        }
        assert!(pass(UNSIGNED, &[b'0'; 1000], &[100]).is_err());
        assert!(Chunks::of(b"UNSIGNED-PAYLOAD").is_none());
    }
}
