//! Rows as values: encoding, decoding and scanning, with errors that name the row.

use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::encoding::{self, EncodingError};
use crate::rows::{RowWrite, Rows, RowsError, Table, Txn};

/// Decodes the value of a row.
pub(crate) fn decode<T: DeserializeOwned>(
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<T, RowsError> {
    encoding::decode(value).map_err(|source| undecodable(table, key, source))
}

/// Reads a row, when it is there.
pub(crate) fn load<T: DeserializeOwned>(
    rows: &dyn Rows,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, RowsError> {
    match rows.get(table, key)? {
        Some(value) => decode(table, key, &value).map(Some),
        None => Ok(None),
    }
}

/// Writes a row.
pub(crate) fn store<T: Serialize>(txn: &mut Txn<'_>, table: Table, key: Vec<u8>, value: &T) {
    txn.put(table, key, encoding::encode(value));
}

/// A row that contradicts another: the replica must stop, since its state is not known any more.
pub(crate) fn broken(table: Table, key: &[u8], reason: &str) -> RowsError {
    let what = "state";
    let reason = reason.to_owned();
    undecodable(table, key, EncodingError::Malformed { what, reason })
}

fn undecodable(table: Table, key: &[u8], source: EncodingError) -> RowsError {
    RowsError::Undecodable {
        table: table.name(),
        key: hex::encode(key),
        source,
    }
}

/// A range of rows: from the first key (inclusive) to the second (exclusive; none: no end).
pub(crate) type Span = (Vec<u8>, Option<Vec<u8>>);

/// All rows that begin with `prefix`.
pub(crate) fn starting_with(prefix: Vec<u8>) -> Span {
    let end = crate::api::key::RowPrefix::from_bytes(prefix.clone()).after();
    (prefix, end)
}

/// What a visitor of a scan answers: whether to go on.
pub(crate) type Flow = Result<ControlFlow<()>, RowsError>;

/// Visits the rows of a span in order until the visitor breaks or fails.
pub(crate) fn scan(
    rows: &dyn Rows,
    table: Table,
    (from, to): &Span,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Flow,
) -> Result<(), RowsError> {
    let mut failed = None;
    if to.as_ref().is_some_and(|to| from >= to) {
        return Ok(());
    }
    rows.scan(table, from, to.as_deref(), &mut |key, value| {
        visit(key, value).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// What a visitor of a survey is given, as [`crate::rows::Survey`], and answers.
pub(crate) type Surveyor<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> Flow + 'a;

/// Visits the rows of a span as [`Rows::survey`] does until the visitor breaks or fails.
pub(crate) fn survey(
    rows: &dyn Rows,
    table: Table,
    (from, to): &Span,
    visit: &mut Surveyor<'_>,
) -> Result<(), RowsError> {
    let mut failed = None;
    if to.as_ref().is_some_and(|to| from >= to) {
        return Ok(());
    }
    rows.survey(table, from, to.as_deref(), &mut |key, value| {
        visit(key, value).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// The rows of a span, decoded, at most `limit`.
pub(crate) fn collect<T: DeserializeOwned>(
    rows: &dyn Rows,
    table: Table,
    span: &Span,
    limit: usize,
) -> Result<Vec<(Vec<u8>, T)>, RowsError> {
    let mut all = Vec::new();
    if limit == 0 {
        return Ok(all);
    }
    scan(rows, table, span, &mut |key, value| {
        all.push((key.to_vec(), decode(table, key, value)?));
        Ok(go_on_while(all.len() < limit))
    })?;
    Ok(all)
}

/// The keys of a span, at most `limit`.
pub(crate) fn keys(
    rows: &dyn Rows,
    table: Table,
    span: &Span,
    limit: usize,
) -> Result<Vec<Vec<u8>>, RowsError> {
    let mut all = Vec::new();
    if limit == 0 {
        return Ok(all);
    }
    scan(rows, table, span, &mut |key, _| {
        all.push(key.to_vec());
        Ok(go_on_while(all.len() < limit))
    })?;
    Ok(all)
}

/// Whether a span has no rows.
pub(crate) fn is_empty(rows: &dyn Rows, table: Table, span: &Span) -> Result<bool, RowsError> {
    Ok(keys(rows, table, span, 1)?.is_empty())
}

/// Goes on with a scan as long as the condition holds.
pub(crate) const fn go_on_while(condition: bool) -> ControlFlow<()> {
    if condition {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Lays the writes of one transaction over another.
pub(crate) fn merge(txn: &mut Txn<'_>, writes: Vec<RowWrite>) {
    for RowWrite { table, key, value } in writes {
        match value {
            Some(value) => txn.put(table, key, value),
            None => txn.delete(table, key),
        }
    }
}
