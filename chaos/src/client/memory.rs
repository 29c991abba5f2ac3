//! A store in memory, sound or with one planted fault, so that load and checks can be tried without
//! a cluster.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Condition, Failure, Store};
use crate::history::{Entry, Value};
use crate::workload::body::{self, Body, Reading};

/// How a store lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Every twentieth write is acked and forgotten.
    LosesAcks,
    /// Every twentieth read gives what was there before.
    ReadsStale,
    /// Every twentieth read has one bit turned.
    TurnsBits,
    /// Listings leave out one object.
    ShortLists,
    /// `If-None-Match` is not looked at.
    IgnoresConditions,
    /// Every tenth write fails without an answer, half of them after they took effect.
    Doubtful,
}

#[derive(Debug)]
pub(crate) struct Memory {
    lie: Lie,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    objects: BTreeMap<String, Object>,
    before: BTreeMap<String, Object>,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    etag: String,
}

impl Memory {
    pub(crate) fn new(lie: Lie) -> Memory {
        Memory {
            lie,
            state: Mutex::default(),
        }
    }

    fn read(&self, key: &str) -> Option<Object> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let due = state.calls.is_multiple_of(20);
        let object = state.objects.get(key).cloned();
        match self.lie {
            Lie::ReadsStale if due => state.before.get(key).cloned().or(object),
            Lie::TurnsBits if due => object.map(|object| {
                let mut bytes = object.bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                let bytes = Bytes::from(bytes);
                Object { bytes, ..object }
            }),
            _ => object,
        }
    }

    fn write(&self, key: &str, object: Option<Object>) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let unanswered = Err(Failure::Unknown("planted".to_owned()));
        let calls = state.calls;
        if self.lie == Lie::LosesAcks && calls.is_multiple_of(20) {
            return Ok(());
        }
        if self.lie == Lie::Doubtful && calls.is_multiple_of(20) {
            return unanswered;
        }
        if let Some(old) = state.objects.remove(key) {
            state.before.insert(key.to_owned(), old);
        }
        if let Some(object) = object {
            state.objects.insert(key.to_owned(), object);
        }
        match self.lie == Lie::Doubtful && calls % 20 == 10 {
            true => unanswered,
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn put(&self, key: &str, body: Body, condition: Condition) -> Result<String, Failure> {
        tokio::task::yield_now().await;
        let etag = body::value(&body).etag;
        let bytes = match body {
            Body::Whole(bytes) => bytes,
            Body::Parts(parts) => parts.concat().into(),
        };
        let exists = self.state.lock().unwrap().objects.contains_key(key);
        let checked = self.lie != Lie::IgnoresConditions;
        if condition == Condition::Absent && checked && exists {
            return Err(Failure::Conflict);
        }
        let object = Object {
            bytes,
            etag: etag.clone(),
        };
        self.write(key, Some(object))?;
        tokio::task::yield_now().await;
        Ok(etag)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        tokio::task::yield_now().await;
        self.write(key, None)
    }

    async fn get(&self, key: &str) -> Result<Option<Value>, Failure> {
        tokio::task::yield_now().await;
        Ok(self.read(key).map(|object| {
            let mut reading = Reading::default();
            reading.take(&object.bytes);
            reading.value(&object.etag)
        }))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
        let object = self.read(key);
        let start = usize::try_from(range.start).unwrap();
        let end = usize::try_from(range.end).unwrap();
        Ok(object.map(|object| {
            let length = object.bytes.len();
            object.bytes.slice(start.min(length)..end.min(length))
        }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Failure> {
        let state = self.state.lock().unwrap();
        let under = state.objects.range(prefix.to_owned()..);
        let under = under.take_while(|(key, _)| key.starts_with(prefix));
        let skip = usize::from(self.lie == Lie::ShortLists);
        Ok(under
            .skip(skip)
            .map(|(key, object)| Entry {
                key: key.clone(),
                length: object.bytes.len().try_into().unwrap(),
                etag: object.etag.clone(),
            })
            .collect())
    }
}
